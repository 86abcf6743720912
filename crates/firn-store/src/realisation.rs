//! Realisations as JSON: what binary caches keep in `realisations/*.doi` and protocols send.

use crate::error::{StoreError, StoreResult};
use crate::traits::Realisation;
use firn_core::StorePath;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

impl Realisation {
    pub fn new(id: String, out_path: StorePath) -> Realisation {
        Realisation { id, out_path, signatures: BTreeSet::new(), dependent_realisations: BTreeMap::new() }
    }

    /// The text that signatures sign. Realisations that depend on others are of the past; the member stays, empty.
    pub fn fingerprint(&self) -> String {
        // Names are in order here as they are in the reference's JSON.
        json!({ "dependentRealisations": {}, "id": self.id, "outPath": self.out_path.base_name() })
            .to_string()
    }

    pub fn to_json(&self) -> Value {
        json!({
            "dependentRealisations": {},
            "id": self.id,
            "outPath": self.out_path.base_name(),
            "signatures": self.signatures,
        })
    }

    /// Reads JSON; `whence` names it in errors. `id` is what it must be about, where that is known.
    pub fn from_json(text: &[u8], id: Option<&str>, whence: &str) -> StoreResult<Realisation> {
        let bad = |what: &str| StoreError::Corrupt(format!("realisation '{whence}' is corrupt: {what}"));
        let value: Value = serde_json::from_slice(text).map_err(|e| bad(&e.to_string()))?;
        let text = |name: &str| value[name].as_str().ok_or_else(|| bad(&format!("'{name}' missing")));
        let out_path = StorePath::from_base_name(text("outPath")?).map_err(|e| bad(&e.to_string()))?;
        let found = match id {
            None => text("id")?,
            Some(id) => match &value["id"] {
                Value::Null => id,
                Value::String(found) if found == id => id,
                _ => return Err(bad(&format!("it is not about '{id}'"))),
            },
        };
        let mut realisation = Realisation::new(found.to_owned(), out_path);
        for signature in value["signatures"].as_array().into_iter().flatten() {
            let signature = signature.as_str().ok_or_else(|| bad("a signature is not text"))?;
            realisation.signatures.insert(signature.to_owned());
        }
        Ok(realisation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let base = format!("{}-x", "a".repeat(32));
        let path = StorePath::from_base_name(&base).unwrap();
        let mut realisation = Realisation::new("sha256:ab!out".into(), path);
        realisation.signatures.insert("k:s".into());
        let text = realisation.to_json().to_string();
        assert_eq!(
            text,
            format!(
                r#"{{"dependentRealisations":{{}},"id":"sha256:ab!out","outPath":"{base}","signatures":["k:s"]}}"#
            )
        );
        let parse = |id| Realisation::from_json(text.as_bytes(), id, "f");
        assert_eq!(parse(Some("sha256:ab!out")).unwrap(), realisation);
        assert_eq!(parse(None).unwrap(), realisation);
        let error = parse(Some("sha256:ab!dev")).unwrap_err().to_string();
        assert_eq!(error, "realisation 'f' is corrupt: it is not about 'sha256:ab!dev'");
        assert!(Realisation::from_json(b"[]", None, "f").is_err());
    }
}

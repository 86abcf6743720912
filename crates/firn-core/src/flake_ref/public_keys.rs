//! The keys that a Git input's commit may be signed with.

use super::schemes::optional_str;
use super::{Attrs, FlakeRefError, FlakeRefResult};
use serde_json::{Value, json};

/// A public key of OpenSSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Such as `ssh-ed25519`, which is the default.
    pub kind: String,
    /// In base 64, as in a `.pub` file.
    pub key: String,
}

const DEFAULT_KIND: &str = "ssh-ed25519";

/// The keys that `publicKeys` (a JSON list), `publicKey` and `keytype` name.
pub fn public_keys(attrs: &Attrs) -> FlakeRefResult<Vec<PublicKey>> {
    let mut keys = Vec::new();
    if let Some(text) = optional_str(attrs, "publicKeys")? {
        let bad = |what: &dyn std::fmt::Display| {
            FlakeRefError::new(format!("input attribute 'publicKeys' is not a list of public keys: {what}"))
        };
        let list: Vec<Value> = serde_json::from_slice(text).map_err(|e| bad(&e))?;
        for entry in &list {
            let member = |name: &str| match &entry[name] {
                Value::Null if entry.is_object() => Ok(None),
                Value::String(text) => Ok(Some(text.clone())),
                _ => Err(bad(&format!("'{name}' of {entry} is not a string"))),
            };
            let Some(key) = member("key")? else { return Err(bad(&format!("{entry} has no 'key'"))) };
            keys.push(PublicKey { kind: member("type")?.unwrap_or_else(|| DEFAULT_KIND.to_owned()), key });
        }
    }
    if let Some(key) = optional_str(attrs, "publicKey")? {
        let kind = optional_str(attrs, "keytype")?.unwrap_or(DEFAULT_KIND.as_bytes());
        keys.push(PublicKey { kind: super::lossy(kind), key: super::lossy(key) });
    }
    Ok(keys)
}

/// Keys as the attribute `publicKeys` has them.
pub(super) fn to_json(keys: &[PublicKey]) -> String {
    let list: Vec<Value> = keys.iter().map(|key| json!({ "key": key.key, "type": key.kind })).collect();
    Value::Array(list).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flake_ref::Attr;

    #[track_caller]
    fn check(attrs: &[(&str, &str)], expected: &str) {
        let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), Attr::str(*value))).collect();
        let got = match public_keys(&attrs) {
            Ok(keys) => to_json(&keys),
            Err(error) => error.message,
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn keys_of_inputs() {
        check(&[], "[]");
        check(&[("publicKey", "AA")], r#"[{"key":"AA","type":"ssh-ed25519"}]"#);
        check(&[("publicKey", "AA"), ("keytype", "ssh-rsa")], r#"[{"key":"AA","type":"ssh-rsa"}]"#);
        check(
            &[("publicKeys", r#"[{"key":"AA"},{"type":"ssh-rsa","key":"BB"}]"#), ("publicKey", "CC")],
            r#"[{"key":"AA","type":"ssh-ed25519"},{"key":"BB","type":"ssh-rsa"},{"key":"CC","type":"ssh-ed25519"}]"#,
        );
    }

    #[test]
    fn what_is_no_list_of_keys() {
        let bad = "input attribute 'publicKeys' is not a list of public keys: ";
        check(&[("publicKeys", "[1]")], &format!("{bad}'key' of 1 is not a string"));
        check(&[("publicKeys", "[{}]")], &format!("{bad}{{}} has no 'key'"));
        check(&[("publicKeys", r#"[{"key":1}]"#)], &format!("{bad}'key' of {{\"key\":1}} is not a string"));
        check(
            &[("publicKeys", "{}")],
            &format!("{bad}invalid type: map, expected a sequence at line 1 column 0"),
        );
    }
}

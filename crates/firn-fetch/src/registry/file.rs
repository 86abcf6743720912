//! `registry.json`, version 2.

use firn_core::flake_ref::{Attr, Attrs, FlakeRefError, Input, ParseContext};
use serde_json::{Map, Value, json};
use thiserror::Error;

/// Where a registry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryKind {
    Flag,
    User,
    System,
    Global,
    /// Named on the command line.
    Custom,
}

/// A name and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub from: Input,
    pub to: Input,
    /// The folder in what it means.
    pub dir: Option<Vec<u8>>,
    /// The name stands for itself only, not for branches and commits.
    pub exact: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    pub kind: RegistryKind,
    pub entries: Vec<Entry>,
}

/// What is wrong with a registry.
#[derive(Debug, Error)]
pub enum RegistryError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("it has unsupported version {0}")]
    Version(i64),
    #[error("{0}")]
    Form(&'static str),
    #[error("{0}")]
    Reference(#[from] FlakeRefError),
}

impl RegistryError {
    /// What did not work.
    pub(crate) fn doing(&self) -> &'static str {
        match self {
            RegistryError::Json(_) => "parse",
            _ => "read",
        }
    }
}

fn attrs(value: Option<&Value>) -> Result<Attrs, RegistryError> {
    let members = value.and_then(Value::as_object);
    let members = members.ok_or(RegistryError::Form("an entry has no object 'from' or 'to'"))?;
    let mut attrs = Attrs::new();
    for (name, value) in members {
        let attr = match value {
            Value::String(text) => Attr::str(text.as_bytes()),
            Value::Bool(flag) => Attr::Bool(*flag),
            Value::Number(number) if number.is_u64() => Attr::Int(number.as_u64().unwrap_or(0)),
            _ => return Err(RegistryError::Form("unsupported input attribute type")),
        };
        attrs.insert(name.clone(), attr);
    }
    Ok(attrs)
}

fn to_json(attrs: &Attrs) -> Map<String, Value> {
    let value = |attr: &Attr| match attr {
        Attr::Int(number) => json!(number),
        Attr::Bool(flag) => json!(flag),
        Attr::Str(text) => json!(String::from_utf8_lossy(text)),
    };
    attrs.iter().map(|(name, attr)| (name.clone(), value(attr))).collect()
}

impl Registry {
    pub fn parse(
        text: &[u8],
        kind: RegistryKind,
        has_feature: &dyn Fn(&str) -> bool,
    ) -> Result<Registry, RegistryError> {
        let value: Value = serde_json::from_slice(text)?;
        let version = value.get("version").map_or(Some(0), Value::as_i64);
        match version {
            Some(2) => {}
            version => return Err(RegistryError::Version(version.unwrap_or(0))),
        }
        let mut context = ParseContext { has_feature, warnings: Vec::new() };
        let mut entries = Vec::new();
        let flakes = value.get("flakes").and_then(Value::as_array);
        for entry in flakes.into_iter().flatten() {
            let mut to = attrs(entry.get("to"))?;
            let dir = match to.remove("dir") {
                Some(Attr::Str(dir)) => Some(dir),
                Some(_) => return Err(RegistryError::Form("attribute 'dir' of an entry is not a string")),
                None => None,
            };
            let from = Input::from_attrs(attrs(entry.get("from"))?, &mut context)?;
            let to = Input::from_attrs(to, &mut context)?;
            let exact = entry.get("exact").and_then(Value::as_bool).unwrap_or(false);
            entries.push(Entry { from, to, dir, exact });
        }
        Ok(Registry { kind, entries })
    }

    /// Forgets what an input stands for.
    pub fn remove(&mut self, from: &Input) {
        self.entries.retain(|entry| entry.from != *from);
    }

    pub fn to_text(&self) -> String {
        let entries = self.entries.iter().map(|entry| {
            let mut to = to_json(&entry.to.attrs);
            to.extend(entry.dir.as_ref().map(|dir| ("dir".to_owned(), json!(String::from_utf8_lossy(dir)))));
            let mut out = json!({ "from": to_json(&entry.from.attrs), "to": to });
            if entry.exact {
                out["exact"] = json!(true);
            }
            out
        });
        let entries: Vec<Value> = entries.collect();
        // Without any, the reference writes null.
        let flakes = if entries.is_empty() { Value::Null } else { Value::Array(entries) };
        let mut value = json!({ "version": 2, "flakes": flakes });
        value.sort_all_objects();
        format!("{value:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
  "flakes": [
    {
      "exact": true,
      "from": {
        "id": "a",
        "type": "indirect"
      },
      "to": {
        "dir": "sub",
        "path": "/a",
        "type": "path"
      }
    }
  ],
  "version": 2
}"#;

    #[test]
    fn round() {
        let registry = Registry::parse(TEXT.as_bytes(), RegistryKind::User, &|_| true).expect("good");
        assert_eq!(registry.entries[0].dir.as_deref(), Some(&b"sub"[..]));
        assert_eq!(registry.to_text(), TEXT);
    }

    #[test]
    fn bad() {
        let check = |text: &str, expected: &str| {
            let error = Registry::parse(text.as_bytes(), RegistryKind::User, &|_| true).expect_err(text);
            assert!(error.to_string().contains(expected), "{text}: {error}");
        };
        check("{", "EOF");
        check("{}", "unsupported version 0");
        check(r#"{"version":2,"flakes":[{}]}"#, "no object");
        check(
            r#"{"version":2,"flakes":[{"from":{"type":"indirect","id":"a"},"to":{"type":[]}}]}"#,
            "unsupported",
        );
        check(
            r#"{"version":2,"flakes":[{"from":{"type":"indirect"},"to":{"type":"path","path":"/"}}]}"#,
            "'id'",
        );
    }
}

//! `nixConfig` of flakes: which settings need the user's trust, and what the user said of them before.

use serde_json::Value;
use std::collections::BTreeMap;

/// The value of a setting in a flake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigValue {
    Text(Vec<u8>),
    Int(i64),
    Bool(bool),
    List(Vec<Vec<u8>>),
}

impl ConfigValue {
    /// The value as a line of `nix.conf` has it.
    pub fn to_text(&self) -> Vec<u8> {
        match self {
            ConfigValue::Text(text) => text.clone(),
            ConfigValue::Int(number) => number.to_string().into_bytes(),
            ConfigValue::Bool(flag) => if *flag { "true" } else { "false" }.as_bytes().to_vec(),
            ConfigValue::List(words) => {
                let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
                words.join(&b' ')
            }
        }
    }
}

/// Settings that are harmless.
const HARMLESS: [&str; 6] = [
    "bash-prompt",
    "bash-prompt-prefix",
    "bash-prompt-suffix",
    "flake-registry",
    "commit-lock-file-summary",
    "commit-lockfile-summary",
];

/// Whether the user has to allow that a flake sets this.
pub fn needs_trust(name: &str) -> bool {
    !HARMLESS.contains(&name.strip_prefix("extra-").unwrap_or(name))
}

/// What the user said of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Trusted,
    Untrusted,
}

/// The answers that are kept for good, in `trusted-settings.json`: by name and value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedSettings {
    known: BTreeMap<String, BTreeMap<String, bool>>,
}

impl TrustedSettings {
    /// # Errors
    /// Text that is no such file; the error says why.
    pub fn parse(text: &[u8]) -> Result<TrustedSettings, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let wrong = || "it is not an object of objects of Booleans".to_owned();
        let mut known = BTreeMap::new();
        for (name, values) in value.as_object().ok_or_else(wrong)? {
            let mut answers = BTreeMap::new();
            for (value, trusted) in values.as_object().ok_or_else(wrong)? {
                answers.insert(value.clone(), trusted.as_bool().ok_or_else(wrong)?);
            }
            known.insert(name.clone(), answers);
        }
        Ok(TrustedSettings { known })
    }

    pub fn get(&self, name: &str, value: &str) -> Option<Decision> {
        let trusted = *self.known.get(name)?.get(value)?;
        Some(if trusted { Decision::Trusted } else { Decision::Untrusted })
    }

    pub fn set(&mut self, name: &str, value: &str, decision: Decision) {
        let answers = self.known.entry(name.to_owned()).or_default();
        answers.insert(value.to_owned(), decision == Decision::Trusted);
    }

    pub fn to_text(&self) -> String {
        serde_json::json!(self.known).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust() {
        assert!(!needs_trust("bash-prompt"));
        assert!(!needs_trust("extra-flake-registry"));
        assert!(needs_trust("substituters"));
        assert!(needs_trust("extra-substituters"));
    }

    #[test]
    fn answers() {
        let mut settings = TrustedSettings::parse(b"{\"a\":{\"x\":true}}").expect("good");
        assert_eq!(settings.get("a", "x"), Some(Decision::Trusted));
        settings.set("a", "y", Decision::Untrusted);
        assert_eq!(settings.to_text(), "{\"a\":{\"x\":true,\"y\":false}}");
        assert!(TrustedSettings::parse(b"[]").is_err());
        assert!(TrustedSettings::parse(b"{\"a\":1}").is_err());
    }

    #[test]
    fn values() {
        let list = ConfigValue::List(vec![b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(list.to_text(), b"a b");
        assert_eq!(ConfigValue::Bool(false).to_text(), b"false");
    }
}

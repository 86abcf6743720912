//! The environment of a build, as `dump.sh` writes it and as bash reads it.

use crate::commands::nix_shell::quote;
use crate::error::{CliError, CliResult};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Variables that belong to a process or a build and not to the environment that is wanted.
const IGNORED: [&str; 16] = [
    "BASHOPTS",
    "HOME",
    "NIX_BUILD_TOP",
    "NIX_ENFORCE_PURITY",
    "NIX_LOG_FD",
    "NIX_REMOTE",
    "PPID",
    "SHELLOPTS",
    "SSL_CERT_FILE",
    "TEMP",
    "TEMPDIR",
    "TERM",
    "TMP",
    "TMPDIR",
    "TZ",
    "UID",
];

/// Variables that are put in front of the user's own, so that the shell stays usable.
const EXTENDED: [&str; 2] = ["PATH", "XDG_DATA_DIRS"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    Text { exported: bool, value: String },
    Array(Vec<String>),
    Associative(BTreeMap<String, String>),
}

/// Variables and functions of the shell that builds a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildEnvironment {
    pub variables: BTreeMap<String, Variable>,
    functions: BTreeMap<String, String>,
    /// `.attrs.json` and `.attrs.sh`.
    pub structured: Option<(String, String)>,
}

fn malformed(what: &str) -> CliError {
    CliError::failed(format!("the environment of the build is malformed: {what}"))
}

fn text(value: &Value, what: &str) -> CliResult<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| malformed(what))
}

fn texts(value: &Value, what: &str) -> CliResult<BTreeMap<String, String>> {
    let map = value.as_object().ok_or_else(|| malformed(what))?;
    map.iter().map(|(name, value)| Ok((name.clone(), text(value, name)?))).collect()
}

impl BuildEnvironment {
    /// Reads the JSON text. Variables of a kind that cannot be set again are left out.
    pub fn parse(bytes: &[u8]) -> CliResult<Self> {
        // Values of variables need not be text; what is not is replaced.
        let all: Value =
            serde_json::from_str(&String::from_utf8_lossy(bytes)).map_err(|e| malformed(&e.to_string()))?;
        let mut variables = BTreeMap::new();
        for (name, info) in all["variables"].as_object().ok_or_else(|| malformed("no variables"))? {
            let value = &info["value"];
            let variable = match info["type"].as_str() {
                Some("exported") => Variable::Text { exported: true, value: text(value, name)? },
                Some("var") => Variable::Text { exported: false, value: text(value, name)? },
                Some("array") => {
                    let items = value.as_array().ok_or_else(|| malformed(name))?;
                    Variable::Array(items.iter().map(|item| text(item, name)).collect::<CliResult<_>>()?)
                }
                Some("associative") => Variable::Associative(texts(value, name)?),
                _ => continue,
            };
            variables.insert(name.clone(), variable);
        }
        let structured = match &all["structuredAttrs"] {
            Value::Null => None,
            files => {
                Some((text(&files[".attrs.json"], ".attrs.json")?, text(&files[".attrs.sh"], ".attrs.sh")?))
            }
        };
        Ok(Self { variables, functions: texts(&all["bashFunctions"], "bashFunctions")?, structured })
    }

    pub fn to_json(&self) -> Value {
        let mut variables = Map::new();
        for (name, variable) in &self.variables {
            let value = match variable {
                Variable::Text { exported: true, value } => json!({ "type": "exported", "value": value }),
                Variable::Text { exported: false, value } => json!({ "type": "var", "value": value }),
                Variable::Array(items) => json!({ "type": "array", "value": items }),
                Variable::Associative(map) => json!({ "type": "associative", "value": map }),
            };
            variables.insert(name.clone(), value);
        }
        let mut all = json!({ "bashFunctions": self.functions, "variables": variables });
        if let Some((json, sh)) = &self.structured {
            all["structuredAttrs"] = json!({ ".attrs.json": json, ".attrs.sh": sh });
        }
        all
    }

    /// The value of a variable that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.variables.get(name)? {
            Variable::Text { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Names of outputs with their paths.
    pub fn outputs(&self) -> CliResult<BTreeMap<String, String>> {
        let names: Vec<String> = match self.variables.get("outputs") {
            Some(Variable::Associative(outputs)) => return Ok(outputs.clone()),
            Some(Variable::Text { value, .. }) => value.split_ascii_whitespace().map(str::to_owned).collect(),
            Some(Variable::Array(names)) => names.clone(),
            None => return Err(malformed("no outputs")),
        };
        let path = |name: String| {
            let path = self.text(&name).map(str::to_owned);
            path.map(|path| (name.clone(), path)).ok_or_else(|| malformed(&format!("no output '{name}'")))
        };
        names.into_iter().map(path).collect()
    }

    /// A script that sets everything, makes a temporary folder and runs the derivation's `shellHook`.
    pub fn script(&self) -> String {
        let mut out = String::from("unset shellHook\n");
        for name in EXTENDED {
            out += &format!("{name}=${{{name}:-}}\nnix_saved_{name}=\"${name}\"\n");
        }
        let ignored = BTreeSet::from(IGNORED);
        for (name, variable) in self.variables.iter().filter(|(name, _)| !ignored.contains(name.as_str())) {
            match variable {
                Variable::Text { exported, value } => {
                    out += &format!("{name}={}\n", word(value));
                    if *exported {
                        out += &format!("export {name}\n");
                    }
                }
                Variable::Array(items) => {
                    let items: String = items.iter().map(|item| word(item) + " ").collect();
                    out += &format!("declare -a {name}=({items})\n");
                }
                Variable::Associative(map) => {
                    let items: String =
                        map.iter().map(|(key, value)| format!("[{}]={} ", word(key), word(value))).collect();
                    out += &format!("declare -A {name}=({items})\n");
                }
            }
        }
        for (name, body) in &self.functions {
            out += &format!("{name} ()\n{{\n{body}}}\n");
        }
        for name in EXTENDED {
            out += &format!("{name}=\"${name}${{nix_saved_{name}:+:$nix_saved_{name}}}\"\n");
        }
        out += "export NIX_BUILD_TOP=\"$(mktemp -d -t nix-shell.XXXXXX)\"\n";
        for name in ["TMP", "TMPDIR", "TEMP", "TEMPDIR"] {
            out += &format!("export {name}=\"$NIX_BUILD_TOP\"\n");
        }
        out += "eval \"${shellHook:-}\"\n";
        out
    }
}

/// A word for the shell, in quotes.
pub fn word(text: &str) -> String {
    String::from_utf8_lossy(&quote(text.as_bytes())).into_owned()
}

/// Replaces all `from` in `text` at once, the longest first where several begin at one place.
pub fn replace_all(text: &str, rewrites: &BTreeMap<String, String>) -> String {
    let rewrites = rewrites
        .iter()
        .filter(|(from, _)| !from.is_empty())
        .map(|(from, to)| (from.clone().into_bytes(), to.clone().into_bytes()))
        .collect();
    String::from_utf8_lossy(&firn_derivation::resolve::rewrite(text.as_bytes(), &rewrites)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// What bash says of a script that sets up things and is then dumped by `dump.sh`.
    fn dump(setup: &str) -> BuildEnvironment {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join("setup"), setup).unwrap();
        std::fs::write(tmp.path().join("dump.sh"), super::super::DUMP).unwrap();
        let out = tmp.path().join("out");
        #[expect(clippy::disallowed_methods, reason = "the builder's shell")]
        let status = Command::new("bash")
            .arg(tmp.path().join("dump.sh"))
            .env_clear()
            .env("stdenv", tmp.path())
            .env("outputs", "out")
            .env("out", &out)
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        BuildEnvironment::parse(&std::fs::read(out).unwrap()).unwrap()
    }

    #[test]
    fn what_bash_dumps_is_read() {
        let setup = "export a=$'x\\ndeclare -x fake=\\\"1\\\"\\n\\\\ \\001 ä'
b='it'\\''s'
declare -a list=(1 '2 3' '' $'4\\n5')
declare -A map=([k]='v w' ['a b']=c)
declare -r fixed=1
fun() { if true; then echo '}'; fi; }
IFS=:
";
        let found = dump(setup);
        assert_eq!(found.text("a"), Some("x\ndeclare -x fake=\"1\"\n\\ \u{1} ä"));
        assert_eq!(found.variables.get("fake"), None);
        assert_eq!(found.variables.get("fixed"), None);
        assert_eq!(found.variables["b"], Variable::Text { exported: false, value: "it's".into() });
        let list = ["1", "2 3", "", "4\n5"].map(str::to_owned).to_vec();
        assert_eq!(found.variables["list"], Variable::Array(list));
        let map = [("a b", "c"), ("k", "v w")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(found.variables["map"], Variable::Associative(map.into()));
        assert!(found.functions["fun"].contains("echo '}'"), "{found:?}");
        assert!(!found.functions.keys().any(|name| name.starts_with("__firn")));
        assert_eq!(BuildEnvironment::parse(found.to_json().to_string().as_bytes()).unwrap(), found);
        // The script gives bash the same again.
        let again = dump(&format!("place=$out\n{}out=$place\n", found.script()));
        for name in ["a", "b", "list", "map"] {
            assert_eq!(again.variables[name], found.variables[name]);
        }
        assert_eq!(again.functions["fun"], found.functions["fun"]);
    }

    #[test]
    fn malformed_dumps() {
        for (bad, message) in [
            ("", "EOF while parsing"),
            ("{}", "no variables"),
            (r#"{"variables": {"x": {"type": "array", "value": [1]}}, "bashFunctions": {}}"#, "malformed: x"),
            (r#"{"variables": {}}"#, "bashFunctions"),
        ] {
            let error = BuildEnvironment::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{bad}: {error}");
        }
    }
}

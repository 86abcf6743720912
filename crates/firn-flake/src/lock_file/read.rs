//! Reading lock files of versions 5 to 7.

use super::{Edge, LockFile, Locked, MOST_DEEP, NodeId};
use crate::InputPath;
use firn_core::flake_ref::{Attr, Attrs, FlakeRef, ParseContext, json};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use thiserror::Error;

/// What is wrong with a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LockFileError {
    #[error("Could not parse '{path}': {message}")]
    Json { path: String, message: String },
    #[error("lock file '{path}' has unsupported version {version}")]
    Version { path: String, version: i64 },
    #[error("lock file references missing node '{0}'")]
    MissingNode(String),
    #[error("attribute '{0}' missing in lock file")]
    MissingAttribute(&'static str),
    #[error("lock file contains cycle to root node")]
    CycleToRoot,
    #[error("lock file '{path}' has inputs that are more than {MOST_DEEP} deep in each other")]
    TooDeep { path: String },
    /// What stands where, and what should.
    #[error("lock file '{path}': {place} is not {expected}")]
    Type { path: String, place: String, expected: &'static str },
    #[error("Lock file contains unlocked input '{0}'. Use '--allow-dirty-locks' to accept this lock file.")]
    Unlocked(String),
    #[error("lock file '{path}': in node '{node}': {message}")]
    Reference { path: String, node: String, message: String },
}

/// What is asked of the entries of a lock file.
pub struct ReadRules<'a> {
    pub trust_forges: bool,
    pub has_feature: &'a dyn Fn(&str) -> bool,
    /// Gets what is bearable.
    pub warn: &'a mut dyn FnMut(&str),
}

struct Reader<'a, 'b> {
    path: &'a str,
    nodes: &'a Map<String, Value>,
    rules: &'a mut ReadRules<'b>,
    known: BTreeMap<String, NodeId>,
    lock: LockFile,
}

impl LockFile {
    /// Reads a lock file; `path` is its name in messages.
    pub fn parse(text: &[u8], path: &str, rules: &mut ReadRules<'_>) -> Result<LockFile, LockFileError> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| LockFileError::Json { path: path.to_owned(), message: error.to_string() })?;
        let wrong = |place: &str, expected| LockFileError::Type {
            path: path.to_owned(),
            place: place.to_owned(),
            expected,
        };
        let file = value.as_object().ok_or_else(|| wrong("the file", "an object"))?;
        let version = match file.get("version") {
            None => 0,
            Some(version) => version.as_i64().ok_or_else(|| wrong("'version'", "a number"))?,
        };
        if !(5..=7).contains(&version) {
            return Err(LockFileError::Version { path: path.to_owned(), version });
        }
        let root = file.get("root").and_then(Value::as_str).ok_or_else(|| wrong("'root'", "a string"))?;
        let nodes =
            file.get("nodes").and_then(Value::as_object).ok_or_else(|| wrong("'nodes'", "an object"))?;
        let known = BTreeMap::from([(root.to_owned(), LockFile::ROOT)]);
        let mut reader = Reader { path, nodes, rules, known, lock: LockFile::default() };
        if let Some(node) = nodes.get(root) {
            reader.inputs(LockFile::ROOT, root, node, 0)?;
        }
        Ok(reader.lock)
    }
}

impl Reader<'_, '_> {
    fn wrong(&self, place: String, expected: &'static str) -> LockFileError {
        LockFileError::Type { path: self.path.to_owned(), place, expected }
    }

    fn inputs(&mut self, id: NodeId, key: &str, node: &Value, depth: usize) -> Result<(), LockFileError> {
        if depth > MOST_DEEP {
            return Err(LockFileError::TooDeep { path: self.path.to_owned() });
        }
        let Some(inputs) = node.get("inputs") else { return Ok(()) };
        let Some(inputs) = inputs.as_object() else {
            return Err(self.wrong(format!("'inputs' of node '{key}'"), "an object"));
        };
        for (name, target) in inputs {
            let edge = match target {
                Value::Array(parts) => Edge::Follows(self.input_path(parts, key)?),
                Value::String(target) => Edge::Node(self.target(target, depth)?),
                _ => {
                    let place = format!("input '{name}' of node '{key}'");
                    return Err(self.wrong(place, "a string or an array"));
                }
            };
            self.lock.connect(id, name, edge);
        }
        Ok(())
    }

    fn input_path(&self, parts: &[Value], key: &str) -> Result<InputPath, LockFileError> {
        let parts: Option<Vec<String>> = parts.iter().map(|part| part.as_str().map(str::to_owned)).collect();
        let wrong = || self.wrong(format!("a path to an input in node '{key}'"), "an array of strings");
        Ok(InputPath(parts.ok_or_else(wrong)?))
    }

    /// The node of a key, read when it is first met.
    fn target(&mut self, key: &str, depth: usize) -> Result<NodeId, LockFileError> {
        if let Some(id) = self.known.get(key) {
            return match *id == LockFile::ROOT {
                true => Err(LockFileError::CycleToRoot),
                false => Ok(*id),
            };
        }
        let node = self.nodes.get(key).ok_or_else(|| LockFileError::MissingNode(key.to_owned()))?;
        let locked = self.locked(key, node)?;
        let id = self.lock.add(locked);
        self.known.insert(key.to_owned(), id);
        self.inputs(id, key, node, depth + 1)?;
        Ok(id)
    }

    fn locked(&mut self, key: &str, node: &Value) -> Result<Locked, LockFileError> {
        let mut attrs = self.attrs(key, node, "locked")?;
        // Version 5 kept what is known of an input apart.
        if node.get("info").is_some() {
            attrs.extend(self.attrs(key, node, "info")?);
        }
        let locked = self.reference(key, attrs)?;
        let original = self.attrs(key, node, "original")?;
        let original = self.reference(key, original)?;
        let is_flake = match node.get("flake") {
            None => true,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => return Err(self.wrong(format!("'flake' of node '{key}'"), "a Boolean")),
        };
        let parent = match node.get("parent") {
            None => None,
            Some(Value::Array(parts)) => Some(self.input_path(parts, key)?),
            Some(_) => return Err(self.wrong(format!("'parent' of node '{key}'"), "an array")),
        };
        let input = &locked.input;
        if !input.is_locked(self.rules.trust_forges) && input.relative_path().is_none() {
            if !input.attrs.contains_key("narHash") {
                return Err(LockFileError::Unlocked(json(&input.attrs)));
            }
            (self.rules.warn)(&format!(
                "Lock file entry '{}' is unlocked (e.g. lacks a Git revision) but is checked by NAR hash. \
                 This is not reproducible and will break after garbage collection or when shared.",
                locked.shown()
            ));
        }
        Ok(Locked { locked, original, is_flake, parent })
    }

    fn attrs(&self, key: &str, node: &Value, name: &'static str) -> Result<Attrs, LockFileError> {
        let value = node.get(name).ok_or(LockFileError::MissingAttribute(name))?;
        let Some(members) = value.as_object() else {
            return Err(self.wrong(format!("'{name}' of node '{key}'"), "an object"));
        };
        let mut attrs = Attrs::new();
        for (member, value) in members {
            let attr = match value {
                Value::Bool(flag) => Attr::Bool(*flag),
                Value::String(text) => Attr::str(text.as_bytes()),
                Value::Number(number) if number.is_u64() => Attr::Int(number.as_u64().unwrap_or(0)),
                _ => {
                    let place = format!("'{name}.{member}' of node '{key}'");
                    return Err(self.wrong(place, "a string, a Boolean or a positive integer"));
                }
            };
            attrs.insert(member.clone(), attr);
        }
        Ok(attrs)
    }

    fn reference(&mut self, key: &str, mut attrs: Attrs) -> Result<FlakeRef, LockFileError> {
        attrs.remove("__final");
        let mut context = ParseContext { has_feature: self.rules.has_feature, warnings: Vec::new() };
        let found = FlakeRef::from_attrs(attrs, &mut context);
        for warning in context.warnings {
            (self.rules.warn)(&warning);
        }
        found.map_err(|error| LockFileError::Reference {
            path: self.path.to_owned(),
            node: key.to_owned(),
            message: error.message,
        })
    }
}

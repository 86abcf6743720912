//! Lock files as text, version 7.

use super::{Edge, LockFile, NodeId};
use firn_core::flake_ref::{Attr, Attrs};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Attributes as JSON.
pub(crate) fn attrs_json(attrs: &Attrs) -> Value {
    let value = |attr: &Attr| match attr {
        Attr::Int(number) => json!(number),
        Attr::Bool(flag) => json!(flag),
        Attr::Str(text) => json!(String::from_utf8_lossy(text)),
    };
    let members = attrs.iter().filter(|(name, _)| *name != "__final");
    Value::Object(members.map(|(name, attr)| (name.clone(), value(attr))).collect())
}

#[derive(Default)]
struct Dump {
    nodes: Map<String, Value>,
    keys: BTreeMap<NodeId, String>,
    taken: BTreeSet<String>,
}

impl Dump {
    fn node(&mut self, lock: &LockFile, name: &str, id: NodeId) -> String {
        if let Some(key) = self.keys.get(&id) {
            return key.clone();
        }
        let mut key = name.to_owned();
        let mut number = 2;
        while !self.taken.insert(key.clone()) {
            key = format!("{name}_{number}");
            number += 1;
        }
        self.keys.insert(id, key.clone());
        let node = lock.node(id);
        let mut out = Map::new();
        if !node.inputs.is_empty() {
            let mut inputs = Map::new();
            for (name, edge) in &node.inputs {
                let value = match edge {
                    Edge::Node(child) => json!(self.node(lock, name, *child)),
                    Edge::Follows(path) => json!(path.0),
                };
                inputs.insert(name.clone(), value);
            }
            out.insert("inputs".to_owned(), Value::Object(inputs));
        }
        if let Some(locked) = &node.locked {
            out.insert("original".to_owned(), attrs_json(&locked.original.to_attrs()));
            out.insert("locked".to_owned(), attrs_json(&locked.locked.to_attrs()));
            if !locked.is_flake {
                out.insert("flake".to_owned(), json!(false));
            }
            if let Some(parent) = &locked.parent {
                out.insert("parent".to_owned(), json!(parent.0));
            }
        }
        self.nodes.insert(key.clone(), Value::Object(out));
        key
    }
}

impl LockFile {
    /// The file, with members in order, and the key of each node.
    pub fn to_json(&self) -> (Value, BTreeMap<NodeId, String>) {
        let mut dump = Dump::default();
        let root = dump.node(self, "root", LockFile::ROOT);
        let mut value = json!({ "version": 7, "root": root, "nodes": dump.nodes });
        value.sort_all_objects();
        (value, dump.keys)
    }

    /// The text of the file, without the line break at its end.
    pub fn to_text(&self) -> String {
        format!("{:#}", self.to_json().0)
    }
}

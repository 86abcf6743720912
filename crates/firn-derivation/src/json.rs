//! The JSON form of derivations, format version 4, as `nix derivation show` prints and `nix derivation add` reads it.
//!
//! Source: the manual's "Derivation" JSON format page.

use crate::{Derivation, DerivationOutput, InputNode, STRUCTURED_ATTRS_ENV};
use firn_core::hash::HashError;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, StorePath, StorePathError};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// The format version written and read.
pub const JSON_VERSION: u64 = 4;
/// How deep dynamic derivations may nest.
const MAX_DEPTH: usize = 64;

/// Why a derivation and JSON do not go together.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum JsonError {
    #[error("{0} is not UTF-8, so the derivation cannot be written as JSON")]
    NotUtf8(String),
    #[error("cannot process __json attribute: {0}")]
    StructuredAttrs(String),
    #[error("Expected JSON object to contain key '{key}' but it doesn't{context}")]
    MissingKey { key: String, context: String },
    #[error("Expected JSON value to be of type '{expected}' but it is of type '{got}'{context}")]
    Type { expected: &'static str, got: &'static str, context: String },
    #[error(
        "Unsupported derivation JSON format version {0}, only format version {JSON_VERSION} is currently supported."
    )]
    Version(u64),
    #[error("invalid JSON for derivation output '{0}'")]
    Output(String),
    #[error("invalid content-addressing method '{0}'")]
    Method(String),
    #[error("input derivations nest deeper than {MAX_DEPTH} levels")]
    Depth,
    #[error(transparent)]
    Path(#[from] StorePathError),
    #[error(transparent)]
    Hash(#[from] HashError),
}

type Result<T> = std::result::Result<T, JsonError>;

impl Derivation {
    /// The JSON form. Keys are in order, as the reference prints them.
    pub fn to_json(&self) -> Result<Value> {
        let mut object = Map::new();
        let args: Result<Vec<Value>> = self.args.iter().map(|arg| text(arg, "an argument")).collect();
        object.insert("args".into(), Value::Array(args?));
        object.insert("builder".into(), text(&self.builder, "the builder")?);
        let mut env = Map::new();
        for (name, value) in &self.env {
            if name == STRUCTURED_ATTRS_ENV {
                continue;
            }
            let name = utf8(name, "an environment variable's name")?;
            env.insert(name.to_owned(), text(value, &format!("environment variable '{name}'"))?);
        }
        object.insert("env".into(), Value::Object(env));
        let drvs: Map<String, Value> = self
            .input_drvs
            .iter()
            .map(|(path, node)| (path.base_name().to_owned(), node_to_json(node)))
            .collect();
        let srcs: Vec<&str> = self.input_srcs.iter().map(StorePath::base_name).collect();
        object.insert("inputs".into(), json!({ "drvs": drvs, "srcs": srcs }));
        object.insert("name".into(), Value::String(self.name.clone()));
        let outputs: Map<String, Value> =
            self.outputs.iter().map(|(name, output)| (name.clone(), output.to_json())).collect();
        object.insert("outputs".into(), Value::Object(outputs));
        if let Some(attrs) = self.env.get(STRUCTURED_ATTRS_ENV) {
            let mut attrs: Value =
                serde_json::from_slice(attrs).map_err(|e| JsonError::StructuredAttrs(e.to_string()))?;
            attrs.sort_all_objects();
            object.insert("structuredAttrs".into(), attrs);
        }
        object.insert("system".into(), text(&self.platform, "the platform")?);
        object.insert("version".into(), json!(JSON_VERSION));
        Ok(Value::Object(object))
    }

    /// Parses the JSON form. Output paths are not checked against the rest
    /// ([`Derivation::check_invariants`]), and absent ones are not filled in.
    pub fn from_json(value: &Value) -> Result<Derivation> {
        let object = Object::of(value, "")?;
        let mut drv = Derivation::new(object.string("name")?);
        let version = object.get("version")?;
        let version = version.as_u64().ok_or_else(|| mistyped("unsigned number", version, "", "version"))?;
        if version != JSON_VERSION {
            return Err(JsonError::Version(version));
        }
        for (name, output) in object.object("outputs")?.map {
            drv.outputs.insert(name.clone(), DerivationOutput::from_json(name, output)?);
        }
        let inputs = object.object("inputs")?;
        for path in inputs.strings("srcs")? {
            drv.input_srcs.insert(StorePath::from_base_name(&path)?);
        }
        for (path, node) in inputs.object("drvs")?.map {
            drv.input_drvs.insert(StorePath::from_base_name(path)?, node_from_json(node, 0)?);
        }
        drv.platform = object.string("system")?.into_bytes();
        drv.builder = object.string("builder")?.into_bytes();
        drv.args = object.strings("args")?.into_iter().map(String::into_bytes).collect();
        for (name, value) in object.object("env")?.map {
            let text = value.as_str().ok_or_else(|| mistyped("string", value, "env", name))?;
            drv.env.insert(name.clone().into_bytes(), text.as_bytes().to_vec());
        }
        if let Some(attrs) = object.map.get("structuredAttrs") {
            let mut attrs = attrs.clone();
            attrs.sort_all_objects();
            drv.env.insert(STRUCTURED_ATTRS_ENV.to_vec(), attrs.to_string().into_bytes());
        }
        Ok(drv)
    }
}

impl DerivationOutput {
    fn to_json(&self) -> Value {
        match self {
            DerivationOutput::InputAddressed(path) => json!({ "path": path.base_name() }),
            DerivationOutput::CaFixed(ca) => {
                json!({ "hash": ca.hash.to_sri(), "method": ca.method.name() })
            }
            DerivationOutput::CaFloating { method, algo } => {
                json!({ "hashAlgo": algo.name(), "method": method.name() })
            }
            DerivationOutput::Deferred => json!({}),
            DerivationOutput::Impure { method, algo } => {
                json!({ "hashAlgo": algo.name(), "impure": true, "method": method.name() })
            }
        }
    }

    fn from_json(name: &str, value: &Value) -> Result<DerivationOutput> {
        let object = Object::of(value, "outputs")?;
        let method = || {
            let method = object.string("method")?;
            CaMethod::parse_opt(&method).ok_or(JsonError::Method(method))
        };
        let algo = || -> Result<HashAlgo> { Ok(object.string("hashAlgo")?.parse()?) };
        let keys: BTreeSet<&str> = object.map.keys().map(String::as_str).collect();
        let is = |names: &[&str]| keys.len() == names.len() && names.iter().all(|n| keys.contains(n));
        if is(&["path"]) {
            Ok(DerivationOutput::InputAddressed(StorePath::from_base_name(&object.string("path")?)?))
        } else if is(&["method", "hash"]) {
            let hash = Hash::parse_sri(&object.string("hash")?)?;
            Ok(DerivationOutput::CaFixed(ContentAddress { method: method()?, hash }))
        } else if is(&["method", "hashAlgo"]) {
            Ok(DerivationOutput::CaFloating { method: method()?, algo: algo()? })
        } else if is(&[]) {
            Ok(DerivationOutput::Deferred)
        } else if is(&["method", "hashAlgo", "impure"]) {
            Ok(DerivationOutput::Impure { method: method()?, algo: algo()? })
        } else {
            Err(JsonError::Output(name.to_owned()))
        }
    }
}

fn node_to_json(node: &InputNode) -> Value {
    let dynamic: Map<String, Value> =
        node.dynamic.iter().map(|(name, child)| (name.clone(), node_to_json(child))).collect();
    json!({ "dynamicOutputs": dynamic, "outputs": node.outputs })
}

fn node_from_json(value: &Value, depth: usize) -> Result<InputNode> {
    if depth > MAX_DEPTH {
        return Err(JsonError::Depth);
    }
    let object = Object::of(value, "inputs.drvs")?;
    let mut dynamic = BTreeMap::new();
    for (name, child) in object.object("dynamicOutputs")?.map {
        dynamic.insert(name.clone(), node_from_json(child, depth + 1)?);
    }
    Ok(InputNode { outputs: object.strings("outputs")?.into_iter().collect(), dynamic })
}

/// A JSON object and where it is.
struct Object<'a> {
    map: &'a Map<String, Value>,
    at: &'a str,
}

impl<'a> Object<'a> {
    fn of(value: &'a Value, at: &'a str) -> Result<Object<'a>> {
        match value {
            Value::Object(map) => Ok(Object { map, at }),
            other => Err(mistyped("object", other, at, "")),
        }
    }

    fn get(&self, key: &str) -> Result<&'a Value> {
        self.map
            .get(key)
            .ok_or_else(|| JsonError::MissingKey { key: key.to_owned(), context: place(self.at, "") })
    }

    fn object(&self, key: &'a str) -> Result<Object<'a>> {
        Object::of(self.get(key)?, key)
    }

    fn string(&self, key: &str) -> Result<String> {
        let value = self.get(key)?;
        value.as_str().map(str::to_owned).ok_or_else(|| mistyped("string", value, self.at, key))
    }

    fn strings(&self, key: &str) -> Result<Vec<String>> {
        let value = self.get(key)?;
        let items = value.as_array().ok_or_else(|| mistyped("array", value, self.at, key))?;
        items
            .iter()
            .map(|v| v.as_str().map(str::to_owned).ok_or_else(|| mistyped("string", v, self.at, key)))
            .collect()
    }
}

pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn mistyped(expected: &'static str, got: &Value, at: &str, key: &str) -> JsonError {
    JsonError::Type { expected, got: type_name(got), context: place(at, key) }
}

fn place(at: &str, key: &str) -> String {
    match (at, key) {
        ("", "") => String::new(),
        ("", at) | (at, "") => format!(", while reading key '{at}'"),
        (at, key) => format!(", while reading key '{key}' of '{at}'"),
    }
}

fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8(what.to_owned()))
}

fn text(bytes: &[u8], what: &str) -> Result<Value> {
    Ok(Value::String(utf8(bytes, what)?.to_owned()))
}

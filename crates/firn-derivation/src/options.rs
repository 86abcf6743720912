//! Everything in a derivation's environment or structured attributes that steers a build, parsed.
//!
//! Source: the manual's "Advanced Attributes".

use crate::json::type_name;
use crate::{Derivation, DownstreamPlaceholder, STRUCTURED_ATTRS_ENV};
use firn_core::{SingleDerivedPath, StoreDir, StorePath, StorePathError};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thiserror::Error;

/// Why an attribute that steers a build cannot be used.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum OptionsError {
    #[error("cannot process __json attribute: {0}")]
    StructuredAttrs(String),
    #[error(
        "while parsing attribute {attribute}: Expected JSON value to be of type '{expected}' but it is of type '{got}': {value}"
    )]
    Type { attribute: String, expected: &'static str, got: &'static str, value: String },
    #[error("attribute \"{0}\" is not UTF-8")]
    NotUtf8(String),
    #[error("odd number of tokens in 'exportReferencesGraph': '{0}'")]
    OddGraph(String),
    #[error("invalid file name '{0}' in 'exportReferencesGraph'")]
    GraphFileName(String),
    #[error("'exportReferencesGraph' value is not an array or a string")]
    GraphValue,
    #[error(transparent)]
    Path(#[from] StorePathError),
}

impl OptionsError {
    /// The message for a derivation, with its trace, as errors of evaluation have them.
    pub fn in_derivation(&self, drv_path: &str) -> String {
        let mut text = format!("\n… while parsing derivation '{drv_path}'\n\n");
        match self {
            OptionsError::Type { attribute, expected, got, value } => {
                if attribute != "\"outputChecks\"" {
                    text += &format!("… while parsing attribute {attribute}\n\n");
                }
                text += &format!(
                    "error: \
                     Expected JSON value to be of type '{expected}' but it is of type '{got}': {value}"
                );
            }
            other => text += &format!("error: {other}"),
        }
        text
    }
}

type Result<T> = std::result::Result<T, OptionsError>;

/// What an output check names: an output of the derivation itself, or a store object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ref {
    Output(String),
    Object(SingleDerivedPath),
}

/// What one output must fulfil.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputChecks {
    /// Whether an output may always refer to itself (true without structured attributes).
    pub ignore_self_refs: bool,
    /// Greatest NAR size in bytes.
    pub max_size: Option<u64>,
    /// Greatest NAR size of the closure in bytes.
    pub max_closure_size: Option<u64>,
    pub allowed_references: Option<BTreeSet<Ref>>,
    pub allowed_requisites: Option<BTreeSet<Ref>>,
    pub disallowed_references: BTreeSet<Ref>,
    pub disallowed_requisites: BTreeSet<Ref>,
}

/// Whose outputs are checked how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checks {
    /// Every output alike.
    All(OutputChecks),
    /// By output name; others are not checked.
    PerOutput(BTreeMap<String, OutputChecks>),
}

/// The parsed options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivationOptions {
    pub output_checks: Checks,
    /// Outputs (structured attributes only) that are not scanned for references.
    pub unsafe_discard_references: BTreeMap<String, bool>,
    /// Environment variables handed to the builder as files.
    pub pass_as_file: BTreeSet<String>,
    /// File name, or attribute, to the objects whose reference graph it gets.
    pub export_references_graph: BTreeMap<String, BTreeSet<SingleDerivedPath>>,
    pub additional_sandbox_profile: String,
    pub no_chroot: bool,
    pub impure_host_deps: BTreeSet<String>,
    pub impure_env_vars: BTreeSet<String>,
    pub allow_local_networking: bool,
    pub required_system_features: BTreeSet<String>,
    pub prefer_local_build: bool,
    pub allow_substitutes: bool,
    /// What the user should be told: attributes without effect.
    pub warnings: Vec<String>,
}

/// Structured attributes of a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StructuredAttrs(pub Map<String, Value>);

impl StructuredAttrs {
    /// Those of `drv`, if it has them.
    pub fn of(drv: &Derivation) -> Result<Option<StructuredAttrs>> {
        let Some(text) = drv.env.get(STRUCTURED_ATTRS_ENV) else { return Ok(None) };
        match serde_json::from_slice(text) {
            Ok(Value::Object(map)) => Ok(Some(StructuredAttrs(map))),
            Ok(other) => Err(OptionsError::StructuredAttrs(format!(
                "it is of type '{}', not 'object'",
                type_name(&other)
            ))),
            Err(e) => Err(OptionsError::StructuredAttrs(e.to_string())),
        }
    }
}

/// Where attributes are read from.
struct Attrs<'a> {
    drv: &'a Derivation,
    structured: Option<&'a Map<String, Value>>,
}

impl Attrs<'_> {
    fn env(&self, name: &str) -> Result<Option<&str>> {
        match self.drv.env.get(name.as_bytes()) {
            None => Ok(None),
            Some(value) => {
                std::str::from_utf8(value).map(Some).map_err(|_| OptionsError::NotUtf8(name.to_owned()))
            }
        }
    }

    fn string(&self, name: &str) -> Result<Option<String>> {
        match self.structured {
            None => Ok(self.env(name)?.map(str::to_owned)),
            Some(map) => map.get(name).map(|v| as_string(name, v)).transpose(),
        }
    }

    fn boolean(&self, name: &str, default: bool) -> Result<bool> {
        match self.structured {
            None => Ok(self.drv.env.get(name.as_bytes()).map_or(default, |v| v == b"1")),
            Some(map) => match map.get(name) {
                None => Ok(default),
                Some(Value::Bool(value)) => Ok(*value),
                Some(other) => Err(mistyped(name, "boolean", other)),
            },
        }
    }

    fn strings(&self, name: &str) -> Result<Option<BTreeSet<String>>> {
        match self.structured {
            None => Ok(self.env(name)?.map(tokens)),
            Some(map) => map.get(name).map(|v| as_strings(name, v)).transpose(),
        }
    }
}

fn mistyped(attribute: &str, expected: &'static str, got: &Value) -> OptionsError {
    // As in Nix, the quotes tell attributes of attributes from others.
    let quote = if attribute.contains('.') || attribute == "unsafeDiscardReferences" { '\'' } else { '"' };
    let attribute = format!("{quote}{attribute}{quote}");
    OptionsError::Type { attribute, expected, got: type_name(got), value: got.to_string() }
}

fn as_string(name: &str, value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| mistyped(name, "string", value))
}

fn as_strings(name: &str, value: &Value) -> Result<BTreeSet<String>> {
    let items = value.as_array().ok_or_else(|| mistyped(name, "array", value))?;
    items.iter().map(|v| as_string(name, v)).collect()
}

/// Words between blanks, as the reference splits environment variables.
fn tokens(text: &str) -> BTreeSet<String> {
    words(text).map(str::to_owned).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', '\n', '\r']).filter(|word| !word.is_empty())
}

/// Turns texts into what they name; knows the placeholders of the derivation's inputs.
struct Names<'a> {
    dir: &'a StoreDir,
    placeholders: BTreeMap<String, SingleDerivedPath>,
}

impl<'a> Names<'a> {
    fn new(drv: &Derivation, dir: &'a StoreDir) -> Names<'a> {
        let mut placeholders = BTreeMap::new();
        let mut work: Vec<_> = drv
            .input_drvs
            .iter()
            .map(|(path, node)| (Arc::new(SingleDerivedPath::Opaque(path.clone())), node))
            .collect();
        while let Some((base, node)) = work.pop() {
            let built =
                |output: &str| SingleDerivedPath::Built { drv: base.clone(), output: output.to_owned() };
            for output in &node.outputs {
                let placeholder = DownstreamPlaceholder::of(&base, output);
                placeholders.insert(placeholder.render(), built(output));
            }
            for (output, child) in &node.dynamic {
                work.push((Arc::new(built(output)), child));
            }
        }
        Names { dir, placeholders }
    }

    /// An object, or an output's name where the text is neither placeholder nor store path.
    fn reference(&self, text: &str) -> Ref {
        if let Some(built) = self.placeholders.get(text) {
            return Ref::Object(built.clone());
        }
        match self.dir.parse(text) {
            Ok(path) => Ref::Object(SingleDerivedPath::Opaque(path)),
            Err(_) => Ref::Output(text.to_owned()),
        }
    }

    fn references(&self, texts: BTreeSet<String>) -> BTreeSet<Ref> {
        texts.iter().map(|text| self.reference(text)).collect()
    }

    /// An object; the text may be a path below it.
    fn object(&self, text: &str) -> Result<SingleDerivedPath> {
        match self.placeholders.get(text) {
            Some(built) => Ok(built.clone()),
            None => Ok(SingleDerivedPath::Opaque(self.dir.split(text)?.0)),
        }
    }
}

impl Derivation {
    /// The options of this derivation.
    pub fn options(&self, dir: &StoreDir) -> Result<DerivationOptions> {
        let structured = StructuredAttrs::of(self)?;
        let attrs = Attrs { drv: self, structured: structured.as_ref().map(|s| &s.0) };
        let mut warnings = Vec::new();
        if let Some(map) = attrs.structured {
            for name in [
                "allowedReferences",
                "allowedRequisites",
                "disallowedRequisites",
                "disallowedReferences",
                "maxSize",
                "maxClosureSize",
            ] {
                if map.contains_key(name) {
                    warnings.push(format!(
                        "'structuredAttrs' disables the effect of the top-level attribute '{name}'; use 'outputChecks' instead"
                    ));
                }
            }
        }
        // Placeholders cost a hash per input; derivations that name no objects are spared it.
        let names = Names::new(self, dir);
        Ok(DerivationOptions {
            output_checks: output_checks(&attrs, &names)?,
            unsafe_discard_references: discard_references(&attrs)?,
            pass_as_file: pass_as_file(&attrs, &mut warnings)?,
            export_references_graph: export_references_graph(&attrs, &names, &mut warnings)?,
            additional_sandbox_profile: attrs.string("__sandboxProfile")?.unwrap_or_default(),
            no_chroot: attrs.boolean("__noChroot", false)?,
            impure_host_deps: attrs.strings("__impureHostDeps")?.unwrap_or_default(),
            impure_env_vars: attrs.strings("impureEnvVars")?.unwrap_or_default(),
            allow_local_networking: attrs.boolean("__darwinAllowLocalNetworking", false)?,
            required_system_features: attrs.strings("requiredSystemFeatures")?.unwrap_or_default(),
            prefer_local_build: attrs.boolean("preferLocalBuild", false)?,
            allow_substitutes: attrs.boolean("allowSubstitutes", true)?,
            warnings,
        })
    }
}

impl DerivationOptions {
    /// System features that a machine must have to build `drv`.
    pub fn required_features(&self, drv: &Derivation) -> BTreeSet<String> {
        let mut features = self.required_system_features.clone();
        if drv.derivation_type().is_ok_and(|kind| !kind.has_known_output_paths()) {
            features.insert("ca-derivations".to_owned());
        }
        features
    }

    /// Whether the build gets a range of 65536 user ids.
    pub fn uses_uid_range(&self) -> bool {
        self.required_system_features.contains("uid-range")
    }

    /// The checks of one output.
    pub fn checks_of(&self, output: &str) -> Option<&OutputChecks> {
        match &self.output_checks {
            Checks::All(checks) => Some(checks),
            Checks::PerOutput(checks) => checks.get(output),
        }
    }
}

fn output_checks(attrs: &Attrs<'_>, names: &Names<'_>) -> Result<Checks> {
    let Some(map) = attrs.structured else {
        let refs =
            |name: &str| -> Result<_> { Ok(attrs.strings(name)?.map(|texts| names.references(texts))) };
        return Ok(Checks::All(OutputChecks {
            ignore_self_refs: true,
            max_size: None,
            max_closure_size: None,
            allowed_references: refs("allowedReferences")?,
            allowed_requisites: refs("allowedRequisites")?,
            disallowed_references: refs("disallowedReferences")?.unwrap_or_default(),
            disallowed_requisites: refs("disallowedRequisites")?.unwrap_or_default(),
        }));
    };
    let mut per_output = BTreeMap::new();
    let Some(checks) = map.get("outputChecks") else { return Ok(Checks::PerOutput(per_output)) };
    let checks = checks.as_object().ok_or_else(|| mistyped("outputChecks", "object", checks))?;
    for (output, checks) in checks {
        let place = |name: &str| format!("outputChecks.\"{output}\".{name}");
        let checks = checks.as_object().ok_or_else(|| mistyped(&place(""), "object", checks))?;
        let refs = |name: &str| -> Result<_> {
            let texts = checks.get(name).map(|value| as_strings(&place(name), value)).transpose()?;
            Ok(texts.map(|texts| names.references(texts)))
        };
        let size = |name: &str| -> Result<_> {
            // Sizes below nothing are none, since Nix takes them for very large ones.
            let number = |v: &Value| {
                let size = v.as_u64().or_else(|| v.as_i64().map(|_| u64::MAX));
                size.ok_or_else(|| mistyped(&place(name), "number", v))
            };
            checks.get(name).map(number).transpose()
        };
        let checks = OutputChecks {
            ignore_self_refs: false,
            max_size: size("maxSize")?,
            max_closure_size: size("maxClosureSize")?,
            allowed_references: refs("allowedReferences")?,
            allowed_requisites: refs("allowedRequisites")?,
            disallowed_references: refs("disallowedReferences")?.unwrap_or_default(),
            disallowed_requisites: refs("disallowedRequisites")?.unwrap_or_default(),
        };
        per_output.insert(output.clone(), checks);
    }
    Ok(Checks::PerOutput(per_output))
}

fn discard_references(attrs: &Attrs<'_>) -> Result<BTreeMap<String, bool>> {
    const NAME: &str = "unsafeDiscardReferences";
    let Some(value) = attrs.structured.and_then(|map| map.get(NAME)) else { return Ok(BTreeMap::new()) };
    let map = value.as_object().ok_or_else(|| mistyped(NAME, "object", value))?;
    map.iter()
        .map(|(output, value)| match value {
            Value::Bool(discard) => Ok((output.clone(), *discard)),
            other => Err(mistyped(NAME, "boolean", other)),
        })
        .collect()
}

fn pass_as_file(attrs: &Attrs<'_>, warnings: &mut Vec<String>) -> Result<BTreeSet<String>> {
    let Some(text) = attrs.env("passAsFile")? else { return Ok(BTreeSet::new()) };
    if attrs.structured.is_some() {
        warnings.push(
            "'structuredAttrs' disables the effect of the top-level attribute 'passAsFile'; because all JSON is always passed via file"
                .to_owned(),
        );
        return Ok(BTreeSet::new());
    }
    Ok(tokens(text))
}

fn export_references_graph(
    attrs: &Attrs<'_>,
    names: &Names<'_>,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, BTreeSet<SingleDerivedPath>>> {
    const NAME: &str = "exportReferencesGraph";
    let mut graphs = BTreeMap::new();
    if let Some(map) = attrs.structured {
        match map.get(NAME) {
            None => {}
            Some(Value::Object(entries)) => {
                for (key, value) in entries {
                    let mut texts = BTreeSet::new();
                    flatten(value, &mut texts)?;
                    let objects: Result<_> = texts.iter().map(|text| names.object(text)).collect();
                    graphs.insert(key.clone(), objects?);
                }
            }
            Some(_) => warnings.push(
                "'exportReferencesGraph' in structured attrs is not a JSON object, ignoring".to_owned(),
            ),
        }
        return Ok(graphs);
    }
    let text = attrs.env(NAME)?.unwrap_or_default();
    let mut words = words(text);
    while let Some(file) = words.next() {
        let Some(path) = words.next() else { return Err(OptionsError::OddGraph(text.to_owned())) };
        if !is_file_name(file) {
            return Err(OptionsError::GraphFileName(file.to_owned()));
        }
        graphs.insert(file.to_owned(), [names.object(path)?].into());
    }
    Ok(graphs)
}

/// Depth is bounded by the JSON parser.
fn flatten(value: &Value, out: &mut BTreeSet<String>) -> Result<()> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| flatten(item, out)),
        Value::String(text) => {
            out.insert(text.clone());
            Ok(())
        }
        _ => Err(OptionsError::GraphValue),
    }
}

fn is_file_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && bytes.all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
}

/// The object that a [`Ref`] names, if it is a store path already.
pub fn opaque(reference: &Ref) -> Option<&StorePath> {
    match reference {
        Ref::Object(SingleDerivedPath::Opaque(path)) => Some(path),
        _ => None,
    }
}

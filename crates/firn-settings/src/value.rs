//! The types of settings: how each is read, appended to and printed.

use crate::error::SettingsError;
use crate::features::{ExperimentalFeature, FeatureSet};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What a setting looks like on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `--name`, `--no-name`.
    Boolean,
    /// `--name`, `--no-name`, `--relaxed-name`.
    Sandbox,
    /// `--name VALUE`.
    Single,
    /// `--name VALUE`, `--extra-name VALUE`.
    Appendable,
}

/// A type that a setting can have.
pub trait SettingValue: Sized {
    const SHAPE: Shape;

    /// Reads the value of setting `name`. What is wrong but bearable goes to `warnings`.
    fn parse(name: &'static str, text: &[u8], warnings: &mut Vec<String>) -> Result<Self, SettingsError>;

    /// Adds what an `extra-` setting gave; called for [`Shape::Appendable`] only.
    fn extend_with(&mut self, more: Self) {
        *self = more;
    }

    /// The value as `nix.conf` would have it.
    fn render(&self) -> Vec<u8>;

    fn to_json(&self) -> Value;
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn utf8<'a>(name: &'static str, text: &'a [u8]) -> Result<&'a str, SettingsError> {
    std::str::from_utf8(text).map_err(|_| SettingsError::NotUtf8 { name, value: lossy(text) })
}

/// The words between blanks.
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).filter(|word| !word.is_empty())
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Joins rendered items with single blanks.
fn join<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(item.as_ref());
    }
    out
}

impl SettingValue for bool {
    const SHAPE: Shape = Shape::Boolean;
    fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        match text {
            b"true" | b"yes" | b"1" => Ok(true),
            b"false" | b"no" | b"0" => Ok(false),
            _ => Err(SettingsError::Boolean { name, value: lossy(text) }),
        }
    }
    fn render(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
    fn to_json(&self) -> Value {
        json!(self)
    }
}

macro_rules! integer_setting {
    ($($ty:ty),*) => {$(
        impl SettingValue for $ty {
            const SHAPE: Shape = Shape::Single;
            fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
                std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| firn_core::units::parse_integer(text).ok())
                    .and_then(|number| <$ty>::try_from(number).ok())
                    .ok_or_else(|| SettingsError::Value { name, value: lossy(text) })
            }
            fn render(&self) -> Vec<u8> {
                self.to_string().into_bytes()
            }
            fn to_json(&self) -> Value {
                json!(self)
            }
        }
    )*};
}
integer_setting!(u32, u64, i64);

/// How many builds run at once: a number, or as many as there are processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildJobs(pub u32);

impl SettingValue for BuildJobs {
    const SHAPE: Shape = Shape::Single;
    fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        if text == b"auto" {
            return Ok(Self(std::thread::available_parallelism().map_or(1, |n| n.get() as u32)));
        }
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.map(Self).ok_or(SettingsError::Jobs { name })
    }
    fn render(&self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }
    fn to_json(&self) -> Value {
        json!(self.0)
    }
}

impl SettingValue for String {
    const SHAPE: Shape = Shape::Single;
    fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        Ok(utf8(name, text)?.to_owned())
    }
    fn render(&self) -> Vec<u8> {
        self.clone().into_bytes()
    }
    fn to_json(&self) -> Value {
        json!(self)
    }
}

/// An absolute path without `.` and `..`.
fn canonical(name: &'static str, text: &[u8]) -> Result<PathBuf, SettingsError> {
    if text.is_empty() {
        return Err(SettingsError::EmptyPath { name });
    }
    let given = path(text);
    if !given.is_absolute() {
        return Err(SettingsError::RelativePath { value: lossy(text) });
    }
    Ok(clean_path(&given))
}

/// Removes `.`, `..` and doubled slashes by name only.
pub(crate) fn clean_path(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// A path that may be relative to the current directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnyPath(pub PathBuf);

impl SettingValue for AnyPath {
    const SHAPE: Shape = Shape::Single;
    fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        if text.is_empty() {
            return Err(SettingsError::EmptyPath { name });
        }
        Ok(AnyPath(path(text)))
    }
    fn render(&self) -> Vec<u8> {
        self.0.render()
    }
    fn to_json(&self) -> Value {
        self.0.to_json()
    }
}

impl SettingValue for PathBuf {
    const SHAPE: Shape = Shape::Single;
    fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        canonical(name, text)
    }
    fn render(&self) -> Vec<u8> {
        self.as_os_str().as_bytes().to_vec()
    }
    fn to_json(&self) -> Value {
        json!(self.to_string_lossy())
    }
}

impl SettingValue for Option<PathBuf> {
    const SHAPE: Shape = Shape::Single;
    fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        if text.is_empty() { Ok(None) } else { canonical(name, text).map(Some) }
    }
    fn render(&self) -> Vec<u8> {
        self.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()).unwrap_or_default()
    }
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, |path| json!(path.to_string_lossy()))
    }
}

impl SettingValue for Vec<String> {
    const SHAPE: Shape = Shape::Appendable;
    fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        words(text).map(|word| utf8(name, word).map(str::to_owned)).collect()
    }
    fn extend_with(&mut self, more: Self) {
        self.extend(more);
    }
    fn render(&self) -> Vec<u8> {
        join(self)
    }
    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl SettingValue for BTreeSet<String> {
    const SHAPE: Shape = Shape::Appendable;
    fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        words(text).map(|word| utf8(name, word).map(str::to_owned)).collect()
    }
    fn extend_with(&mut self, more: Self) {
        self.extend(more);
    }
    fn render(&self) -> Vec<u8> {
        join(self)
    }
    fn to_json(&self) -> Value {
        json!(self)
    }
}

/// Search-path entries and other lists of paths: bytes.
impl SettingValue for Vec<PathBuf> {
    const SHAPE: Shape = Shape::Appendable;
    fn parse(_: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        Ok(words(text).map(path).collect())
    }
    fn extend_with(&mut self, more: Self) {
        self.extend(more);
    }
    fn render(&self) -> Vec<u8> {
        join(self.iter().map(|path| path.as_os_str().as_bytes()))
    }
    fn to_json(&self) -> Value {
        json!(self.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>())
    }
}

impl SettingValue for BTreeMap<String, String> {
    const SHAPE: Shape = Shape::Appendable;
    fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        let mut map = BTreeMap::new();
        for word in words(text) {
            if let Some((key, value)) = utf8(name, word)?.split_once('=') {
                map.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        Ok(map)
    }
    fn extend_with(&mut self, more: Self) {
        for (key, value) in more {
            self.entry(key).or_insert(value);
        }
    }
    fn render(&self) -> Vec<u8> {
        join(self.iter().map(|(key, value)| format!("{key}={value}")))
    }
    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl SettingValue for FeatureSet {
    const SHAPE: Shape = Shape::Appendable;
    fn parse(_: &'static str, text: &[u8], warnings: &mut Vec<String>) -> Result<Self, SettingsError> {
        let mut features = FeatureSet::new();
        for word in words(text) {
            let word = lossy(word);
            match ExperimentalFeature::parse(&word) {
                Some(feature) => {
                    features.insert(feature);
                    if feature == ExperimentalFeature::Flakes {
                        features.insert(ExperimentalFeature::FetchTree);
                    }
                }
                None if word == "no-url-literals" => warnings.push(format!(
                    "experimental feature '{word}' has been stabilized and renamed; use 'lint-url-literals = fatal' setting instead"
                )),
                None => warnings.push(format!("unknown experimental feature '{word}'")),
            }
        }
        Ok(features)
    }
    fn extend_with(&mut self, more: Self) {
        self.extend(more);
    }
    fn render(&self) -> Vec<u8> {
        join(self.iter().map(|feature| feature.name()))
    }
    fn to_json(&self) -> Value {
        json!(self.iter().map(|feature| feature.name()).collect::<Vec<_>>())
    }
}

macro_rules! choice_setting {
    ($(#[$doc:meta])* $ty:ident, $shape:expr, $choices:literal, $json:expr; $($(#[$variant_doc:meta])* $variant:ident = $name:literal),*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $ty { $($(#[$variant_doc])* $variant),* }

        impl SettingValue for $ty {
            const SHAPE: Shape = $shape;
            fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
                $(if text == $name.as_bytes() {
                    return Ok($ty::$variant);
                })*
                Err(SettingsError::Choice { name, value: lossy(text), choices: $choices })
            }
            fn render(&self) -> Vec<u8> {
                match self { $($ty::$variant => $name.into()),* }
            }
            fn to_json(&self) -> Value {
                let name = match self { $($ty::$variant => $name),* };
                let json: fn(&str) -> Value = $json;
                json(name)
            }
        }
    };
}

choice_setting! {
    /// Whether builds are isolated from the machine they run on.
    SandboxMode, Shape::Sandbox, "", |name| match name { "true" => json!(true), "false" => json!(false), other => json!(other) };
    /// Every build; a derivation that asks not to be is an error.
    Enabled = "true",
    /// No build.
    Disabled = "false",
    /// Every build but fixed-output ones and those that ask not to be (`__noChroot`).
    Relaxed = "relaxed"
}

choice_setting! {
    /// What happens where a lint fires.
    Diagnose, Shape::Single, " (expected 'ignore', 'warn', or 'fatal')", |name| json!(name);
    Ignore = "ignore",
    Warn = "warn",
    Fatal = "fatal"
}

choice_setting! {
    /// Which profiler of evaluations runs.
    EvalProfiler, Shape::Single, "", |name| json!(name);
    Disabled = "disabled",
    /// Samples of the stack, folded for a flame graph.
    Flamegraph = "flamegraph"
}

/// Where a path in the sandbox comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPath {
    /// The path on this machine.
    pub source: PathBuf,
    /// Whether it is left out, rather than an error, where `source` does not exist.
    pub optional: bool,
}

/// Path in the sandbox to where it comes from.
pub type SandboxPaths = BTreeMap<PathBuf, SandboxPath>;

impl SettingValue for SandboxPaths {
    const SHAPE: Shape = Shape::Appendable;
    /// Words `path`, `target=source`, each with an optional trailing `?`.
    fn parse(_: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        let mut paths = SandboxPaths::new();
        for word in words(text) {
            let (word, optional) = match word.strip_suffix(b"?") {
                Some(word) => (word, true),
                None => (word, false),
            };
            let (target, source) = match word.iter().position(|&b| b == b'=') {
                Some(at) => (&word[..at], &word[at + 1..]),
                None => (word, word),
            };
            paths.insert(path(target), SandboxPath { source: path(source), optional });
        }
        Ok(paths)
    }
    fn extend_with(&mut self, more: Self) {
        for (target, source) in more {
            self.entry(target).or_insert(source);
        }
    }
    fn render(&self) -> Vec<u8> {
        join(self.iter().map(|(target, from)| {
            let mut word = target.as_os_str().as_bytes().to_vec();
            if from.source != *target {
                word.push(b'=');
                word.extend_from_slice(from.source.as_os_str().as_bytes());
            }
            if from.optional {
                word.push(b'?');
            }
            word
        }))
    }
    fn to_json(&self) -> Value {
        let entry = |(target, from): (&PathBuf, &SandboxPath)| {
            let source = json!({ "optional": from.optional, "source": from.source.to_string_lossy() });
            (target.to_string_lossy().into_owned(), source)
        };
        Value::Object(self.iter().map(entry).collect())
    }
}

/// A program that builds derivations of other systems (`external-builders`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalBuilder {
    pub systems: BTreeSet<String>,
    pub program: PathBuf,
    pub args: Vec<String>,
}

impl SettingValue for Vec<ExternalBuilder> {
    const SHAPE: Shape = Shape::Single;
    fn parse(name: &'static str, text: &[u8], _: &mut Vec<String>) -> Result<Self, SettingsError> {
        let wrong = |message: String| SettingsError::Json { name, message };
        let strings = |value: Option<&Value>, what: &str| -> Result<Vec<String>, SettingsError> {
            let items =
                value.and_then(Value::as_array).ok_or_else(|| wrong(format!("'{what}' must be a list")))?;
            let item = |item: &Value| item.as_str().map(str::to_owned);
            items
                .iter()
                .map(item)
                .collect::<Option<_>>()
                .ok_or_else(|| wrong(format!("'{what}' must hold strings")))
        };
        let value: Value = serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        let builders = value.as_array().ok_or_else(|| wrong("a list is wanted".to_owned()))?;
        builders
            .iter()
            .map(|builder| {
                let program = builder.get("program").and_then(Value::as_str);
                Ok(ExternalBuilder {
                    systems: strings(builder.get("systems"), "systems")?.into_iter().collect(),
                    program: program.ok_or_else(|| wrong("'program' must be a string".to_owned()))?.into(),
                    args: match builder.get("args") {
                        Some(args) => strings(Some(args), "args")?,
                        None => Vec::new(),
                    },
                })
            })
            .collect()
    }
    fn render(&self) -> Vec<u8> {
        self.to_json().to_string().into_bytes()
    }
    fn to_json(&self) -> Value {
        let builder = |builder: &ExternalBuilder| {
            json!({
                "args": builder.args,
                "program": builder.program.to_string_lossy(),
                "systems": builder.systems,
            })
        };
        Value::Array(self.iter().map(builder).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: SettingValue>(text: &str, rendered: &str) {
        let value = T::parse("x", text.as_bytes(), &mut Vec::new()).expect("parses");
        assert_eq!(String::from_utf8_lossy(&value.render()), rendered);
    }

    #[track_caller]
    fn check_error<T: SettingValue>(text: &str, message: &str) {
        let error = T::parse("x", text.as_bytes(), &mut Vec::new()).err().expect("an error");
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn integers_take_units() {
        check::<u64>("64K", "65536");
        check::<u64>("2g", "2147483648");
        check::<u64>("18446744073709551615", "18446744073709551615");
        check_error::<u64>("-1", "setting 'x' has invalid value '-1'");
        check_error::<u32>("4G", "setting 'x' has invalid value '4G'");
        check_error::<u32>("", "setting 'x' has invalid value ''");
        check::<i64>("-3", "-3");
    }

    #[test]
    fn booleans_and_choices() {
        check::<bool>("yes", "true");
        check_error::<bool>("maybe", "Boolean setting 'x' has invalid value 'maybe'");
        check::<SandboxMode>("relaxed", "relaxed");
        check_error::<SandboxMode>("yes", "option 'x' has invalid value 'yes'");
        check_error::<BuildJobs>("3K", "configuration setting 'x' should be 'auto' or an integer");
    }

    #[test]
    fn sandbox_paths() {
        check::<SandboxPaths>("/bin/sh=/s/sh /dev/x? /usr", "/bin/sh=/s/sh /dev/x? /usr");
        check::<SandboxPaths>("/a=/b?", "/a=/b?");
        check::<SandboxPaths>("", "");
    }

    #[test]
    fn paths() {
        check::<Option<PathBuf>>("/a//b/../c/.", "/a/c");
        check::<Option<PathBuf>>("", "");
        check_error::<Option<PathBuf>>("a", "not an absolute path: \"a\"");
        check::<PathBuf>("/a/./b", "/a/b");
        check_error::<PathBuf>("a", "not an absolute path: \"a\"");
        check_error::<PathBuf>("", "setting 'x' is a path and paths cannot be empty");
        check::<AnyPath>("a", "a");
        check_error::<AnyPath>("", "setting 'x' is a path and paths cannot be empty");
    }

    #[test]
    fn flakes_bring_fetch_tree() {
        let mut warnings = Vec::new();
        let set = FeatureSet::parse("x", b"nix-command flakes nah", &mut warnings).expect("parses");
        assert_eq!(set.render(), b"fetch-tree flakes nix-command");
        assert_eq!(warnings, ["unknown experimental feature 'nah'"]);
    }
}

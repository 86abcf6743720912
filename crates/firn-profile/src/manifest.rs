//! `manifest.json`: what a profile of `nix profile` is made of.

use crate::error::{ProfileError, ProfileResult};
use firn_core::StorePath;
use firn_core::store_path::StoreDir;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The priority of a package that says nothing of it.
pub const DEFAULT_PRIORITY: i64 = 5;

/// Where a package came from, as it was written down: this program does not look into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The flake as the user named it.
    pub original_url: String,
    /// The flake as it was then.
    pub url: String,
    pub attr_path: String,
    /// The outputs that were selected.
    pub outputs: Value,
}

/// A package of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    pub store_paths: BTreeSet<StorePath>,
    pub source: Option<Source>,
    pub active: bool,
    /// Smaller numbers win.
    pub priority: i64,
}

impl Package {
    pub fn new(store_paths: BTreeSet<StorePath>, priority: i64) -> Self {
        Self { store_paths, source: None, active: true, priority }
    }

    /// What the user would install it by, or the names of its paths without versions.
    pub fn identifier(&self) -> String {
        if let Some(source) = &self.source {
            return format!(
                "{}#{}{}",
                source.original_url,
                source.attr_path,
                outputs_suffix(&source.outputs)
            );
        }
        let names: BTreeSet<&str> =
            self.store_paths.iter().map(|path| split_version(path.name()).0).collect();
        names.into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(", ")
    }

    /// Its versions, `ε` where there is none and `∅` where there is nothing.
    pub fn versions(&self) -> String {
        let versions: BTreeSet<&str> =
            self.store_paths.iter().map(|path| split_version(path.name()).1).collect();
        let shown: Vec<&str> = versions.into_iter().map(|v| if v.is_empty() { "ε" } else { v }).collect();
        if shown.is_empty() { "∅".to_owned() } else { shown.join(", ") }
    }

    /// The name that it gets in a manifest where that is free.
    pub fn name(&self) -> String {
        self.source.as_ref().and_then(name_of).unwrap_or_else(|| self.identifier())
    }
}

/// All packages of a profile by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest(pub BTreeMap<String, Package>);

impl Manifest {
    /// Reads the text of a manifest of version 1, 2 or 3. `place` names it in errors.
    pub fn parse(text: &[u8], place: &str, dir: &StoreDir) -> ProfileResult<Self> {
        let error = |what: String| ProfileError::BadManifest { place: place.to_owned(), what };
        let bad = |what: String| error(format!(": {what}"));
        let all: Value = serde_json::from_slice(text).map_err(|e| bad(e.to_string()))?;
        let version = all["version"].as_u64().unwrap_or(0);
        let (url, original_url) = match version {
            1 => ("uri", "originalUri"),
            2 | 3 => ("url", "originalUrl"),
            _ => {
                return Err(error(format!(" has unsupported version {version}")));
            }
        };
        let mut manifest = Self::default();
        let mut add = |name: Option<&String>, element: &Value| -> ProfileResult<()> {
            let shown = name.map_or("?", String::as_str);
            let missing = |what: &str| bad(format!("package '{shown}' has no valid '{what}'"));
            let text = |what: &str| element[what].as_str().map(str::to_owned);
            let mut store_paths = BTreeSet::new();
            for path in element["storePaths"].as_array().ok_or_else(|| missing("storePaths"))? {
                let path = path.as_str().ok_or_else(|| missing("storePaths"))?;
                store_paths.insert(dir.parse(path).map_err(|e| bad(e.to_string()))?);
            }
            let source = match text(url).filter(|url| !url.is_empty()) {
                None => None,
                Some(url) => Some(Source {
                    original_url: text(original_url).ok_or_else(|| missing(original_url))?,
                    url,
                    attr_path: text("attrPath").ok_or_else(|| missing("attrPath"))?,
                    outputs: element["outputs"].clone(),
                }),
            };
            let package = Package {
                store_paths,
                source,
                active: element["active"].as_bool().ok_or_else(|| missing("active"))?,
                priority: match &element["priority"] {
                    Value::Null => DEFAULT_PRIORITY,
                    number => number.as_i64().ok_or_else(|| missing("priority"))?,
                },
            };
            manifest.add(&name.cloned().unwrap_or_else(|| package.name()), package);
            Ok(())
        };
        match &all["elements"] {
            Value::Object(elements) => elements.iter().try_for_each(|(name, e)| add(Some(name), e))?,
            Value::Array(elements) => elements.iter().try_for_each(|e| add(None, e))?,
            _ => return Err(bad("no elements".to_owned())),
        }
        Ok(manifest)
    }

    /// Adds a package, under another name where `name` is taken.
    pub fn add(&mut self, name: &str, package: Package) {
        let mut free = name.to_owned();
        let mut number = 1;
        while self.0.contains_key(&free) {
            free = format!("{name}-{number}");
            number += 1;
        }
        self.0.insert(free, package);
    }

    /// The manifest as version 3.
    pub fn to_json(&self, dir: &StoreDir) -> Value {
        let mut elements = Map::new();
        for (name, package) in &self.0 {
            let paths: Vec<String> = package.store_paths.iter().map(|path| dir.display(path)).collect();
            let mut element =
                json!({ "active": package.active, "priority": package.priority, "storePaths": paths });
            if let Some(source) = &package.source {
                element["attrPath"] = source.attr_path.clone().into();
                element["originalUrl"] = source.original_url.clone().into();
                element["outputs"] = source.outputs.clone();
                element["url"] = source.url.clone().into();
            }
            elements.insert(name.clone(), element);
        }
        let mut all = json!({ "elements": elements, "version": 3 });
        all.sort_all_objects();
        all
    }

    /// What is different in `new`: for each package that came, went or changed its version, a line.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(new.0.keys()).collect();
        let line = |name: &String| match (self.0.get(name), new.0.get(name)) {
            (None, Some(new)) => Some(format!("{}: ∅ -> {}", new.identifier(), new.versions())),
            (Some(old), None) => Some(format!("{}: {} -> ∅", old.identifier(), old.versions())),
            (Some(old), Some(new)) if old.versions() != new.versions() => {
                Some(format!("{}: {} -> {}", old.identifier(), old.versions(), new.versions()))
            }
            _ => None,
        };
        names.into_iter().filter_map(line).collect()
    }
}

/// `^out,dev` for a list of outputs, `^*` for all, nothing for the default.
fn outputs_suffix(outputs: &Value) -> String {
    match outputs {
        Value::Array(names) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            format!("^{}", names.join(","))
        }
        _ => String::new(),
    }
}

/// A version begins behind the first dash that no letter follows.
fn split_version(name: &str) -> (&str, &str) {
    let bytes = name.as_bytes();
    let dash = (0..bytes.len())
        .find(|at| bytes[*at] == b'-' && bytes.get(at + 1).is_some_and(|next| !next.is_ascii_alphabetic()));
    dash.map_or((name, ""), |at| (&name[..at], &name[at + 1..]))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

/// A short name for a flake's package: its directory, attribute, repository or folder.
fn name_of(source: &Source) -> Option<String> {
    let (url, query) = source.original_url.split_once('?').unwrap_or((&source.original_url, ""));
    if let Some(dir) = query.split('&').find_map(|pair| pair.strip_prefix("dir=")) {
        return Some(dir.to_owned());
    }
    let steps: Vec<&str> = source.attr_path.split('.').collect();
    if let [before @ .., last] = &steps[..] {
        if steps.iter().all(|step| is_word(step)) && before != ["defaultPackage"] && *last != "default" {
            return Some((*last).to_owned());
        }
    }
    let (scheme, path) = url.split_once(':').unwrap_or(("", url));
    let parts: Vec<&str> = path.split('/').collect();
    if matches!(scheme, "github" | "gitlab" | "sourcehut") {
        return parts.get(1).filter(|name| is_word(name)).map(|name| (*name).to_owned());
    }
    match &parts[..] {
        [_, .., last] if is_word(last) => Some((*last).to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> StoreDir {
        StoreDir::new("/nix/store")
    }

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("{}-{name}", "a".repeat(32))).unwrap()
    }

    #[test]
    fn round_trip() {
        let mut manifest = Manifest::default();
        manifest.add("hello", Package::new([path("hello-2.10")].into(), 5));
        manifest.add("hello", Package::new([path("hello-2.12")].into(), 6));
        let source = Source {
            original_url: "github:NixOS/nixpkgs".into(),
            url: "github:NixOS/nixpkgs/abc".into(),
            attr_path: "legacyPackages.x86_64-linux.git".into(),
            outputs: json!(["out", "doc"]),
        };
        let git = Package { source: Some(source), ..Package::new([path("git-1")].into(), 5) };
        assert_eq!(git.name(), "git");
        assert_eq!(git.identifier(), "github:NixOS/nixpkgs#legacyPackages.x86_64-linux.git^out,doc");
        manifest.add(&git.name(), git);
        let names: Vec<&String> = manifest.0.keys().collect();
        assert_eq!(names, ["git", "hello", "hello-1"]);
        let text = manifest.to_json(&dir()).to_string();
        assert!(text.starts_with(r#"{"elements":{"git":{"active":true,"attrPath":"#), "{text}");
        assert_eq!(Manifest::parse(text.as_bytes(), "m", &dir()).unwrap(), manifest);
    }

    #[test]
    fn older_versions() {
        let text = format!(
            r#"{{"version": 1, "elements": [{{"active": true, "storePaths": ["/nix/store/{a}-x-1"], "uri": "path:/a/b",
               "originalUri": "flake:b", "attrPath": "packages.s.default", "outputs": null}},
               {{"active": false, "storePaths": ["/nix/store/{a}-y-2"]}}]}}"#,
            a = "a".repeat(32)
        );
        let manifest = Manifest::parse(text.as_bytes(), "m", &dir()).unwrap();
        assert_eq!(manifest.0.keys().collect::<Vec<_>>(), ["flake:b#packages.s.default", "y"]);
        assert!(!manifest.0["y"].active);
    }

    #[test]
    fn malformed() {
        for (text, message) in [
            ("", "EOF while parsing"),
            (r#"{"version": 4, "elements": {}}"#, "has unsupported version 4"),
            (r#"{"version": 3}"#, "no elements"),
            (r#"{"version": 3, "elements": {"a": {}}}"#, "package 'a' has no valid 'storePaths'"),
            (r#"{"version": 3, "elements": {"a": {"storePaths": ["/x"], "active": true}}}"#, "/x"),
            (r#"{"version": 3, "elements": {"a": {"storePaths": []}}}"#, "no valid 'active'"),
        ] {
            let error = Manifest::parse(text.as_bytes(), "m", &dir()).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn differences() {
        let manifest = |names: &[&str]| {
            let mut manifest = Manifest::default();
            for name in names {
                let package = Package::new([path(name)].into(), 5);
                manifest.add(&package.name(), package);
            }
            manifest
        };
        let found = manifest(&["a-1", "b-1", "c"]).changes(&manifest(&["b-2", "c", "d-1.2"]));
        assert_eq!(found, ["a: 1 -> ∅", "b: 1 -> 2", "d: ∅ -> 1.2"]);
    }
}

//! The builder's environment, and the files that stand for parts of it.

use crate::config::BuildConfig;
use crate::structured;
use crate::text::{io_failure, paint};
use firn_core::base::nix32_encode;
use firn_core::{Hash, HashAlgo, HashFormat, SingleDerivedPath, StorePath};
use firn_derivation::{Derivation, DerivationOptions, DerivationType, StructuredAttrs, output_placeholder};
use firn_scheduler::BuildFailure;
use firn_store::validity::{ValidityLines, render_validity};
use firn_store::{BuildStatus, BuildTarget};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Texts to replace, as [`firn_derivation::resolve::rewrite`] takes them.
pub(crate) type Rewrites = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the builder is given.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub variables: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Name in the build directory to contents.
    pub files: BTreeMap<String, Vec<u8>>,
}

pub(crate) struct Surroundings<'a> {
    pub target: &'a dyn BuildTarget,
    pub config: &'a BuildConfig,
    pub drv: &'a Derivation,
    pub options: &'a DerivationOptions,
    pub kind: DerivationType,
    pub input_paths: &'a BTreeSet<StorePath>,
    /// The build directory as the builder sees it.
    pub build_dir: &'a Path,
}

impl Surroundings<'_> {
    /// Everything, before rewriting.
    pub fn environment(&self) -> Result<Environment, BuildFailure> {
        let mut env = Environment::default();
        let build_dir = self.build_dir.as_os_str().as_bytes();
        // Shells take a default where there is no PATH, programs look in the user database where there is no HOME.
        env.set("PATH", "/path-not-set");
        env.set("HOME", "/homeless-shelter");
        env.set("NIX_STORE", self.target.store_dir().as_str());
        env.set("NIX_BUILD_CORES", self.config.build_cores().to_string());

        match StructuredAttrs::of(self.drv).map_err(BuildFailure::other)? {
            Some(attrs) => self.structured(attrs.0, &mut env)?,
            None => self.plain(&mut env)?,
        }

        env.set("NIX_BUILD_TOP", build_dir);
        for name in ["TMPDIR", "TEMPDIR", "TMP", "TEMP", "PWD"] {
            env.set(name, build_dir);
        }
        if self.kind.is_fixed() {
            env.set("NIX_OUTPUT_CHECKED", "1");
        }
        if !self.kind.is_sandboxed() {
            for name in &self.options.impure_env_vars {
                let value = match self.config.impure_env.get(name) {
                    Some(value) => value.clone().into_bytes(),
                    None => std::env::var_os(name).map(|v| v.as_bytes().to_vec()).unwrap_or_default(),
                };
                env.set(name, value);
            }
        }
        env.set("NIX_LOG_FD", "2");
        env.set("TERM", "xterm-256color");
        Ok(env)
    }

    fn plain(&self, env: &mut Environment) -> Result<(), BuildFailure> {
        for (name, value) in &self.drv.env {
            let as_file =
                std::str::from_utf8(name).is_ok_and(|name| self.options.pass_as_file.contains(name));
            if as_file {
                let hash = Hash::of(HashAlgo::Sha256, name);
                let file = format!(".attr-{}", nix32_encode(hash.digest()));
                let mut variable = name.clone();
                variable.extend_from_slice(b"Path");
                env.file(variable, file, value.clone(), self.build_dir);
            } else {
                env.variables.insert(name.clone(), value.clone());
            }
        }
        for (file, objects) in &self.options.export_references_graph {
            let mut text = String::new();
            for path in self.exported_closure(objects)? {
                let info = self.info(&path)?;
                text += &render_validity(self.target.store_dir(), &info, ValidityLines::ReferencesOnly);
            }
            env.files.insert(file.clone(), text.into_bytes());
        }
        Ok(())
    }

    fn structured(&self, mut attrs: Map<String, Value>, env: &mut Environment) -> Result<(), BuildFailure> {
        let outputs: Map<String, Value> =
            self.drv.outputs.keys().map(|name| (name.clone(), output_placeholder(name).into())).collect();
        attrs.insert("outputs".into(), Value::Object(outputs));
        for (key, objects) in &self.options.export_references_graph {
            let closure = self.exported_closure(objects)?;
            let infos: Result<Vec<Value>, _> = closure.iter().map(|path| self.exported_info(path)).collect();
            attrs.insert(key.clone(), Value::Array(infos?));
        }
        let mut value = Value::Object(attrs);
        value.sort_all_objects();
        let json = value.to_string();
        let Value::Object(attrs) = value else { return Ok(()) };
        let shell = structured::shell(&attrs);
        env.file(b"NIX_ATTRS_SH_FILE".to_vec(), ".attrs.sh".into(), shell.into_bytes(), self.build_dir);
        env.file(b"NIX_ATTRS_JSON_FILE".to_vec(), ".attrs.json".into(), json.into_bytes(), self.build_dir);
        Ok(())
    }

    /// A store object as `exportReferencesGraph` shows it under structured attributes.
    fn exported_info(&self, path: &StorePath) -> Result<Value, BuildFailure> {
        let dir = self.target.store_dir();
        let info = self.info(path)?;
        let mut closure_size = 0;
        for member in self.closure([path.clone()].into())? {
            closure_size += self.info(&member)?.nar_size;
        }
        let references: Vec<String> = info.references.iter().map(|r| dir.display(r)).collect();
        let mut value = json!({
            "narHash": info.nar_hash.to_prefixed(HashFormat::Nix32),
            "narSize": info.nar_size,
            "references": references,
            "path": dir.display(path),
            "valid": true,
            "closureSize": closure_size,
        });
        if let (Some(ca), Value::Object(map)) = (&info.ca, &mut value) {
            map.insert("ca".into(), ca.to_string().into());
        }
        Ok(value)
    }

    /// The closure that a builder gets to see: of inputs only, with the outputs of derivations in it.
    fn exported_closure(
        &self,
        objects: &BTreeSet<SingleDerivedPath>,
    ) -> Result<BTreeSet<StorePath>, BuildFailure> {
        let mut roots = BTreeSet::new();
        for object in objects {
            let path = object.base();
            if !self.input_paths.contains(path) {
                return Err(BuildFailure::new(
                    BuildStatus::PermanentFailure,
                    format!(
                        "cannot export references of path '{}' because it is not in the input closure of the derivation",
                        paint(self.target.store_dir().display(path))
                    ),
                ));
            }
            roots.insert(path.clone());
        }
        let mut all = self.closure(roots)?;
        let mut outputs = BTreeSet::new();
        for drv in all.iter().filter(|path| path.is_derivation()) {
            outputs.extend(self.outputs_of(drv)?);
        }
        all.extend(self.closure(outputs)?);
        Ok(all)
    }

    /// The paths that a derivation in the store says its outputs have.
    fn outputs_of(&self, drv: &StorePath) -> Result<Vec<StorePath>, BuildFailure> {
        let dir = self.target.store_dir();
        let real = self.target.real_store_dir().join(drv.base_name());
        let bytes = std::fs::read(&real).map_err(io_failure("reading derivation", &real))?;
        let name = Derivation::name_from_path(drv).unwrap_or_default();
        let parsed = Derivation::parse_aterm(name, &bytes, dir).map_err(|e| {
            BuildFailure::other(format!("error parsing derivation '{}': {e}", paint(dir.display(drv))))
        })?;
        let paths = parsed.output_paths(dir).map_err(BuildFailure::other)?;
        Ok(paths.into_values().flatten().collect())
    }

    fn closure(&self, roots: BTreeSet<StorePath>) -> Result<BTreeSet<StorePath>, BuildFailure> {
        closure(self.target, roots)
    }

    fn info(&self, path: &StorePath) -> Result<firn_core::ValidPathInfo, BuildFailure> {
        info(self.target, path)
    }
}

impl Environment {
    fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.variables.insert(name.as_ref().to_vec(), value.as_ref().to_vec());
    }

    /// A variable that names a file in the build directory.
    fn file(&mut self, variable: Vec<u8>, file: String, contents: Vec<u8>, build_dir: &Path) {
        self.variables.insert(variable, build_dir.join(&file).as_os_str().as_bytes().to_vec());
        self.files.insert(file, contents);
    }
}

pub(crate) fn info(
    target: &dyn BuildTarget,
    path: &StorePath,
) -> Result<firn_core::ValidPathInfo, BuildFailure> {
    match target.path_info(path) {
        Ok(Some(info)) => Ok(info),
        Ok(None) => Err(BuildFailure::other(format!(
            "path '{}' is not valid",
            paint(target.store_dir().display(path))
        ))),
        Err(e) => Err(BuildFailure::other(e)),
    }
}

/// Everything that `roots` refer to, and they themselves.
pub(crate) fn closure(
    target: &dyn BuildTarget,
    roots: BTreeSet<StorePath>,
) -> Result<BTreeSet<StorePath>, BuildFailure> {
    let mut done = BTreeSet::new();
    let mut work: Vec<StorePath> = roots.into_iter().collect();
    while let Some(path) = work.pop() {
        if done.contains(&path) {
            continue;
        }
        let info = info(target, &path)?;
        work.extend(info.references.into_iter().filter(|r| !done.contains(r)));
        done.insert(path);
    }
    Ok(done)
}

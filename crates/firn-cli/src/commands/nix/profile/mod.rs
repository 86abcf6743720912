//! `nix profile`: packages of a profile by name, kept in `manifest.json`.

mod add;
mod change;
mod history;
mod show;
mod upgrade;

pub use add::Add;
pub use change::Remove;
pub use history::{DiffClosures, History, Rollback, WipeHistory};
pub use show::List;
pub use upgrade::Upgrade;

use crate::args::{EvalArgs, Values};
use crate::commands::nix_env;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::flakes::FlakeSource;
use crate::profile_flag;
use firn_build::builtins::buildenv::{self, EnvironmentError, build_environment};
use firn_core::{CaMethod, HashAlgo, OutputsSpec, StorePath};
use firn_profile::dirs;
use firn_profile::manifest::{DEFAULT_PRIORITY, Manifest, Package, Source};
use firn_store::AddSource;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// `--profile PATH`, or the user's own.
#[derive(Default)]
struct Which(Option<PathBuf>);

impl Which {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        if flag != "--profile" {
            return Ok(false);
        }
        let [path] = values.take(flag)?;
        self.0 = Some(std::path::absolute(&path).map_err(CliError::io("resolving", path))?);
        Ok(true)
    }

    fn path(&self, context: &Context) -> CliResult<PathBuf> {
        match &self.0 {
            Some(path) => Ok(path.clone()),
            None => Ok(dirs::default_profile(&context.settings)?),
        }
    }
}

/// A profile, with flags for an evaluation that a manifest in JSON does not need.
#[derive(Default)]
struct WhichWithEval {
    which: Which,
    eval: EvalArgs,
}

impl WhichWithEval {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        Ok(self.which.flag(flag, values)? || self.eval.flag_or_repair(flag, values)?)
    }
}

/// The packages of a profile, also of one that `nix-env` made. A profile that is not there has none.
fn read(context: &Context, profile: &Path) -> CliResult<Manifest> {
    let store = context.store()?;
    let json = profile.join("manifest.json");
    match std::fs::read(&json) {
        Ok(text) => return Ok(Manifest::parse(&text, &json.display().to_string(), store.store_dir())?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(CliError::io("reading", json)(e)),
    }
    let mut manifest = Manifest::default();
    if profile.join("manifest.nix").exists() {
        let eval = EvalArgs { impure: true, ..EvalArgs::default() };
        let mut evaluation = Evaluation::new(context, &eval, true)?;
        for found in nix_env::of_profile(&mut evaluation, profile)? {
            let path = evaluation.run(|vm| vm.out_path(&found))?;
            let package = Package::new([path].into(), DEFAULT_PRIORITY);
            manifest.add(&package.name(), package);
        }
    }
    Ok(manifest)
}

/// Where a package of a flake comes from, as manifests say it.
fn source(source: &FlakeSource) -> Source {
    Source {
        original_url: source.original.shown(),
        url: source.locked.shown(),
        attr_path: source.attr_path.clone(),
        outputs: match &source.outputs {
            None => serde_json::Value::Null,
            Some(OutputsSpec::All) => serde_json::json!(["*"]),
            Some(OutputsSpec::Names(names)) => serde_json::json!(names),
        },
    }
}

/// Why a new profile could not be made.
enum Failure {
    /// Files of two packages have one place.
    Conflict(EnvironmentError),
    Other(CliError),
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        Self::Other(error)
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Conflict(error) => CliError::failed(error.to_string()),
            Failure::Other(error) => error,
        }
    }
}

/// Makes the tree of links for `manifest` and switches the profile to it.
fn switch(context: &Context, profile: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let path = build(context, manifest)?;
    Ok(profile_flag::switch(&*context.store()?, context, profile, &path)?)
}

fn build(context: &Context, manifest: &Manifest) -> Result<StorePath, Failure> {
    let store = context.store()?;
    let dir = store.store_dir();
    let folder = tempfile::Builder::new().prefix("nix-profile-").tempdir();
    let folder = folder.map_err(CliError::io("creating a folder in", std::env::temp_dir()))?;
    let tree = folder.path().join("profile");
    let mut packages = Vec::new();
    let mut references = BTreeSet::new();
    for package in manifest.0.values() {
        for path in &package.store_paths {
            references.insert(path.clone());
            if package.active {
                packages.push(buildenv::Package {
                    path: dir.display(path).into(),
                    active: true,
                    priority: package.priority,
                });
            }
        }
    }
    let mut warn = |text: &str| context.logger.warn(text);
    build_environment(&tree, packages, &mut warn).map_err(Failure::Conflict)?;
    let file = tree.join("manifest.json");
    std::fs::write(&file, manifest.to_json(dir).to_string()).map_err(CliError::io("writing", &file))?;
    let added = context.block_on(store.add_to_store(
        "profile",
        AddSource::Path(&tree),
        CaMethod::NixArchive,
        HashAlgo::Sha256,
        &references,
        false,
    ))?;
    Ok(added.map_err(CliError::from)?.path)
}

//! Where packages come from: an expression, or a profile's manifest.

use super::Line;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_eval::{Attrs, FoundDerivation, Value};
use firn_profile::dirs;
use firn_store::activity::Verbosity;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The expression that the command line names: a file, a folder of expressions, or `~/.nix-defexpr`.
pub fn expression(context: &Context, evaluation: &mut Evaluation, line: &Line) -> CliResult<Value> {
    let path = match &line.file {
        Some(file) => evaluation.file_argument(Path::new(file))?,
        None => dirs::default_expression(&context.settings)?.as_os_str().as_bytes().to_vec(),
    };
    let path = firn_eval::canonical_path(&path);
    evaluation.run(|vm| vm.eval_source_tree(&path)).map(Value::keep)
}

/// Packages of that expression, at `attr_path`.
pub fn available(
    context: &Context,
    evaluation: &mut Evaluation,
    line: &Line,
    attr_path: &str,
) -> CliResult<Vec<FoundDerivation>> {
    let root = expression(context, evaluation, line)?;
    let args = evaluation.auto_args;
    let mut found = evaluation.run(|vm| {
        let (value, _) = vm.find_along_path(attr_path, args, root)?;
        vm.find_derivations(value, attr_path, args, true)
    })?;
    if let Some(filter) = line.system_filter.as_deref().filter(|filter| *filter != b"*") {
        let mut kept = Vec::new();
        for package in found {
            if evaluation.run(|vm| vm.package_system(&package))? == filter {
                kept.push(package);
            }
        }
        found = kept;
    }
    Ok(found)
}

/// Packages of the profile that the command line or the environment names.
pub fn installed(
    context: &Context,
    evaluation: &mut Evaluation,
    line: &Line,
) -> CliResult<Vec<FoundDerivation>> {
    of_profile(evaluation, &profile(context, line)?)
}

/// Packages of a profile; none if it is not there.
pub fn of_profile(evaluation: &mut Evaluation, profile: &Path) -> CliResult<Vec<FoundDerivation>> {
    if profile.join("manifest.json").exists() {
        return Err(CliError::failed(format!(
            "profile \"{}\" is incompatible with 'nix-env'; please use 'nix profile' instead",
            profile.display()
        )));
    }
    let manifest = profile.join("manifest.nix");
    if !manifest.exists() {
        return Ok(Vec::new());
    }
    let path = std::fs::canonicalize(&manifest).map_err(CliError::io("resolving", manifest))?;
    evaluation.run(|vm| {
        let value = vm.eval_file(path.as_os_str().as_bytes())?;
        vm.find_derivations(value, "", Attrs::empty(), false)
    })
}

/// The profile that the operation works on.
pub fn profile(context: &Context, line: &Line) -> CliResult<PathBuf> {
    if let Some(profile) = &line.profile {
        return Ok(profile.clone());
    }
    match std::env::var_os("NIX_PROFILE").filter(|profile| !profile.is_empty()) {
        Some(profile) => Ok(profile.into()),
        None => Ok(dirs::default_profile(&context.settings)?),
    }
}

/// Makes `~/.nix-defexpr` with links to the channels where it is missing; that this fails is no error yet.
pub fn prepare_default_expression(context: &Context) {
    if let Err(error) = dirs::prepared_default_expression(&context.settings) {
        context.logger.log(Verbosity::Debug, error.to_string().as_bytes());
    }
}

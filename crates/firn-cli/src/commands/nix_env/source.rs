//! Where packages come from: an expression, or a profile's manifest.

use super::Line;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_eval::{Attrs, FoundDerivation};
use rustix::process::geteuid;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Packages of the expression that the command line names, at `attr_path`.
pub fn available(
    context: &Context,
    evaluation: &mut Evaluation,
    line: &Line,
    attr_path: &str,
) -> CliResult<Vec<FoundDerivation>> {
    let path = match &line.file {
        Some(file) => evaluation.file_argument(Path::new(file))?,
        None => default_expression(context)?.as_os_str().as_bytes().to_vec(),
    };
    let path = firn_eval::canonical_path(&path);
    let args = evaluation.auto_args;
    let mut found = evaluation.run(|vm| {
        let root = vm.eval_source_tree(&path)?;
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
    let profile = match &line.profile {
        Some(profile) => profile.clone(),
        None => default_profile(context)?,
    };
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

fn default_profile(context: &Context) -> CliResult<PathBuf> {
    if let Some(profile) = std::env::var_os("NIX_PROFILE").filter(|profile| !profile.is_empty()) {
        return Ok(profile.into());
    }
    let link = match context.settings.use_xdg_base_directories {
        true => state_home(context)?.join("profile"),
        false => context.settings.dirs.require_home()?.join(".nix-profile"),
    };
    Ok(match (std::fs::read_link(&link), link.parent()) {
        (Ok(target), Some(folder)) => folder.join(target),
        _ => link,
    })
}

fn state_home(context: &Context) -> CliResult<PathBuf> {
    let dirs = &context.settings.dirs;
    match &dirs.state_home {
        Some(state) => Ok(state.clone()),
        None => Ok(dirs.require_home()?.join(".local/state/nix")),
    }
}

/// `~/.nix-defexpr`. Where it is missing it is made, with links to the channels; that this fails is no error yet.
fn default_expression(context: &Context) -> CliResult<PathBuf> {
    let path = match context.settings.use_xdg_base_directories {
        true => state_home(context)?.join("defexpr"),
        false => context.settings.dirs.require_home()?.join(".nix-defexpr"),
    };
    if !path.exists() {
        let root_channels = context.settings.dirs.state.join("profiles/per-user/root/channels");
        let is_root = geteuid().is_root();
        let own = match is_root {
            true => root_channels.clone(),
            false => state_home(context)?.join("profiles/channels"),
        };
        let make = || -> std::io::Result<()> {
            std::fs::create_dir_all(&path)?;
            std::os::unix::fs::symlink(&own, path.join("channels"))?;
            if !is_root {
                std::os::unix::fs::symlink(&root_channels, path.join("channels_root"))?;
            }
            Ok(())
        };
        if let Err(error) = make() {
            context.logger.log(
                firn_store::activity::Verbosity::Debug,
                format!("making '{}': {error}", path.display()).as_bytes(),
            );
        }
    }
    Ok(path)
}

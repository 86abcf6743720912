//! The bash of a shell: `bashInteractive` of nixpkgs, or else the one in PATH.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs, One};
use crate::memory::{Bash, seconds_now};
use firn_core::StorePath;
use firn_store::activity::Verbosity;
use std::path::{Path, PathBuf};

/// Where a package has its shell.
const PROGRAM: &str = "bin/bash";

/// Looks for it, and builds it. That there is none is no error, and is forgotten when references are looked up again.
pub fn find(context: &Context, what: &InstallableArgs, one: &mut One) -> Bash {
    match build(context, what, one) {
        Ok(path) => Bash::At(path),
        Err(error) => {
            let message = error.last_words();
            complain(context, &message);
            let ttl = i64::from(context.settings.tarball_ttl);
            Bash::Missing { message, until: seconds_now().saturating_add(ttl) }
        }
    }
}

fn build(context: &Context, what: &InstallableArgs, one: &mut One) -> CliResult<StorePath> {
    let reference = one.nixpkgs(context)?;
    let wanted = one.package(context, what, reference, "bashInteractive")?;
    let mut paths = installables::store_paths(context, &[wanted])?;
    paths.sort();
    for path in paths {
        if file(context, &path)?.1.exists() {
            return Ok(path);
        }
    }
    Err(CliError::failed("package 'nixpkgs#bashInteractive' does not provide a 'bin/bash'"))
}

/// The program in a store path: as the store names it, and where it is on the disk.
fn file(context: &Context, path: &StorePath) -> CliResult<(PathBuf, PathBuf)> {
    let store = context.store()?;
    let named = Path::new(&store.store_dir().display(path)).join(PROGRAM);
    let real = match store.as_local_fs() {
        Some(local) => local.real_store_dir().join(path.base_name()).join(PROGRAM),
        None => named.clone(),
    };
    Ok((named, real))
}

/// Says what the user misses.
pub fn complain(context: &Context, message: &str) {
    context.logger.log(Verbosity::Error, format!("\x1b[31;1merror (ignored):\x1b[0m {message}").as_bytes());
}

/// The program, and whether it is one that is meant for a prompt.
pub fn program(context: &Context, bash: &Bash) -> CliResult<(PathBuf, bool)> {
    match bash {
        Bash::At(path) => Ok((file(context, path)?.0, true)),
        Bash::Missing { .. } | Bash::NotAsked => {
            Ok((crate::exec::find(Path::new("bash")).unwrap_or_else(|| "bash".into()), false))
        }
    }
}

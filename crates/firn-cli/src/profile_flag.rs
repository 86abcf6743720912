//! `--profile PATH`: the result becomes a new generation of a profile.

use crate::args::Values;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::StorePath;
use firn_profile::generations;
use firn_store::Store;
use firn_store::activity::Verbosity;
use std::path::PathBuf;

/// The flag as it was given.
#[derive(Default)]
pub struct ProfileFlag(Option<PathBuf>);

impl ProfileFlag {
    /// Handles `flag` if it is this.
    pub fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        if flag != "--profile" {
            return Ok(false);
        }
        let [path] = values.take(flag)?;
        self.0 = Some(std::path::absolute(&path).map_err(CliError::io("resolving", path))?);
        Ok(true)
    }

    /// Switches the profile, if there is one, to the one path that was made.
    pub fn update(&self, store: &dyn Store, context: &Context, paths: &[StorePath]) -> CliResult<()> {
        let Some(profile) = &self.0 else { return Ok(()) };
        let [path] = paths else {
            return Err(CliError::failed(format!(
                "'--profile' requires that the arguments produce a single store path, but there are {}",
                paths.len()
            )));
        };
        switch(store, context, profile, path)
    }
}

/// Makes a generation of `profile` for `path` and switches to it.
pub fn switch(
    store: &dyn Store,
    context: &Context,
    profile: &std::path::Path,
    path: &StorePath,
) -> CliResult<()> {
    let local = store
        .as_local_fs()
        .ok_or_else(|| CliError::failed("'--profile' is not supported for this Nix store"))?;
    let wait = |text: &str| context.logger.log(Verbosity::Error, text.as_bytes());
    let _lock = generations::lock(profile, &wait)?;
    let generation = generations::create(local, &store.store_dir().display(path), profile, path)?;
    generations::switch_link(profile, &generation)?;
    Ok(())
}

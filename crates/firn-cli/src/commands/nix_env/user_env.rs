//! Building a user environment and switching a profile to it.

use crate::context::Context;
use crate::error::CliResult;
use firn_core::{DerivedPath, OutputsSpec, StorePath};
use firn_profile::{Element, element, environment, generations};
use firn_store::BuildMode;
use firn_store::activity::Verbosity;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

/// Says what would have to be built and fetched for `elements`.
pub fn print_missing(context: &Context, elements: &[Element]) -> CliResult<()> {
    let requests: Vec<DerivedPath> = elements.iter().map(request).collect();
    let builder = context.build_store()?;
    let missing = context.block_on(builder.query_missing(&requests))??;
    crate::commands::nix_store::print_missing(context, &*context.store()?, &missing, Verbosity::Info)
}

/// What has to be valid for `element`.
pub fn request(element: &Element) -> DerivedPath {
    match &element.drv_path {
        Some(drv) => DerivedPath::built(drv.clone(), OutputsSpec::All),
        None => DerivedPath::Opaque(element.out_path.clone()),
    }
}

/// Builds the derivations of `elements`.
pub fn build(context: &Context, elements: &[Element], mode: BuildMode) -> CliResult<()> {
    let drvs: Vec<DerivedPath> = elements.iter().filter(|e| e.drv_path.is_some()).map(request).collect();
    if !drvs.is_empty() {
        let builder = context.build_store()?;
        context.block_on(builder.realise(&drvs, mode))??;
    }
    Ok(())
}

/// Builds the environment of `elements` and switches `profile` to it. `false` if somebody else changed the profile
/// since it pointed to `token`; nothing is switched then.
pub fn create(
    context: &Context,
    elements: &[Element],
    profile: &Path,
    token: &OsStr,
    mode: BuildMode,
) -> CliResult<bool> {
    let store = context.store()?;
    let builder = context.build_store()?;
    build(context, elements, mode)?;
    // Elements that came as store paths may have to be fetched.
    let outputs: BTreeSet<StorePath> = elements.iter().flat_map(|e| e.outputs.values().cloned()).collect();
    for path in &outputs {
        context.block_on(store.add_temp_root(path))??;
    }
    let valid = context.block_on(store.query_valid_paths(&outputs))??;
    for path in outputs.difference(&valid) {
        context.block_on(builder.ensure_path(path))??;
    }
    let keep = context.settings.keep_env_derivations;
    let mut references = outputs;
    if keep {
        references.extend(elements.iter().filter_map(|element| element.drv_path.clone()));
    }
    let dir = store.store_dir();
    let manifest = element::manifest(elements, dir, keep)?;
    let manifest = context.block_on(store.add_text("env-manifest.nix", &manifest, &references, false))??;
    let drv = environment::derivation(elements, &manifest, dir)?;
    let text = drv.to_aterm(dir);
    let drv_path =
        context.block_on(store.add_text("user-environment.drv", &text, &drv.references(), false))??;
    let requests = [DerivedPath::built(drv_path, OutputsSpec::All)];
    let built = context.block_on(builder.realise(&requests, mode))??;
    let known = drv.output_paths(dir).map_err(firn_store::StoreError::from)?.remove("out").flatten();
    let made = built.first().and_then(|result| result.outputs.get("out").cloned());
    let Some(path) = made.or(known) else {
        return Err(crate::error::CliError::failed("the user environment has no output"));
    };
    if let Some(local) = store.as_local_fs() {
        let wait = |text: &str| context.logger.log(Verbosity::Error, text.as_bytes());
        let _lock = generations::lock(profile, &wait)?;
        if generations::token(profile) != token {
            let text = format!("profile \"{}\" changed while we were busy; restarting", profile.display());
            context.logger.log(Verbosity::Info, text.as_bytes());
            return Ok(false);
        }
        switch(local, dir.display(&path).as_str(), profile, &path)?;
    }
    Ok(true)
}

/// Makes a generation for `path` (shown as `shown`) and lets the profile, which is locked, point to it.
pub fn switch(
    local: &dyn firn_store::LocalFsStore,
    shown: &str,
    profile: &Path,
    path: &StorePath,
) -> CliResult<()> {
    let generation = generations::create(local, shown, profile, path)?;
    Ok(generations::switch_link(profile, &generation)?)
}

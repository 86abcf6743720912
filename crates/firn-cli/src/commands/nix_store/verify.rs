//! Operations that check, repair and optimise.

use super::garbage::render_size;
use super::paths::follow_links;
use super::{Line, unknown_flag};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::{DerivedPath, Hash, HashAlgo, HashFormat, OutputsSpec, StorePath};
use firn_nar::HashSink;
use firn_store::activity::Verbosity;
use firn_store::export::BlockingWriter;
use firn_store::{BuildMode, StoreError, StoreResult};
use firn_store_local::VerifyOptions;

pub fn verify(context: &Context, line: Line) -> CliResult<u8> {
    line.no_args()?;
    let mut options = VerifyOptions::default();
    let repair = |path: &StorePath| match repair_one(context, path) {
        Ok(()) => Ok(()),
        Err(CliError::Store(error)) => Err(error),
        Err(error) => Err(StoreError::Other(error.to_string())),
    };
    let repair: &dyn Fn(&StorePath) -> StoreResult<()> = &repair;
    for flag in &line.flags {
        match flag.to_str() {
            Some("--check-contents") => options.check_contents = true,
            Some("--repair") => options.repair = Some(repair),
            _ => return Err(unknown_flag(flag)),
        }
    }
    let store = context.store()?;
    let remain = match (context.local_store(), store.as_gc()) {
        (Ok(local), _) => local.verify(&options)?,
        (_, Some(gc)) => {
            let repair = options.repair.is_some().then(|| context.build_store()).transpose()?;
            context.block_on(gc.verify(options.check_contents, repair))??
        }
        // A cache, in which nothing is equal that is not one file already.
        (Err(_), None) => return Ok(0),
    };
    if remain {
        context.logger.warn("not all store errors were fixed");
        return Ok(1);
    }
    Ok(0)
}

pub fn verify_path(context: &Context, line: Line) -> CliResult<u8> {
    if !line.flags.is_empty() {
        return Err(CliError::usage("no flags expected"));
    }
    let store = context.store()?;
    let mut status = 0;
    for arg in &line.args {
        let path = follow_links(store.store_dir(), arg)?;
        let text = store.store_dir().display(&path);
        context.logger.log(Verbosity::Talkative, format!("checking path '{text}'...").as_bytes());
        let info = context
            .block_on(store.query_path_info(&path))??
            .ok_or_else(|| StoreError::InvalidPath { path: text.clone() })?;
        let mut sink = BlockingWriter(HashSink::new(HashAlgo::Sha256));
        context.block_on(store.nar_from_path(&path, &mut sink))??;
        let (hash, _): (Hash, u64) = sink.0.finish();
        if hash != info.nar_hash {
            let message = format!(
                "path '{text}' was modified! expected hash '{}', got '{}'",
                info.nar_hash.to_prefixed(HashFormat::Nix32),
                hash.to_prefixed(HashFormat::Nix32)
            );
            context.logger.log(Verbosity::Error, message.as_bytes());
            status = 1;
        }
    }
    Ok(status)
}

pub fn repair_path(context: &Context, line: Line) -> CliResult<u8> {
    if !line.flags.is_empty() {
        return Err(CliError::usage("no flags expected"));
    }
    let store = context.store()?;
    for arg in &line.args {
        repair_one(context, &follow_links(store.store_dir(), arg)?)?;
    }
    Ok(0)
}

/// Fetches the path again, or builds its deriver again.
pub fn repair_one(context: &Context, path: &StorePath) -> CliResult<()> {
    let store = context.store()?;
    let builder = context.build_store()?;
    let fetch = [DerivedPath::Opaque(path.clone())];
    let results = context.block_on(builder.build_paths(&fetch, BuildMode::Repair))??;
    if results.iter().all(|result| result.status.is_success()) {
        return Ok(());
    }
    let text = store.store_dir().display(path);
    let info = context
        .block_on(store.query_path_info(path))??
        .ok_or_else(|| StoreError::InvalidPath { path: text.clone() })?;
    let deriver = match &info.deriver {
        Some(deriver) if context.block_on(store.is_valid_path(deriver))?? => deriver.clone(),
        _ => return Err(CliError::failed(format!("cannot repair path '{text}'"))),
    };
    let build = [DerivedPath::built(deriver, OutputsSpec::All)];
    let results = context.block_on(builder.build_paths(&build, BuildMode::Repair))??;
    match results.into_iter().find(|result| !result.status.is_success()) {
        None => Ok(()),
        Some(failed) => Err(CliError::failed(failed.error)),
    }
}

pub fn optimise(context: &Context, line: Line) -> CliResult<u8> {
    if !line.args.is_empty() || !line.flags.is_empty() {
        return Err(CliError::usage("no arguments expected"));
    }
    optimise_store(context)
}

/// Links equal files of the whole store.
pub fn optimise_store(context: &Context) -> CliResult<u8> {
    let store = context.store()?;
    let stats = match (context.local_store(), store.as_gc()) {
        (Ok(local), _) => local.optimise()?,
        (_, Some(gc)) => {
            context.block_on(gc.optimise())??;
            return Ok(0);
        }
        // A cache, in which nothing is equal that is not one file already.
        (Err(_), None) => return Ok(0),
    };
    let message =
        format!("{} freed by hard-linking {} files", render_size(stats.bytes_freed), stats.files_linked);
    context.logger.log(Verbosity::Info, message.as_bytes());
    Ok(0)
}

//! Operations on what the database says.

use super::paths::follow_links;
use super::{Line, unknown_flag};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::{HashAlgo, StorePath};
use firn_nar::HashSink;
use firn_nar::fs::{DumpOptions, dump_path};
use firn_store::StoreError;
use firn_store::validity::{HashLines, ValidityLines, read_validity, render_validity};
use firn_store_local::{CanonicaliseOptions, canonicalise_metadata};

/// Paths that are asked for together.
const AT_ONCE: usize = 1000;

pub fn init(context: &Context, line: Line) -> CliResult<u8> {
    line.no_flags()?;
    line.no_args()?;
    let store = context.store()?;
    match context.local_store() {
        Ok(local) => local.init()?,
        Err(_) => context.block_on(store.connect())??,
    }
    Ok(0)
}

pub fn dump(context: &Context, line: Line) -> CliResult<u8> {
    line.no_flags()?;
    let store = context.store()?;
    let dir = store.store_dir();
    let paths: Vec<StorePath> = match line.args.is_empty() {
        true => context.block_on(store.query_all_valid_paths())??.into_iter().collect(),
        false => line.args.iter().map(|arg| follow_links(dir, arg)).collect::<CliResult<Vec<_>>>()?,
    };
    for paths in paths.chunks(AT_ONCE) {
        let infos = context.block_on(store.query_path_infos(&paths.iter().cloned().collect()))??;
        let mut text = String::new();
        for path in paths {
            let info = infos.get(path).ok_or_else(|| StoreError::InvalidPath { path: dir.display(path) })?;
            text += &render_validity(dir, info, ValidityLines::All);
        }
        context.print(text.as_bytes())?;
    }
    Ok(0)
}

pub fn load(context: &Context, line: Line) -> CliResult<u8> {
    line.no_flags()?;
    line.no_args()?;
    register(context, &Registration { reregister: true, hashes: HashLines::Given, canonicalise: false })
}

pub fn register_validity(context: &Context, line: Line) -> CliResult<u8> {
    let mut how = Registration { reregister: false, hashes: HashLines::Absent, canonicalise: true };
    for flag in &line.flags {
        match flag.to_str() {
            Some("--reregister") => how.reregister = true,
            Some("--hash-given") => how.hashes = HashLines::Given,
            _ => return Err(unknown_flag(flag)),
        }
    }
    line.no_args()?;
    register(context, &how)
}

struct Registration {
    /// Also what is valid already.
    reregister: bool,
    hashes: HashLines,
    canonicalise: bool,
}

fn register(context: &Context, how: &Registration) -> CliResult<u8> {
    let store = context.local_store()?;
    let mut input = std::io::stdin().lock();
    let mut infos = std::collections::BTreeMap::new();
    while let Some(mut info) = read_validity(store.dir(), &mut input, how.hashes)? {
        if !how.reregister && store.is_valid(&info.path)? {
            continue;
        }
        let real = store.real(&info.path);
        if how.canonicalise {
            let options =
                CanonicaliseOptions { uid_range: None, ignored_acls: Some(&store.config().ignored_acls) };
            canonicalise_metadata(&real, &options, &mut Default::default())?;
        }
        if how.hashes == HashLines::Absent {
            let options = DumpOptions { undo_case_hack: store.config().use_case_hack, filter: None };
            let sink =
                dump_path(&real, HashSink::new(HashAlgo::Sha256), options).map_err(StoreError::from)?;
            (info.nar_hash, info.nar_size) = sink.finish();
        }
        infos.insert(info.path.clone(), info);
    }
    store.register_valid_paths(&infos.into_values().collect::<Vec<_>>())?;
    Ok(0)
}

pub fn check_validity(context: &Context, line: Line) -> CliResult<u8> {
    let mut print_invalid = false;
    for flag in &line.flags {
        match flag.to_str() {
            Some("--print-invalid") => print_invalid = true,
            _ => return Err(unknown_flag(flag)),
        }
    }
    let store = context.store()?;
    let paths = line.args.iter().map(|arg| follow_links(store.store_dir(), arg));
    let paths = paths.collect::<CliResult<Vec<StorePath>>>()?;
    let valid = context.block_on(store.query_valid_paths(&paths.iter().cloned().collect()))??;
    for path in paths {
        if valid.contains(&path) {
            continue;
        }
        let text = store.store_dir().display(&path);
        match print_invalid {
            true => context.print_line(text)?,
            false => return Err(CliError::Store(StoreError::InvalidPath { path: text })),
        }
    }
    Ok(0)
}

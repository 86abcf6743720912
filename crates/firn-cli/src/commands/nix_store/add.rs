//! Operations that add files, and the path that a fixed output has.

use super::{Line, unknown_flag};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo};
use firn_store::StoreError;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub fn add(context: &Context, line: Line) -> CliResult<u8> {
    line.no_flags()?;
    add_all(context, &line.args, CaMethod::NixArchive, HashAlgo::Sha256)
}

pub fn add_fixed(context: &Context, mut line: Line) -> CliResult<u8> {
    let method = method(&line)?;
    if line.args.is_empty() {
        return Err(CliError::usage("first argument must be hash algorithm"));
    }
    let algo = algo(&line.args.remove(0))?;
    add_all(context, &line.args, method, algo)
}

fn add_all(context: &Context, args: &[OsString], method: CaMethod, algo: HashAlgo) -> CliResult<u8> {
    crate::commands::hashing::require_algo(context, algo)?;
    let store = context.store()?;
    let mut sources = Vec::with_capacity(args.len());
    for arg in args {
        sources.push((base_name(arg)?, Path::new(arg)));
    }
    for some in sources.chunks(AT_ONCE) {
        for info in context.block_on(store.add_paths(some, method, algo))?? {
            context.print_line(store.store_dir().display(&info.path))?;
        }
    }
    Ok(0)
}

/// Files that are added before their paths are shown.
const AT_ONCE: usize = 256;

pub fn print_fixed_path(context: &Context, line: Line) -> CliResult<u8> {
    let method = method(&line)?;
    let [algorithm, hash, name] = &line.args[..] else {
        return Err(CliError::usage("'--print-fixed-path' requires three arguments"));
    };
    let algo = algo(algorithm)?;
    let hash = Hash::parse_any(text(hash)?, Some(algo)).map_err(|e| CliError::failed(e.to_string()))?;
    let store = context.store()?;
    let path = store
        .store_dir()
        .make_fixed_output_path(&ContentAddress { method, hash }, text(name)?, &References::default())
        .map_err(StoreError::from)?;
    context.print_line(store.store_dir().display(&path))?;
    Ok(0)
}

fn method(line: &Line) -> CliResult<CaMethod> {
    line.flags.iter().try_fold(CaMethod::Flat, |_, flag| match flag.to_str() {
        Some("--recursive") => Ok(CaMethod::NixArchive),
        _ => Err(unknown_flag(flag)),
    })
}

fn algo(text: &OsStr) -> CliResult<HashAlgo> {
    crate::commands::hashing::parse_algo(&text.to_string_lossy())
}

fn text(arg: &OsStr) -> CliResult<&str> {
    arg.to_str()
        .ok_or_else(|| CliError::usage(format!("argument '{}' is not valid UTF-8", arg.to_string_lossy())))
}

/// What stands behind the last slash, slashes at the end aside.
fn base_name(arg: &OsStr) -> CliResult<&str> {
    let bytes = arg.as_bytes();
    let end = bytes.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    let start = bytes[..end].iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    text(OsStr::from_bytes(&bytes[start..end]))
}

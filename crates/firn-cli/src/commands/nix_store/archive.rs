//! Operations on archives and streams of them.

use super::Line;
use super::paths::follow_links;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::signature::SecretKey;
use firn_nar::fs::{DumpOptions, RestoreOptions, dump_path};
use firn_nar::{NarError, NarReader};
use firn_store::StoreError;
use firn_store::export::{BlockingWriter, export_paths, import_paths};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Standard output without the line buffer.
pub fn raw_stdout() -> CliResult<File> {
    let fd = std::io::stdout().as_fd().try_clone_to_owned();
    Ok(File::from(fd.map_err(CliError::io("opening", "standard output"))?))
}

fn raw_stdin() -> CliResult<BufReader<File>> {
    let fd = std::io::stdin().as_fd().try_clone_to_owned();
    let file = File::from(fd.map_err(CliError::io("opening", "standard input"))?);
    Ok(BufReader::with_capacity(256 * 1024, file))
}

fn nar_error(error: NarError) -> CliError {
    CliError::Store(StoreError::from(error))
}

pub fn dump(context: &Context, line: Line) -> CliResult<u8> {
    line.no_flags()?;
    let [path] = &line.args[..] else { return Err(CliError::usage("only one argument allowed")) };
    let options = DumpOptions { undo_case_hack: context.settings.use_case_hack, filter: None };
    dump_path(Path::new(path), raw_stdout()?, options).map_err(nar_error)?;
    Ok(0)
}

pub fn restore(context: &Context, line: Line) -> CliResult<u8> {
    line.no_flags()?;
    let [path] = &line.args[..] else { return Err(CliError::usage("only one argument allowed")) };
    let options = RestoreOptions {
        case_hack: context.settings.use_case_hack,
        preallocate: context.settings.preallocate_contents,
        ..RestoreOptions::default()
    };
    let mut reader = NarReader::new(raw_stdin()?);
    firn_nar::fs::restore(&mut reader, Path::new(path), options).map_err(nar_error)?;
    Ok(0)
}

pub fn export(context: &Context, line: Line) -> CliResult<u8> {
    line.no_flags()?;
    let store = context.store()?;
    let paths = line.args.iter().map(|arg| follow_links(store.store_dir(), arg));
    let paths: BTreeSet<_> = paths.collect::<CliResult<_>>()?;
    let mut out = BlockingWriter(raw_stdout()?);
    context.block_on(export_paths(&*store, &paths, &mut out))??;
    Ok(0)
}

pub fn import(context: &Context, line: Line) -> CliResult<u8> {
    line.no_flags()?;
    line.no_args()?;
    let store = context.store()?;
    let mut input = raw_stdin()?;
    let imported = context.block_on(import_paths(&*store, &mut input, false))??;
    for path in imported {
        context.print_line(store.store_dir().display(&path))?;
    }
    Ok(0)
}

pub fn generate_key(_: &Context, line: Line) -> CliResult<u8> {
    line.no_flags()?;
    let [name, secret_file, public_file] = &line.args[..] else {
        return Err(CliError::usage("three arguments expected"));
    };
    let name = crate::args::text("key name", name.clone())?;
    let secret = SecretKey::from_seed(&name, &crate::commands::random_seed()?);
    let write = |path: &Path, mode, text: String| {
        let open = File::options().write(true).create(true).truncate(true).mode(mode).open(path);
        open.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(CliError::io("writing", path))
    };
    write(Path::new(public_file), 0o666, secret.public().render())?;
    write(Path::new(secret_file), 0o600, secret.render())?;
    Ok(0)
}

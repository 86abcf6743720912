//! Operations that print what derivations and builds left.

use super::Line;
use super::paths::follow_links;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_settings::ExperimentalFeature;
use firn_store::StoreError;
use firn_store::outputs::build_log;

pub fn print_env(context: &Context, line: Line) -> CliResult<u8> {
    line.no_flags()?;
    let [arg] = &line.args[..] else {
        return Err(CliError::usage("'--print-env' requires one derivation store path"));
    };
    let store = context.store()?;
    let path = store.store_dir().parse(&arg.to_string_lossy()).map_err(StoreError::from)?;
    let drv = context.block_on(store.read_derivation(&path))??;
    let mut out = Vec::new();
    for (name, value) in &drv.env {
        for part in [b"export ", &name[..], b"; ", name, b"=", &quoted(value), b"\n\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"export _args; _args=");
    out.extend_from_slice(&quoted(&drv.args.join(&b' ')));
    out.push(b'\n');
    context.print(&out)?;
    Ok(0)
}

pub fn read_log(context: &Context, line: Line) -> CliResult<u8> {
    line.no_flags()?;
    let store = context.store()?;
    let logs = store.as_log().ok_or_else(|| store.unsupported("reading build logs"))?;
    let resolve = context.settings.has_feature(ExperimentalFeature::CaDerivations);
    let mut all = Vec::new();
    for arg in &line.args {
        let path = follow_links(store.store_dir(), arg)?;
        match context.block_on(build_log(&*store, logs, &path, resolve))?? {
            Some(log) => all.extend(log),
            None => {
                return Err(CliError::failed(format!(
                    "build log of derivation '{}' is not available",
                    store.store_dir().display(&path)
                )));
            }
        }
    }
    crate::pager::print(context, &all)?;
    Ok(0)
}

/// In single quotes for a shell.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for &byte in text {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            byte => out.push(byte),
        }
    }
    out.push(b'\'');
    out
}

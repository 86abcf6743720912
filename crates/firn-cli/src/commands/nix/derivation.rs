//! `nix derivation show` and `nix log`.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs};
use firn_core::DerivedPath;
use firn_store::{ClosureOptions, compute_fs_closure};
use serde_json::{Map, json};
use std::ffi::OsString;

/// The version of the JSON form.
const JSON_VERSION: u32 = 4;

/// `nix derivation show` as it was written.
#[derive(Default)]
pub struct Show {
    what: InstallableArgs,
    recursive: bool,
    pretty: Option<bool>,
}

impl FlagSink for Show {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-r" | "--recursive" => self.recursive = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Show {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let wanted = self.what.resolve(context, Some("."))?;
        let store = context.eval_store()?;
        let mut paths = installables::derivations(context, &wanted)?;
        if self.recursive {
            paths = context.block_on(compute_fs_closure(&*store, &paths, ClosureOptions::default()))??;
        }
        let mut all = Map::new();
        for path in paths.iter().filter(|path| path.is_derivation()) {
            let derivation = context.block_on(store.read_derivation(path))??;
            let shown = || store.store_dir().display(path);
            let value = derivation
                .to_json()
                .map_err(|error| CliError::failed(format!("derivation '{}': {error}", shown())))?;
            all.insert(path.base_name().to_owned(), value);
        }
        let value = json!({ "derivations": all, "version": JSON_VERSION });
        context.print_line(super::json_text(&value, self.pretty))?;
        Ok(0)
    }
}

/// `nix log` as it was written.
#[derive(Default)]
pub struct Log {
    what: InstallableArgs,
}

impl FlagSink for Log {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.what.flag(flag, values)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Log {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let store = context.store()?;
        let logs = store.as_log().ok_or_else(|| store.unsupported("reading build logs"))?;
        for wanted in self.what.resolve(context, Some("."))? {
            let path = match &wanted {
                DerivedPath::Opaque(path) => path,
                DerivedPath::Built { drv, .. } => drv.base(),
            };
            match context.block_on(logs.build_log(path))?? {
                Some(log) => context.print(&log)?,
                None => {
                    let shown = wanted.render(store.store_dir());
                    return Err(CliError::failed(format!("build log of '{shown}' is not available")));
                }
            }
        }
        Ok(0)
    }
}

//! `nix store path-from-hash-part` and `dump-path`.

use crate::args::{self, FlagSink, Values};
use crate::commands::nix::NixCommand;
use crate::commands::nix::store_paths::{Realise, StorePathsArgs};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use std::ffi::OsString;
use std::io::IsTerminal;

/// `nix store path-from-hash-part` as it was written.
#[derive(Default)]
pub struct PathFromHashPart {
    hash_part: Option<String>,
}

impl FlagSink for PathFromHashPart {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        let arg = args::text("hash part", arg)?;
        match self.hash_part {
            None => self.hash_part = Some(arg),
            Some(_) => return Err(CliError::usage(format!("unexpected argument '{arg}'"))),
        }
        Ok(())
    }
}

impl NixCommand for PathFromHashPart {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let part = self.hash_part.ok_or_else(|| CliError::usage("more arguments are required"))?;
        let store = context.store()?;
        let path = context.block_on(store.query_path_from_hash_part(&part))??;
        let missing = || CliError::failed(format!("there is no store path corresponding to '{part}'"));
        context.print_line(store.store_dir().display(&path.ok_or_else(missing)?))?;
        Ok(0)
    }
}

/// `nix store dump-path` as it was written.
#[derive(Default)]
pub struct DumpPath {
    what: StorePathsArgs,
}

impl FlagSink for DumpPath {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.what.flag(flag, values)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for DumpPath {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        if std::io::stdout().is_terminal() {
            return Err(CliError::usage("refusing to write NAR to a terminal"));
        }
        let store = context.store()?;
        let paths = self.what.resolve(context, &*store, Realise::Outputs)?;
        let [path] = &paths[..] else {
            return Err(CliError::usage("this command requires exactly one store path"));
        };
        context.block_on(async {
            let mut out = tokio::io::stdout();
            store.nar_from_path(path, &mut out).await?;
            tokio::io::AsyncWriteExt::flush(&mut out).await.map_err(|source| CliError::Io {
                operation: "writing",
                path: "standard output".into(),
                source,
            })
        })??;
        Ok(0)
    }
}

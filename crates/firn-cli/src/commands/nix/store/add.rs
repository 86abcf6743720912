//! `nix store add`, `add-file`, `add-path`.

use crate::args::{self, FlagSink, Values};
use crate::commands::hashing::{parse_algo, require_method};
use crate::commands::nix::NixCommand;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::{CaMethod, HashAlgo};
use firn_store::AddSource;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

/// The command as it was written.
pub struct Add {
    path: Option<PathBuf>,
    name: Option<String>,
    method: CaMethod,
    algo: HashAlgo,
    dry_run: bool,
}

impl Add {
    pub fn new(method: CaMethod) -> Self {
        Self { path: None, name: None, method, algo: HashAlgo::Sha256, dry_run: false }
    }
}

impl FlagSink for Add {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--dry-run" => self.dry_run = true,
            "-n" | "--name" => {
                let [name] = values.take(flag)?;
                self.name = Some(args::text("name", name)?);
            }
            "--mode" => {
                let [mode] = values.take(flag)?;
                self.method = match mode.to_str() {
                    Some("flat") => CaMethod::Flat,
                    Some("nar" | "recursive") => CaMethod::NixArchive,
                    Some("text") => CaMethod::Text,
                    Some("git") => CaMethod::Git,
                    _ => {
                        return Err(CliError::usage(format!(
                            "unknown file ingestion method '{}', expect `flat`, `nar`, or `git`",
                            mode.to_string_lossy()
                        )));
                    }
                };
            }
            "--hash-algo" => {
                let [algo] = values.take(flag)?;
                self.algo = parse_algo(&args::text("hash algorithm", algo)?)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match self.path {
            None => self.path = Some(arg.into()),
            Some(_) => {
                return Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy())));
            }
        }
        Ok(())
    }
}

impl NixCommand for Add {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let path = self.path.ok_or_else(|| CliError::usage("more arguments are required"))?;
        let path = std::path::absolute(&path).map_err(CliError::io("resolving", path))?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => args::text("file name", path.file_name().unwrap_or_default().to_owned())?,
        };
        require_method(context, self.method, self.algo)?;
        let store = context.store()?;
        let added = if self.dry_run {
            let undo = context.settings.use_case_hack;
            firn_store::source::path_of_source(
                store.store_dir(),
                &name,
                &path,
                self.method,
                self.algo,
                None,
                undo,
            )?
            .0
        } else {
            let none = BTreeSet::new();
            let source = AddSource::Path(&path);
            context.block_on(store.add_to_store(&name, source, self.method, self.algo, &none, false))??.path
        };
        context.print_line(store.store_dir().display(&added))?;
        Ok(0)
    }
}

//! `nix copy`.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs};
use crate::stores;
use firn_store::{BuildMode, ClosureOptions, CopyOptions, compute_fs_closure};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
pub struct Copy {
    what: InstallableArgs,
    from: Option<String>,
    to: Option<String>,
    no_check_signatures: bool,
    all: bool,
    not_recursive: bool,
    derivation: bool,
    substitute: bool,
}

impl FlagSink for Copy {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--from" => self.from = Some(values.next_text(flag)?),
            "--to" => self.to = Some(values.next_text(flag)?),
            "--no-check-sigs" => self.no_check_signatures = true,
            "--all" => self.all = true,
            "--no-recursive" => self.not_recursive = true,
            "--derivation" => self.derivation = true,
            "-s" | "--substitute-on-destination" => self.substitute = true,
            "--profile" | "--out-link" | "-o" => {
                return Err(CliError::failed(format!("flag '{flag}' of 'nix copy' is not supported yet")));
            }
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Copy {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        if self.from.is_none() && self.to.is_none() {
            return Err(CliError::usage("you must pass '--from' and/or '--to'"));
        }
        let open = |uri: &Option<String>| match uri {
            Some(uri) => stores::open(uri, context).map(|opened| opened.store),
            None => context.store(),
        };
        let (from, to) = (open(&self.from)?, open(&self.to)?);
        let paths = if self.all {
            context.block_on(from.query_all_valid_paths())??
        } else {
            let wanted = self.what.resolve(context, None)?;
            let mut roots = BTreeSet::new();
            if self.derivation || self.from.is_some() {
                // What is copied from elsewhere is not built here first.
                for path in &wanted {
                    match path {
                        firn_core::DerivedPath::Opaque(path) => roots.insert(path.clone()),
                        firn_core::DerivedPath::Built { drv, .. } => roots.insert(drv.base().clone()),
                    };
                }
            } else {
                for built in installables::build(context, &wanted, BuildMode::Normal)? {
                    roots.extend(built.outputs.into_values());
                }
            }
            match self.not_recursive {
                true => roots,
                false => {
                    context.block_on(compute_fs_closure(&*from, &roots, ClosureOptions::default()))??
                }
            }
        };
        let options = CopyOptions {
            check_signatures: !self.no_check_signatures,
            substitute: self.substitute,
            ..CopyOptions::default()
        };
        let copy = firn_store::copy_paths(&*from, &*to, &paths, options, &context.logger);
        context.block_on(copy)??;
        Ok(0)
    }
}

//! `nix fmt` and `nix formatter`: the program that a flake formats its files with.

use super::build::link;
use super::{NixCommand, app};
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::flakes::{self, Defaults};
use crate::installables::InstallableArgs;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `nix fmt` and `nix formatter run` as they were written.
pub struct Run {
    what: InstallableArgs,
    args: Vec<OsString>,
}

impl Default for Run {
    fn default() -> Self {
        Self { what: InstallableArgs::of(Defaults::Formatter), args: Vec::new() }
    }
}

impl FlagSink for Run {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        // What the formatter prints is its own affair; Nix has these here and nothing to print.
        Ok(matches!(flag, "--json" | "--pretty" | "--no-pretty") || self.what.flag(flag, values)?)
    }

    /// All arguments are the program's.
    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.args.push(arg);
        Ok(())
    }
}

impl NixCommand for Run {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let reference = flakes::parse(context, b".", false)?;
        let root = context.fetcher()?.source_path(&reference.input).map_err(super::registry::failed)?;
        let (program, _) = app::resolve(context, &mut self.what)?;
        let mut env: std::collections::BTreeMap<_, _> = std::env::vars_os().collect();
        // Formatters can format all of the flake, wherever they are started.
        env.extend(root.map(|root| (OsString::from("PRJ_ROOT"), root.into_os_string())));
        let path = Path::new(&program);
        crate::exec::exec_in_store(context, path, path.as_os_str(), &self.args, &env, None)
    }
}

/// `nix formatter build` as it was written.
pub struct Build {
    what: InstallableArgs,
    out_link: Option<PathBuf>,
}

impl Default for Build {
    fn default() -> Self {
        Self { what: InstallableArgs::of(Defaults::Formatter), out_link: Some("result".into()) }
    }
}

impl FlagSink for Build {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-o" | "--out-link" => {
                let [link] = values.take(flag)?;
                self.out_link = Some(link.into());
            }
            "--no-link" => self.out_link = None,
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy())))
    }
}

impl NixCommand for Build {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let (program, built) = app::resolve(context, &mut self.what)?;
        if let Some(prefix) = &self.out_link {
            link(&*context.store()?, &built, prefix)?;
        }
        context.print_line(program)?;
        Ok(0)
    }
}

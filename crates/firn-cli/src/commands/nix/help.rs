//! `nix help` and `nix help-stores`.

use super::{NixCommand, rows};
use crate::args::{FlagSink, Values, text};
use crate::commands::HELPS;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::manual;
use firn_settings::ExperimentalFeature;
use std::ffi::OsString;

/// `nix help` as it was written.
#[derive(Default)]
pub struct Help(Vec<String>);

impl FlagSink for Help {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.0.push(text("command", arg)?);
        Ok(())
    }
}

impl NixCommand for Help {
    fn feature(&self) -> Option<ExperimentalFeature> {
        None
    }

    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        if let [program] = &self.0[..] {
            if let Some((_, help)) = HELPS.iter().find(|(name, _)| name == program) {
                crate::pager::print(context, help.trim_start().as_bytes())?;
                return Ok(0);
            }
        }
        let rows = rows();
        let begins = |path: &[&str]| path.len() >= self.0.len() && self.0.iter().eq(&path[..self.0.len()]);
        if !rows.iter().any(|(path, ..)| begins(path)) {
            return Err(CliError::failed(format!("there is no command 'nix {}'", self.0.join(" "))));
        }
        crate::pager::print(context, manual::help(&rows, &self.0).as_bytes())?;
        Ok(0)
    }
}

/// Kinds of stores as `--store` and the like take them.
const STORES: &str = "Stores are named by URIs, with settings behind a question mark: local?root=/mnt&require-sigs=false

  auto                  the local store where this user can write it, else the daemon (default)
  local, local?root=DIR the store of this machine, or one below a folder
  DIR                   the same as local?root=DIR, for paths with a slash
  daemon, unix://PATH   the store behind a daemon's socket
  ssh-ng://[USER@]HOST  a store on another machine, through its daemon's protocol
  ssh://[USER@]HOST     the same through nix-store --serve
  mounted-ssh-ng://HOST the same where the store's files are also on this machine
  http://…, https://…   a binary cache on a server
  file://DIR            a binary cache in a folder
  s3://BUCKET           a binary cache in a bucket
  local-overlay://      a local store on top of another (experimental)
  dummy://              a store in memory, for evaluation

Settings of local stores: store, root, state, log, real, read-only, require-sigs, build-dir, priority, trusted,
system-features, want-mass-query, path-info-cache-size.
";

/// `nix help-stores` as it was written.
#[derive(Default)]
pub struct HelpStores;

impl FlagSink for HelpStores {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }
}

impl NixCommand for HelpStores {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        crate::pager::print(context, STORES.as_bytes())?;
        Ok(0)
    }
}

/// `firn completions` as it was written.
#[derive(Default)]
pub struct Completions(Option<String>);

impl FlagSink for Completions {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match self.0.replace(text("shell", arg)?) {
            None => Ok(()),
            Some(_) => Err(CliError::usage("only one shell can be given")),
        }
    }
}

impl NixCommand for Completions {
    fn feature(&self) -> Option<ExperimentalFeature> {
        None
    }

    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let shell = self.0.ok_or_else(|| CliError::usage("which shell: bash, zsh or fish?"))?;
        let script = manual::script(&shell).ok_or_else(|| {
            CliError::usage(format!("there is no completion for '{shell}', but for bash, zsh and fish"))
        })?;
        context.print(script.as_bytes())?;
        Ok(0)
    }
}

/// `firn man` as it was written.
#[derive(Default)]
pub struct Man(Option<OsString>);

impl FlagSink for Man {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match self.0.replace(arg) {
            None => Ok(()),
            Some(_) => Err(CliError::usage("only one folder can be given")),
        }
    }
}

impl NixCommand for Man {
    fn feature(&self) -> Option<ExperimentalFeature> {
        None
    }

    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let folder = self.0.ok_or_else(|| CliError::usage("to which folder?"))?;
        let count = manual::write_pages(folder.as_ref(), &manual::pages(&rows(), HELPS))?;
        context.print_line(format!("{count} pages"))?;
        Ok(0)
    }
}

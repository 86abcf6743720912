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
        crate::pager::print(context, manual::stores_text().as_bytes())?;
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

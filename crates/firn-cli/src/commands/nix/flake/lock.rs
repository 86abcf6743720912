//! `nix flake lock` and `nix flake update`.

use super::FlakeArg;
use crate::args::{FlagSink, Values};
use crate::commands::nix::NixCommand;
use crate::context::Context;
use crate::error::CliResult;
use crate::flakes::input_path;
use firn_flake::{InputPath, LockFlags};
use std::ffi::OsString;

/// `nix flake lock` as it was written.
#[derive(Default)]
pub struct Lock {
    what: FlakeArg,
}

impl FlagSink for Lock {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            // It is what the command is for.
            "--no-write-lock-file" => Ok(false),
            _ => self.what.flag(flag, values),
        }
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg)
    }
}

impl NixCommand for Lock {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        context.believe_nothing_old();
        let (mut evaluation, flags) = self.what.start(context, false)?;
        let reference = self.what.reference(context)?;
        let flags = LockFlags { write: true, fail_on_unlocked: true, apply_config: true, ..flags };
        evaluation.lock(context, &reference, &flags)?;
        Ok(0)
    }
}

/// `nix flake update` as it was written.
#[derive(Default)]
pub struct Update {
    what: FlakeArg,
    inputs: Vec<OsString>,
}

impl FlagSink for Update {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--flake" => {
                let [url] = values.take(flag)?;
                self.what.url = Some(url);
                Ok(true)
            }
            "--no-write-lock-file" | "--no-update-lock-file" => Ok(false),
            _ => self.what.flag(flag, values),
        }
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.inputs.push(arg);
        Ok(())
    }
}

impl Update {
    fn input(&self, context: &Context, name: &OsString) -> CliResult<InputPath> {
        let empty = "input path to be updated cannot be zero-length; it would refer to the flake itself, not an input";
        input_path(name, empty).inspect_err(|_| {
            let shown = name.to_string_lossy();
            context.logger.warn(&format!(
                "Invalid flake input '{shown}'. To update a specific flake, use 'nix flake update --flake {shown}' \
                 instead."
            ));
        })
    }
}

impl NixCommand for Update {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        context.believe_nothing_old();
        let mut updates = std::collections::BTreeSet::new();
        for name in &self.inputs {
            let path = self.input(context, name)?;
            if !updates.insert(path.clone()) {
                context.logger.warn(&format!(
                    "Input '{path}' was specified multiple times. You may have done this by accident."
                ));
            }
        }
        let (mut evaluation, mut flags) = self.what.start(context, false)?;
        flags.updates.extend(updates);
        let recreate = flags.updates.is_empty();
        let reference = self.what.reference(context)?;
        let flags = LockFlags { recreate, write: true, apply_config: true, ..flags };
        evaluation.lock(context, &reference, &flags).map(|_| 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CliError;

    #[test]
    fn flags_that_make_no_sense() {
        let mut low = crate::args::LowArgs::nix();
        let args = ["--no-write-lock-file".into()];
        let error = crate::args::parse(args, &mut low, &mut Lock::default()).expect_err("not allowed");
        assert!(matches!(error, CliError::Usage { .. }));
    }
}

//! `nix repl`.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::CliResult;
use crate::flakes::Defaults;
use crate::installables::InstallableArgs;
use crate::repl;
use firn_settings::ExperimentalFeature;
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
pub struct Repl {
    what: InstallableArgs,
    names: Vec<OsString>,
}

impl FlagSink for Repl {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.what.flag(flag, values)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.names.push(arg);
        Ok(())
    }
}

impl NixCommand for Repl {
    fn feature(&self) -> Option<ExperimentalFeature> {
        None
    }

    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        if !context.settings.is_overridden("pure-eval") {
            self.what.eval.impure = true;
        }
        if self.what.has_expression() && self.names.is_empty() {
            self.names.push(OsString::new());
        }
        self.what.defaults = Defaults::Whole;
        repl::Repl::new(context, self.what, self.names)?.run()?;
        // What other threads still evaluate is of no use any more.
        firn_eval::interrupt(true);
        Ok(0)
    }
}

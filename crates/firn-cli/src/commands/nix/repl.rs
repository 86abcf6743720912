//! `nix repl`.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::InstallableArgs;
use crate::repl;
use firn_settings::ExperimentalFeature;
use std::ffi::OsString;
use std::path::Path;

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
        if self.what.has_expression() {
            if self.names.is_empty() {
                self.names.push(OsString::new());
            }
        } else if let Some(name) = self.names.first() {
            let path = std::path::absolute(name).map_err(CliError::io("resolving", name))?;
            return Err(CliError::failed(match path.is_file() {
                true => format!("path \"{}\" is not a flake", path.display()),
                false => format!(
                    "'{}': flakes are not supported yet by this version of firn; use --file or --expr",
                    Path::new(name).display()
                ),
            }));
        }
        repl::Repl::new(context, self.what, self.names)?.run()?;
        // What other threads still evaluate is of no use any more.
        firn_eval::interrupt(true);
        Ok(0)
    }
}

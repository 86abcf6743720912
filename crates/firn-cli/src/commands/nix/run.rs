//! `nix run`: an app, or the main program of a package.

use super::{NixCommand, app};
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::environment::EnvironmentArgs;
use crate::error::CliResult;
use crate::flakes::Defaults;
use crate::installables::InstallableArgs;
use std::ffi::OsString;
use std::path::Path;

/// The command as it was written.
pub struct Run {
    what: InstallableArgs,
    environment: EnvironmentArgs,
    has_installable: bool,
    args: Vec<OsString>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            what: InstallableArgs::of(Defaults::Apps),
            environment: EnvironmentArgs::default(),
            has_installable: false,
            args: Vec::new(),
        }
    }
}

impl FlagSink for Run {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        Ok(self.environment.flag(flag, values)? || self.what.flag(flag, values)?)
    }

    /// The first argument is the package, all others are the program's.
    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match std::mem::replace(&mut self.has_installable, true) {
            false => self.what.positional(arg),
            true => self.args.push(arg),
        }
        Ok(())
    }

    fn shadows(&self, flag: &str) -> bool {
        EnvironmentArgs::shadows(flag)
    }
}

impl NixCommand for Run {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let (program, _) = app::resolve(context, &mut self.what)?;
        let env = self.environment.variables()?;
        let path = Path::new(&program);
        crate::exec::exec_in_store(context, path, path.as_os_str(), &self.args, &env, None)
    }
}

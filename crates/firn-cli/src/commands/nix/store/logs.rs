//! `nix store copy-log`.

use crate::args::{FlagSink, Values};
use crate::commands::nix::NixCommand;
use crate::commands::nix::copy::FromTo;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs};
use firn_settings::ExperimentalFeature;
use firn_store::outputs::build_log;
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
pub struct CopyLog {
    what: InstallableArgs,
    ends: FromTo,
}

impl FlagSink for CopyLog {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        Ok(self.ends.flag(flag, values)? || self.what.flag(flag, values)?)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for CopyLog {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let (from, to) = self.ends.open(context)?;
        let wanted = self.what.resolve(context, Some("."))?;
        let no_logs = |store: &dyn firn_store::Store| {
            CliError::failed(format!("store '{}' does not support build logs", store.uri()))
        };
        let source = from.store.as_log().ok_or_else(|| no_logs(&*from.store))?;
        let target = to.store.as_log().ok_or_else(|| no_logs(&*to.store))?;
        let resolve = context.settings.has_feature(ExperimentalFeature::CaDerivations);
        for drv in installables::derivations(context, &wanted)? {
            match context.block_on(build_log(&*from.store, source, &drv, resolve))?? {
                Some(log) => context.block_on(target.add_build_log(&drv, &log))??,
                None => {
                    let shown = from.store.store_dir().display(&drv);
                    return Err(CliError::failed(format!("build log for '{shown}' is not available")));
                }
            }
        }
        Ok(0)
    }
}

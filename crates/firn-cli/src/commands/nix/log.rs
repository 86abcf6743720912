//! `nix log`.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::InstallableArgs;
use crate::stores;
use firn_core::{DerivedPath, StorePath};
use firn_settings::ExperimentalFeature;
use firn_store::activity::Verbosity;
use firn_store::outputs::build_log;
use firn_store::{Store, StoreResult};
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
pub struct Log {
    what: InstallableArgs,
    given: bool,
}

impl FlagSink for Log {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.what.flag(flag, values)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        if std::mem::replace(&mut self.given, true) {
            return Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy())));
        }
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Log {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let wanted = self.what.resolve(context, Some("."))?;
        let shown = self.what.shown_first(context, ".")?;
        let [wanted] = &wanted[..] else {
            let found = wanted.len();
            return Err(CliError::failed(format!(
                "installable '{shown}' evaluates to {found} derivations, where only one is expected"
            )));
        };
        let path = match wanted {
            DerivedPath::Opaque(path) => path.clone(),
            DerivedPath::Built { drv, .. } => {
                crate::installables::known_derivation(context, &*context.eval_store()?, drv)?
            }
        };
        show(context, &path, &shown)?;
        Ok(0)
    }
}

/// Prints the log of `path`, from the store or from where substitutes come from; `shown` names it in messages.
pub fn show(context: &Context, path: &StorePath, shown: &str) -> CliResult<()> {
    let store = context.store()?;
    if look(context, &*store, path, shown)? {
        return Ok(());
    }
    for uri in &context.settings.substituters {
        let found = stores::open(uri, context).and_then(|there| look(context, &*there.store, path, shown));
        match found {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // The log may be in the next one.
            Err(error) => context.logger.warn(&format!("looking for a build log in '{uri}': {error}")),
        }
    }
    Err(CliError::failed(format!("build log of '{shown}' is not available")))
}

/// Prints the log if the store has it.
fn look(context: &Context, store: &dyn Store, path: &StorePath, shown: &str) -> CliResult<bool> {
    let say = |text: String| context.logger.log(Verbosity::Info, text.as_bytes());
    let Some(logs) = store.as_log() else {
        say(format!("Skipped '{}' which does not support retrieving build logs", store.uri()));
        return Ok(false);
    };
    let resolve = context.settings.has_feature(ExperimentalFeature::CaDerivations);
    let log: StoreResult<Option<Vec<u8>>> = context.block_on(build_log(store, logs, path, resolve))?;
    let Some(log) = log? else { return Ok(false) };
    say(format!("got build log for '{shown}' from '{}'", store.uri()));
    crate::pager::print(context, &log)?;
    Ok(true)
}

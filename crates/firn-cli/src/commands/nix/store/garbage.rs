//! `nix store gc` and `nix store delete`.

use crate::args::{self, FlagSink, Values};
use crate::commands::nix::NixCommand;
use crate::commands::nix::store_paths::{Realise, StorePathsArgs};
use crate::commands::nix_store::{Report, collect, gc_options};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::units::parse_integer;
use firn_settings::SettingsError;
use firn_store::GcAction;
use std::ffi::OsString;

/// `nix store gc` as it was written.
#[derive(Default)]
pub struct Gc {
    max: Option<u64>,
    dry_run: bool,
}

impl FlagSink for Gc {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--dry-run" => self.dry_run = true,
            "--max" => {
                let [max] = values.take(flag)?;
                let max = parse_integer(&args::text(flag, max)?).map_err(SettingsError::from)?;
                self.max = Some(u64::try_from(max).unwrap_or(0));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl NixCommand for Gc {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        if self.max.is_some() && self.dry_run {
            return Err(CliError::usage("options --max and --dry-run cannot be combined"));
        }
        let action = if self.dry_run { GcAction::ReturnDead } else { GcAction::DeleteDead };
        let mut options = gc_options(action);
        options.max_freed = self.max.unwrap_or(u64::MAX);
        collect(context, &options, Report::Counted)
    }
}

/// `nix store delete` as it was written.
#[derive(Default)]
pub struct Delete {
    what: StorePathsArgs,
    ignore_liveness: bool,
}

impl FlagSink for Delete {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--ignore-liveness" => self.ignore_liveness = true,
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Delete {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let store = context.store()?;
        let paths = self.what.resolve(context, &*store, Realise::Nothing)?;
        let mut options = gc_options(GcAction::DeleteSpecific);
        options.ignore_liveness = self.ignore_liveness;
        options.paths_to_delete = paths.into_iter().collect();
        collect(context, &options, Report::Counted)
    }
}

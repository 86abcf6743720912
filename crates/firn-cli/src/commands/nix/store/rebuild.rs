//! `firn store rebuild-db`: the database anew from what is on the disk.

use crate::args::{FlagSink, Values};
use crate::commands::nix::NixCommand;
use crate::context::Context;
use crate::error::CliResult;
use firn_settings::ExperimentalFeature;
use std::fmt::Write;

/// The command, which has no flags.
#[derive(Default)]
pub struct RebuildDb;

impl FlagSink for RebuildDb {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }
}

impl NixCommand for RebuildDb {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let store = context.local_store()?;
        let report = store.rebuild_database()?;
        let mut out = String::new();
        for (path, reason) in &report.left_out {
            let _ = writeln!(out, "left out: {}: {reason}", store.display(path));
        }
        for (path, reason) in &report.uncertain {
            let _ = writeln!(out, "uncertain: {}: {reason}", store.display(path));
        }
        let _ = writeln!(
            out,
            "{} paths are valid for certain, {} as far as one can tell, {} are not valid",
            report.certain.len(),
            report.uncertain.len(),
            report.left_out.len()
        );
        if let Some(old) = &report.old_database {
            let _ = writeln!(out, "the old database is in '{}'", old.display());
        }
        context.print(out.as_bytes())?;
        Ok(0)
    }

    fn feature(&self) -> Option<ExperimentalFeature> {
        // It is firn's own.
        None
    }
}

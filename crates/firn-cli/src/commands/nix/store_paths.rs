//! Store paths as many commands take them: installables, or all of the store; with `-r` their closures; with
//! `--derivation` the derivations instead of what they make.

use crate::args::Values;
use crate::commands::nix_store::print_missing;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs};
use firn_core::{DerivedPath, OutputsSpec, StorePath};
use firn_store::activity::Verbosity;
use firn_store::{ClosureOptions, Store, StoreError, compute_fs_closure, topo_sort_paths};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// Whether what does not exist yet is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Realise {
    Outputs,
    Nothing,
}

/// This part of the command line as it was written.
#[derive(Default)]
pub struct StorePathsArgs {
    pub what: InstallableArgs,
    all: bool,
    recursive: bool,
    derivation: bool,
    given: usize,
}

impl StorePathsArgs {
    /// Handles `flag` if it is one of these.
    pub fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--all" => self.all = true,
            "-r" | "--recursive" => self.recursive = true,
            "--derivation" => self.derivation = true,
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    pub fn positional(&mut self, arg: OsString) {
        self.given += 1;
        self.what.positional(arg);
    }

    /// The paths in `store`, each behind those that it refers to.
    pub fn resolve(
        &mut self,
        context: &Context,
        store: &dyn Store,
        realise: Realise,
    ) -> CliResult<Vec<StorePath>> {
        let mut paths: BTreeSet<StorePath> = if self.all {
            if self.given > 0 {
                return Err(CliError::usage("'--all' does not expect arguments"));
            }
            context.block_on(store.query_all_valid_paths())??
        } else {
            let wanted = self.what.resolve(context, Some("."))?;
            match (self.derivation, realise) {
                (true, _) => installables::derivations(context, &wanted)?,
                (false, Realise::Outputs) => {
                    installables::store_paths(context, &wanted)?.into_iter().collect()
                }
                (false, Realise::Nothing) => known_paths(context, &wanted)?,
            }
        };
        if self.recursive && !self.all {
            paths = context.block_on(compute_fs_closure(store, &paths, ClosureOptions::default()))??;
        }
        if paths.len() < 2 {
            return Ok(paths.into_iter().collect());
        }
        let mut sorted = context.block_on(topo_sort_paths(store, &paths))??;
        sorted.reverse();
        Ok(sorted)
    }
}

/// What installables stand for, without building any of it; what is not there is told.
pub fn known_paths(context: &Context, wanted: &[DerivedPath]) -> CliResult<BTreeSet<StorePath>> {
    match context.block_on(context.build_store()?.query_missing(wanted))? {
        Ok(missing) => print_missing(context, &*context.store()?, &missing, Verbosity::Error)?,
        // Not every store can say.
        Err(StoreError::Unsupported { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let store = context.eval_store()?;
    let mut paths = BTreeSet::new();
    for path in wanted {
        match path {
            DerivedPath::Opaque(path) => {
                paths.insert(path.clone());
            }
            DerivedPath::Built { drv, outputs } => {
                let known = crate::installables::known_outputs(context, &*store, drv)?;
                if let OutputsSpec::Names(names) = outputs
                    && let Some(name) = names.iter().find(|name| !known.contains_key(*name))
                {
                    return Err(CliError::failed(format!(
                        "the derivation '{}' doesn't have an output named '{name}'",
                        store.store_dir().display(drv.base())
                    )));
                }
                let known = known.into_iter().filter(|(name, _)| outputs.contains(name));
                paths.extend(known.filter_map(|(_, path)| path));
            }
        }
    }
    Ok(paths)
}

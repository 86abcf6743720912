//! Packages as the query goes through them, and the errors on the way.

use crate::context::Context;
use crate::error::CliResult;
use crate::evaluation::Evaluation;
use firn_core::StorePath;
use firn_eval::{EvalResult, FoundDerivation, Vm, while_querying};
use firn_store::activity::Verbosity;
use std::collections::BTreeSet;

/// What stores say of the packages' paths.
#[derive(Default)]
pub struct Availability {
    /// Paths of installed packages.
    pub installed: BTreeSet<StorePath>,
    pub valid: BTreeSet<StorePath>,
    pub substitutable: BTreeSet<StorePath>,
}

/// Runs `f` for a package; one whose assertions fail is passed over, with `None`.
pub fn each<T>(
    context: &Context,
    evaluation: &mut Evaluation,
    package: &FoundDerivation,
    f: impl FnOnce(&mut Vm) -> EvalResult<T>,
) -> CliResult<Option<T>> {
    match f(&mut evaluation.vm) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_catchable() => {
            skipped(context, package);
            Ok(None)
        }
        Err(error) => Err(evaluation.fail(while_querying(error, &package.name))),
    }
}

fn skipped(context: &Context, package: &FoundDerivation) {
    let message = format!("skipping derivation named '{}' which gives an assertion failure", package.name);
    context.logger.log(Verbosity::Talkative, message.as_bytes());
}

/// Asks the store about the output paths of `packages`; those whose assertions fail are taken out.
pub fn availability(
    context: &Context,
    evaluation: &mut Evaluation,
    packages: &mut Vec<FoundDerivation>,
) -> CliResult<Availability> {
    let mut paths = BTreeSet::new();
    let mut kept = Vec::with_capacity(packages.len());
    for package in packages.drain(..) {
        match evaluation.vm.out_path(&package) {
            Ok(path) => {
                paths.insert(path);
                kept.push(package);
            }
            Err(error) if error.is_catchable() => skipped(context, &package),
            Err(error) => return Err(evaluation.fail(error)),
        }
    }
    *packages = kept;
    let store = context.store()?;
    let valid = context.block_on(store.query_valid_paths(&paths))??;
    let substitutable = context.substitutable(&paths)?;
    Ok(Availability { installed: BTreeSet::new(), valid, substitutable })
}

/// What is said of a meta attribute that holds what it must not hold.
pub fn invalid_meta(package: &FoundDerivation, name: &str) -> String {
    format!("derivation '{}' has invalid meta attribute '{name}'", package.name)
}

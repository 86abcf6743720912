//! Repairing what an output needs: paths of its closure that are damaged are built or fetched again.

use crate::run::Run;
use crate::scheduler::{Outcome, Scheduler};
use firn_core::{DerivedPath, HashAlgo, Hasher, OutputsSpec, StorePath};
use firn_store::activity::Verbosity;
use firn_store::export::BlockingWriter;
use firn_store::{BuildMode, BuildStatus, ClosureOptions, StoreResult, compute_fs_closure};
use std::collections::{BTreeMap, BTreeSet};

/// Looks at the closure of everything that `outcome` says is there, and repairs it. A request whose closure cannot
/// be repaired fails.
pub(crate) async fn repair_closures(scheduler: &Scheduler, outcome: &mut Outcome) -> StoreResult<()> {
    let store = &*scheduler.store;
    let mut good = BTreeSet::new();
    for index in 0..outcome.results.len() {
        let result = &outcome.results[index];
        let DerivedPath::Built { drv, .. } = &result.path else { continue };
        if !result.status.is_success() {
            continue;
        }
        let outputs: BTreeSet<StorePath> = result.outputs.values().cloned().collect();
        let drv = drv.base().clone();
        // The outputs themselves were repaired just now.
        good.extend(outputs.iter().cloned());
        let closure = compute_fs_closure(store, &outputs, ClosureOptions::default()).await?;
        let mut damaged = Vec::new();
        for path in closure {
            if !good.contains(&path) {
                match is_intact(scheduler, &path).await? {
                    true => drop(good.insert(path)),
                    false => damaged.push(path),
                }
            }
        }
        if damaged.is_empty() {
            continue;
        }
        let derivers = derivers(scheduler, &drv).await?;
        let mut requests = BTreeSet::new();
        for path in &damaged {
            let message = format!(
                "found corrupted or missing path '{}' in the output closure of '{}'",
                store.store_dir().display(path),
                store.store_dir().display(&drv)
            );
            scheduler.logger.error(&message);
            requests.insert(match derivers.get(path) {
                Some(drv) => DerivedPath::built(drv.clone(), OutputsSpec::All),
                None => DerivedPath::Opaque(path.clone()),
            });
        }
        let requests: Vec<DerivedPath> = requests.into_iter().collect();
        let repaired = Run::new(scheduler, BuildMode::Repair).execute(&requests).await?;
        match repaired.results.iter().all(|result| result.status.is_success()) {
            true => good.extend(damaged),
            false => {
                let result = &mut outcome.results[index];
                result.status = BuildStatus::MiscFailure;
                result.error = format!(
                    "some paths in the output closure of derivation '{}' could not be repaired",
                    store.store_dir().display(&drv)
                );
                outcome.flags.add(BuildStatus::MiscFailure);
            }
        }
    }
    Ok(())
}

/// Whether a valid path has the content that it was registered with.
pub(crate) async fn is_intact(scheduler: &Scheduler, path: &StorePath) -> StoreResult<bool> {
    let text = scheduler.store.store_dir().display(path);
    scheduler.logger.log(Verbosity::Info, format!("checking path '{text}'...").as_bytes());
    let Some(info) = scheduler.store.query_path_info(path).await? else { return Ok(false) };
    let mut sink = BlockingWriter(Hasher::new(HashAlgo::Sha256));
    // What cannot be read is damaged too.
    let read = scheduler.store.nar_from_path(path, &mut sink).await;
    let intact = read.is_ok() && sink.0.finish() == info.nar_hash;
    if !intact {
        scheduler.logger.log(Verbosity::Error, format!("path '{text}' is corrupted or missing!").as_bytes());
    }
    Ok(intact)
}

/// Which derivation among those that `drv` needs makes which path.
async fn derivers(scheduler: &Scheduler, drv: &StorePath) -> StoreResult<BTreeMap<StorePath, StorePath>> {
    let store = scheduler.store_of(drv).await?;
    let inputs = compute_fs_closure(&**store, &[drv.clone()].into(), ClosureOptions::default()).await?;
    let mut derivers = BTreeMap::new();
    for input in inputs.into_iter().filter(StorePath::is_derivation) {
        for output in store.query_derivation_outputs(&input).await?.into_values().flatten() {
            derivers.insert(output, input.clone());
        }
    }
    Ok(derivers)
}

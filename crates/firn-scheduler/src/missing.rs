//! What building would do, without doing it.

use crate::scheduler::{Scheduler, SchedulerConfig};
use firn_core::{DerivedPath, OutputsSpec, SingleDerivedPath, StorePath};
use firn_store::{Missing, Store, StoreResult};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Follows requests through derivations and substitutes as far as they are known.
pub(crate) async fn query_missing(scheduler: &Scheduler, paths: &[DerivedPath]) -> StoreResult<Missing> {
    let (store, config) = (&*scheduler.store, &*scheduler.config);
    let mut missing = Missing::default();
    let mut done = BTreeSet::new();
    let mut work: Vec<DerivedPath> = paths.iter().rev().cloned().collect();
    while let Some(path) = work.pop() {
        if !done.insert(path.clone()) {
            continue;
        }
        match &path {
            DerivedPath::Opaque(path) => opaque(store, config, path, &mut missing, &mut work).await?,
            DerivedPath::Built { drv, outputs } => {
                // What a derivation that is yet to be built will want cannot be known.
                if let SingleDerivedPath::Opaque(drv) = &**drv {
                    built(scheduler, drv, outputs, &mut missing, &mut work).await?;
                }
            }
        }
    }
    Ok(missing)
}

async fn opaque(
    store: &dyn Store,
    config: &SchedulerConfig,
    path: &StorePath,
    missing: &mut Missing,
    work: &mut Vec<DerivedPath>,
) -> StoreResult<()> {
    if store.is_valid_path(path).await? {
        return Ok(());
    }
    let infos = match config.substitute {
        true => store.query_substitutable(&[path.clone()].into()).await?,
        false => Default::default(),
    };
    let Some(info) = infos.get(path) else {
        missing.unknown.insert(path.clone());
        return Ok(());
    };
    missing.will_substitute.insert(path.clone());
    missing.download_size += info.download_size;
    missing.nar_size += info.nar_size;
    work.extend(info.references.iter().cloned().map(DerivedPath::Opaque));
    Ok(())
}

async fn built(
    scheduler: &Scheduler,
    drv_path: &StorePath,
    outputs: &OutputsSpec,
    missing: &mut Missing,
    work: &mut Vec<DerivedPath>,
) -> StoreResult<()> {
    let (store, config) = (&*scheduler.store, &*scheduler.config);
    let derivations = scheduler.store_of(drv_path).await?;
    if !derivations.is_valid_path(drv_path).await? {
        missing.unknown.insert(drv_path.clone());
        return Ok(());
    }
    let known = derivations.query_derivation_outputs(drv_path).await?;
    let wanted: Vec<_> =
        known.into_iter().filter(|(name, _)| outputs.contains(name)).map(|(_, p)| p).collect();
    let all_known = wanted.iter().all(Option::is_some);
    let paths: BTreeSet<StorePath> = wanted.into_iter().flatten().collect();
    let valid = store.query_valid_paths(&paths).await?;
    let invalid: BTreeSet<StorePath> = paths.difference(&valid).cloned().collect();
    if all_known && invalid.is_empty() {
        return Ok(());
    }
    let drv = derivations.read_derivation(drv_path).await?;
    if all_known && config.substitute {
        let allowed = config.always_allow_substitutes
            || drv.options(store.store_dir()).is_ok_and(|options| options.allow_substitutes);
        if allowed && store.query_substitutable(&invalid).await?.len() == invalid.len() {
            work.extend(invalid.into_iter().map(DerivedPath::Opaque));
            return Ok(());
        }
    }
    missing.will_build.insert(drv_path.clone());
    let mut inputs: Vec<_> = drv
        .input_drvs
        .iter()
        .map(|(path, node)| (Arc::new(SingleDerivedPath::Opaque(path.clone())), node))
        .collect();
    while let Some((drv, node)) = inputs.pop() {
        if !node.outputs.is_empty() {
            let outputs = OutputsSpec::Names(node.outputs.clone());
            work.push(DerivedPath::Built { drv: drv.clone(), outputs });
        }
        for (output, child) in &node.dynamic {
            let built = SingleDerivedPath::Built { drv: drv.clone(), output: output.clone() };
            inputs.push((Arc::new(built), child));
        }
    }
    Ok(())
}

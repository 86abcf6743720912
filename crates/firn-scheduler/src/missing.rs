//! What building would do, without doing it.
//!
//! Requests are followed in rounds, each of which asks the substituters about all its paths at once: they may be far
//! away. What paths that are substituted refer to is asked for beside that, without waiting for rounds.

use crate::scheduler::Scheduler;
use firn_core::{DerivedPath, OutputsSpec, SingleDerivedPath, StorePath};
use firn_derivation::Derivation;
use firn_store::activity::{Activity, ActivityType, Verbosity};
use firn_store::{Missing, StoreError, StoreResult, SubstitutablePathInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc::{self, UnboundedSender};

/// A derivation whose outputs could all be substituted, if somebody has them.
struct Candidate {
    drv_path: StorePath,
    drv: Derivation,
    invalid: BTreeSet<StorePath>,
}

/// What the answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Tell,
    /// The paths are realised next.
    Realise,
}

/// Follows requests through derivations and substitutes as far as they are known.
pub(crate) async fn query_missing(
    scheduler: &Scheduler,
    paths: &[DerivedPath],
    purpose: Purpose,
) -> StoreResult<Missing> {
    let (tell, told) = mpsc::unbounded_channel();
    let ahead = async {
        if let Some(substituter) = scheduler.substituter.as_ref().filter(|_| scheduler.config.substitute) {
            substituter.follow(told, purpose == Purpose::Realise).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        missing = by_rounds(scheduler, paths, &tell) => missing,
        missing = ahead => missing,
    }
}

async fn by_rounds(
    scheduler: &Scheduler,
    paths: &[DerivedPath],
    tell: &UnboundedSender<StorePath>,
) -> StoreResult<Missing> {
    let _activity = Activity::start(
        &scheduler.logger,
        Verbosity::Debug,
        ActivityType::Unknown,
        "querying info about missing paths",
        &[],
        0,
    );
    let mut missing = Missing::default();
    let mut done = BTreeSet::new();
    let mut known: BTreeMap<StorePath, SubstitutablePathInfo> = BTreeMap::new();
    let mut round: Vec<DerivedPath> = paths.to_vec();
    while !round.is_empty() {
        let mut opaque = BTreeSet::new();
        let mut candidates = Vec::new();
        let mut next = Vec::new();
        for path in std::mem::take(&mut round) {
            if !done.insert(path.clone()) {
                continue;
            }
            match &path {
                DerivedPath::Opaque(path) => {
                    opaque.insert(path.clone());
                }
                DerivedPath::Built { drv, outputs } => {
                    match crate::dynamic::resolve(scheduler, drv).await? {
                        Some(drv) => {
                            built(scheduler, &drv, outputs, &mut missing, &mut candidates, &mut next).await?;
                        }
                        // What a derivation that is yet to be built will want cannot be known.
                        None => next.extend(producer(drv)),
                    }
                }
            }
        }
        let valid = scheduler.store.query_valid_paths(&opaque).await?;
        opaque = opaque.difference(&valid).cloned().collect();
        for path in &opaque {
            // Whoever follows them may have ended.
            let _ = tell.send(path.clone());
        }
        let asked: BTreeSet<StorePath> = candidates
            .iter()
            .flat_map(|candidate| &candidate.invalid)
            .chain(&opaque)
            .filter(|path| !known.contains_key(*path))
            .cloned()
            .collect();
        known.extend(substitutable(scheduler, &asked).await?);
        for path in opaque {
            match known.get(&path) {
                Some(info) => {
                    missing.download_size += info.download_size;
                    missing.nar_size += info.nar_size;
                    next.extend(info.references.iter().cloned().map(DerivedPath::Opaque));
                    missing.will_substitute.insert(path);
                }
                None => drop(missing.unknown.insert(path)),
            }
        }
        for Candidate { drv_path, drv, invalid } in candidates {
            match invalid.iter().all(|path| known.contains_key(path)) {
                true => next.extend(invalid.into_iter().map(DerivedPath::Opaque)),
                false => must_build(&drv_path, &drv, &mut missing, &mut next),
            }
        }
        round = next;
    }
    Ok(missing)
}

/// The request for a derivation that is an output of another one.
fn producer(drv: &SingleDerivedPath) -> Option<DerivedPath> {
    match drv {
        SingleDerivedPath::Opaque(_) => None,
        SingleDerivedPath::Built { drv, output } => {
            Some(DerivedPath::Built { drv: Arc::clone(drv), outputs: OutputsSpec::single(output) })
        }
    }
}

async fn substitutable(
    scheduler: &Scheduler,
    paths: &BTreeSet<StorePath>,
) -> StoreResult<BTreeMap<StorePath, SubstitutablePathInfo>> {
    match &scheduler.substituter {
        Some(substituter) if scheduler.config.substitute && !paths.is_empty() => {
            substituter.query(paths).await
        }
        _ => Ok(BTreeMap::new()),
    }
}

async fn built(
    scheduler: &Scheduler,
    drv_path: &StorePath,
    outputs: &OutputsSpec,
    missing: &mut Missing,
    candidates: &mut Vec<Candidate>,
    next: &mut Vec<DerivedPath>,
) -> StoreResult<()> {
    let (store, config) = (&*scheduler.store, &*scheduler.config);
    let derivations = Arc::clone(scheduler.store_of(drv_path).await?);
    if !derivations.is_valid_path(drv_path).await? {
        missing.unknown.insert(drv_path.clone());
        return Ok(());
    }
    let mut known = scheduler.outputs_of(drv_path).await?;
    known.retain(|name, _| outputs.contains(name));
    let paths: BTreeSet<StorePath> = known.values().flatten().cloned().collect();
    let valid = store.query_valid_paths(&paths).await?;
    let mut invalid: BTreeSet<StorePath> = paths.difference(&valid).cloned().collect();
    let all_known = known.values().all(Option::is_some);
    if all_known && invalid.is_empty() {
        return Ok(());
    }
    let drv = derivations.read_derivation(drv_path).await?;
    scheduler.note_fixed_outputs(&drv, &known);
    let dir = store.store_dir();
    let options = drv.options(dir).map_err(|e| StoreError::Other(e.in_derivation(&dir.display(drv_path))))?;
    let allowed = config.substitute && (config.always_allow_substitutes || options.allow_substitutes);
    if allowed {
        let mut found_all = true;
        if !all_known && let Some(substituter) = &scheduler.substituter {
            let ids = firn_store::outputs::output_ids(&*derivations, drv_path, &drv).await?;
            for (name, id) in ids {
                if !matches!(known.get(&name), Some(None)) {
                    continue;
                }
                match substituter.query_realisation(&id).await? {
                    Some(realisation) if store.is_valid_path(&realisation.out_path).await? => {}
                    Some(realisation) => drop(invalid.insert(realisation.out_path)),
                    None => {
                        found_all = false;
                        break;
                    }
                }
            }
        }
        if found_all && (all_known || scheduler.substituter.is_some()) {
            candidates.push(Candidate { drv_path: drv_path.clone(), drv, invalid });
            return Ok(());
        }
    }
    must_build(drv_path, &drv, missing, next);
    Ok(())
}

fn must_build(drv_path: &StorePath, drv: &Derivation, missing: &mut Missing, next: &mut Vec<DerivedPath>) {
    missing.will_build.insert(drv_path.clone());
    let mut inputs: Vec<_> = drv
        .input_drvs
        .iter()
        .map(|(path, node)| (Arc::new(SingleDerivedPath::Opaque(path.clone())), node))
        .collect();
    while let Some((drv, node)) = inputs.pop() {
        if !node.outputs.is_empty() {
            let outputs = OutputsSpec::Names(node.outputs.clone());
            next.push(DerivedPath::Built { drv: drv.clone(), outputs });
        }
        for (output, child) in &node.dynamic {
            let built = SingleDerivedPath::Built { drv: drv.clone(), output: output.clone() };
            inputs.push((Arc::new(built), child));
        }
    }
}

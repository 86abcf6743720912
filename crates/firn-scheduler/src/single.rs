//! Building one derivation that somebody else has planned: a remote builder's part. Its inputs are there already, the
//! derivation itself need not be in the store.

use crate::executor::{BuildFailure, BuildObserver, BuildRequest};
use crate::scheduler::Scheduler;
use firn_core::{DerivedPath, OutputsSpec, StorePath};
use firn_derivation::Derivation;
use firn_store::activity::{Activity, ActivityType, Verbosity};
use firn_store::{
    BuildMode, BuildResult, BuildStatus, ClosureOptions, StoreError, StoreResult, compute_fs_closure,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Builds `drv`, unless its outputs are valid already.
pub(crate) async fn build(
    scheduler: &Scheduler,
    drv_path: &StorePath,
    drv: &Derivation,
    mode: BuildMode,
) -> StoreResult<BuildResult> {
    let store = &*scheduler.store;
    let mut result = BuildResult {
        path: DerivedPath::built(drv_path.clone(), OutputsSpec::All),
        status: BuildStatus::AlreadyValid,
        error: String::new(),
        outputs: BTreeMap::new(),
        times_built: 0,
        start_time: 0,
        stop_time: 0,
        cpu: None,
    };
    let outputs = drv.output_paths(store.store_dir())?;
    let known: BTreeSet<StorePath> = outputs.values().flatten().cloned().collect();
    for path in known.iter().chain(&drv.input_srcs) {
        store.add_temp_root(path).await?;
    }
    let all_known = outputs.values().all(Option::is_some);
    if mode == BuildMode::Normal && all_known && store.query_valid_paths(&known).await? == known {
        result.outputs = outputs.into_iter().filter_map(|(name, path)| Some((name, path?))).collect();
        return Ok(result);
    }
    let request = BuildRequest {
        drv_path: drv_path.clone(),
        drv: Arc::new(drv.clone()),
        input_paths: compute_fs_closure(store, &drv.input_srcs, ClosureOptions::default()).await?,
        mode,
    };
    let observer: Arc<dyn BuildObserver> = Arc::new(Progress(Activity::start(
        &scheduler.logger,
        Verbosity::Debug,
        ActivityType::Builds,
        "",
        &[],
        0,
    )));
    let place = scheduler.slots.line_up();
    let built = scheduler.executor.build(request, &place, &observer, &scheduler.cancel.child_token()).await;
    match built {
        Ok(success) => {
            result.status = success.status;
            result.times_built = u32::from(success.status == BuildStatus::Built);
            result.outputs = success.outputs;
            (result.start_time, result.stop_time) = (success.start_time, success.stop_time);
            result.cpu = success.cpu;
        }
        Err(BuildFailure { status: BuildStatus::Cancelled, .. }) if scheduler.cancel.is_cancelled() => {
            return Err(StoreError::Interrupted);
        }
        Err(failure) => (result.status, result.error) = (failure.status, failure.message),
    }
    Ok(result)
}

/// One build, running or not.
struct Progress(Activity);

impl BuildObserver for Progress {
    fn started(&self) {
        self.0.progress(0, 1, 1, 0);
    }

    fn stopped(&self) {
        self.0.progress(1, 1, 0, 0);
    }
}

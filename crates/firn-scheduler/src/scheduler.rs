//! The scheduler as a [`BuildStore`].

use crate::executor::{Executor, Substituter};
use crate::missing::{self, Purpose};
use crate::run::Run;
use crate::slots::Slots;
use crate::status::ExitFlags;
use async_trait::async_trait;
use firn_core::signature::SecretKey;
use firn_core::{DerivedPath, StorePath};
use firn_derivation::modulo::ModuloMemo;
use firn_derivation::{Derivation, DerivationOutput};
use firn_store::activity::Logger;
use firn_store::{
    BuildMode, BuildResult, BuildStatus, BuildStore, ClosureOptions, CopyOptions, Missing, Store, StoreError,
    StoreResult, SubstitutablePathInfo, compute_fs_closure, copy_paths,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Settings of the scheduler; field names are those of nix.conf where there are such.
#[derive(Clone)]
pub struct SchedulerConfig {
    pub keep_going: bool,
    /// Builds at once on this machine (`max-jobs`).
    pub max_jobs: u32,
    /// Build where substitution failed (`fallback`).
    pub fallback: bool,
    /// Whether there is substitution at all (`substitute`).
    pub substitute: bool,
    pub always_allow_substitutes: bool,
    /// Experimental features.
    pub ca_derivations: bool,
    pub impure_derivations: bool,
    pub dynamic_derivations: bool,
    /// What signs realisations (`secret-key-files`).
    pub secret_keys: Vec<Arc<SecretKey>>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        SchedulerConfig {
            keep_going: false,
            max_jobs: 1,
            fallback: false,
            substitute: true,
            always_allow_substitutes: false,
            ca_derivations: false,
            impure_derivations: false,
            dynamic_derivations: false,
            secret_keys: Vec::new(),
        }
    }
}

/// Builds and substitutes into one store. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    pub(crate) store: Arc<dyn Store>,
    /// Where derivations and their sources are, if that is not `store`.
    pub(crate) eval_store: Option<Arc<dyn Store>>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) substituter: Option<Arc<dyn Substituter>>,
    pub(crate) logger: Arc<dyn Logger>,
    pub(crate) config: Arc<SchedulerConfig>,
    pub(crate) slots: Slots,
    /// Hashes of derivations that realisations are known by.
    pub(crate) drv_hashes: Arc<Mutex<ModuloMemo>>,
    pub(crate) cancel: CancellationToken,
}

/// How a run of requests ended.
#[derive(Debug)]
pub struct Outcome {
    /// One for each request, in the order of the requests.
    pub results: Vec<BuildResult>,
    /// What the failures, also those of dependencies, mean for the exit status.
    pub flags: ExitFlags,
}

impl Scheduler {
    pub fn new(
        store: Arc<dyn Store>,
        executor: Arc<dyn Executor>,
        logger: Arc<dyn Logger>,
        config: SchedulerConfig,
    ) -> Scheduler {
        let slots = Slots::new(config.max_jobs);
        Scheduler {
            store,
            eval_store: None,
            executor,
            substituter: None,
            logger,
            config: Arc::new(config),
            slots,
            drv_hashes: Arc::default(),
            cancel: CancellationToken::new(),
        }
    }

    /// With a source of substitutes.
    pub fn with_substituter(mut self, substituter: Arc<dyn Substituter>) -> Scheduler {
        self.substituter = Some(substituter);
        self
    }

    /// With a store of derivations and their sources. Derivations stay there; sources are copied when they are built
    /// from.
    pub fn with_eval_store(mut self, store: Arc<dyn Store>) -> Scheduler {
        self.eval_store = Some(store);
        self
    }

    /// The store that has a derivation: the eval store if it is there.
    pub(crate) async fn store_of(&self, drv: &StorePath) -> StoreResult<&Arc<dyn Store>> {
        match &self.eval_store {
            Some(store) if store.is_valid_path(drv).await? => Ok(store),
            _ => Ok(&self.store),
        }
    }

    /// The outputs of a derivation: as it states them, else by realisations of the store that builds.
    pub(crate) async fn outputs_of(
        &self,
        drv_path: &StorePath,
    ) -> StoreResult<BTreeMap<String, Option<StorePath>>> {
        let derivations = self.store_of(drv_path).await?;
        let mut outputs = derivations.query_derivation_outputs(drv_path).await?;
        let elsewhere = !Arc::ptr_eq(derivations, &self.store);
        if elsewhere && self.config.ca_derivations && outputs.values().any(Option::is_none) {
            let drv = derivations.read_derivation(drv_path).await?;
            let ids = firn_store::outputs::output_ids_with(&**derivations, drv_path, &drv, &self.drv_hashes);
            for (name, id) in ids.await? {
                if let Some(slot @ None) = outputs.get_mut(&name) {
                    *slot = self.store.query_realisation(&id).await?.map(|known| known.out_path);
                }
            }
        }
        Ok(outputs)
    }

    /// Tells the substituter what the outputs of a fixed-output derivation will hold.
    pub(crate) fn note_fixed_outputs(&self, drv: &Derivation, outputs: &BTreeMap<String, Option<StorePath>>) {
        let Some(substituter) = &self.substituter else { return };
        for (name, output) in &drv.outputs {
            if let (DerivationOutput::CaFixed(address), Some(Some(path))) = (output, outputs.get(name)) {
                substituter.note_content_address(path, *address);
            }
        }
    }

    /// Copies sources from the eval store, with what they refer to.
    pub(crate) async fn copy_sources(&self, sources: &BTreeSet<StorePath>) -> StoreResult<()> {
        let Some(from) = &self.eval_store else { return Ok(()) };
        let known = from.query_valid_paths(sources).await?;
        let closure = compute_fs_closure(&**from, &known, ClosureOptions::default()).await?;
        copy_paths(&**from, &*self.store, &closure, CopyOptions::CHECKED, &self.logger).await.map(drop)
    }

    /// Fires to end all builds, as on SIGINT.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Builds or substitutes all of `paths`. Failures of dependencies are logged as they happen; those of the
    /// requests themselves are in the results only.
    pub async fn run(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Outcome> {
        let mut outcome = Run::new(self, mode).execute(paths).await?;
        if mode == BuildMode::Repair {
            crate::repair::repair_closures(self, &mut outcome).await?;
        }
        Ok(outcome)
    }
}

#[async_trait]
impl BuildStore for Scheduler {
    async fn build_paths(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>> {
        Ok(self.run(paths, mode).await?.results)
    }

    async fn build_derivation(
        &self,
        drv_path: &StorePath,
        drv: &Derivation,
        mode: BuildMode,
    ) -> StoreResult<BuildResult> {
        crate::single::build(self, drv_path, drv, mode).await
    }

    async fn query_missing(&self, paths: &[DerivedPath]) -> StoreResult<Missing> {
        missing::query_missing(self, paths, Purpose::Tell).await
    }

    async fn prepare(&self, paths: &[DerivedPath]) -> StoreResult<Missing> {
        missing::query_missing(self, paths, Purpose::Realise).await
    }

    async fn query_substitutes(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, SubstitutablePathInfo>> {
        match &self.substituter {
            Some(substituter) if self.config.substitute => substituter.query(paths).await,
            _ => Ok(BTreeMap::new()),
        }
    }

    async fn query_available(&self, paths: &BTreeSet<StorePath>) -> StoreResult<BTreeSet<StorePath>> {
        match &self.substituter {
            Some(substituter) if self.config.substitute => substituter.query_available(paths).await,
            _ => Ok(BTreeSet::new()),
        }
    }

    async fn ensure_path(&self, path: &StorePath) -> StoreResult<()> {
        self.realise(&[DerivedPath::Opaque(path.clone())], BuildMode::Normal).await.map(drop)
    }

    async fn realise(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>> {
        let outcome = self.run(paths, mode).await?;
        fail_unless_all(&*self.store, &*self.logger, outcome)
    }
}

/// Turns failed results into one error. With several, each is logged and the error lists the requests.
fn fail_unless_all(
    store: &dyn Store,
    logger: &dyn Logger,
    outcome: Outcome,
) -> StoreResult<Vec<BuildResult>> {
    let mut failed: Vec<&BuildResult> = outcome.results.iter().filter(|r| !r.status.is_success()).collect();
    // In the order of goals: by name, then by path.
    failed.sort_by_key(|r| sort_key(&r.path));
    failed.dedup_by(|a, b| base(&a.path) == base(&b.path));
    let status = outcome.flags.exit_status();
    match failed.as_slice() {
        [] => Ok(outcome.results),
        [only] => Err(StoreError::Build { status, message: only.error.clone() }),
        [first, others @ ..] => {
            // Those that were not begun, or not finished because of others, did not fail by themselves.
            for other in others.iter().filter(|other| other.status != BuildStatus::Cancelled) {
                logger.error(&other.error);
            }
            logger.error(&first.error);
            let mut names: Vec<String> =
                failed.iter().map(|r| format!("'{}'", store.store_dir().display(base(&r.path)))).collect();
            names.sort();
            Err(StoreError::Build { status, message: format!("build of {} failed", names.join(", ")) })
        }
    }
}

/// The store path at the root of a request.
pub(crate) fn base(path: &DerivedPath) -> &StorePath {
    match path {
        DerivedPath::Opaque(path) => path,
        DerivedPath::Built { drv, .. } => drv.base(),
    }
}

fn sort_key(path: &DerivedPath) -> (String, StorePath) {
    (base(path).name().to_owned(), base(path).clone())
}

//! The [`Executor`] of this machine.

use crate::config::BuildConfig;
use crate::hooks;
use crate::job::{Job, cancelled, reject};
use crate::text::{NORMAL, RED, paint};
use async_trait::async_trait;
use firn_core::StorePath;
use firn_derivation::{DerivationOptions, DerivationType};
use firn_sandbox::Spawner;
use firn_scheduler::{BuildFailure, BuildObserver, BuildRequest, BuildSuccess, Executor, Place, Slot, Slots};
use firn_store::activity::{Activity, ActivityType, Logger, Verbosity};
use firn_store::{BuildMode, BuildStatus, BuildTarget};
use rustix::event::EventfdFlags;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// How long a lock that somebody else holds is waited for before it is tried again: first, and at most.
const LOCK_POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Builds on this machine, into a store on this machine.
#[derive(Clone)]
pub struct LocalExecutor {
    target: Arc<dyn BuildTarget>,
    config: Arc<BuildConfig>,
    logger: Arc<dyn Logger>,
    spawner: Spawner,
}

type Known = BTreeMap<String, (Option<StorePath>, bool)>;

impl LocalExecutor {
    pub fn new(target: Arc<dyn BuildTarget>, config: BuildConfig, logger: Arc<dyn Logger>) -> LocalExecutor {
        LocalExecutor { target, config: Arc::new(config), logger, spawner: Spawner::default() }
    }

    /// With another program as the init of builds (tests).
    pub fn with_spawner(mut self, spawner: Spawner) -> LocalExecutor {
        self.spawner = spawner;
        self
    }

    /// Why this machine cannot build the request, if it cannot.
    fn rejection(
        &self,
        request: &BuildRequest,
        options: &DerivationOptions,
        slots: &Slots,
    ) -> Option<BuildFailure> {
        let config = &self.config;
        let mut reasons = Vec::new();
        if slots.count() == 0 {
            reasons.push(format!(
                "Reason: {RED}local builds are disabled{NORMAL} (max-jobs = 0)\n\
                 Hint: set 'max-jobs' to a non-zero value to enable local builds, or configure remote builders via 'builders'"
            ));
        }
        let platform = String::from_utf8_lossy(&request.drv.platform);
        let fits = *platform == *config.system || config.extra_platforms.contains(&*platform);
        let external = config.external_builder(&request.drv.platform).is_some();
        if !fits && !external && !request.drv.is_builtin() {
            reasons.push(format!(
                "Reason: {RED}platform mismatch{NORMAL}\nRequired system: '{}'\nCurrent system: '{}'",
                paint(platform),
                paint(&config.system)
            ));
        }
        let required = options.required_features(&request.drv);
        let mut available = config.system_features.clone();
        if config.ca_derivations {
            available.insert("ca-derivations".to_owned());
        }
        if config.nested.is_some() {
            available.insert(crate::nested::FEATURE.to_owned());
        }
        if !required.is_subset(&available) {
            let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
            reasons.push(format!(
                "Reason: {RED}missing system features{NORMAL}\nRequired features: {{{}}}\nAvailable features: {{{}}}",
                paint(list(&required)),
                paint(list(&config.system_features))
            ));
        }
        (!reasons.is_empty()).then(|| reject(self.target.store_dir(), request, &reasons))
    }

    /// The real paths whose locks stand for the outputs.
    fn lock_paths(&self, request: &BuildRequest) -> Result<BTreeSet<PathBuf>, BuildFailure> {
        let real = self.target.real_store_dir();
        let outputs = request.drv.output_paths(self.target.store_dir()).map_err(BuildFailure::other)?;
        Ok(outputs
            .into_iter()
            .map(|(name, path)| match path {
                Some(path) => real.join(path.base_name()),
                None => real.join(format!("{}.{name}", request.drv_path.base_name())),
            })
            .collect())
    }

    /// Each output's final path, where it is known, and whether it is valid.
    fn known_outputs(&self, request: &BuildRequest) -> Result<Known, BuildFailure> {
        let outputs = request.drv.output_paths(self.target.store_dir()).map_err(BuildFailure::other)?;
        let mut known = Known::new();
        for (name, path) in outputs {
            let valid = match &path {
                Some(path) => self.target.path_info(path).map_err(BuildFailure::other)?.is_some(),
                None => false,
            };
            known.insert(name, (path, valid));
        }
        Ok(known)
    }

    /// Under the locks: whether somebody else was faster; else room is made for the outputs.
    fn prepare(&self, request: &BuildRequest) -> Result<Known, BuildFailure> {
        let known = self.known_outputs(request)?;
        for (path, valid) in known.values() {
            if let (Some(path), false) = (path, valid) {
                self.target.add_temp_roots(std::slice::from_ref(path)).map_err(BuildFailure::other)?;
                let real = self.target.real_store_dir().join(path.base_name());
                self.target.remove_tree(&real).map_err(BuildFailure::other)?;
            }
        }
        Ok(known)
    }

    /// The build itself; blocks.
    fn build_locked(
        &self,
        request: &BuildRequest,
        options: &DerivationOptions,
        kind: DerivationType,
        observer: &dyn BuildObserver,
        cancel: &dyn AsFd,
        turn: &Turn,
    ) -> Result<BuildSuccess, BuildFailure> {
        let known = self.prepare(request)?;
        let start_time = now();
        if request.mode == BuildMode::Normal && known.values().all(|(_, valid)| *valid) {
            let outputs = known.into_iter().filter_map(|(name, (path, _))| Some((name, path?))).collect();
            return Ok(BuildSuccess {
                status: BuildStatus::AlreadyValid,
                outputs,
                start_time,
                stop_time: start_time,
                cpu: None,
            });
        }
        let job = Job {
            target: &self.target,
            config: &self.config,
            logger: &self.logger,
            spawner: &self.spawner,
            request,
            options,
            kind,
            observer,
            cancel: cancel.as_fd(),
            turn,
            known: &known,
        };
        let (outputs, cpu) = job.run()?;
        let dir = self.target.store_dir();
        let paths: Vec<String> = outputs.values().map(|path| dir.display(path)).collect();
        hooks::post_build(&self.config, &self.logger, &dir.display(&request.drv_path), &paths)?;
        Ok(BuildSuccess { status: BuildStatus::Built, outputs, start_time, stop_time: now(), cpu })
    }
}

#[async_trait]
impl Executor for LocalExecutor {
    async fn build(
        &self,
        request: BuildRequest,
        place: &Place,
        observer: &Arc<dyn BuildObserver>,
        cancel: &CancellationToken,
    ) -> Result<BuildSuccess, BuildFailure> {
        let dir = self.target.store_dir();
        let options = request
            .drv
            .options(dir)
            .map_err(|e| BuildFailure::other(e.in_derivation(&dir.display(&request.drv_path))))?;
        for warning in &options.warnings {
            self.logger.warn(warning);
        }
        let kind = request.drv.derivation_type().map_err(BuildFailure::other)?;
        if let Some(failure) = self.rejection(&request, &options, place.slots()) {
            return Err(failure);
        }
        let lock_paths = self.lock_paths(&request)?;
        let mut waiting = None;
        let mut pause = LOCK_POLL.0;
        // A slot is held while building only, so that waiting for another process does not keep others from it.
        let (_locks, slot) = loop {
            let slot = tokio::select! {
                () = cancel.cancelled() => return Err(cancelled()),
                slot = place.slot() => slot,
            };
            if let Some(locks) = self.target.try_lock_outputs(&lock_paths).map_err(BuildFailure::other)? {
                break (locks, Arc::new(slot));
            }
            drop(slot);
            waiting.get_or_insert_with(|| {
                let blocked = Blocked::new(observer);
                let paths: Vec<String> = lock_paths.iter().map(|p| format!("'{}'", p.display())).collect();
                let text = format!("waiting for lock on {}", paint(paths.join(", ")));
                let kind = ActivityType::BuildWaiting;
                (blocked, Activity::start(&self.logger, Verbosity::Warn, kind, &text, &[], 0))
            });
            tokio::select! {
                () = cancel.cancelled() => return Err(cancelled()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LOCK_POLL.1);
        };
        drop(waiting);

        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|e| BuildFailure::other(format!("creating an event descriptor: {e}")))?;
        let event = Arc::new(event);
        let executor = self.clone();
        let observer = Arc::clone(observer);
        let theirs = Arc::clone(&event);
        let turn = Turn { slot: Arc::clone(&slot), cancel: cancel.clone(), runtime: Handle::current() };
        let mut task = tokio::task::spawn_blocking(move || {
            executor.build_locked(&request, &options, kind, &*observer, &*theirs, &turn)
        });
        let result = tokio::select! {
            result = &mut task => result,
            () = cancel.cancelled() => {
                // The thread kills the build when it sees this, and ends.
                let _ = rustix::io::write(&*event, &1u64.to_ne_bytes());
                task.await
            }
        };
        let result =
            result.unwrap_or_else(|e| Err(BuildFailure::other(format!("a build ended unexpectedly: {e}"))));
        // Nobody whose turn is later may fail before this failure is known.
        if let (Err(_), Some(slot)) = (&result, Arc::into_inner(slot)) {
            place.keep(slot);
        }
        result
    }
}

/// When a build's builder may start, for its thread.
pub(crate) struct Turn {
    slot: Arc<Slot>,
    cancel: CancellationToken,
    runtime: Handle,
}

impl Turn {
    /// Waits for it; blocks.
    pub fn wait(&self) -> Result<(), BuildFailure> {
        self.runtime.block_on(async {
            tokio::select! {
                () = self.cancel.cancelled() => Err(cancelled()),
                () = self.slot.turn() => Ok(()),
            }
        })
    }

    /// Gives it to the next one.
    pub fn pass(&self) {
        self.slot.started();
    }
}

/// While it lives, the observer knows that the build waits for a lock.
struct Blocked(Arc<dyn BuildObserver>);

impl Blocked {
    fn new(observer: &Arc<dyn BuildObserver>) -> Blocked {
        observer.blocked(true);
        Blocked(Arc::clone(observer))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.0.blocked(false);
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

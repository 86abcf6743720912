//! The executor that decides for each build where it runs.

use crate::log::{BuildLog, Current, RemoteLogger};
use crate::machines::Machine;
use crate::pick::{Demand, Pick, Slot, current_load, pick};
use crate::transfer::{Upload, Uploads, fetch_outputs};
use async_trait::async_trait;
use firn_core::{DerivedPath, OutputsSpec, StorePath};
use firn_derivation::{Derivation, DerivationType};
use firn_scheduler::{BuildFailure, BuildObserver, BuildRequest, BuildSuccess, Executor, Place, Slots};
use firn_store::activity::{Activity, ActivityType, Field, Logger, Verbosity};
use firn_store::{
    BuildMode, BuildResult, BuildStatus, BuildStore, BuildTarget, ClosureOptions, CopyOptions, Store,
    StoreError, StoreResult, Trust, compute_fs_closure, copy_paths,
};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Takes lines of a log, without their newlines.
pub type LineSink = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// A machine's store, on a connection of its own.
pub struct OpenMachine {
    pub store: Arc<dyn Store>,
    pub build: Arc<dyn BuildStore>,
}

/// Opens machines' stores.
pub trait MachineOpener: Send + Sync {
    /// Opens the machine's store for one slot. What its builds print goes to `log`, if it does not come as results to
    /// `logger`.
    fn open(&self, machine: &Machine, logger: &Arc<dyn Logger>, log: LineSink) -> StoreResult<OpenMachine>;
}

/// Settings that matter here; names are those of nix.conf where there are such.
pub struct DispatchConfig {
    pub state_dir: PathBuf,
    pub system: String,
    pub extra_platforms: BTreeSet<String>,
    pub system_features: BTreeSet<String>,
    pub ca_derivations: bool,
    pub builders_use_substitutes: bool,
    pub keep_failed: bool,
    /// The last lines of the log that errors show.
    pub log_lines: usize,
    pub max_build_log_size: u64,
    pub keep_build_log: bool,
}

impl DispatchConfig {
    /// Whether this machine could build it, were there a slot.
    pub(crate) fn could_build(&self, demand: &Demand, drv: &Derivation, slots: &Slots) -> bool {
        let fits =
            demand.system == self.system || self.extra_platforms.contains(&demand.system) || drv.is_builtin();
        let has = |feature: &String| {
            self.system_features.contains(feature) || (self.ca_derivations && feature == "ca-derivations")
        };
        slots.count() > 0 && fits && demand.features.iter().all(has)
    }
}

/// What is done here after a build elsewhere: the post-build hook.
pub type AfterBuild = Arc<dyn Fn(&StorePath, &[StorePath]) -> Result<(), BuildFailure> + Send + Sync>;

/// How long a machine is left aside that could not be reached or broke off.
const ASIDE: Duration = Duration::from_secs(60);

/// Slots and locks that others hold are looked at again after so long.
const POLL: Duration = Duration::from_millis(500);

/// How long a machine's last words are waited for.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// How often a build is begun again when machines break off.
const ATTEMPTS: u32 = 5;

/// Builds on other machines where they can, else through `inner`.
#[derive(Clone)]
pub struct RemoteExecutor {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Arc<dyn Executor>,
    store: Arc<dyn Store>,
    target: Option<Arc<dyn BuildTarget>>,
    opener: Arc<dyn MachineOpener>,
    machines: Vec<Machine>,
    states: Vec<MachineState>,
    config: DispatchConfig,
    logger: Arc<dyn Logger>,
    after: Option<AfterBuild>,
    /// A slot of ours became free.
    freed: Notify,
}

#[derive(Default)]
struct MachineState {
    aside_until: Mutex<Option<Instant>>,
    /// Whether it was reached before.
    reached: AtomicBool,
    uploads: Uploads,
    /// By number of the slot.
    connections: Mutex<HashMap<u32, Connection>>,
}

struct Connection {
    machine: OpenMachine,
    current: Arc<Current>,
    logger: Arc<dyn Logger>,
}

/// How an attempt ended.
enum Attempt {
    Done(Result<BuildSuccess, BuildFailure>),
    /// The machine could not be reached or broke off: another may do it.
    Lost(String),
    /// Somebody else holds the locks.
    Locked,
}

/// What the executor works with.
pub struct Dispatch {
    /// The store that is built for.
    pub store: Arc<dyn Store>,
    /// The same, as what outputs are put into; none for a store that is not on this machine.
    pub target: Option<Arc<dyn BuildTarget>>,
    pub opener: Arc<dyn MachineOpener>,
    pub machines: Vec<Machine>,
    pub config: DispatchConfig,
    pub logger: Arc<dyn Logger>,
    pub after: Option<AfterBuild>,
}

impl RemoteExecutor {
    /// What machines cannot do goes to `inner`.
    pub fn new(inner: Arc<dyn Executor>, dispatch: Dispatch) -> RemoteExecutor {
        let states = dispatch.machines.iter().map(|_| MachineState::default()).collect();
        let Dispatch { store, target, opener, machines, config, logger, after } = dispatch;
        let freed = Notify::new();
        let shared = Shared { inner, store, target, opener, machines, states, config, logger, after, freed };
        RemoteExecutor { shared: Arc::new(shared) }
    }
}

#[async_trait]
impl Executor for RemoteExecutor {
    fn width(&self, slots: &Slots) -> usize {
        // Not every machine can do everything: more are at hand than could run.
        let there = self.shared.machines.iter().map(|machine| (machine.max_jobs as usize).saturating_mul(2));
        there.fold(self.shared.inner.width(slots), usize::saturating_add)
    }

    async fn build(
        &self,
        request: BuildRequest,
        place: &Place,
        observer: &Arc<dyn BuildObserver>,
        cancel: &CancellationToken,
    ) -> Result<BuildSuccess, BuildFailure> {
        let this = &self.shared;
        let here = || this.inner.build(request.clone(), place, observer, cancel);
        // What is checked or repaired is checked and repaired in this store.
        if request.mode != BuildMode::Normal {
            return here().await;
        }
        let Ok(options) = request.drv.options(this.store.store_dir()) else { return here().await };
        let demand = Demand {
            system: match request.drv.is_builtin() {
                true => "builtin".to_owned(),
                false => String::from_utf8_lossy(&request.drv.platform).into_owned(),
            },
            features: options.required_features(&request.drv),
        };
        let could_here = this.config.could_build(&demand, &request.drv, place.slots());
        if could_here && options.prefer_local_build {
            return here().await;
        }
        // Those behind it may go to other machines, or have to build here.
        place.step_aside();
        let mut waiting = None;
        let mut lost = 0;
        // Whether the last machine that was lost will not think better of it.
        let mut refused = false;
        loop {
            match this.pick(&demand).await? {
                Pick::Unsuitable => {
                    let may_come_back = lost > 0 && lost < ATTEMPTS && !refused;
                    if may_come_back && !could_here && this.has_aside(&demand) {
                        // Nobody else can do it: the machine may come back.
                        pause(cancel, Duration::from_secs(5)).await?;
                        this.readmit(&demand);
                        continue;
                    }
                    this.say_unsuitable(&request, &demand, could_here);
                    return here().await;
                }
                Pick::Slot(slot) => {
                    let uri = this.machines[slot.machine].uri.clone();
                    let machine = slot.machine;
                    match this.attempt(slot, &request, observer, cancel).await {
                        Attempt::Done(result) => return result,
                        Attempt::Lost(why) => {
                            lost += 1;
                            // One that was never there need not be waited for.
                            refused =
                                is_refusal(&why) || !this.states[machine].reached.load(Ordering::Relaxed);
                            this.put_aside(machine);
                            this.logger.error(&format!("cannot build on '{uri}': {why}"));
                            if lost >= ATTEMPTS {
                                let text =
                                    format!("machines broke off {lost} times, the last one '{uri}': {why}");
                                return Err(BuildFailure::new(BuildStatus::TransientFailure, text));
                            }
                        }
                        Attempt::Locked => pause(cancel, POLL).await?,
                    }
                }
                Pick::Busy => {
                    let dir = this.store.store_dir();
                    let free_here = async {
                        match could_here {
                            true => drop(place.slot().await),
                            false => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => return Err(cancelled()),
                        // A free slot here is as good.
                        () = free_here => return here().await,
                        () = this.freed.notified() => {}
                        () = tokio::time::sleep(POLL) => {
                            waiting.get_or_insert_with(|| {
                                let drv = dir.display(&request.drv_path);
                                let text = format!("waiting for a machine to build '\x1b[35;1m{drv}\x1b[0m'");
                                let kind = ActivityType::BuildWaiting;
                                Activity::start(&this.logger, Verbosity::Warn, kind, &text, &[], 0)
                            });
                        }
                    }
                    place.step_aside();
                }
            }
        }
    }
}

/// Whether a machine does not let us in, or does not serve us: trying again gives the same.
fn is_refusal(why: &str) -> bool {
    ["Permission denied", "Host key verification failed", "error: you are not privileged"]
        .iter()
        .any(|sign| why.contains(sign))
}

async fn pause(cancel: &CancellationToken, time: Duration) -> Result<(), BuildFailure> {
    tokio::select! {
        () = cancel.cancelled() => Err(cancelled()),
        () = tokio::time::sleep(time) => Ok(()),
    }
}

fn cancelled() -> BuildFailure {
    BuildFailure::new(BuildStatus::Cancelled, "interrupted by the user")
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

impl Shared {
    fn is_enabled(&self, machine: usize) -> bool {
        let mut until = self.states[machine].aside_until.lock();
        match *until {
            Some(time) if Instant::now() < time => false,
            _ => {
                *until = None;
                true
            }
        }
    }

    fn put_aside(&self, machine: usize) {
        *self.states[machine].aside_until.lock() = Some(Instant::now() + ASIDE);
        // Other slots' connections are as dead, or will be found alive after a while.
        self.states[machine].connections.lock().clear();
    }

    fn has_aside(&self, demand: &Demand) -> bool {
        (0..self.machines.len())
            .any(|i| !self.is_enabled(i) && self.machines[i].suits(&demand.system, &demand.features))
    }

    fn readmit(&self, demand: &Demand) {
        for (machine, state) in self.machines.iter().zip(&self.states) {
            if machine.suits(&demand.system, &demand.features) {
                *state.aside_until.lock() = None;
            }
        }
    }

    async fn pick(self: &Arc<Self>, demand: &Demand) -> Result<Pick, BuildFailure> {
        let (this, demand) = (Arc::clone(self), demand.clone());
        // Files are locked, which may take a moment.
        let picked = tokio::task::spawn_blocking(move || {
            let folder = current_load(&this.config.state_dir);
            pick(&folder, &this.machines, &|machine| this.is_enabled(machine), &demand)
        });
        picked.await.map_err(BuildFailure::other)?.map_err(BuildFailure::other)
    }

    fn say_unsuitable(&self, request: &BuildRequest, demand: &Demand, could_here: bool) {
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
        let mut text = format!(
            "Failed to find a machine for remote build!\nderivation: {}\nrequired (system, features): ({}, [{}])\n\
             {} available machines:\n(systems, maxjobs, supportedFeatures, mandatoryFeatures)",
            request.drv_path.base_name(),
            demand.system,
            list(&demand.features),
            self.machines.len()
        );
        for m in &self.machines {
            text += &format!(
                "\n([{}], {}, [{}], [{}])",
                list(&m.systems),
                m.max_jobs,
                list(&m.supported_features),
                list(&m.mandatory_features)
            );
        }
        let level = if could_here { Verbosity::Chatty } else { Verbosity::Warn };
        self.logger.log(level, text.as_bytes());
    }

    /// Locks the outputs, where they are files here; `None` if somebody else holds one of the locks.
    fn lock_outputs(&self, request: &BuildRequest) -> Result<Option<Box<dyn Any + Send>>, BuildFailure> {
        let Some(target) = &self.target else { return Ok(Some(Box::new(()))) };
        let real = target.real_store_dir();
        let outputs = request.drv.output_paths(target.store_dir()).map_err(BuildFailure::other)?;
        let paths = outputs
            .into_iter()
            .map(|(name, path)| match path {
                Some(path) => real.join(path.base_name()),
                None => real.join(format!("{}.{name}", request.drv_path.base_name())),
            })
            .collect();
        target.try_lock_outputs(&paths).map_err(BuildFailure::other)
    }

    /// Under the locks: all outputs, if somebody else was faster; else room is made for them.
    async fn valid_outputs(
        &self,
        request: &BuildRequest,
    ) -> Result<Option<BTreeMap<String, StorePath>>, BuildFailure> {
        let outputs = request.drv.output_paths(self.store.store_dir()).map_err(BuildFailure::other)?;
        let mut valid = BTreeMap::new();
        let count = outputs.len();
        for (name, path) in outputs {
            let Some(path) = path else { continue };
            if self.store.is_valid_path(&path).await.map_err(BuildFailure::other)? {
                valid.insert(name, path);
            } else if let Some(target) = &self.target {
                target.add_temp_roots(std::slice::from_ref(&path)).map_err(BuildFailure::other)?;
                let real = target.real_store_dir().join(path.base_name());
                target.remove_tree(&real).map_err(BuildFailure::other)?;
            }
        }
        Ok((valid.len() == count).then_some(valid))
    }

    async fn attempt(
        self: &Arc<Self>,
        slot: Slot,
        request: &BuildRequest,
        observer: &Arc<dyn BuildObserver>,
        cancel: &CancellationToken,
    ) -> Attempt {
        let _locks = match self.lock_outputs(request) {
            Ok(Some(locks)) => locks,
            Ok(None) => return Attempt::Locked,
            Err(failure) => return Attempt::Done(Err(failure)),
        };
        let start_time = now();
        match self.valid_outputs(request).await {
            Ok(None) => {}
            Ok(Some(outputs)) => {
                let status = BuildStatus::AlreadyValid;
                return Attempt::Done(Ok(BuildSuccess {
                    status,
                    outputs,
                    start_time,
                    stop_time: start_time,
                    cpu: None,
                }));
            }
            Err(failure) => return Attempt::Done(Err(failure)),
        }
        let connection = match self.connection(&slot).await {
            Ok(connection) => connection,
            Err(error) => return Attempt::Lost(error.to_string()),
        };
        observer.started();
        let work = self.build_there(&connection, &slot, request, start_time);
        let attempt = tokio::select! {
            biased;
            attempt = work => Some(attempt),
            () = cancel.cancelled() => None,
        };
        observer.stopped();
        let log = connection.current.get();
        if !matches!(attempt, Some(Err(StoreError::ConnectionLost(_)))) {
            connection.current.set(None);
        }
        let attempt = match attempt {
            // Dropping the connection ends the build there.
            None => {
                drop(connection);
                Attempt::Done(Err(cancelled()))
            }
            Some(Err(error @ StoreError::ConnectionLost(_))) => {
                // What comes on another stream may be a little late.
                tokio::time::sleep(LAST_WORDS).await;
                let said = log.and_then(|log| log.last_error());
                let said = said.map(|said| format!(": {said}")).unwrap_or_default();
                Attempt::Lost(format!("{error}{said}"))
            }
            Some(Err(error)) => {
                self.give_back(&slot, connection);
                let drv = self.store.store_dir().display(&request.drv_path);
                let uri = &self.machines[slot.machine].uri;
                Attempt::Done(Err(BuildFailure::other(format!(
                    "build of '{drv}' on '{uri}' failed: {error}"
                ))))
            }
            Some(Ok(result)) => {
                self.give_back(&slot, connection);
                Attempt::Done(result)
            }
        };
        drop(slot);
        self.freed.notify_waiters();
        match attempt {
            Attempt::Done(Ok(success)) => Attempt::Done(self.run_after(request, success)),
            other => other,
        }
    }

    fn run_after(&self, request: &BuildRequest, success: BuildSuccess) -> Result<BuildSuccess, BuildFailure> {
        if let Some(after) = &self.after {
            let outputs: Vec<StorePath> = success.outputs.values().cloned().collect();
            after(&request.drv_path, &outputs)?;
        }
        Ok(success)
    }

    fn give_back(&self, slot: &Slot, connection: Connection) {
        self.states[slot.machine].connections.lock().insert(slot.number, connection);
    }

    /// The slot's connection, made now if there is none.
    async fn connection(&self, slot: &Slot) -> StoreResult<Connection> {
        let kept = self.states[slot.machine].connections.lock().remove(&slot.number);
        if let Some(connection) = kept {
            return Ok(connection);
        }
        let machine = &self.machines[slot.machine];
        let text = format!("connecting to '{}'", machine.uri);
        let _activity =
            Activity::start(&self.logger, Verbosity::Talkative, ActivityType::Unknown, &text, &[], 0);
        let current = Arc::new(Current::default());
        let logger: Arc<dyn Logger> =
            Arc::new(RemoteLogger { inner: Arc::clone(&self.logger), current: Arc::clone(&current) });
        let sink = {
            let (current, logger) = (Arc::clone(&current), Arc::clone(&self.logger));
            move |line: &[u8]| match current.get() {
                Some(log) => log.line(line),
                None => logger.log(Verbosity::Talkative, line),
            }
        };
        let opened = self.opener.open(machine, &logger, Arc::new(sink))?;
        opened.store.connect().await?;
        self.states[slot.machine].reached.store(true, Ordering::Relaxed);
        Ok(Connection { machine: opened, current, logger })
    }

    async fn build_there(
        &self,
        connection: &Connection,
        slot: &Slot,
        request: &BuildRequest,
        start_time: i64,
    ) -> StoreResult<Result<BuildSuccess, BuildFailure>> {
        let uri = &self.machines[slot.machine].uri;
        let dir = self.store.store_dir();
        let drv_text = dir.display(&request.drv_path);
        let fields: [Field; 4] =
            [drv_text.as_str().into(), uri.as_str().into(), Field::Int(1), Field::Int(1)];
        let text = format!("building '{drv_text}' on '{uri}'");
        let activity = Activity::start(&self.logger, Verbosity::Info, ActivityType::Build, &text, &fields, 0);
        let file = match &self.target {
            Some(target) if self.config.keep_build_log => Some(target.build_log_path(&request.drv_path)?),
            _ => None,
        };
        let log =
            Arc::new(BuildLog::start(activity, file, self.config.log_lines, self.config.max_build_log_size)?);
        connection.current.set(Some(Arc::clone(&log)));
        let remote = &connection.machine;
        let upload = Upload {
            from: &*self.store,
            to: &*remote.store,
            uri,
            folder: &current_load(&self.config.state_dir),
            paths: &request.input_paths,
            substitute: self.config.builders_use_substitutes,
            logger: &connection.logger,
        };
        self.states[slot.machine].uploads.send(upload).await?;
        let result =
            build_request(&self.store, remote, request, self.config.builders_use_substitutes, &self.logger);
        tokio::pin!(result);
        let result = loop {
            tokio::select! {
                result = &mut result => break result?,
                () = tokio::time::sleep(POLL) => if log.is_too_long() {
                    let text = format!(
                        "build of '{drv_text}' on '{uri}' killed after writing more than {} bytes of log output",
                        self.config.max_build_log_size
                    );
                    return Ok(Err(BuildFailure::new(BuildStatus::LogLimitExceeded, text)));
                },
            }
        };
        if !result.status.is_success() {
            return Ok(Err(self.failure(request, uri, &result, &log)));
        }
        let known = request.drv.output_paths(dir)?;
        let outputs: BTreeMap<String, StorePath> = known
            .into_iter()
            .filter_map(|(name, path)| {
                let path = path.or_else(|| result.outputs.get(&name).cloned())?;
                Some((name, path))
            })
            .collect();
        if outputs.len() < request.drv.outputs.len() {
            let text = format!("'{uri}' did not say which outputs '{drv_text}' has");
            return Ok(Err(BuildFailure::new(BuildStatus::MiscFailure, text)));
        }
        let mut paths: BTreeSet<StorePath> = outputs.values().cloned().collect();
        if self.target.is_none() {
            let valid = self.store.query_valid_paths(&paths).await?;
            paths.retain(|path| !valid.contains(path));
        }
        match &self.target {
            Some(target) => fetch_outputs(&remote.store, target, &paths, uri, &self.logger).await?,
            None if paths.is_empty() => {}
            None => {
                let options = CopyOptions { check_signatures: false, ..CopyOptions::CHECKED };
                copy_paths(&*remote.store, &*self.store, &paths, options, &self.logger).await?;
            }
        }
        Ok(Ok(BuildSuccess { status: BuildStatus::Built, outputs, start_time, stop_time: now(), cpu: None }))
    }

    fn failure(
        &self,
        request: &BuildRequest,
        uri: &str,
        result: &BuildResult,
        log: &BuildLog,
    ) -> BuildFailure {
        if self.config.keep_failed {
            let platform = String::from_utf8_lossy(&request.drv.platform);
            let here = *platform == *self.config.system || self.config.extra_platforms.contains(&*platform);
            let hint = if here {
                " You can re-run the command with `--builders ''` to disable remote building for this invocation."
            } else {
                ""
            };
            self.logger.warn(&format!(
                "The failed build directory was kept on the remote builder due to `--keep-failed`.{hint}"
            ));
        }
        let drv = self.store.store_dir().display(&request.drv_path);
        let tail = match self.logger.shows_build_logs() || result.error.contains("log lines:") {
            true => String::new(),
            false => log.tail(),
        };
        BuildFailure::new(
            result.status,
            format!("build of '{drv}' on '{uri}' failed: {}{tail}", result.error),
        )
    }
}

/// Has a machine build, whose inputs are there.
pub(crate) async fn build_request(
    store: &Arc<dyn Store>,
    remote: &OpenMachine,
    request: &BuildRequest,
    substitute: bool,
    logger: &Arc<dyn Logger>,
) -> StoreResult<BuildResult> {
    let kind = request.drv.derivation_type().map_err(|e| StoreError::Other(e.to_string()))?;
    // Machines that do not say are taken to trust us, as `ssh://` ones do.
    let trusted = remote.store.is_trusted().await? != Some(Trust::NotTrusted);
    if trusted || is_content_addressed(kind) {
        let mut drv = (*request.drv).clone();
        // What input derivations give is among the inputs now. Those of derivations without any stay as they are,
        // since they are part of what content-addressed outputs are called.
        if !drv.input_drvs.is_empty() {
            drv.input_srcs = request.input_paths.clone();
            drv.input_drvs.clear();
        }
        return remote.build.build_derivation(&request.drv_path, &drv, request.mode).await;
    }
    // Without trust only the whole plan gives a right to an output's path.
    let closure =
        compute_fs_closure(&**store, &[request.drv_path.clone()].into(), ClosureOptions::default()).await?;
    let options = CopyOptions { check_signatures: false, substitute, ..CopyOptions::CHECKED };
    copy_paths(&**store, &*remote.store, &closure, options, logger).await?;
    let wanted = [DerivedPath::built(request.drv_path.clone(), OutputsSpec::All)];
    let results = remote.build.build_paths(&wanted, request.mode).await?;
    results.into_iter().next().ok_or_else(|| StoreError::Other("the machine gave no result".into()))
}

fn is_content_addressed(kind: DerivationType) -> bool {
    kind.is_content_addressed()
}

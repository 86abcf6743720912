//! One build, from its derivation to its registered outputs. Runs in a thread of its own, and blocks.

use crate::builtins;
use crate::cgroup::Cgroup;
use crate::config::{BuildConfig, ExternalBuilder};
use crate::environment::Surroundings;
use crate::executor::Turn;
use crate::external;
use crate::log::{LogFile, LogLines, Shown};
use crate::nested::{self, BuildScope, Nested};
use crate::outputs::{Planned, Registration, input_rewrites, scratch_path};
use crate::place::{BuildDir, SandboxRoot};
use crate::sandbox::{View, is_diverted, is_sandboxed};
use crate::text::{BOLD, NORMAL, paint, quote};
use firn_core::StorePath;
use firn_core::raw_text;
use firn_core::store_path::output_path_name;
use firn_derivation::resolve::rewrite;
use firn_derivation::{DerivationOptions, DerivationType};
use firn_sandbox::spec::path_bytes;
use firn_sandbox::users::{IDS_PER_BUILD, UserLock};
use firn_sandbox::{BuildUser, Event, ExitStatus, Program, Sandbox, SandboxError, SandboxSpec, Spawner};
use firn_scheduler::status::{cannot_build, known_outputs};
use firn_scheduler::{BuildFailure, BuildObserver, BuildRequest};
use firn_store::activity::{Activity, ActivityType, Field, Logger, Verbosity};
use firn_store::{BuildMode, BuildStatus, BuildTarget, CpuTimes};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a free build user is looked for.
const USER_POLL: Duration = Duration::from_millis(200);
/// Less free space than this, in bytes, and a failure may be due to it.
const DISK_FULL: u64 = 8 * 1024 * 1024;

/// What a build runs with.
pub(crate) struct Job<'a> {
    pub target: &'a Arc<dyn BuildTarget>,
    pub config: &'a BuildConfig,
    pub logger: &'a Arc<dyn Logger>,
    pub spawner: &'a Spawner,
    pub request: &'a BuildRequest,
    pub options: &'a DerivationOptions,
    pub kind: DerivationType,
    pub observer: &'a dyn BuildObserver,
    /// Becomes readable when the build is to be ended.
    pub cancel: BorrowedFd<'a>,
    /// Builders start in the order in which builds were handed over.
    pub turn: &'a Turn,
    /// Outputs with their final paths and whether they are valid.
    pub known: &'a BTreeMap<String, (Option<StorePath>, bool)>,
}

/// A started build with its surroundings.
struct Started {
    // Fields drop in this order: the processes first, then what they used.
    sandbox: Sandbox,
    nested: Option<Nested>,
    cgroup: Option<Cgroup>,
    dir: BuildDir,
    root: Option<SandboxRoot>,
    user: Option<UserLock>,
    planned: BTreeMap<String, Planned>,
}

/// How the builder's run ended.
enum End {
    Exited(ExitStatus),
    Killed(BuildFailure),
}

impl Job<'_> {
    /// Builds; returns all outputs by name, and what the build took where that is counted.
    pub fn run(&self) -> Result<(BTreeMap<String, StorePath>, Option<CpuTimes>), BuildFailure> {
        let target = &**self.target;
        let mut sandboxed = self.external().is_none()
            && is_sandboxed(target, self.config, &self.request.drv_path, self.kind, self.options)?;
        let user = self.wait_for_user(sandboxed)?;
        let mut started = match self.start(sandboxed, user) {
            Err(StartError::NoNamespaces(_, user))
                if self.config.sandbox_fallback && !is_diverted(target) =>
            {
                sandboxed = false;
                self.start(sandboxed, user).map_err(StartError::into_failure)?
            }
            other => other.map_err(StartError::into_failure)?,
        };
        let result = self.follow(&mut started);
        self.observer.stopped();
        // What the build asked for goes no further than the build.
        let added = started.nested.as_mut().map(Nested::stop).unwrap_or_default();
        let cpu = self.cpu_times(&started);
        let (end, lines) = match result {
            Ok(followed) => followed,
            Err(failure) => {
                started.sandbox.kill();
                let _ = started.sandbox.wait();
                self.clean_after_failure(started);
                return Err(failure);
            }
        };
        match end {
            End::Exited(ExitStatus::Code(0)) => {}
            End::Exited(status) => {
                let failure = self.builder_failed(&started, status, &lines);
                self.clean_after_failure(started);
                return Err(failure);
            }
            End::Killed(failure) => {
                self.clean_after_failure(started);
                return Err(failure);
            }
        }
        match self.register(&started, &added) {
            Ok(outputs) => {
                self.remove_redirected(&started);
                Ok((outputs, cpu))
            }
            Err(failure) => {
                self.clean_after_failure(started);
                Err(failure)
            }
        }
    }

    fn external(&self) -> Option<&ExternalBuilder> {
        self.config.external_builder(&self.request.drv.platform)
    }

    /// The build user, if builds have any. Waits while all are taken.
    fn wait_for_user(&self, sandboxed: bool) -> Result<Option<UserLock>, BuildFailure> {
        let whole = self.options.uses_uid_range();
        if whole && !sandboxed {
            return Err(BuildFailure::other("feature 'uid-range' is only supported in sandboxed builds"));
        }
        let by_range = self.config.uid_range;
        let root = rustix::process::geteuid().is_root();
        if whole && (by_range.is_none() || !root) {
            return Err(BuildFailure::other(
                "feature 'uid-range' requires the setting 'auto-allocate-uids' to be enabled",
            ));
        }
        if !root || (by_range.is_none() && self.config.build_users_group.is_empty()) {
            return Ok(None);
        }
        let state = self.target.state_dir();
        let group = &*self.config.build_users_group;
        let count = if whole { IDS_PER_BUILD } else { 1 };
        let group_of_range = Some(group).filter(|group| !sandboxed && !group.is_empty());
        let mut waiting = None;
        loop {
            let lock = match by_range {
                Some(range) => UserLock::from_range(state, range, count, group_of_range),
                None => UserLock::from_group(state, group),
            };
            if let Some(lock) = lock.map_err(|e| BuildFailure::other(setup_text(&e)))? {
                return Ok(Some(lock));
            }
            waiting.get_or_insert_with(|| {
                self.turn.pass();
                let text = format!("waiting for a free build user ID for '{}'", paint(self.drv_text()));
                Activity::start(self.logger, Verbosity::Warn, ActivityType::BuildWaiting, &text, &[], 0)
            });
            if self.cancelled_within(USER_POLL) {
                return Err(cancelled());
            }
        }
    }

    fn cancelled_within(&self, time: Duration) -> bool {
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(self.cancel, rustix::event::PollFlags::IN)];
        let time = rustix::time::Timespec::try_from(time).ok();
        rustix::event::poll(&mut fds, time.as_ref()).is_ok_and(|count| count > 0)
    }

    fn drv_text(&self) -> String {
        self.target.store_dir().display(&self.request.drv_path)
    }

    /// Decides under which path each output is made.
    fn plan(&self, sandboxed: bool) -> Result<BTreeMap<String, Planned>, BuildFailure> {
        let target = &**self.target;
        let drv_path = &self.request.drv_path;
        let mut planned = BTreeMap::new();
        for (name, (path, valid)) in self.known {
            let scratch = match path {
                None => scratch_path(
                    target,
                    drv_path,
                    &format!("name:{name}"),
                    &output_path_name(&self.request.drv.name, name),
                )?,
                // Nothing else is in the sandbox's own store directory.
                Some(path) if sandboxed => path.clone(),
                Some(path) if !valid => path.clone(),
                Some(path) => scratch_path(target, drv_path, path.base_name(), path.name())?,
            };
            if path.as_ref() != Some(&scratch) && !sandboxed {
                let real = target.real_store_dir().join(scratch.base_name());
                target.remove_tree(&real).map_err(BuildFailure::other)?;
                target.add_temp_roots(std::slice::from_ref(&scratch)).map_err(BuildFailure::other)?;
            }
            planned.insert(name.clone(), Planned { path: path.clone(), valid: *valid, scratch });
        }
        Ok(planned)
    }

    /// Makes directories, environment and sandbox, and starts the builder.
    fn start(&self, sandboxed: bool, user: Option<UserLock>) -> Result<Started, StartError> {
        let target = &**self.target;
        let drv = &*self.request.drv;
        let config = self.config;
        let build_user = user.as_ref().map(UserLock::user);
        let parent = match &config.build_dir {
            Some(dir) => dir.clone(),
            None => target.state_dir().join("builds"),
        };
        let external = self.external();
        let within = sandboxed || external.is_some();
        let dir = BuildDir::create(self.target, &parent, within, build_user)?;
        let root = match sandboxed {
            true => Some(SandboxRoot::create(self.target, &self.request.drv_path, build_user)?),
            false => None,
        };
        let planned = self.plan(sandboxed)?;
        let seen_dir = match (sandboxed, external) {
            (_, Some(_)) => PathBuf::from(external::BUILD_DIR),
            (true, None) => config.sandbox_build_dir.clone(),
            (false, None) => dir.work.clone(),
        };
        let surroundings = Surroundings {
            target,
            config,
            drv,
            options: self.options,
            kind: self.kind,
            input_paths: &self.request.input_paths,
            build_dir: &seen_dir,
        };
        let mut environment = surroundings.environment()?;
        let nested = self
            .config
            .nested
            .as_deref()
            .filter(|_| self.options.required_features(drv).contains(nested::FEATURE));
        if nested.is_some() && external.is_some() {
            return Err(StartError::Failure(BuildFailure::other(
                "'recursive-nix' is not supported yet by external derivation builders",
            )));
        }
        if nested.is_some() {
            let socket = format!("unix://{}", seen_dir.join(nested::SOCKET).display());
            environment.variables.insert(b"NIX_REMOTE".to_vec(), socket.into_bytes());
        }
        let rewrites = input_rewrites(target, &planned);
        for (name, contents) in &environment.files {
            dir.write(name, &rewrite(contents, &rewrites))?;
        }
        if !within && Path::new("/homeless-shelter").exists() {
            return Err(StartError::Failure(BuildFailure::other(
                "home directory \"/homeless-shelter\" exists; please remove it to assure purity of builds without sandboxing",
            )));
        }
        let isolation = match &root {
            None => {
                crate::hooks::pre_build(config, &self.drv_text(), None)?;
                None
            }
            Some(root) => {
                let view = View {
                    target,
                    config,
                    drv_path: &self.request.drv_path,
                    drv,
                    options: self.options,
                    kind: self.kind,
                    input_paths: &self.request.input_paths,
                    root: &root.root,
                    work: &dir.work,
                    whole_system: build_user.is_some_and(|user| user.count != 1),
                    grows: nested.is_some(),
                };
                Some(view.isolation()?)
            }
        };
        let program = match (external, drv.builder.strip_prefix(b"builtin:")) {
            (Some(builder), _) => {
                let environment = (&environment.variables, &rewrites);
                let paths = (&self.request.input_paths, &planned);
                external::program(builder, target, drv, environment, paths, &dir)?
            }
            (None, Some(name)) => {
                let payload = builtins::payload(target, drv, config, &planned, &seen_dir)?;
                Program::Builtin { name: String::from_utf8_lossy(name).into_owned(), payload }
            }
            (None, None) => {
                let start = drv.builder.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
                let mut args = vec![drv.builder[start..].to_vec()];
                args.extend(drv.args.iter().map(|arg| rewrite(arg, &rewrites)));
                Program::Execute { path: drv.builder.clone(), args }
            }
        };
        let cgroup = self.cgroup(build_user)?;
        let listener = match nested {
            Some(_) => Some(nested::listen(&dir)?),
            None => None,
        };
        let env: Vec<Vec<u8>> = match external {
            None => environment
                .variables
                .iter()
                .map(|(name, value)| rewrite(&[name.as_slice(), b"=", value.as_slice()].concat(), &rewrites))
                .collect(),
            // It is a program of this machine's, with what such programs have.
            Some(_) => std::env::vars_os()
                .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
                .collect(),
        };
        let arm32: [&[u8]; 3] = [b"armv7l-linux", b"armv6l-linux", b"armv5tel-linux"];
        let x86_32 = cfg!(target_arch = "x86_64") && drv.platform == b"i686-linux";
        let linux32 = x86_32 || arm32.contains(&drv.platform.as_slice());
        let x86 = matches!(drv.platform.as_slice(), b"i686-linux" | b"x86_64-linux");
        let spec = SandboxSpec {
            program,
            env,
            cwd: path_bytes(if external.is_some() { &dir.work } else { &seen_dir }),
            user: build_user.cloned(),
            isolation,
            cgroup: cgroup.as_ref().map(|cgroup| path_bytes(cgroup.path())),
            require_drop_groups: config.require_drop_supplementary_groups,
            linux32,
            linux26: config.impersonate_linux_26 && x86,
            filter_syscalls: config.filter_syscalls && external.is_none(),
            allow_new_privileges: config.allow_new_privileges || external.is_some(),
        };
        self.logger.log(
            Verbosity::Chatty,
            format!("executing builder '{}'", String::from_utf8_lossy(&drv.builder)).as_bytes(),
        );
        self.turn.wait()?;
        let sandbox = self.spawner.spawn(&spec).and_then(|mut sandbox| {
            sandbox.wait_started()?;
            Ok(sandbox)
        });
        match sandbox {
            Ok(mut sandbox) => {
                for warning in sandbox.take_warnings() {
                    self.logger.warn(&warning);
                }
                let mut started = Started { sandbox, nested: None, cgroup, dir, root, user, planned };
                if let (Some(server), Some(listener)) = (nested, listener) {
                    let inside = match &started.root {
                        Some(root) => {
                            let mounter = started.sandbox.mounter();
                            Some((root, mounter.map_err(|e| BuildFailure::other(setup_text(&e)))?))
                        }
                        None => None,
                    };
                    let scope = BuildScope::new(self.target, &self.request.input_paths, inside)?;
                    started.nested = Some(Nested::start(server, listener, scope, self.logger)?);
                }
                Ok(started)
            }
            Err(SandboxError::NoNamespaces(why)) => Err(StartError::NoNamespaces(why, user)),
            Err(e) => Err(StartError::Failure(BuildFailure::other(setup_text(&e)))),
        }
    }

    /// Reads the builder's output until it ends, or until it has to be ended.
    fn follow(&self, started: &mut Started) -> Result<(End, LogLines), BuildFailure> {
        let drv = self.drv_text();
        let what = match self.request.mode {
            BuildMode::Normal => "building",
            BuildMode::Check => "checking outputs of",
            BuildMode::Repair => "repairing outputs of",
        };
        let fields: [Field; 4] = [drv.as_str().into(), "".into(), 1u64.into(), 1u64.into()];
        let text = format!("{what} '{drv}'");
        let activity = Activity::start(self.logger, Verbosity::Info, ActivityType::Build, &text, &fields, 0);
        self.observer.started();
        if started.sandbox.runs() {
            self.turn.pass();
        }
        let mut file = match self.config.keep_build_log {
            true => {
                let (path, compress) =
                    self.target.build_log_path(&self.request.drv_path).map_err(BuildFailure::other)?;
                Some(LogFile::create(&path, compress)?)
            }
            false => None,
        };
        let mut lines = LogLines::new(self.config.log_lines);
        let mut sink = Shown { activity: &activity, logger: self.logger };
        let begin = Instant::now();
        let mut last_output = begin;
        let mut size = 0u64;
        let mut buffer = vec![0; 64 * 1024];
        let mut killed = None;
        let end = loop {
            let deadline = if killed.is_some() { None } else { self.deadline(begin, last_output) };
            let wait = deadline.map(|(at, _)| at.saturating_duration_since(Instant::now()));
            let interrupt = killed.is_none().then_some(self.cancel);
            let event = started.sandbox.next_event(&mut buffer, interrupt, wait);
            match event.map_err(|e| BuildFailure::other(setup_text(&e)))? {
                Event::Output(count) => {
                    last_output = Instant::now();
                    size += count as u64;
                    let limit = self.config.max_build_log_size;
                    if killed.is_some() {
                        continue;
                    }
                    if limit != 0 && size > limit {
                        started.sandbox.kill();
                        killed = Some(BuildFailure::new(
                            BuildStatus::LogLimitExceeded,
                            format!(
                                "building derivation '{drv}' killed after writing more than {limit} bytes of log output"
                            ),
                        ));
                        continue;
                    }
                    let mut data = buffer.get(..count).unwrap_or_default();
                    if size == count as u64 && self.external().is_some() {
                        data = data.strip_prefix(external::READY).unwrap_or(data);
                    }
                    lines.feed(data, &mut sink);
                    if let Some(file) = &mut file {
                        file.write(data)?;
                    }
                }
                Event::Timeout => {
                    if let Some((at, seconds)) = deadline
                        && Instant::now() >= at
                    {
                        started.sandbox.kill();
                        let text = format!("timed out after {} seconds", paint(seconds));
                        killed = Some(BuildFailure::new(BuildStatus::TimedOut, text));
                    }
                }
                Event::Interrupted => {
                    started.sandbox.kill();
                    killed = Some(cancelled());
                }
                Event::Exited(status) => break status,
            }
        };
        lines.finish(&mut sink);
        if let Some(file) = file {
            file.finish()?;
        }
        Ok((killed.map_or(End::Exited(end), End::Killed), lines))
    }

    /// When the build has to be killed unless it says something, and the limit in seconds that this is due to.
    fn deadline(&self, begin: Instant, last_output: Instant) -> Option<(Instant, u64)> {
        let silent = self.config.max_silent_time.map(|limit| (last_output + limit, limit.as_secs()));
        let total = self.config.timeout.map(|limit| (begin + limit, limit.as_secs()));
        silent.into_iter().chain(total).min()
    }

    /// As the cgroup counted it, else as the kernel counted processes.
    fn cpu_times(&self, started: &Started) -> Option<CpuTimes> {
        if !self.config.use_cgroups {
            return None;
        }
        let counted = started.cgroup.as_ref().and_then(Cgroup::cpu_times);
        let processes = || started.sandbox.cpu_times().map(|t| CpuTimes { user: t.user, system: t.system });
        counted.or_else(processes)
    }

    /// The build's cgroup, where it is to have one and can.
    fn cgroup(&self, user: Option<&BuildUser>) -> Result<Option<Cgroup>, BuildFailure> {
        let whole = user.is_some_and(|user| user.count != 1);
        if !self.config.use_cgroups && !whole {
            return Ok(None);
        }
        let made = Cgroup::create(self.target.state_dir(), user);
        match made {
            Ok(None) if self.config.use_cgroups => {
                static TOLD: std::sync::Once = std::sync::Once::new();
                TOLD.call_once(|| {
                    self.logger.warn(
                        "cannot determine the cgroups file system: cgroups v2 are not mounted; builds run without, \
                         and their processor time is that of their processes",
                    );
                });
                Ok(None)
            }
            Err(_) if !self.config.use_cgroups => Ok(None),
            made => made,
        }
    }

    fn register(
        &self,
        started: &Started,
        added: &BTreeSet<StorePath>,
    ) -> Result<BTreeMap<String, StorePath>, BuildFailure> {
        // The outputs may refer to what the build added too.
        let input_paths: BTreeSet<StorePath> = self.request.input_paths.union(added).cloned().collect();
        let registration = Registration {
            target: self.target,
            config: self.config,
            logger: self.logger,
            drv_path: &self.request.drv_path,
            drv: &self.request.drv,
            options: self.options,
            mode: self.request.mode,
            input_paths: &input_paths,
            planned: &started.planned,
            root: started.root.as_ref(),
            user: started.user.as_ref().map(UserLock::user),
            build_dir: &started.dir.work,
        };
        registration.run()
    }

    /// The error for a builder that failed, with the end of its log where the user has not seen it.
    fn builder_failed(&self, started: &Started, status: ExitStatus, lines: &LogLines) -> BuildFailure {
        let disk_full = self.is_disk_full(&started.dir.work);
        let dir = self.target.store_dir();
        let drv = self.drv_text();
        let mut message = cannot_build(dir, &drv, &self.request.drv, &format!("builder {status}"));
        let tail = lines.tail();
        if !self.logger.shows_build_logs() && tail.len() > 0 {
            message += &format!("\nLast {} log lines:\n", tail.len());
            for line in tail {
                message += &format!("> {}\n", raw_text::keep(line));
            }
            let command = if self.config.nix_command { "nix log" } else { "nix-store -l" };
            message += &format!("For full logs, run:\n  {BOLD}{command} {drv}{NORMAL}");
        }
        if started.cgroup.as_ref().is_some_and(Cgroup::ran_out_of_memory) {
            message +=
                "\nnote: the kernel killed processes of the build because its cgroup ran out of memory";
        }
        if disk_full {
            message += "\nnote: build failure may have been caused by lack of free disk space";
        }
        let status = match !self.kind.is_sandboxed() || disk_full {
            true => BuildStatus::TransientFailure,
            false => BuildStatus::PermanentFailure,
        };
        BuildFailure::new(status, message)
    }

    fn is_disk_full(&self, work: &Path) -> bool {
        [self.target.real_store_dir(), work].iter().any(|path| {
            rustix::fs::statvfs(*path).is_ok_and(|s| s.f_bavail.saturating_mul(s.f_bsize) < DISK_FULL)
        })
    }

    /// Keeps what helps to find out why the build failed; everything else goes.
    fn clean_after_failure(&self, mut started: Started) {
        let secret = self.request.drv.is_builtin();
        if self.config.keep_failed && !secret {
            let text = format!("note: keeping build directory {}", quote(&started.dir.work));
            self.logger.log(Verbosity::Error, text.as_bytes());
            started.dir.keep();
        }
        self.remove_redirected(&started);
        let Some(root) = &started.root else {
            if !self.config.keep_failed {
                self.remove_partial(&started);
            }
            return;
        };
        if self.request.mode != BuildMode::Normal || !self.config.keep_failed {
            return;
        }
        for planned in started.planned.values() {
            if let Some(path) = planned.path.as_ref().filter(|_| !planned.valid) {
                let dest: PathBuf = self.target.real_store_dir().join(path.base_name());
                let _ = crate::trees::move_tree(&root.output(&planned.scratch), &dest);
            }
        }
    }

    /// Removes what a failed builder left of its outputs: on a full disk the next build needs the room.
    fn remove_partial(&self, started: &Started) {
        for planned in started.planned.values().filter(|planned| !planned.valid) {
            // An output may have become valid although another one was rejected.
            if let Ok(None) = self.target.path_info(&planned.scratch) {
                let real = self.target.real_store_dir().join(planned.scratch.base_name());
                let _ = self.target.remove_tree(&real);
            }
        }
    }

    /// Removes outputs that were made under another path because their own was valid.
    fn remove_redirected(&self, started: &Started) {
        if started.root.is_some() {
            return;
        }
        for planned in started.planned.values() {
            if planned.path.as_ref() != Some(&planned.scratch) {
                let real = self.target.real_store_dir().join(planned.scratch.base_name());
                let _ = self.target.remove_tree(&real);
            }
        }
    }
}

/// Why a build did not start.
enum StartError {
    Failure(BuildFailure),
    NoNamespaces(String, Option<UserLock>),
}

impl StartError {
    fn into_failure(self) -> BuildFailure {
        match self {
            StartError::Failure(failure) => failure,
            StartError::NoNamespaces(why, _) => {
                BuildFailure::other(SandboxError::NoNamespaces(why).to_string())
            }
        }
    }
}

impl From<BuildFailure> for StartError {
    fn from(failure: BuildFailure) -> Self {
        StartError::Failure(failure)
    }
}

/// The failure of a build that was not wanted any more.
pub(crate) fn cancelled() -> BuildFailure {
    BuildFailure::new(BuildStatus::Cancelled, "interrupted by the user")
}

fn setup_text(error: &SandboxError) -> String {
    match error {
        SandboxError::Io { what, source } => format!("{what}: {}", crate::text::os(source)),
        other => other.to_string(),
    }
}

/// Names what an empty result would hide: used by the executor where outputs are rejected before a build.
pub(crate) fn reject(dir: &firn_core::StoreDir, request: &BuildRequest, reasons: &[String]) -> BuildFailure {
    let mut message = format!("Cannot build '{}'.", paint(dir.display(&request.drv_path)));
    for reason in reasons {
        message += "\n";
        message += reason;
    }
    debug_assert!(!reasons.is_empty(), "{}", known_outputs(dir, &request.drv));
    BuildFailure::new(BuildStatus::InputRejected, message)
}

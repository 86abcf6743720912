//! A store, a scheduler, and derivations that are shell scripts.

use firn_build::{BuildConfig, LocalExecutor, SandboxMode, SandboxPath};
use firn_core::{DerivedPath, OutputsSpec, StoreDir, StorePath};
use firn_derivation::modulo::{HashModuloError, Mask, ModuloMemo};
use firn_derivation::{Derivation, DerivationOutput, InputNode};
use firn_sandbox::Spawner;
use firn_scheduler::{Scheduler, SchedulerConfig};
use firn_store::activity::{ActivityId, ActivityStart, Field, Logger, ResultType, Verbosity};
use firn_store::{BuildMode, BuildStore, BuildTarget, Store, StoreError};
use firn_store_local::{LocalStore, LocalStoreConfig};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// Keeps everything that is said.
#[derive(Default)]
pub struct Record {
    pub text: Mutex<Vec<u8>>,
    pub hides_logs: bool,
}

impl Record {
    fn line(&self, text: &[u8]) {
        let mut all = self.text.lock();
        all.extend_from_slice(text);
        all.push(b'\n');
    }
}

impl Logger for Record {
    fn verbosity(&self) -> Verbosity {
        Verbosity::Info
    }
    fn log(&self, level: Verbosity, message: &[u8]) {
        if level <= Verbosity::Info {
            self.line(message);
        }
    }
    fn start(&self, activity: &ActivityStart<'_>) {
        if activity.level <= Verbosity::Info && !activity.text.is_empty() {
            self.line(format!("{}...", activity.text).as_bytes());
        }
    }
    fn stop(&self, _: ActivityId) {}
    fn result(&self, _: ActivityId, kind: ResultType, fields: &[Field]) {
        if let (ResultType::BuildLogLine, [Field::Text(line)], false) = (kind, fields, self.hides_logs) {
            self.line(line);
        }
    }
    fn shows_build_logs(&self) -> bool {
        !self.hides_logs
    }
}

pub struct World {
    pub dir: TempDir,
    pub store: LocalStore,
    pub build: BuildConfig,
    pub schedule: SchedulerConfig,
    pub record: Arc<Record>,
    memo: Mutex<ModuloMemo>,
}

/// Without colours.
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            chars.by_ref().find(|c| *c == 'm');
        } else {
            out.push(c);
        }
    }
    out
}

impl World {
    pub fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        let store_dir = StoreDir::new(real.join("store").to_str().unwrap());
        let mut config = LocalStoreConfig::new(store_dir, real.join("state"), real.join("log"));
        config.ca_derivations = true;
        let record = Arc::new(Record::default());
        let store = LocalStore::new(config, record.clone());
        store.init().unwrap();
        let build = BuildConfig { sandbox: SandboxMode::Disabled, ..Default::default() };
        World { dir, store, build, schedule: SchedulerConfig::default(), record, memo: Mutex::default() }
    }

    /// With sandboxed builds that see the host's programs.
    pub fn sandboxed() -> World {
        let mut world = World::new();
        world.build.sandbox = SandboxMode::Enabled;
        world.build.sandbox_fallback = false;
        world.build.sandbox_paths = ["/bin", "/lib", "/lib64", "/usr"]
            .map(|path| SandboxPath { target: path.into(), source: path.into(), optional: true })
            .into();
        world
    }

    pub fn dir(&self) -> StoreDir {
        self.store.dir().clone()
    }

    pub fn real(&self, path: &StorePath) -> PathBuf {
        self.store.real(path)
    }

    /// A derivation that runs a script; not written yet.
    pub fn script(&self, name: &str, script: &str) -> Derivation {
        let mut drv = Derivation::new(name);
        drv.outputs.insert("out".into(), DerivationOutput::Deferred);
        drv.platform = self.build.system.clone().into_bytes();
        drv.builder = b"/bin/sh".to_vec();
        drv.args = vec![b"-c".to_vec(), script.as_bytes().to_vec()];
        drv.env.insert(b"PATH".to_vec(), b"/usr/bin:/bin".to_vec());
        drv
    }

    /// Adds the output of another derivation as an input, and its path as an environment variable.
    pub fn depend(&self, drv: &mut Derivation, variable: &str, input: &StorePath) {
        drv.input_drvs.insert(input.clone(), InputNode::of(["out"]));
        let out = self.out(input);
        drv.env.insert(variable.as_bytes().to_vec(), self.dir().display(&out).into_bytes());
    }

    /// Computes output paths and writes the derivation.
    #[track_caller]
    pub fn write(&self, mut drv: Derivation) -> StorePath {
        let dir = self.dir();
        let read = |path: &StorePath| -> Result<Derivation, HashModuloError> {
            Ok(self.store.read_derivation_blocking(path).unwrap())
        };
        let masked = {
            let mut memo = self.memo.lock();
            for name in drv.outputs.keys() {
                drv.env.insert(name.clone().into_bytes(), Vec::new());
            }
            drv.hash_modulo(&dir, Mask::Outputs, |input| memo.compute(&dir, input, read)).unwrap()
        };
        drv.fill_output_paths(&dir, &masked).unwrap();
        let (path, bytes) = drv.store_path(&dir).unwrap();
        let added = self.block(self.store.add_text(path.name(), &bytes, &drv.references(), false)).unwrap();
        assert_eq!(added, path);
        path
    }

    /// The path of a derivation's output `out`.
    pub fn out(&self, drv: &StorePath) -> StorePath {
        let outputs = self.store.derivation_outputs(drv).unwrap();
        outputs["out"].clone().unwrap()
    }

    pub fn block<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    pub fn scheduler(&self) -> Scheduler {
        let target: Arc<dyn BuildTarget> = Arc::new(self.store.clone());
        let store: Arc<dyn Store> = Arc::new(self.store.clone());
        let executor = LocalExecutor::new(target, self.build.clone(), self.record.clone())
            .with_spawner(Spawner::with_program(env!("CARGO_BIN_EXE_firn-build-init")));
        Scheduler::new(store, Arc::new(executor), self.record.clone(), self.schedule.clone())
    }

    /// Builds all outputs of the derivations.
    pub fn try_build(
        &self,
        drvs: &[StorePath],
        mode: BuildMode,
    ) -> Result<BTreeMap<String, StorePath>, (u32, String)> {
        let requests: Vec<DerivedPath> =
            drvs.iter().map(|drv| DerivedPath::built(drv.clone(), OutputsSpec::All)).collect();
        let scheduler = self.scheduler();
        match self.block(scheduler.realise(&requests, mode)) {
            Ok(results) => Ok(results.into_iter().flat_map(|r| r.outputs).collect()),
            Err(StoreError::Build { status, message }) => Err((status, plain(&message))),
            Err(other) => Err((1, plain(&other.to_string()))),
        }
    }

    #[track_caller]
    pub fn build(&self, drv: &StorePath) -> BTreeMap<String, StorePath> {
        match self.try_build(std::slice::from_ref(drv), BuildMode::Normal) {
            Ok(outputs) => outputs,
            Err((status, message)) => panic!("status {status}: {message}\n{}", self.said()),
        }
    }

    /// Builds, and expects this error.
    #[track_caller]
    pub fn check_failure(&self, drv: &StorePath, status: u32, message: &str) {
        let error = self.try_build(std::slice::from_ref(drv), BuildMode::Normal).unwrap_err();
        let message = message
            .replace("DRV", &self.dir().display(drv))
            .replace("OUT", &self.known_out(drv).unwrap_or_default());
        assert_eq!(error, (status, message));
        self.check_consistent();
    }

    fn known_out(&self, drv: &StorePath) -> Option<String> {
        let outputs = self.store.derivation_outputs(drv).ok()?;
        Some(self.dir().display(outputs.get("out")?.as_ref()?))
    }

    /// What was logged, without colours.
    pub fn said(&self) -> String {
        plain(&String::from_utf8_lossy(&self.record.text.lock()))
    }

    /// Nothing is left over: no build directories, locks or sandbox roots, and every valid path is there.
    #[track_caller]
    pub fn check_consistent(&self) {
        let builds = self.dir.path().join("state/builds");
        if let Ok(entries) = std::fs::read_dir(builds) {
            assert_eq!(entries.count(), 0, "build directories are left");
        }
        for entry in std::fs::read_dir(self.dir.path().join("store")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let left = [".lock", ".chroot", ".tmp"].iter().any(|end| name.ends_with(end));
            assert!(!left && !name.starts_with("tmp-"), "{name} is left");
        }
        for path in self.store.all_valid_paths().unwrap() {
            assert!(self.real(&path).symlink_metadata().is_ok(), "{path} is missing");
        }
    }
}

//! What a command runs in: settings with everything applied, the logger, and the store and runtime once they
//! are asked for.

use crate::args::{FlagSink, LogFormat, LowArgs};
use crate::error::{CliError, CliResult};
use crate::logger::{self, LoggerOptions};
use crate::renewable::{CurrentSettings, Renewable};
use crate::{args, builds, fetching, stores, version};
use firn_core::StorePath;
use firn_host::LazyRuntime;
use firn_scheduler::Substituter;
use firn_settings::{ExperimentalFeature, Settings};
use firn_store::Store;
use firn_store::activity::{Logger, Verbosity};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::sync::{Arc, OnceLock};

/// A program that was called, before its arguments are read.
pub struct Start {
    /// The name it was called by, such as `nix-store`.
    pub program: String,
    /// The arguments, without the name.
    pub args: Vec<OsString>,
    /// Settings from the environment and the files.
    pub settings: Settings,
    /// Set once the arguments have said how messages are shown: so is the one that the program ends with.
    pub logger: Arc<OnceLock<Arc<dyn Logger>>>,
}

impl Start {
    /// Reads the arguments of one of the older programs. `--help` (with `help` as its text) and `--version` end
    /// here.
    pub fn parse(self, sink: &mut dyn FlagSink, help: &str) -> CliResult<Context> {
        let mut low = LowArgs::default();
        args::parse(self.args, &mut low, sink)?;
        let context =
            Context::resolve(&self.program, &low, self.settings, LogFormat::RawWithLogs, Verbosity::Info)?;
        self.logger.get_or_init(|| context.logger.clone());
        if low.help {
            context.print(help.trim_start().as_bytes())?;
            if let Some(note) = crate::manual::note_without_man(&self.program) {
                // With the exit code that scripts know of it, although the help was shown.
                context.logger.log(Verbosity::Error, note.as_bytes());
                return Err(CliError::Exit(1));
            }
            return Err(CliError::Exit(0));
        }
        if low.version {
            context.print(version::text(&self.program, &context).as_bytes())?;
            return Err(CliError::Exit(0));
        }
        Ok(context)
    }
}

/// The surroundings of a running command.
pub struct Context {
    /// The name the program was called by.
    pub program: String,
    pub settings: CurrentSettings,
    pub verbosity: Verbosity,
    /// Whether it is to be said that results without a root may be collected.
    pub gc_warning: bool,
    pub logger: Arc<dyn Logger>,
    /// What relative references of the command line start from, if not from the current folder.
    pub base_dir: Option<std::path::PathBuf>,
    /// Where what remote stores' programs print goes, for those that build for us; to standard error if nowhere.
    pub remote_log: Option<firn_remote_build::LineSink>,
    runtime: Arc<LazyRuntime>,
    store: Renewable<stores::Opened>,
    fetcher: OnceCell<firn_fetch::Fetcher>,
    http: OnceCell<firn_http::HttpClient>,
    /// What substitutes into the store.
    substituter: Renewable<Option<Arc<dyn Substituter>>>,
    /// The store of `--eval-store`; nothing if that is the same.
    eval_store: OnceCell<Option<Arc<dyn Store>>>,
}

impl Context {
    pub fn resolve(
        program: &str,
        low: &LowArgs,
        mut settings: Settings,
        default_format: LogFormat,
        default_verbosity: Verbosity,
    ) -> CliResult<Self> {
        let verbosity = low.verbosity(default_verbosity);
        let mut warnings = Vec::new();
        let applied = low.apply(&mut settings, &mut warnings);
        let logger = logger::make(&LoggerOptions {
            format: low.log_format.unwrap_or(default_format),
            verbosity,
            print_build_logs: low.print_build_logs,
            json_log: settings.json_log_path.as_deref(),
        });
        for warning in warnings.iter().chain(&settings.take_warnings()) {
            logger.warn(warning);
        }
        applied?;
        if !settings.plugin_files.is_empty() {
            return Err(CliError::failed("setting 'plugin-files' is not supported: firn has no plugins"));
        }
        Ok(Self {
            program: program.to_owned(),
            settings: CurrentSettings::new(settings),
            verbosity,
            gc_warning: !low.no_gc_warning,
            logger,
            base_dir: None,
            remote_log: None,
            runtime: Arc::default(),
            store: Renewable::default(),
            fetcher: OnceCell::new(),
            eval_store: OnceCell::new(),
            http: OnceCell::new(),
            substituter: Renewable::default(),
        })
    }

    /// The surroundings of one connection of a daemon, under the settings of its client.
    pub fn for_connection(program: &str, settings: Settings, logger: Arc<dyn Logger>) -> Self {
        Self {
            program: program.to_owned(),
            verbosity: logger.verbosity(),
            settings: CurrentSettings::new(settings),
            gc_warning: false,
            logger,
            base_dir: None,
            remote_log: None,
            runtime: Arc::default(),
            store: Renewable::default(),
            fetcher: OnceCell::new(),
            eval_store: OnceCell::new(),
            http: OnceCell::new(),
            substituter: Renewable::default(),
        }
    }

    /// Fails unless `feature` is on.
    pub fn require(&self, feature: ExperimentalFeature) -> CliResult<()> {
        match self.settings.has_feature(feature) {
            true => Ok(()),
            false => Err(CliError::failed(feature.disabled_message())),
        }
    }

    /// The runtime for what is asynchronous, started at first use.
    pub fn runtime(&self) -> CliResult<&tokio::runtime::Runtime> {
        self.runtime.get().map_err(|error| CliError::failed(format!("starting threads: {error}")))
    }

    /// The same for others that work with our stores: connections live on the runtime that made them.
    pub fn shared_runtime(&self) -> Arc<LazyRuntime> {
        Arc::clone(&self.runtime)
    }

    /// Runs a future to its end.
    pub fn block_on<F: Future>(&self, future: F) -> CliResult<F::Output> {
        Ok(self.runtime()?.block_on(future))
    }

    /// The store that the settings name, opened at first use.
    pub fn store(&self) -> CliResult<Arc<dyn Store>> {
        Ok(Arc::clone(&self.opened()?.store))
    }

    /// Takes the store `uri` for derivations and sources.
    pub fn use_eval_store(&self, uri: Option<&str>) -> CliResult<()> {
        let Some(uri) = uri else { return Ok(()) };
        if self.eval_store.get().is_none() {
            let store = stores::open(uri, self)?.store;
            // The address of a store does not tell it from others: chroot stores are all called `local`.
            let same = match (store.as_local_fs(), self.store()?.as_local_fs()) {
                (Some(a), Some(b)) => {
                    a.state_dir() == b.state_dir() && a.real_store_dir() == b.real_store_dir()
                }
                _ => uri == self.settings.store,
            };
            let _ = self.eval_store.set((!same).then_some(store));
        }
        Ok(())
    }

    /// The store of derivations and sources, if it is one of its own.
    pub fn separate_eval_store(&self) -> Option<&Arc<dyn Store>> {
        self.eval_store.get()?.as_ref()
    }

    /// The store that evaluation works on, and that has the derivations that it makes.
    pub fn eval_store(&self) -> CliResult<Arc<dyn Store>> {
        match self.separate_eval_store() {
            Some(store) => Ok(Arc::clone(store)),
            None => self.store(),
        }
    }

    /// Asks for many paths at once where asking for each takes a message to somebody else and back.
    pub fn prefetch<'a>(
        &self,
        store: &dyn Store,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> CliResult<()> {
        if self.local_store().is_err() {
            let paths = paths.into_iter().cloned().collect();
            self.block_on(store.query_path_infos(&paths))??;
        }
        Ok(())
    }

    /// The same as a store that this process works on itself, for what only that can do.
    pub fn local_store(&self) -> CliResult<firn_store_local::LocalStore> {
        let refusal = || CliError::failed("you don't have sufficient rights to use this command");
        self.opened()?.local.clone().ok_or_else(refusal)
    }

    /// The client for all that is downloaded and uploaded.
    pub fn http_client(&self) -> &firn_http::HttpClient {
        self.http.get_or_init(|| crate::http::client(self))
    }

    /// What fetches inputs of flakes and trees into the store of evaluation.
    pub fn fetcher(&self) -> CliResult<&firn_fetch::Fetcher> {
        if let Some(fetcher) = self.fetcher.get() {
            return Ok(fetcher);
        }
        let fetcher = fetching::fetcher(self, self.eval_store()?)?;
        Ok(self.fetcher.get_or_init(|| fetcher))
    }

    /// What is known of URLs is asked for again, as with `--refresh`.
    pub fn believe_nothing_old(&self) {
        let mut new = Settings::clone(&self.settings);
        new.tarball_ttl = 0;
        self.settings.replace(new);
    }

    /// Takes settings that a flake has, for all that is begun from now on.
    pub fn apply_flake_settings(&self, settings: &[(String, Vec<u8>)]) {
        let mut new = Settings::clone(&self.settings);
        for (name, value) in settings {
            if let Err(error) = new.set(name, value) {
                self.logger.warn(&error.to_string());
            }
        }
        for warning in new.take_warnings() {
            self.logger.warn(&warning);
        }
        self.settings.replace(new);
        self.substituter.renew();
        // A daemon is told the settings when the connection begins.
        if self.store.get().is_some_and(|opened| opened.local.is_none()) {
            self.store.renew();
        }
    }

    /// What substitutes into the store; nothing where that is turned off.
    pub fn substituter(&self) -> CliResult<Option<Arc<dyn Substituter>>> {
        if let Some(known) = self.substituter.get() {
            return Ok(known.clone());
        }
        let opened = crate::substituters::open(self, self.opened()?)?;
        Ok(self.substituter.get_or_init(|| opened).clone())
    }

    /// Those of many paths that substituters have which do not mind to be asked, by the store's own answer or ours.
    pub fn substitutable(&self, paths: &BTreeSet<StorePath>) -> CliResult<BTreeSet<StorePath>> {
        let opened = self.opened()?;
        if opened.build.is_some() {
            return Ok(self.block_on(opened.store.query_substitutable(paths))??.into_keys().collect());
        }
        match self.substituter()? {
            Some(substituter) => Ok(self.block_on(substituter.query_available(paths))??),
            None => Ok(BTreeSet::new()),
        }
    }

    /// What builds and fetches into the store.
    pub fn build_store(&self) -> CliResult<Arc<dyn firn_store::BuildStore>> {
        builds::build_store(self.opened()?, self.separate_eval_store(), self.substituter()?, self)
    }

    /// How evaluation gets a store that builds.
    pub fn make_builder(&self) -> CliResult<firn_host::MakeBuilder> {
        let opened = self.opened()?.clone();
        let (settings, logger) = (self.settings.shared(), Arc::clone(&self.logger));
        let eval_store = self.separate_eval_store().cloned();
        if let Some(build) = builds::own_build(&opened, self.separate_eval_store(), &self.logger) {
            return Ok(Box::new(move || Ok(Arc::clone(&build))));
        }
        let substituter = self.substituter()?;
        Ok(Box::new(move || {
            let substituter = substituter.clone();
            match builds::scheduler(&opened, eval_store.as_ref(), substituter, &settings, &logger) {
                Ok(scheduler) => Ok(Arc::new(scheduler) as Arc<dyn firn_store::BuildStore>),
                Err(error) => Err(error.to_string()),
            }
        }))
    }

    /// The same with what it can do besides.
    pub fn opened(&self) -> CliResult<&stores::Opened> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = stores::open(&self.settings.store, self)?;
        Ok(self.store.get_or_init(|| store))
    }

    /// Writes to the standard output, with the progress line out of the way. A reader that went away is the
    /// error that the reference gives too.
    pub fn print(&self, bytes: &[u8]) -> CliResult<()> {
        self.logger.pause();
        let mut out = std::io::stdout().lock();
        let result = out.write_all(bytes).and_then(|()| out.flush());
        self.logger.resume();
        result.map_err(|error| {
            let reason = crate::error::os_message(&error);
            CliError::failed(format!("write of {} bytes: {reason}", bytes.len()))
        })
    }

    /// Writes a line to the standard output.
    pub fn print_line(&self, line: impl AsRef<[u8]>) -> CliResult<()> {
        let mut line = line.as_ref().to_vec();
        line.push(b'\n');
        self.print(&line)
    }
}

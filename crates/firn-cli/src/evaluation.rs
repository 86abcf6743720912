//! Evaluation for commands: a machine on the context's store, expressions from the command line, and errors as
//! users see them.

use crate::args::{AutoArg, EvalArgs};
use crate::context::Context;
use crate::debugger::Prompt;
use crate::error::{CliError, CliResult, ErrorParts, os_message};
use crate::flakes;
use crate::statistics;
use crate::stores;
use firn_core::flake_ref::FlakeRef;
use firn_eval::{
    Attrs, AttrsBuilder, ErrorKind, EvalError, EvalHost, EvalSettings, FetchRequest, LintLevel, Lints,
    Origin, Place, SearchPathEntry, Sym, Value, Vm, error_steps, render_error, shown_place,
};
use firn_flake::{LockFlags, LockedFlake};
use firn_host::{
    Access, AccessHost, FunctionTrace, HostParts, Observations, ObservingHost, Profiler, StoreHost,
};
use firn_settings::{EvalProfiler, default_nix_path};
use firn_store::activity::{Logger, ReportPlace};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

fn lint_level(setting: firn_settings::Diagnose) -> LintLevel {
    match setting {
        firn_settings::Diagnose::Ignore => LintLevel::Ignore,
        firn_settings::Diagnose::Warn => LintLevel::Warn,
        firn_settings::Diagnose::Fatal => LintLevel::Fatal,
    }
}

/// An evaluator with the arguments for functions at the top.
pub struct Evaluation {
    pub vm: Vm,
    host: Arc<StoreHost>,
    logger: Arc<dyn Logger>,
    pub auto_args: Attrs,
    show_trace: bool,
    current_dir: Vec<u8>,
    /// Notes what is seen, for a result that is to be used again.
    observer: Option<Arc<ObservingHost>>,
    /// Settings of flakes that wait to be taken.
    queue: flakes::ConfigQueue,
}

/// When memory is collected: as with the reference, `GC_INITIAL_HEAP_SIZE` (bytes, or with K, M or G) is what may be
/// used before the first time, and `GC_DONT_GC` is never. `FIRN_GC_GROWTH` is by how many percent the heap may grow
/// between collections.
fn set_collector_limits() {
    let number = |name: &str| -> Option<usize> {
        let text = std::env::var(name).ok()?;
        let digits = text.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']);
        let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "K" => 10,
            "M" => 20,
            "G" => 30,
            _ => 0,
        };
        digits.parse::<usize>().ok()?.checked_mul(1 << unit)
    };
    let never = std::env::var_os("GC_DONT_GC").map(|_| usize::MAX);
    let first = never.or_else(|| number("GC_INITIAL_HEAP_SIZE"));
    firn_eval::set_collector_limits(first, number("FIRN_GC_GROWTH"));
}

impl Evaluation {
    /// A machine for `context`. With `read_only`, nothing is written to the store.
    pub fn new(context: &Context, args: &EvalArgs, read_only: bool) -> CliResult<Evaluation> {
        Self::make(context, args, read_only, false)
    }

    /// One that notes what it sees.
    pub fn observed(context: &Context, args: &EvalArgs) -> CliResult<Evaluation> {
        Self::make(context, args, false, true)
    }

    fn make(context: &Context, args: &EvalArgs, read_only: bool, observe: bool) -> CliResult<Evaluation> {
        let settings = &context.settings;
        context.use_eval_store(args.eval_store.as_deref())?;
        args.override_registry(context)?;
        let current_dir = flakes::base_dir(context)?;
        let current_dir = current_dir.as_os_str().as_bytes().to_vec();
        let arguments_dir = args.base_dir.clone().unwrap_or_else(|| current_dir.clone());
        let absolute = |target: &[u8]| -> Vec<u8> {
            if target.first() == Some(&b'/') || is_url(target) {
                target.to_vec()
            } else {
                [&current_dir[..], b"/", target].concat()
            }
        };
        let mut search_path = Vec::new();
        let pure = settings.pure_eval && !args.impure;
        let entries = args.search_path.iter().map(|e| e.as_bytes());
        // Channels come last, whatever is set, but are nothing that restricted evaluation was told of.
        let channels = match settings.restrict_eval {
            true => Vec::new(),
            false => default_nix_path(&settings.dirs),
        };
        let given = settings.nix_path.iter().chain(&channels);
        let entries = entries.chain(given.map(|p| p.as_os_str().as_bytes()));
        for entry in entries {
            let mut entry = SearchPathEntry::parse(entry);
            entry.target = absolute(&entry.target);
            search_path.push(entry);
        }
        if pure {
            search_path.clear();
        }
        let system = match settings.eval_system.is_empty() {
            true => settings.system.clone(),
            false => settings.eval_system.clone(),
        };
        let eval_settings = EvalSettings {
            system,
            search_path,
            max_call_depth: usize::try_from(settings.max_call_depth).unwrap_or(usize::MAX),
            cores: settings.eval_cores as usize,
            pure_eval: pure,
            trust_forges: settings.trust_tarballs_from_git_forges,
            restrict_eval: settings.restrict_eval,
            allowed_uris: settings.allowed_uris.clone(),
            trace_verbose: settings.trace_verbose,
            abort_on_warn: settings.abort_on_warn,
            allow_import_from_derivation: settings.allow_import_from_derivation
                && (!args.no_import_from_derivation
                    || settings.is_overridden("allow-import-from-derivation")),
            show_trace: settings.show_trace,
            watch_calls: settings.trace_function_calls
                || settings.eval_profiler != EvalProfiler::Disabled
                || statistics::counts_calls(),
            debugger: args.debugger,
            ignore_try: settings.ignore_try,
            debugger_on_trace: args.debugger && settings.debugger_on_trace,
            debugger_on_warn: args.debugger && settings.debugger_on_warn,
            lazy_time: observe,
            read_only: read_only || settings.read_only_mode,
            features: settings.experimental_features.iter().map(|f| f.to_string()).collect(),
            home: std::env::var_os("HOME").map(|h| h.as_bytes().to_vec()).unwrap_or_default(),
            lints: Lints {
                url_literals: lint_level(settings.lint_url_literals),
                short_path_literals: lint_level(settings.lint_short_path_literals),
                absolute_path_literals: lint_level(settings.lint_absolute_path_literals),
            },
        };
        let queue = flakes::new_queue();
        let parts = HostParts {
            store: context.eval_store()?,
            build_store: context.separate_eval_store().map(|_| context.store()).transpose()?,
            runtime: context.shared_runtime(),
            logger: Arc::clone(&context.logger),
            builder: context.make_builder()?,
            fetcher: context.fetcher()?.clone(),
            flakes: flakes::rules(context, &queue, pure),
            open_cache: stores::cache_opener(context)?,
            read_only: eval_settings.read_only,
            repair: args.repair,
            use_case_hack: settings.use_case_hack,
            parsed_files: settings.dirs.cache_home.clone().filter(|_| settings.parse_cache),
            trace_import_from_derivation: settings.trace_import_from_derivation,
        };
        let host = Arc::new(StoreHost::new(parts));
        let dyn_host: Arc<dyn EvalHost> = match pure || settings.restrict_eval {
            true => Arc::new(access_control(host.clone(), &eval_settings)?),
            false => host.clone(),
        };
        let (dyn_host, observer) = match observe {
            true => {
                let observer = Arc::new(ObservingHost::new(dyn_host, settings.tarball_ttl));
                (Arc::clone(&observer) as Arc<dyn EvalHost>, Some(observer))
            }
            false => (dyn_host, None),
        };
        set_collector_limits();
        let mut vm = Vm::new(dyn_host, eval_settings);
        watch(context, &mut vm)?;
        let mut evaluation = Evaluation {
            vm,
            host,
            logger: Arc::clone(&context.logger),
            auto_args: Attrs::empty(),
            show_trace: settings.show_trace,
            current_dir,
            observer,
            queue,
        };
        evaluation.auto_args = evaluation.auto_args(args, &arguments_dir)?;
        if args.debugger {
            let host = Arc::clone(&evaluation.host);
            let prompt = Prompt::new(context, host, evaluation.auto_args, evaluation.current_dir.clone());
            evaluation.vm.attach_debugger(Box::new(prompt));
        }
        Ok(evaluation)
    }

    fn auto_args(&mut self, args: &EvalArgs, dir: &[u8]) -> CliResult<Attrs> {
        let mut out = AttrsBuilder::new();
        // Of several under one name the last counts, and the builder keeps the first.
        for (name, arg) in args.auto_args.iter().rev() {
            let value = match arg {
                AutoArg::Expr(text) => self.expression_in(text.as_bytes(), dir)?,
                AutoArg::Text(text) => Value::str(text.as_bytes()),
                AutoArg::File(path) => {
                    let text = std::fs::read(path).map_err(CliError::io("reading", path.clone()))?;
                    Value::str(&text)
                }
                AutoArg::Stdin => Value::str(&read_stdin()?),
            };
            out.push(Sym::new(name.as_bytes()), value);
        }
        let args = out.finish_attrs();
        args.value().keep();
        Ok(args)
    }

    /// Fetches a flake and brings its lock file up to date. Its settings are taken, if `flags` say so.
    pub fn lock(
        &mut self,
        context: &Context,
        reference: &FlakeRef,
        flags: &LockFlags,
    ) -> CliResult<LockedFlake> {
        flakes::require(context)?;
        let locked = self.host.lock(reference, flags);
        let settings = self.queue.lock().map(|mut queue| std::mem::take(&mut *queue)).unwrap_or_default();
        if !settings.is_empty() {
            context.apply_flake_settings(&settings);
        }
        locked.map_err(|error| self.fail(error))
    }

    /// What a flake says of itself.
    pub fn flake(&mut self, reference: &FlakeRef) -> CliResult<firn_flake::Flake> {
        self.host.flake(reference).map_err(|error| self.fail(error))
    }

    /// The value of a flake: its outputs and what is known of it.
    pub fn call_flake(&mut self, locked: &LockedFlake) -> CliResult<Value> {
        let sources = firn_host::sources(self.host.store_dir(), locked)
            .map_err(|error| CliError::failed(error.message))?;
        self.run(|vm| vm.call_flake(&sources))
    }

    /// An evaluation error as the command's error.
    pub fn fail(&self, error: EvalError) -> CliError {
        let status = match error.kind() {
            ErrorKind::Host { exit } => exit,
            ErrorKind::Quit => return CliError::Exit(0),
            _ => 1,
        };
        let usage = error.kind() == ErrorKind::Usage;
        let host = &**self.vm.host();
        let place = |place: Option<Place>| {
            let shown =
                |place: Place| ReportPlace { file: place.display(), line: place.line, column: place.column };
            place.map(shown)
        };
        let steps = if self.show_trace { error_steps(&error, host) } else { Vec::new() };
        let parts = ErrorParts {
            message: error.message_bytes().to_vec(),
            place: place(shown_place(error.pos(), host)),
            trace: steps.into_iter().map(|(text, at)| (text, place(at))).collect(),
        };
        let text = render_error(&error, host, self.show_trace);
        let catchable = error.is_catchable();
        CliError::Rendered { usage, text, status, catchable, parts: Box::new(parts) }
    }

    /// Runs something on the machine.
    pub fn run<T>(&mut self, f: impl FnOnce(&mut Vm) -> Result<T, EvalError>) -> CliResult<T> {
        f(&mut self.vm).map_err(|e| self.fail(e))
    }

    /// The value of an expression of the command line, relative to the current directory.
    pub fn expression(&mut self, text: &[u8]) -> CliResult<Value> {
        let dir = self.current_dir.clone();
        self.run(|vm| vm.eval_text(text, Origin::String, &dir))
    }

    /// The same, relative to the folder `dir`.
    pub fn expression_in(&mut self, text: &[u8], dir: &[u8]) -> CliResult<Value> {
        let dir = dir.to_vec();
        self.run(|vm| vm.eval_text(text, Origin::String, &dir))
    }

    /// The arguments for functions with one more.
    pub fn auto_args_with(&self, name: &'static str, value: Value) -> Attrs {
        let mut args = AttrsBuilder::from_attrs(self.auto_args);
        if self.auto_args.find(Sym::from_static(name)).is_none() {
            args.push(Sym::from_static(name), value);
        }
        let args = args.finish_attrs();
        args.value().keep();
        args
    }

    /// The value of the expression on the standard input.
    pub fn stdin(&mut self) -> CliResult<Value> {
        let (text, dir) = (read_stdin()?, self.current_dir.clone());
        self.run(|vm| vm.eval_text(&text, Origin::Stdin, &dir))
    }

    /// What a file argument means: `<name>` is looked up, anything else is relative to the current directory.
    pub fn file_argument(&mut self, arg: &Path) -> CliResult<Vec<u8>> {
        let bytes = arg.as_os_str().as_bytes();
        if let Some(name) = bytes.strip_prefix(b"<").and_then(|b| b.strip_suffix(b">")) {
            let name = name.to_vec();
            return self.run(|vm| vm.find_file(&name));
        }
        if is_url(bytes) {
            return self.download(arg);
        }
        Ok(if bytes.first() == Some(&b'/') {
            bytes.to_vec()
        } else {
            [&self.current_dir[..], b"/", bytes].concat()
        })
    }

    /// The folder that an archive at a URL unpacks to.
    fn download(&mut self, url: &Path) -> CliResult<Vec<u8>> {
        let url = url.to_string_lossy();
        let url = match url.strip_prefix("channel:") {
            Some(channel) => format!("https://channels.nixos.org/{channel}/nixexprs.tar.xz"),
            None => url.into_owned(),
        };
        let request = FetchRequest { url, name: "source".into(), unpack: true, expected: None };
        let path = self.host().fetch(&request).map_err(|e| CliError::failed(e.message))?;
        Ok(self.host.store_dir().display(&path).into_bytes())
    }

    /// The value of a file argument, as that of a file that is imported.
    pub fn file(&mut self, arg: &Path) -> CliResult<Value> {
        let path = self.file_argument(arg)?;
        self.run(|vm| vm.eval_file(&firn_eval::canonical_path(&path)))
    }

    /// The same for the older programs, which do not tell that they evaluate it.
    pub fn main_file(&mut self, arg: &Path) -> CliResult<Value> {
        let path = self.file_argument(arg)?;
        self.run(|vm| vm.eval_main_file(&firn_eval::canonical_path(&path)))
    }

    /// Waits until all derivations that evaluation made are in the store.
    pub fn flush(&self) -> CliResult<()> {
        // This may be the last that is heard of this process.
        self.host.keep_parsed();
        self.host.flush().map_err(CliError::Store)
    }

    /// The evaluator's door to the world.
    pub fn host(&self) -> &dyn EvalHost {
        &**self.vm.host()
    }

    /// What an observed machine saw so far; nothing if its result cannot be used again.
    pub fn observations(&self) -> Option<Observations> {
        self.observer.as_ref()?.observations()
    }

    /// What a path is matters for the result, besides what evaluation looks at by itself.
    pub fn look_at(&self, path: &Path) {
        if let Some(observer) = &self.observer {
            // An error is on record too.
            let _ = observer.file_kind(path.as_os_str().as_bytes());
        }
    }

    /// The result is not to be used again.
    pub fn spoil(&self) {
        if let Some(observer) = &self.observer {
            observer.spoil();
        }
    }

    pub fn current_dir(&self) -> &[u8] {
        &self.current_dir
    }
}

/// The host of pure and restricted evaluation.
fn access_control(host: Arc<StoreHost>, settings: &EvalSettings) -> CliResult<AccessHost> {
    let mut uris = settings.allowed_uris.clone();
    let mut paths = Vec::new();
    for entry in &settings.search_path {
        match is_url(&entry.target) {
            true => uris.push(String::from_utf8_lossy(&entry.target).into_owned()),
            false => paths.push(entry.target.clone()),
        }
    }
    let uris = settings.restrict_eval.then_some(uris);
    AccessHost::new(host, Access { paths, uris, pure: settings.pure_eval })
        .map_err(|error| CliError::failed(error.message))
}

impl Drop for Evaluation {
    fn drop(&mut self) {
        self.host.keep_parsed();
        if let Err(error) = statistics::show(&self.vm) {
            self.logger.warn(&format!("writing the statistics of evaluation: {}", os_message(&error)));
        }
    }
}

/// Profilers, as far as they are on.
fn watch(context: &Context, vm: &mut Vm) -> CliResult<()> {
    let settings = &context.settings;
    let logger = Arc::clone(&context.logger);
    if settings.trace_function_calls {
        let host = Arc::clone(vm.host());
        vm.watch_calls(Box::new(FunctionTrace { host, logger: Arc::clone(&logger) }));
    }
    if settings.eval_profiler == EvalProfiler::Flamegraph {
        let path = &settings.eval_profile_file.0;
        let file = std::fs::File::create(path).map_err(CliError::io("opening file", path))?;
        let out = Box::new(std::io::BufWriter::new(file));
        let host = Arc::clone(vm.host());
        vm.watch_calls(Box::new(Profiler::new(host, out, settings.eval_profiler_frequency)));
    }
    if statistics::counts_calls() {
        vm.count_calls();
    }
    Ok(())
}

fn is_url(text: &[u8]) -> bool {
    text.starts_with(b"channel:")
        || text.starts_with(b"flake:")
        || memchr::memmem::find(text, b"://").is_some()
}

/// The whole standard input.
pub fn read_stdin() -> CliResult<Vec<u8>> {
    let mut text = Vec::new();
    std::io::stdin().lock().read_to_end(&mut text).map_err(CliError::io("reading", "standard input"))?;
    Ok(text)
}

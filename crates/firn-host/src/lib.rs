//! The evaluator's host on stores: files, copying to the store, writing derivations, import from derivation.
//!
//! Invariant: no concrete store and no builtin logic. This is the only bridge between the evaluator, which is
//! synchronous, and stores, which are not. Nothing is opened or started before it is needed.

mod access;
mod fetch;
mod files;
mod flake;
mod observe;
mod parsed;
mod runtime;
mod stamps;
mod watch;
mod writer;

pub use access::{Access, AccessHost};
pub use flake::{ApplyConfig, FlakeRules, sources};
pub use observe::{Observations, ObservingHost};
pub use runtime::LazyRuntime;
pub use watch::{FunctionTrace, Profiler};

use files::Files;
use firn_core::flake_ref::{Attrs as InputAttrs, FlakeRef, Input};
use firn_core::raw_text;
use firn_core::store_path::{References, StoreDir};
use firn_core::{DerivedPath, Hash, HashAlgo, OutputsSpec, StorePath};
use firn_derivation::{Derivation, DownstreamPlaceholder};
use firn_eval::{
    ClosureRequest, ContextElem, CopySource, ErrorKind, EvalError, EvalHost, FetchRequest, FileKind,
    FileStamp, FlakeSources, HostError, HostResult, ParsedFiles,
};
use firn_fetch::Fetcher;
use firn_store::activity::{Activity, ActivityType, Logger, Report, ReportPlace, Verbosity};
use firn_store::copy::{CopyOptions, copy_paths};
use firn_store::{
    AddSource, BuildMode, BuildStore, ClosureOptions, Store, StoreError, TextToAdd, compute_fs_closure,
};
use parking_lot::Mutex;
use parsed::ParsedTrees;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use writer::Writer;

/// Makes the store that builds, when something has to be built.
pub type MakeBuilder = Box<dyn Fn() -> Result<Arc<dyn BuildStore>, String> + Send + Sync>;

/// Opens a binary cache by its scheme and the rest of its URI.
pub type OpenCache = Box<dyn Fn(&str, &str) -> Result<Arc<dyn Store>, String> + Send + Sync>;

/// What a [`StoreHost`] works with.
pub struct HostParts {
    pub store: Arc<dyn Store>,
    /// Where builds happen, if that is not `store`: what they make is copied from there.
    pub build_store: Option<Arc<dyn Store>>,
    pub runtime: Arc<LazyRuntime>,
    pub logger: Arc<dyn Logger>,
    pub builder: MakeBuilder,
    /// Fetches into `store`.
    pub fetcher: Fetcher,
    /// Opens binary caches for `builtins.fetchClosure`.
    pub open_cache: OpenCache,
    /// Nothing is written: paths are only computed.
    pub read_only: bool,
    /// What is in the store already and damaged is written again.
    pub repair: bool,
    pub use_case_hack: bool,
    pub flakes: FlakeRules,
    /// The user's cache folder, where trees of parsed files are kept in it.
    pub parsed_files: Option<PathBuf>,
    /// `allow-import-from-derivation`'s partner: say what is built during evaluation.
    pub trace_import_from_derivation: bool,
}

/// [`EvalHost`] on a store.
pub struct StoreHost {
    parts: HostParts,
    files: Files,
    writer: Writer,
    parsed: Option<ParsedTrees>,
    /// What trees in the store are copies of.
    origins: Mutex<BTreeMap<StorePath, flake::Origin>>,
}

fn host_error(error: StoreError) -> HostError {
    let exit = match &error {
        StoreError::Build { status, .. } => u8::try_from(*status).unwrap_or(1),
        _ => 1,
    };
    HostError { exit, ..HostError::new(raw_text::readable(&error.to_string())) }
}

fn eval_error(error: HostError) -> EvalError {
    EvalError::new(ErrorKind::Host { exit: error.exit }, error.message)
}

impl StoreHost {
    pub fn new(parts: HostParts) -> StoreHost {
        let real_dir = parts.store.as_local_fs().map(|fs| fs.real_store_dir().to_owned());
        let files = Files::new(parts.store.store_dir().clone(), real_dir);
        let writer = Writer::new(parts.store.clone(), parts.runtime.clone(), parts.repair);
        let parsed = parts.parsed_files.as_deref().map(ParsedTrees::new);
        StoreHost { parts, files, writer, parsed, origins: Mutex::default() }
    }

    /// Waits until every derivation is in the store.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.writer.flush()
    }

    /// Keeps the trees of files that were parsed, for other processes and later ones.
    pub fn keep_parsed(&self) {
        if let Some(parsed) = &self.parsed {
            parsed.finish();
        }
    }

    /// Tells that a path goes to the store, or that its place there is computed.
    fn copying(&self, path: &[u8]) -> Activity {
        let shown = self.shown_path(path);
        let shown = String::from_utf8_lossy(shown.as_deref().unwrap_or(path));
        let text = match self.parts.read_only {
            true => format!("hashing '{shown}'"),
            false => format!("copying '{shown}' to the store"),
        };
        Activity::start(&self.parts.logger, Verbosity::Chatty, ActivityType::Unknown, &text, &[], 0)
    }

    fn block_on<F: Future>(&self, future: F) -> HostResult<F::Output> {
        self.parts.runtime.block_on(future).map_err(|e| HostError::new(format!("starting threads: {e}")))
    }

    fn flushed(&self) -> HostResult<()> {
        self.writer.flush().map_err(host_error)
    }

    /// Asks the filter about every file below a path, and returns those that stay, by where they really are.
    fn select(
        &self,
        root: &[u8],
        filter: &mut dyn FnMut(&[u8], FileKind) -> Result<bool, EvalError>,
    ) -> Result<HashSet<PathBuf>, EvalError> {
        let mut keep = HashSet::new();
        let mut pending = vec![root.to_vec()];
        while let Some(dir) = pending.pop() {
            match self.files.kind(&dir).map_err(eval_error)? {
                Some(FileKind::Directory) => {}
                _ => continue,
            }
            for (name, kind) in self.files.list(&dir).map_err(eval_error)? {
                let path = [&dir[..], b"/", &name].concat();
                if filter(&path, kind)? {
                    keep.insert(self.files.real(&path));
                    if kind == FileKind::Directory {
                        pending.push(path);
                    }
                }
            }
        }
        Ok(keep)
    }

    /// Copies what was built, with all that it refers to, to the store of evaluation.
    fn fetch_built(&self, paths: BTreeSet<StorePath>) -> HostResult<()> {
        let Some(from) = &self.parts.build_store else { return Ok(()) };
        let copy = async {
            let closure = compute_fs_closure(&**from, &paths, ClosureOptions::default()).await?;
            let options = CopyOptions::CHECKED;
            copy_paths(&**from, &*self.parts.store, &closure, options, &self.parts.logger).await
        };
        self.block_on(copy)?.map_err(host_error).map(drop)
    }

    fn invalid(&self, path: &StorePath) -> HostError {
        HostError::new(format!("path '{}' is not valid", path.base_name()))
    }
}

impl EvalHost for StoreHost {
    fn file_stamp(&self, path: &[u8]) -> Option<FileStamp> {
        self.files.stamp(path)
    }

    fn parsed_files(&self) -> Option<&dyn ParsedFiles> {
        self.parsed.as_ref().map(|parsed| parsed as &dyn ParsedFiles)
    }

    fn store_dir(&self) -> &StoreDir {
        self.parts.store.store_dir()
    }

    fn read_regular_file(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.files.read_regular(path)
    }

    fn read_file(&self, path: &[u8]) -> HostResult<Vec<u8>> {
        self.files.read(path).map_err(|error| match error.not_found {
            true => self.missing_in_tree(path).unwrap_or(error),
            false => error,
        })
    }

    fn check_access(&self, path: &[u8]) -> HostResult<()> {
        // Asked only for what is not there.
        self.missing_in_tree(path).map_or(Ok(()), Err)
    }

    fn shown_path(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.origin_of(path).map(|(origin, below)| origin.path(&below))
    }

    fn file_kind(&self, path: &[u8]) -> HostResult<Option<FileKind>> {
        self.files.kind(path)
    }

    fn read_dir(&self, path: &[u8]) -> HostResult<BTreeMap<Vec<u8>, FileKind>> {
        self.files.list(path).map_err(|error| match error.not_found {
            true => self.missing_in_tree(path).unwrap_or(error),
            false => error,
        })
    }

    fn read_link(&self, path: &[u8]) -> HostResult<Vec<u8>> {
        self.files.link(path)
    }

    fn env_var(&self, name: &[u8]) -> Option<Vec<u8>> {
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
            return None;
        }
        std::env::var_os(OsStr::from_bytes(name)).map(|v| v.as_bytes().to_vec())
    }

    fn current_time(&self) -> i64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
    }

    fn copy_to_store(&self, source: CopySource<'_>) -> Result<StorePath, EvalError> {
        let dir = self.store_dir();
        let real = self.files.real(source.path);
        if let Some(hash) = source.expected {
            let ca = firn_core::ContentAddress { method: source.method, hash };
            let references = References { others: source.references.clone(), self_reference: false };
            let path = dir
                .make_fixed_output_path(&ca, source.name, &references)
                .map_err(|e| EvalError::new(ErrorKind::Eval, e.to_string()))?;
            if !self.parts.repair && self.is_valid(&path).map_err(eval_error)? {
                return Ok(path);
            }
        }
        if self.files.kind(source.path).map_err(eval_error)?.is_none() {
            self.check_access(source.path).map_err(eval_error)?;
            let shown = String::from_utf8_lossy(source.path).into_owned();
            return Err(EvalError::new(
                ErrorKind::Host { exit: 1 },
                format!("path '{shown}' does not exist"),
            ));
        }
        let _activity = self.copying(source.path);
        let keep = match source.filter {
            Some(filter) => Some(Arc::new(self.select(source.path, filter)?)),
            None => None,
        };
        let added = if self.parts.read_only {
            let undo = self.parts.use_case_hack;
            let keep = keep.as_deref();
            firn_store::source::path_of_source(
                dir,
                source.name,
                &real,
                source.method,
                source.algo,
                keep,
                undo,
            )
            .map(|(path, _)| path)
        } else {
            let from = match keep {
                Some(keep) => AddSource::Selected { path: &real, keep },
                None => AddSource::Path(&real),
            };
            let add = self.parts.store.add_to_store(
                source.name,
                from,
                source.method,
                source.algo,
                &source.references,
                self.parts.repair,
            );
            self.block_on(add).map_err(eval_error)?.map(|info| info.path)
        };
        let added = added.map_err(|e| eval_error(host_error(e)))?;
        if let Some(hash) = source.expected {
            let ca = firn_core::ContentAddress { method: source.method, hash };
            let references = References { others: source.references.clone(), self_reference: false };
            let wanted = dir.make_fixed_output_path(&ca, source.name, &references);
            if wanted.as_ref() != Ok(&added) {
                return Err(EvalError::new(
                    ErrorKind::Eval,
                    format!(
                        "store path mismatch in (possibly filtered) path added from '{}'",
                        String::from_utf8_lossy(source.path)
                    ),
                ));
            }
        }
        self.files.forget();
        Ok(added)
    }

    fn add_text(
        &self,
        name: &str,
        contents: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> HostResult<StorePath> {
        let hash = Hash::of(HashAlgo::Sha256, contents);
        let path = self
            .store_dir()
            .make_text_path(name, &hash, references)
            .map_err(|e| HostError::new(e.to_string()))?;
        if !self.parts.read_only {
            let (path, contents, references) = (path.clone(), contents.to_vec(), references.clone());
            self.writer.push(TextToAdd { path, hash, contents, references }).map_err(host_error)?;
        }
        Ok(path)
    }

    fn write_derivation(
        &self,
        path: &StorePath,
        aterm: Vec<u8>,
        aterm_hash: Hash,
        references: BTreeSet<StorePath>,
    ) -> HostResult<()> {
        let text = TextToAdd { path: path.clone(), hash: aterm_hash, contents: aterm, references };
        self.writer.push(text).map_err(host_error)
    }

    fn read_derivation(&self, path: &StorePath) -> HostResult<Derivation> {
        self.flushed()?;
        self.block_on(self.parts.store.read_derivation(path))?.map_err(host_error)
    }

    fn closure(&self, path: &StorePath) -> HostResult<BTreeSet<StorePath>> {
        self.flushed()?;
        let roots = BTreeSet::from([path.clone()]);
        let closure = compute_fs_closure(&*self.parts.store, &roots, ClosureOptions::default());
        self.block_on(closure)?.map_err(host_error)
    }

    fn references(&self, path: &StorePath) -> HostResult<BTreeSet<StorePath>> {
        self.flushed()?;
        let info = self.block_on(self.parts.store.query_path_info(path))?.map_err(host_error)?;
        Ok(info.map(|i| i.references.clone()).unwrap_or_default())
    }

    fn ensure_path(&self, path: &StorePath) -> HostResult<()> {
        if self.is_valid(path)? {
            return Ok(());
        }
        let builder = (self.parts.builder)().map_err(HostError::new)?;
        self.block_on(builder.ensure_path(path))?.map_err(host_error)?;
        self.fetch_built([path.clone()].into())
    }

    fn is_valid(&self, path: &StorePath) -> HostResult<bool> {
        self.flushed()?;
        self.block_on(self.parts.store.is_valid_path(path))?.map_err(host_error)
    }

    fn realise(&self, context: &[ContextElem]) -> HostResult<Vec<(String, String)>> {
        let mut wanted: Vec<DerivedPath> = Vec::new();
        for elem in context {
            match elem {
                ContextElem::Opaque(path) | ContextElem::DrvDeep(path) => {
                    if !self.is_valid(path)? {
                        return Err(self.invalid(path));
                    }
                }
                ContextElem::Built { drv, output } => {
                    if !self.is_valid(drv.base())? {
                        return Err(self.invalid(drv.base()));
                    }
                    wanted
                        .push(DerivedPath::Built { drv: drv.clone(), outputs: OutputsSpec::single(output) });
                }
            }
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let builder = (self.parts.builder)().map_err(HostError::new)?;
        if self.parts.trace_import_from_derivation {
            let shown = wanted[0].render(self.store_dir());
            self.warn(&format!("built '{shown}' during evaluation due to an import from derivation"));
        }
        let results = self.block_on(builder.realise(&wanted, BuildMode::Normal))?.map_err(host_error)?;
        let built = results.iter().flat_map(|result| result.outputs.values().cloned()).collect();
        self.fetch_built(built)?;
        let mut rewrites = Vec::new();
        for (request, result) in wanted.iter().zip(&results) {
            let DerivedPath::Built { drv, .. } = request else { continue };
            for (output, path) in &result.outputs {
                let placeholder = DownstreamPlaceholder::of(drv, output).render();
                rewrites.push((placeholder, self.store_dir().display(path)));
            }
        }
        self.files.forget();
        Ok(rewrites)
    }

    fn fetch(&self, request: &FetchRequest) -> HostResult<StorePath> {
        self.fetch_url(request)
    }

    fn fetch_tree(&self, input: &Input) -> HostResult<(StorePath, InputAttrs)> {
        self.fetch_input(input)
    }

    fn look_up_input(&self, input: &Input) -> HostResult<Input> {
        let found = self.block_on(self.parts.fetcher.look_up(input, true))?;
        found.map(|(input, _)| input).map_err(fetch::fetch_error)
    }

    fn fetch_locked(&self, input: &Input) -> HostResult<(StorePath, InputAttrs)> {
        self.fetch_locked_input(input)
    }

    fn lock_flake(&self, reference: &FlakeRef, pure: bool) -> Result<FlakeSources, EvalError> {
        self.sources_of(reference, pure)
    }

    fn fetch_closure(&self, request: &ClosureRequest) -> HostResult<StorePath> {
        self.closure_from_cache(request)
    }

    fn warn(&self, message: &str) {
        self.parts.logger.warn(message);
    }

    fn warn_from_expression(&self, message: &[u8]) {
        let shown = message.trim_ascii_end();
        if shown.is_empty() {
            self.parts.logger.log(Verbosity::Warn, b"");
            return;
        }
        // Further lines stand below the first, and none ends in spaces.
        let mut text = b"\x1b[35;1mevaluation warning:\x1b[0m".to_vec();
        for (index, line) in shown.split(|c| *c == b'\n').enumerate() {
            let line = line.trim_ascii_end();
            if index > 0 {
                text.push(b'\n');
            }
            if !line.is_empty() {
                let indent = if index > 0 { "evaluation warning: ".len() } else { 1 };
                text.extend(std::iter::repeat_n(b' ', indent));
                text.extend_from_slice(line);
            }
        }
        self.parts.logger.report(&Report {
            level: Verbosity::Warn,
            text: &text,
            message,
            // Warnings do not say where.
            place: Some(ReportPlace { file: "«none»:0".to_owned(), line: 0, column: 0 }),
            trace: &[],
        });
    }

    fn tells_of_files(&self) -> bool {
        self.parts.logger.verbosity() >= Verbosity::Talkative
    }

    fn evaluating_file(&self, path: &[u8]) {
        let shown = self.shown_path(path);
        let text = [b"evaluating file '", shown.as_deref().unwrap_or(path), b"'"].concat();
        self.parts.logger.log(Verbosity::Talkative, &text);
    }

    fn copied_path(&self, path: &[u8], copy: &StorePath) {
        if self.parts.logger.verbosity() < Verbosity::Chatty {
            return;
        }
        let shown = self.shown_path(path);
        let copy = self.store_dir().display(copy).to_string();
        let text = [b"copied source '", shown.as_deref().unwrap_or(path), b"' -> '", copy.as_bytes(), b"'"];
        self.parts.logger.log(Verbosity::Chatty, &text.concat());
    }

    fn instantiated(&self, path: &StorePath) {
        if self.parts.logger.verbosity() >= Verbosity::Chatty {
            let name = path.name().strip_suffix(".drv").unwrap_or(path.name());
            let text = format!("instantiated '{name}' -> '{}'", self.store_dir().display(path));
            self.parts.logger.log(Verbosity::Chatty, text.as_bytes());
        }
    }

    fn trace(&self, message: &str) {
        self.parts.logger.log(Verbosity::Error, format!("trace: {message}").as_bytes());
    }

    fn real_path(&self, path: &[u8]) -> Vec<u8> {
        self.files.real(path).into_os_string().as_encoded_bytes().to_vec()
    }
}

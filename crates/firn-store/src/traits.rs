//! The traits. Stores implement [`Store`] and those of the others that they can.

use crate::error::{StoreError, StoreResult};
use crate::supply::{NarSupply, NarToAdd};
use async_trait::async_trait;
use firn_core::store_path::NameError;
use firn_core::{
    CaMethod, ContentAddress, DerivedPath, Hash, HashAlgo, NarInfo, StoreDir, StorePath, ValidPathInfo,
};
use firn_derivation::Derivation;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes coming in, usually a NAR.
pub type NarSource<'a> = &'a mut (dyn AsyncRead + Send + Unpin);
/// Bytes going out, usually a NAR.
pub type NarSink<'a> = &'a mut (dyn AsyncWrite + Send + Unpin);

/// Whether a store trusts what this client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    Trusted,
    NotTrusted,
}

/// What [`Store::add_to_store`] adds.
pub enum AddSource<'a> {
    /// A file, symlink or directory on this machine, read as it is (no case hack unless the setting says so).
    Path(&'a Path),
    /// The same, with only those files and directories below it that are in `keep` (full paths).
    Selected { path: &'a Path, keep: Arc<HashSet<PathBuf>> },
    /// The bytes of one regular file.
    Bytes(&'a [u8]),
    /// A NAR serialisation.
    Nar(NarSource<'a>),
}

/// A text-addressed file for [`Store::add_texts`].
#[derive(Debug, Clone)]
pub struct TextToAdd {
    /// What its name, `hash` and `references` make of it.
    pub path: StorePath,
    /// SHA-256 of the contents.
    pub hash: Hash,
    pub contents: Vec<u8>,
    pub references: BTreeSet<StorePath>,
}

impl TextToAdd {
    /// Fails for names that store paths cannot have.
    pub fn new(
        dir: &StoreDir,
        name: &str,
        contents: Vec<u8>,
        references: BTreeSet<StorePath>,
    ) -> Result<TextToAdd, NameError> {
        let hash = Hash::of(HashAlgo::Sha256, &contents);
        let path = dir.make_text_path(name, &hash, &references)?;
        Ok(TextToAdd { path, hash, contents, references })
    }
}

/// What substituters know of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubstitutablePathInfo {
    pub deriver: Option<StorePath>,
    pub references: BTreeSet<StorePath>,
    /// Bytes to download; 0 where unknown.
    pub download_size: u64,
    pub nar_size: u64,
}

/// What a store is as a substituter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubstituterProperties {
    /// Smaller is asked first.
    pub priority: i64,
    /// Whether it may be asked about many paths only to know whether they are there.
    pub want_mass_query: bool,
    /// Whether its paths are taken without signatures (the parameter `trusted` of its URI).
    pub trusted: bool,
}

/// What would have to be done to make paths valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    pub will_build: BTreeSet<StorePath>,
    pub will_substitute: BTreeSet<StorePath>,
    pub unknown: BTreeSet<StorePath>,
    pub download_size: u64,
    pub nar_size: u64,
}

/// The output that a content-addressed derivation's output id (`sha256:…!out`) stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realisation {
    pub id: String,
    pub out_path: StorePath,
    pub signatures: BTreeSet<String>,
    pub dependent_realisations: BTreeMap<String, StorePath>,
}

/// A store of valid paths.
///
/// 1. `query_*` never change the store. A path that is not valid is `None` or absent, never an error.
/// 2. A path returned as valid stays valid while it is reachable from a root; a caller that needs it for longer
///    than the call adds a temporary root first and asks again.
/// 3. `add_*` are idempotent, and atomic: afterwards the path is valid with all its content, or nothing changed.
/// 4. References of a valid path are valid, itself apart.
#[async_trait]
pub trait Store: Send + Sync {
    /// The logical store directory.
    fn store_dir(&self) -> &StoreDir;

    /// The store's URI as a user would write it.
    fn uri(&self) -> String;

    /// Reaches the store, or fails; for the sake of knowing that it can be reached.
    async fn connect(&self) -> StoreResult<()> {
        Ok(())
    }

    /// The version of the program that keeps the store, where it is known.
    async fn version(&self) -> StoreResult<Option<String>> {
        Ok(None)
    }

    /// The version of the protocol that is spoken with the store: the worker protocol's (major 1) or the serve
    /// protocol's (major 2). Fails if the store cannot be reached.
    async fn protocol_version(&self) -> StoreResult<Option<(u8, u8)>> {
        Ok(None)
    }

    /// What the store is as a substituter. A store on the net is reached for this; one that cannot be is an error.
    async fn substituter_properties(&self) -> StoreResult<SubstituterProperties> {
        Ok(SubstituterProperties::default())
    }

    async fn query_path_info(&self, path: &StorePath) -> StoreResult<Option<Arc<ValidPathInfo>>>;

    /// What is known of those of `paths` that are valid. Stores far away answer many at once.
    async fn query_path_infos(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, Arc<ValidPathInfo>>> {
        let mut infos = BTreeMap::new();
        for path in paths {
            if let Some(info) = self.query_path_info(path).await? {
                infos.insert(path.clone(), info);
            }
        }
        Ok(infos)
    }

    /// As [`Store::query_path_info`], with the file that holds the archive: for binary caches.
    async fn query_nar_info(&self, path: &StorePath) -> StoreResult<Option<Arc<NarInfo>>> {
        let _ = path;
        Ok(None)
    }

    /// Whether many questions that are asked one by one at the same time are answered as soon as if they were asked
    /// together.
    fn answers_side_by_side(&self) -> bool {
        false
    }

    /// The references of those of `paths` that are valid, at least as far as these are among `paths` themselves.
    async fn query_references_among(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, BTreeSet<StorePath>>> {
        let infos = self.query_path_infos(paths).await?;
        Ok(infos.into_iter().map(|(path, info)| (path, info.references.clone())).collect())
    }

    async fn is_valid_path(&self, path: &StorePath) -> StoreResult<bool> {
        Ok(self.query_path_info(path).await?.is_some())
    }

    /// Those of `paths` that are valid.
    async fn query_valid_paths(&self, paths: &BTreeSet<StorePath>) -> StoreResult<BTreeSet<StorePath>> {
        let mut valid = BTreeSet::new();
        for path in paths {
            if self.is_valid_path(path).await? {
                valid.insert(path.clone());
            }
        }
        Ok(valid)
    }

    /// The same, after the store was asked to substitute what it lacks. Stores that cannot be asked only answer.
    async fn query_valid_paths_substituting(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeSet<StorePath>> {
        self.query_valid_paths(paths).await
    }

    async fn query_all_valid_paths(&self) -> StoreResult<BTreeSet<StorePath>>;

    /// Valid paths that refer to `path`.
    async fn query_referrers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>>;

    /// Valid derivations that have `path` as an output.
    async fn query_valid_derivers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>>;

    /// Everything that valid `paths` refer to, themselves included, and with derivations their valid outputs if
    /// `include_outputs`: `None` where the store has no quicker way than asking path by path.
    async fn query_closure(
        &self,
        paths: &BTreeSet<StorePath>,
        include_outputs: bool,
    ) -> StoreResult<Option<BTreeSet<StorePath>>> {
        let _ = (paths, include_outputs);
        Ok(None)
    }

    /// The outputs of a valid derivation; `None` where an output's path is not known (yet).
    async fn query_derivation_outputs(
        &self,
        drv: &StorePath,
    ) -> StoreResult<BTreeMap<String, Option<StorePath>>>;

    /// The valid path with that hash part.
    async fn query_path_from_hash_part(&self, hash_part: &str) -> StoreResult<Option<StorePath>>;

    /// What substituters say of `paths`; those that none knows are absent.
    async fn query_substitutable(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, SubstitutablePathInfo>> {
        let _ = paths;
        Ok(BTreeMap::new())
    }

    async fn query_realisation(&self, id: &str) -> StoreResult<Option<Realisation>>;
    /// Registers a realisation whose path is valid, if (unless `check_signatures` is off) a trusted key signed it.
    async fn register_realisation(
        &self,
        realisation: &Realisation,
        check_signatures: bool,
    ) -> StoreResult<()>;

    /// Writes the NAR of a valid path.
    async fn nar_from_path(&self, path: &StorePath, sink: NarSink<'_>) -> StoreResult<()>;

    /// Fetches the archive of a path ahead of its time. `None` where it is too large to wait in memory, or nothing is
    /// gained by that.
    async fn hold_nar(&self, _path: &StorePath) -> StoreResult<Option<Box<dyn HeldNar>>> {
        Ok(None)
    }

    /// The same, for somebody who only looks into the archive, maybe again and again; need not be read to the end.
    async fn look_into(&self, path: &StorePath, sink: NarSink<'_>) -> StoreResult<()> {
        self.nar_from_path(path, sink).await
    }

    /// Reads a NAR and makes it valid with `info`, whose hash, size and (unless `check_signatures` is off)
    /// signatures are verified. `repair` replaces the content of a valid path.
    async fn add_nar(
        &self,
        info: &ValidPathInfo,
        nar: NarSource<'_>,
        repair: bool,
        check_signatures: bool,
    ) -> StoreResult<()>;

    /// As [`Store::add_nar`] for many objects, as cheaply as the store can. After an error some of them may be valid.
    async fn add_nars(
        &self,
        supply: &mut dyn NarSupply,
        repair: bool,
        check_signatures: bool,
    ) -> StoreResult<()> {
        while let Some(NarToAdd { info, mut archive }) = supply.next().await? {
            self.add_nar(&info, &mut archive, repair, check_signatures).await?;
        }
        Ok(())
    }

    /// Whether [`Store::add_nars`] is better than adding several objects side by side.
    async fn takes_nars_together(&self) -> StoreResult<bool> {
        Ok(false)
    }

    /// Adds content-addressed content under `name`.
    async fn add_to_store(
        &self,
        name: &str,
        source: AddSource<'_>,
        method: CaMethod,
        algo: HashAlgo,
        references: &BTreeSet<StorePath>,
        repair: bool,
    ) -> StoreResult<ValidPathInfo>;

    /// Adds `text`-addressed bytes (`builtins.toFile`, derivations).
    async fn add_text(
        &self,
        name: &str,
        contents: &[u8],
        references: &BTreeSet<StorePath>,
        repair: bool,
    ) -> StoreResult<StorePath> {
        let added = self
            .add_to_store(
                name,
                AddSource::Bytes(contents),
                CaMethod::Text,
                HashAlgo::Sha256,
                references,
                repair,
            )
            .await?;
        Ok(added.path)
    }

    /// Adds files, symlinks or directories of this machine under their names, and returns what is known of them in
    /// that order.
    async fn add_paths(
        &self,
        sources: &[(&str, &Path)],
        method: CaMethod,
        algo: HashAlgo,
    ) -> StoreResult<Vec<ValidPathInfo>> {
        let mut infos = Vec::with_capacity(sources.len());
        for (name, path) in sources {
            let source = AddSource::Path(path);
            infos.push(self.add_to_store(name, source, method, algo, &BTreeSet::new(), false).await?);
        }
        Ok(infos)
    }

    /// Adds many text-addressed files, each referring to valid paths or to earlier ones, as cheaply as the store
    /// can. They come from our own evaluator: their hashes and paths are not made again, and output paths of derivations
    /// not checked.
    async fn add_texts(&self, texts: &[TextToAdd]) -> StoreResult<()> {
        for text in texts {
            self.add_text(text.path.name(), &text.contents, &text.references, false).await?;
        }
        Ok(())
    }

    /// Keeps `path` (valid or not yet) from the garbage collector while this process lives.
    async fn add_temp_root(&self, path: &StorePath) -> StoreResult<()>;

    /// Adds signatures to a valid path.
    async fn add_signatures(&self, path: &StorePath, signatures: &BTreeSet<String>) -> StoreResult<()>;

    /// Whether the store trusts this client; `None` where the store cannot tell.
    async fn is_trusted(&self) -> StoreResult<Option<Trust>> {
        Ok(None)
    }

    /// Reads and parses a valid derivation.
    async fn read_derivation(&self, path: &StorePath) -> StoreResult<Derivation>;

    /// This store as one with files on this machine, if it is one.
    fn as_local_fs(&self) -> Option<&dyn LocalFsStore> {
        None
    }
    fn as_gc(&self) -> Option<&dyn GcStore> {
        None
    }
    fn as_log(&self) -> Option<&dyn LogStore> {
        None
    }

    /// The error for an operation that this store cannot do.
    fn unsupported(&self, operation: &'static str) -> StoreError {
        StoreError::Unsupported { operation, store: self.uri() }
    }
}

/// A store whose objects are files on this machine.
pub trait LocalFsStore: Send + Sync {
    /// Where the files really are; differs from the store directory in chroot stores.
    fn real_store_dir(&self) -> &Path;
    fn state_dir(&self) -> &Path;
    fn log_dir(&self) -> &Path;

    fn real_path(&self, path: &StorePath) -> PathBuf {
        self.real_store_dir().join(path.base_name())
    }

    /// Makes the symlink `link` to a store path and registers it as a garbage-collector root. Fails where
    /// `link` exists and is not a symlink into the store.
    fn add_indirect_root(&self, path: &StorePath, link: &Path) -> StoreResult<()>;
}

/// An archive that was fetched and waits in memory.
#[async_trait]
pub trait HeldNar: Send + Sync {
    /// Writes the NAR.
    async fn pass(&self, sink: NarSink<'_>) -> StoreResult<()>;

    /// The NAR, if it is there as it is.
    fn whole(&self) -> Option<&[u8]> {
        None
    }
}

/// Build logs, keyed by derivation.
#[async_trait]
pub trait LogStore: Send + Sync {
    /// The log of the derivation (or of the deriver of an output), decompressed.
    async fn build_log(&self, path: &StorePath) -> StoreResult<Option<Vec<u8>>>;
    async fn add_build_log(&self, drv: &StorePath, log: &[u8]) -> StoreResult<()>;
}

/// What a collection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcAction {
    ReturnLive,
    ReturnDead,
    DeleteDead,
    DeleteSpecific,
}

#[derive(Debug, Clone)]
pub struct GcOptions {
    pub action: GcAction,
    pub ignore_liveness: bool,
    /// For [`GcAction::DeleteSpecific`].
    pub paths_to_delete: BTreeSet<StorePath>,
    /// Stop after this many bytes.
    pub max_freed: u64,
}

#[derive(Debug, Clone, Default)]
pub struct GcResults {
    /// Full paths, as the reference prints them.
    pub paths: BTreeSet<String>,
    pub bytes_freed: u64,
}

/// A store that can be garbage-collected.
#[async_trait]
pub trait GcStore: Send + Sync {
    /// Roots: the link (or `{lsof}`, `{temp:pid}`-like source) for each store path.
    async fn find_roots(&self, censor: bool) -> StoreResult<BTreeMap<StorePath, BTreeSet<String>>>;
    async fn collect_garbage(&self, options: &GcOptions) -> StoreResult<GcResults>;

    /// Registers `link`, a symlink that somebody else made, as a root of what it points to.
    async fn add_root_link(&self, link: &Path) -> StoreResult<()>;

    /// Links files of the same content to one.
    async fn optimise(&self) -> StoreResult<()>;

    /// Checks the store against its database, with all contents if `check_contents`; what is damaged is built or
    /// fetched again by `repair`. Whether errors remain.
    async fn verify(&self, check_contents: bool, repair: Option<Arc<dyn BuildStore>>) -> StoreResult<bool>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildMode {
    Normal,
    Repair,
    Check,
}

/// The reference's build statuses, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BuildStatus {
    Built = 0,
    Substituted = 1,
    AlreadyValid = 2,
    PermanentFailure = 3,
    InputRejected = 4,
    OutputRejected = 5,
    TransientFailure = 6,
    CachedFailure = 7,
    TimedOut = 8,
    MiscFailure = 9,
    DependencyFailed = 10,
    LogLimitExceeded = 11,
    NotDeterministic = 12,
    ResolvesToAlreadyValid = 13,
    NoSubstituters = 14,
    HashMismatch = 15,
    Cancelled = 16,
}

impl BuildStatus {
    pub fn is_success(self) -> bool {
        use BuildStatus::*;
        matches!(self, Built | Substituted | AlreadyValid | ResolvesToAlreadyValid)
    }
}

/// Processor time that a build took, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    pub user: u64,
    pub system: u64,
}

/// How a request for one derived path ended.
#[derive(Debug, Clone)]
pub struct BuildResult {
    pub path: DerivedPath,
    pub status: BuildStatus,
    /// Empty on success.
    pub error: String,
    /// Output name to path, on success of a `Built` request.
    pub outputs: BTreeMap<String, StorePath>,
    pub times_built: u32,
    /// Seconds since the epoch.
    pub start_time: i64,
    pub stop_time: i64,
    /// Where builds are counted (the setting `use-cgroups`).
    pub cpu: Option<CpuTimes>,
}

/// A store that can build.
#[async_trait]
pub trait BuildStore: Send + Sync {
    /// Builds or substitutes all of `paths`. A failed request is a result, not an error of the call.
    async fn build_paths(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>>;

    /// As `build_paths`, but a failed request is an error of the call ([`StoreError::Build`] with the exit status
    /// that it leads to). Errors of dependencies, and of all but one request, are logged.
    async fn realise(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>>;

    /// Builds a derivation that need not be in the store and whose inputs (`input_srcs`, all of them) are valid.
    /// A failed build is a result, not an error of the call.
    async fn build_derivation(
        &self,
        drv_path: &StorePath,
        drv: &Derivation,
        mode: BuildMode,
    ) -> StoreResult<BuildResult>;

    /// What `build_paths` would do.
    async fn query_missing(&self, paths: &[DerivedPath]) -> StoreResult<Missing>;

    /// The same for somebody who realises the paths next: what will be needed may be fetched meanwhile.
    async fn prepare(&self, paths: &[DerivedPath]) -> StoreResult<Missing> {
        self.query_missing(paths).await
    }

    /// Makes `path` valid by substitution or fails.
    async fn ensure_path(&self, path: &StorePath) -> StoreResult<()>;

    /// What the substituters of this store say of `paths`; those that none knows are absent.
    async fn query_substitutes(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, SubstitutablePathInfo>> {
        let _ = paths;
        Ok(BTreeMap::new())
    }

    /// Those of many `paths` that substituters have which do not mind to be asked.
    async fn query_available(&self, paths: &BTreeSet<StorePath>) -> StoreResult<BTreeSet<StorePath>> {
        let _ = paths;
        Ok(BTreeSet::new())
    }
}

/// A content address together with what it refers to; names what [`Store::add_to_store`] made.
pub type AddedContent = (StorePath, ContentAddress);

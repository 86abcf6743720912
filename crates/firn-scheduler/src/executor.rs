//! What carries out one build.

use crate::slots::{Place, Slots};
use async_trait::async_trait;
use firn_core::{ContentAddress, StorePath};
use firn_derivation::Derivation;
use firn_store::{BuildMode, BuildStatus, CpuTimes, Realisation, StoreResult, SubstitutablePathInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

/// A derivation whose inputs are all valid.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    pub drv_path: StorePath,
    /// Resolved: nothing in it waits for another build.
    pub drv: Arc<Derivation>,
    /// The closure of everything that the build may see.
    pub input_paths: BTreeSet<StorePath>,
    pub mode: BuildMode,
}

/// How a build succeeded.
#[derive(Debug, Clone)]
pub struct BuildSuccess {
    /// `Built`, or `AlreadyValid` where somebody else was faster.
    pub status: BuildStatus,
    /// All outputs of the derivation.
    pub outputs: BTreeMap<String, StorePath>,
    /// Seconds since the epoch.
    pub start_time: i64,
    pub stop_time: i64,
    pub cpu: Option<CpuTimes>,
}

/// How a build failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFailure {
    pub status: BuildStatus,
    /// The whole message, without `error:`; may hold colours.
    pub message: String,
}

impl BuildFailure {
    pub fn new(status: BuildStatus, message: impl Into<String>) -> BuildFailure {
        BuildFailure { status, message: message.into() }
    }

    /// A failure of something other than the build, such as the store's disk.
    pub fn other(error: impl std::fmt::Display) -> BuildFailure {
        BuildFailure::new(BuildStatus::MiscFailure, error.to_string())
    }
}

/// Whom an executor tells when the builder starts and ends, for the count of running builds.
pub trait BuildObserver: Send + Sync {
    fn started(&self);
    fn stopped(&self);
    /// A build waits for somebody else's lock from now on, or does not any more; another one could run meanwhile.
    fn blocked(&self, blocked: bool) {
        let _ = blocked;
    }
}

/// Builds derivations.
///
/// 1. An executor takes the locks of the outputs, so that no two processes build the same; finds out whether they
///    became valid meanwhile; and takes a slot only for as long as a build runs. While it waits for anything else than a
///    slot, it steps aside in the line. When a build fails, its slot is left to the place: whoever handed it over decides
///    whether another one begins.
/// 2. When `cancel` fires, it kills the build and returns.
#[async_trait]
pub trait Executor: Send + Sync {
    /// How many builds are worth handing to it at once: one more than can run, so that none is waited for; `slots` are
    /// those of this machine.
    fn width(&self, slots: &Slots) -> usize {
        (slots.count() as usize).saturating_add(1)
    }

    async fn build(
        &self,
        request: BuildRequest,
        place: &Place,
        observer: &Arc<dyn BuildObserver>,
        cancel: &CancellationToken,
    ) -> Result<BuildSuccess, BuildFailure>;
}

/// How substitution of some paths ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Substituted {
    /// All are valid now.
    All,
    /// There is something that no substituter has.
    NotAll,
}

/// Makes paths valid by copying them from elsewhere.
///
/// What substituters say is believed only as far as signatures and content addresses prove it.
#[async_trait]
pub trait Substituter: Send + Sync {
    /// Tells the content address of a path, by which it can be found also in stores with other directories.
    fn note_content_address(&self, path: &StorePath, address: ContentAddress);

    /// What is known of paths; those that no substituter has are absent.
    async fn query(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, SubstitutablePathInfo>>;

    /// Asks ahead about the paths that are told and all that they refer to, so that [`Substituter::query`] has the answers
    /// at hand; with `fetch` they are going to be substituted, and what is small is fetched too. To be dropped when
    /// nobody asks any more.
    async fn follow(&self, told: UnboundedReceiver<StorePath>, fetch: bool) {
        let _ = (told, fetch);
    }

    /// Those of many paths that are there, asked only of those that do not mind.
    async fn query_available(&self, paths: &BTreeSet<StorePath>) -> StoreResult<BTreeSet<StorePath>>;

    /// The realisation with that id, from a trusted source.
    async fn query_realisation(&self, id: &str) -> StoreResult<Option<Realisation>>;

    /// Makes paths, and with them all that they refer to, valid; with `repair` also paths that are valid are copied
    /// again. An error means that some substituter has them and failed.
    async fn substitute(
        &self,
        paths: &BTreeSet<StorePath>,
        repair: bool,
        cancel: &CancellationToken,
    ) -> Result<Substituted, BuildFailure>;
}

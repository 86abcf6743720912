//! What a builder needs of the store that it builds into.

use crate::error::StoreResult;
use crate::traits::Realisation;
use firn_core::{StoreDir, StorePath, ValidPathInfo};
use std::any::Any;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// One tree to canonicalise.
#[derive(Debug, Clone)]
pub struct OutputTree {
    pub path: PathBuf,
    /// The host's users whose files these may be; `None` where that was checked before.
    pub uid_range: Option<RangeInclusive<u32>>,
}

/// A store on this machine that outputs of builds are made in. Methods block; a builder calls them from a thread of
/// its own.
///
/// 1. [`BuildTarget::register_outputs`] is the only way by which outputs become valid, all of them or none.
/// 2. Locks exclude other processes (the reference's among them) as well as other builds of this one; they end when
///    the returned value is dropped.
pub trait BuildTarget: Send + Sync {
    /// The logical store directory.
    fn store_dir(&self) -> &StoreDir;
    /// Where objects really are.
    fn real_store_dir(&self) -> &Path;
    fn state_dir(&self) -> &Path;

    fn path_info(&self, path: &StorePath) -> StoreResult<Option<ValidPathInfo>>;

    /// Keeps paths (valid or not yet) from collectors while this process lives.
    fn add_temp_roots(&self, paths: &[StorePath]) -> StoreResult<()>;

    /// Locks outputs by their real paths (`<path>.lock` each); `None` if somebody else holds one of the locks.
    fn try_lock_outputs(&self, paths: &BTreeSet<PathBuf>) -> StoreResult<Option<Box<dyn Any + Send>>>;

    /// Gives trees the metadata of store objects: modes, times, our ownership. Hard links between the trees are
    /// fine, hard links to files of others are not. Symlinks are not followed.
    fn canonicalise_outputs(&self, trees: &[OutputTree]) -> StoreResult<()>;

    /// Removes a file or tree, whatever its modes; one that is not there is fine.
    fn remove_tree(&self, path: &Path) -> StoreResult<()>;

    /// Reads the archive of an output that was built elsewhere and makes it valid. The caller holds the output's
    /// lock and trusts the other machine; hash and size are checked. What it refers to is valid.
    fn import_output(&self, info: &ValidPathInfo, nar: &mut dyn std::io::Read) -> StoreResult<()>;

    /// Makes `infos` valid in one transaction; what they refer to is valid or among them.
    fn register_outputs(&self, infos: &[ValidPathInfo]) -> StoreResult<()>;

    /// Where the log of a derivation goes (its folder exists then), and whether it is compressed with bzip2.
    fn build_log_path(&self, drv: &StorePath) -> StoreResult<(PathBuf, bool)>;

    /// Notes which path an output of a content-addressed derivation stands for.
    fn register_realisation(&self, realisation: &Realisation) -> StoreResult<()>;

    /// Links files that are equal to others of the store to them, where the store's settings say so.
    fn optimise_output(&self, path: &StorePath) -> StoreResult<()>;
}

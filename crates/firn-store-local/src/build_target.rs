//! The local store as the target of builds.

use crate::canonicalise::{CanonicaliseOptions, InodesSeen, canonicalise_metadata};
use crate::store::LocalStore;
use firn_core::{StoreDir, StorePath, ValidPathInfo};
use firn_store::locks::PathLocks;
use firn_store::{BuildTarget, OutputTree, Realisation, StoreResult};
use std::any::Any;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

impl BuildTarget for LocalStore {
    fn store_dir(&self) -> &StoreDir {
        self.dir()
    }

    fn real_store_dir(&self) -> &Path {
        &self.config().real_store_dir
    }

    fn state_dir(&self) -> &Path {
        &self.config().state_dir
    }

    fn path_info(&self, path: &StorePath) -> StoreResult<Option<ValidPathInfo>> {
        LocalStore::path_info(self, path)
    }

    fn add_temp_roots(&self, paths: &[StorePath]) -> StoreResult<()> {
        LocalStore::add_temp_roots(self, paths)
    }

    fn try_lock_outputs(&self, paths: &BTreeSet<PathBuf>) -> StoreResult<Option<Box<dyn Any + Send>>> {
        self.ensure_writable()?;
        Ok(PathLocks::try_lock(paths)?.map(|locks| Box::new(locks) as Box<dyn Any + Send>))
    }

    fn canonicalise_outputs(&self, trees: &[OutputTree]) -> StoreResult<()> {
        let mut seen = InodesSeen::default();
        trees.iter().try_for_each(|tree| {
            let options = CanonicaliseOptions {
                uid_range: tree.uid_range.clone(),
                ignored_acls: Some(&self.config().ignored_acls),
            };
            canonicalise_metadata(&tree.path, &options, &mut seen)
        })
    }

    fn remove_tree(&self, path: &Path) -> StoreResult<()> {
        crate::remove::remove_tree(path).map(drop)
    }

    fn import_output(&self, info: &ValidPathInfo, nar: &mut dyn std::io::Read) -> StoreResult<()> {
        self.import_locked(info, nar, false)
    }

    fn register_outputs(&self, infos: &[ValidPathInfo]) -> StoreResult<()> {
        let config = self.config();
        if config.fsync_store_paths {
            infos.iter().try_for_each(|info| crate::durable::sync_tree(&self.real(&info.path)))?;
            crate::durable::sync_dir(&config.real_store_dir)?;
        }
        self.register_valid_paths(infos)
    }

    fn build_log_path(&self, drv: &StorePath) -> StoreResult<(PathBuf, bool)> {
        self.new_log_path(drv)
    }

    fn register_realisation(&self, realisation: &Realisation) -> StoreResult<()> {
        self.add_realisation(realisation)
    }

    fn optimise_output(&self, path: &StorePath) -> StoreResult<()> {
        self.optimise_new(&self.real(path), false)
    }
}

//! Building of derivations that are in another store: the builder is given them first.

use async_trait::async_trait;
use firn_core::{DerivedPath, StorePath};
use firn_derivation::Derivation;
use firn_store::activity::Logger;
use firn_store::{
    BuildMode, BuildResult, BuildStore, ClosureOptions, CopyOptions, Missing, Store, StoreResult,
    compute_fs_closure, copy_paths,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Copies derivations from `from` to `to` before `build`, which builds in `to`, is asked.
pub struct BuildFromOtherStore {
    pub from: Arc<dyn Store>,
    pub to: Arc<dyn Store>,
    pub build: Arc<dyn BuildStore>,
    pub logger: Arc<dyn Logger>,
}

impl BuildFromOtherStore {
    async fn copy_derivations(&self, paths: &[DerivedPath]) -> StoreResult<()> {
        let drvs: BTreeSet<StorePath> = paths
            .iter()
            .filter_map(|path| match path {
                DerivedPath::Opaque(_) => None,
                DerivedPath::Built { drv, .. } => Some(drv.base().clone()),
            })
            .collect();
        let known = self.from.query_valid_paths(&drvs).await?;
        let closure = compute_fs_closure(&*self.from, &known, ClosureOptions::default()).await?;
        let options = CopyOptions { check_signatures: false, ..CopyOptions::CHECKED };
        copy_paths(&*self.from, &*self.to, &closure, options, &self.logger).await.map(drop)
    }
}

#[async_trait]
impl BuildStore for BuildFromOtherStore {
    async fn build_paths(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>> {
        self.copy_derivations(paths).await?;
        self.build.build_paths(paths, mode).await
    }

    async fn realise(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>> {
        self.copy_derivations(paths).await?;
        self.build.realise(paths, mode).await
    }

    async fn build_derivation(
        &self,
        drv_path: &StorePath,
        drv: &Derivation,
        mode: BuildMode,
    ) -> StoreResult<BuildResult> {
        self.build.build_derivation(drv_path, drv, mode).await
    }

    async fn query_missing(&self, paths: &[DerivedPath]) -> StoreResult<Missing> {
        self.copy_derivations(paths).await?;
        self.build.query_missing(paths).await
    }

    async fn ensure_path(&self, path: &StorePath) -> StoreResult<()> {
        self.build.ensure_path(path).await
    }
}

//! A store as a build sees it that calls Nix itself (the system feature `recursive-nix`): the build's inputs, and
//! what it added or had built. Nothing else can be asked about, and nothing can be taken away.

use crate::closure::{ClosureOptions, compute_fs_closure};
use crate::error::{StoreError, StoreResult};
use crate::traits::{
    AddSource, BuildMode, BuildResult, BuildStore, GcOptions, GcResults, GcStore, Missing, NarSink,
    NarSource, Realisation, Store, Trust,
};
use async_trait::async_trait;
use firn_core::{CaMethod, DerivedPath, HashAlgo, StoreDir, StorePath, ValidPathInfo};
use firn_derivation::Derivation;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// The paths that a build may know of.
pub trait Scope: Send + Sync {
    fn allows(&self, path: &StorePath) -> bool;
    /// All of them.
    fn paths(&self) -> BTreeSet<StorePath>;
    /// Shows the build one more valid path; one that it may know of already is fine.
    fn add(&self, path: &StorePath) -> StoreResult<()>;
}

/// The store behind a build's own daemon.
#[derive(Clone)]
pub struct RestrictedStore {
    next: Arc<dyn Store>,
    build: Arc<dyn BuildStore>,
    scope: Arc<dyn Scope>,
}

impl RestrictedStore {
    pub fn new(next: Arc<dyn Store>, build: Arc<dyn BuildStore>, scope: Arc<dyn Scope>) -> RestrictedStore {
        RestrictedStore { next, build, scope }
    }

    fn check(&self, what: &str, path: &StorePath) -> StoreResult<()> {
        match self.scope.allows(path) {
            true => Ok(()),
            false => Err(StoreError::Other(format!(
                "cannot {what} unknown path '{}' in recursive Nix",
                self.next.store_dir().display(path)
            ))),
        }
    }

    fn check_request(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<()> {
        if mode != BuildMode::Normal {
            return Err(StoreError::Other("unsupported build mode".to_owned()));
        }
        match paths.iter().find(|path| !self.scope.allows(base(path))) {
            None => Ok(()),
            Some(path) => Err(StoreError::Other(format!(
                "cannot build '{}' in recursive Nix because path is unknown",
                path.render(self.next.store_dir())
            ))),
        }
    }

    /// Shows the build what was built for it, with all that it refers to.
    async fn add_closure(&self, results: &[BuildResult]) -> StoreResult<()> {
        let mut made = BTreeSet::new();
        for result in results.iter().filter(|result| result.status.is_success()) {
            made.extend(result.outputs.values().cloned());
        }
        for path in compute_fs_closure(&*self.next, &made, ClosureOptions::default()).await? {
            self.scope.add(&path)?;
        }
        Ok(())
    }
}

fn base(path: &DerivedPath) -> &StorePath {
    match path {
        DerivedPath::Opaque(path) => path,
        DerivedPath::Built { drv, .. } => drv.base(),
    }
}

#[async_trait]
impl Store for RestrictedStore {
    fn store_dir(&self) -> &StoreDir {
        self.next.store_dir()
    }

    fn uri(&self) -> String {
        self.next.uri()
    }

    /// Without what would tell when and by whom it was made.
    async fn query_path_info(&self, path: &StorePath) -> StoreResult<Option<Arc<ValidPathInfo>>> {
        if !self.scope.allows(path) {
            return Ok(None);
        }
        let Some(info) = self.next.query_path_info(path).await? else { return Ok(None) };
        let mut info = (*info).clone();
        info.deriver = None;
        info.registration_time = 0;
        info.ultimate = false;
        info.signatures.clear();
        Ok(Some(Arc::new(info)))
    }

    async fn query_all_valid_paths(&self) -> StoreResult<BTreeSet<StorePath>> {
        Ok(self.scope.paths())
    }

    async fn query_referrers(&self, _: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        Ok(BTreeSet::new())
    }

    async fn query_valid_derivers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        if !self.scope.allows(path) {
            return Ok(BTreeSet::new());
        }
        let mut derivers = self.next.query_valid_derivers(path).await?;
        derivers.retain(|deriver| self.scope.allows(deriver));
        Ok(derivers)
    }

    async fn query_derivation_outputs(
        &self,
        drv: &StorePath,
    ) -> StoreResult<BTreeMap<String, Option<StorePath>>> {
        self.check("query output map for", drv)?;
        self.next.query_derivation_outputs(drv).await
    }

    async fn query_path_from_hash_part(&self, hash_part: &str) -> StoreResult<Option<StorePath>> {
        let found = self.next.query_path_from_hash_part(hash_part).await?;
        Ok(found.filter(|path| self.scope.allows(path)))
    }

    async fn query_realisation(&self, id: &str) -> StoreResult<Option<Realisation>> {
        let found = self.next.query_realisation(id).await?;
        Ok(found.filter(|realisation| self.scope.allows(&realisation.out_path)))
    }

    async fn register_realisation(&self, _: &Realisation, _: bool) -> StoreResult<()> {
        Err(self.unsupported("registering realisations in recursive Nix"))
    }

    async fn nar_from_path(&self, path: &StorePath, sink: NarSink<'_>) -> StoreResult<()> {
        self.check("dump", path)?;
        self.next.nar_from_path(path, sink).await
    }

    async fn add_nar(&self, info: &ValidPathInfo, nar: NarSource<'_>, _: bool, _: bool) -> StoreResult<()> {
        for reference in info.references.iter().filter(|reference| **reference != info.path) {
            self.check("refer to", reference)?;
        }
        self.next.add_nar(info, nar, false, true).await?;
        self.scope.add(&info.path)
    }

    async fn add_to_store(
        &self,
        name: &str,
        source: AddSource<'_>,
        method: CaMethod,
        algo: HashAlgo,
        references: &BTreeSet<StorePath>,
        _: bool,
    ) -> StoreResult<ValidPathInfo> {
        for reference in references {
            self.check("refer to", reference)?;
        }
        let info = self.next.add_to_store(name, source, method, algo, references, false).await?;
        self.scope.add(&info.path)?;
        Ok(info)
    }

    /// The build's own process keeps what it knows of.
    async fn add_temp_root(&self, _: &StorePath) -> StoreResult<()> {
        Ok(())
    }

    async fn add_signatures(&self, _: &StorePath, _: &BTreeSet<String>) -> StoreResult<()> {
        Err(self.unsupported("adding signatures in recursive Nix"))
    }

    async fn is_trusted(&self) -> StoreResult<Option<Trust>> {
        Ok(Some(Trust::NotTrusted))
    }

    async fn read_derivation(&self, path: &StorePath) -> StoreResult<Derivation> {
        self.check("read", path)?;
        self.next.read_derivation(path).await
    }

    fn as_gc(&self) -> Option<&dyn GcStore> {
        Some(self)
    }
}

/// Roots are no business of a build's, and nobody minds that it makes links.
#[async_trait]
impl GcStore for RestrictedStore {
    async fn find_roots(&self, _: bool) -> StoreResult<BTreeMap<StorePath, BTreeSet<String>>> {
        Ok(BTreeMap::new())
    }

    async fn collect_garbage(&self, _: &GcOptions) -> StoreResult<GcResults> {
        Ok(GcResults::default())
    }

    async fn add_root_link(&self, _: &Path) -> StoreResult<()> {
        Ok(())
    }

    async fn optimise(&self) -> StoreResult<()> {
        Err(self.unsupported("optimising in recursive Nix"))
    }

    async fn verify(&self, _: bool, _: Option<Arc<dyn BuildStore>>) -> StoreResult<bool> {
        Err(self.unsupported("verifying in recursive Nix"))
    }
}

#[async_trait]
impl BuildStore for RestrictedStore {
    async fn build_paths(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>> {
        self.check_request(paths, mode)?;
        let results = self.build.build_paths(paths, mode).await?;
        self.add_closure(&results).await?;
        Ok(results)
    }

    async fn realise(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>> {
        self.check_request(paths, mode)?;
        let results = self.build.realise(paths, mode).await?;
        self.add_closure(&results).await?;
        Ok(results)
    }

    async fn build_derivation(
        &self,
        _: &StorePath,
        _: &Derivation,
        _: BuildMode,
    ) -> StoreResult<BuildResult> {
        Err(self.unsupported("building derivations without their inputs in recursive Nix"))
    }

    async fn query_missing(&self, paths: &[DerivedPath]) -> StoreResult<Missing> {
        let (allowed, unknown): (Vec<_>, Vec<_>) =
            paths.iter().cloned().partition(|path| self.scope.allows(base(path)));
        let mut missing = self.build.query_missing(&allowed).await?;
        missing.unknown.extend(unknown.iter().map(|path| base(path).clone()));
        Ok(missing)
    }

    /// What a build may know of is valid already.
    async fn ensure_path(&self, path: &StorePath) -> StoreResult<()> {
        self.check("substitute", path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;
    use parking_lot::Mutex;

    struct Known(Mutex<BTreeSet<StorePath>>);

    impl Scope for Known {
        fn allows(&self, path: &StorePath) -> bool {
            self.0.lock().contains(path)
        }
        fn paths(&self) -> BTreeSet<StorePath> {
            self.0.lock().clone()
        }
        fn add(&self, path: &StorePath) -> StoreResult<()> {
            self.0.lock().insert(path.clone());
            Ok(())
        }
    }

    struct NoBuilds;

    #[async_trait]
    impl BuildStore for NoBuilds {
        async fn build_paths(&self, _: &[DerivedPath], _: BuildMode) -> StoreResult<Vec<BuildResult>> {
            Ok(Vec::new())
        }
        async fn realise(&self, _: &[DerivedPath], _: BuildMode) -> StoreResult<Vec<BuildResult>> {
            Ok(Vec::new())
        }
        async fn build_derivation(
            &self,
            _: &StorePath,
            _: &Derivation,
            _: BuildMode,
        ) -> StoreResult<BuildResult> {
            Err(StoreError::Other("no".to_owned()))
        }
        async fn query_missing(&self, _: &[DerivedPath]) -> StoreResult<Missing> {
            Ok(Missing::default())
        }
        async fn ensure_path(&self, _: &StorePath) -> StoreResult<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn only_what_the_build_knows_is_there() {
        let all = Arc::new(MemoryStore::default());
        let input = all.add_text("input", b"1", &BTreeSet::new(), false).await.unwrap();
        let other = all.add_text("other", b"2", &BTreeSet::new(), false).await.unwrap();
        let scope = Arc::new(Known(Mutex::new([input.clone()].into())));
        let store = RestrictedStore::new(all, Arc::new(NoBuilds), scope);
        assert!(store.is_valid_path(&input).await.unwrap());
        assert!(!store.is_valid_path(&other).await.unwrap());
        assert_eq!(store.query_all_valid_paths().await.unwrap(), [input.clone()].into());
        let mut sink = Vec::new();
        assert!(store.nar_from_path(&other, &mut sink).await.is_err());
        assert!(store.ensure_path(&other).await.is_err());
        assert!(store.add_text("x", b"3", &[other.clone()].into(), false).await.is_err());
        let request = [DerivedPath::Opaque(other.clone())];
        assert!(store.build_paths(&request, BuildMode::Normal).await.is_err());
        assert!(store.build_paths(&[DerivedPath::Opaque(input.clone())], BuildMode::Repair).await.is_err());
        assert_eq!(store.query_missing(&request).await.unwrap().unknown, [other].into());
        // What it adds it knows.
        let added = store.add_text("added", b"4", &[input.clone()].into(), false).await.unwrap();
        assert_eq!(store.query_all_valid_paths().await.unwrap(), [input, added.clone()].into());
        store.nar_from_path(&added, &mut sink).await.unwrap();
    }
}

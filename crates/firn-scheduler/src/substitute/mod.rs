//! Substitution: making paths valid by copying them, with all they refer to, from other stores.
//!
//! A request is planned first: the facts of the whole closure are asked for, each as soon as it is known that they are
//! wanted. Then paths are copied, several at once, each after what it refers to; small archives are fetched before. What
//! one substituter cannot give is taken from the next.

mod ahead;
mod copies;
mod plan;
mod progress;
mod sources;
mod walk;

use crate::executor::{BuildFailure, Substituted, Substituter};
use ahead::Ahead;
use async_trait::async_trait;
use copies::End;
use firn_core::{ContentAddress, StorePath};
use firn_store::activity::Logger;
use firn_store::copy::shown_uri;
use firn_store::{
    BuildStatus, Realisation, Store, StoreError, StoreResult, SubstitutablePathInfo, TrustPolicy,
};
use parking_lot::Mutex;
use progress::Progress;
use sources::Source;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

/// How substitution works.
#[derive(Debug, Clone, Default)]
pub struct SubstitutionConfig {
    /// `fallback`: a substituter that fails is only told about.
    pub fallback: bool,
    /// `max-substitution-jobs`.
    pub jobs: u32,
    /// Whose signatures are believed.
    pub trust: TrustPolicy,
}

/// Substitutes from stores, in the order of their priorities.
pub struct StoreSubstituter {
    destination: Arc<dyn Store>,
    /// As they were configured; reached at first use.
    stores: Vec<Arc<dyn Store>>,
    sources: OnceCell<Vec<Source>>,
    config: SubstitutionConfig,
    logger: Arc<dyn Logger>,
    slots: Semaphore,
    /// KiB of small archives that may be asked for before what they refer to is there.
    early: Arc<Semaphore>,
    /// Archives that are fetched before their paths are asked for.
    ahead: Ahead,
    /// Paths that are being copied, so that no two requests copy the same.
    copying: Mutex<HashMap<StorePath, Arc<tokio::sync::Mutex<()>>>>,
    /// Content addresses of paths that were told.
    addresses: Mutex<HashMap<StorePath, ContentAddress>>,
    progress: Progress,
}

/// KiB of small archives that are asked for early for each that may be taken in at once.
const EARLY: usize = 4 * plan::SMALL as usize;

impl StoreSubstituter {
    pub fn new(
        destination: Arc<dyn Store>,
        stores: Vec<Arc<dyn Store>>,
        config: SubstitutionConfig,
        logger: Arc<dyn Logger>,
    ) -> StoreSubstituter {
        let early = if config.jobs > 1 { EARLY.saturating_mul(config.jobs as usize) } else { 0 };
        StoreSubstituter {
            destination,
            stores,
            sources: OnceCell::new(),
            slots: Semaphore::new(config.jobs.max(1) as usize),
            early: Arc::new(Semaphore::new(early)),
            ahead: Ahead::default(),
            config,
            logger,
            copying: Mutex::default(),
            addresses: Mutex::default(),
            progress: Progress::default(),
        }
    }
}

#[async_trait]
impl Substituter for StoreSubstituter {
    fn note_content_address(&self, path: &StorePath, address: ContentAddress) {
        self.addresses.lock().insert(path.clone(), address);
    }

    async fn query(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, SubstitutablePathInfo>> {
        let mut found = BTreeMap::new();
        let mut wanted = paths.clone();
        let mut error = None;
        for source in self.sources().await {
            if wanted.is_empty() {
                break;
            }
            for (path, info) in self.ask(source, &wanted, &mut error).await {
                wanted.remove(&path);
                let there = self.path_elsewhere(source, &path).unwrap_or_else(|| path.clone());
                let nar = source.store.query_nar_info(&there).await.ok().flatten();
                let info = SubstitutablePathInfo {
                    deriver: info.deriver.clone(),
                    references: info.references.clone(),
                    download_size: nar.and_then(|nar| nar.file_size).unwrap_or(0),
                    nar_size: info.nar_size,
                };
                found.insert(path, info);
            }
        }
        match error {
            Some(error) if !wanted.is_empty() && !self.config.fallback => Err(error),
            Some(error) => {
                self.logger.error(&error.to_string());
                Ok(found)
            }
            None => Ok(found),
        }
    }

    async fn follow(&self, told: UnboundedReceiver<StorePath>, fetch: bool) {
        self.walk(told, fetch).await;
    }

    async fn query_available(&self, paths: &BTreeSet<StorePath>) -> StoreResult<BTreeSet<StorePath>> {
        let mut found = BTreeSet::new();
        let mut wanted = paths.clone();
        for source in self.sources().await.iter().filter(|source| source.properties.want_mass_query) {
            if wanted.is_empty() {
                break;
            }
            let valid = source.store.query_valid_paths(&wanted).await?;
            wanted = wanted.difference(&valid).cloned().collect();
            found.extend(valid);
        }
        Ok(found)
    }

    async fn query_realisation(&self, id: &str) -> StoreResult<Option<Realisation>> {
        for source in self.sources().await {
            match source.store.query_realisation(id).await {
                Ok(Some(realisation)) if realisation.id != id => {
                    self.logger.warn(&format!(
                        "asked '{}' for '{id}' but got '{}'",
                        shown_uri(&*source.store),
                        realisation.id
                    ));
                }
                Ok(Some(realisation))
                    if source.properties.trusted || self.config.trust.accepts_realisation(&realisation) =>
                {
                    return Ok(Some(realisation));
                }
                Ok(Some(_)) => self.logger.warn(&format!(
                    "ignoring realisation of '{id}' from '{}', as it's not signed by any of the keys in \
                     'trusted-public-keys'",
                    shown_uri(&*source.store)
                )),
                Ok(None) | Err(StoreError::Unsupported { .. } | StoreError::SubstituterDisabled { .. }) => {}
                Err(error) => self.logger.error(&error.to_string()),
            }
        }
        Ok(None)
    }

    async fn substitute(
        &self,
        paths: &BTreeSet<StorePath>,
        repair: bool,
        cancel: &CancellationToken,
    ) -> Result<Substituted, BuildFailure> {
        let none = BTreeSet::new();
        let work = async {
            let plan = self.plan(paths, repair).await.map_err(BuildFailure::other)?;
            let ends = self
                .carry_out(&plan, if repair { paths } else { &none })
                .await
                .map_err(BuildFailure::other)?;
            let dir = self.destination.store_dir();
            let end = |path: &StorePath| ends.get(path).copied().unwrap_or(End::Absent);
            if let Some(error) = plan.error {
                let missing = paths.iter().any(|path| end(path) != End::Valid);
                if missing && !self.config.fallback {
                    return Err(BuildFailure::other(error));
                }
                self.logger.error(&error.to_string());
            }
            if let Some(failed) = paths.iter().find(|path| end(path) == End::Failed) {
                let message = format!(
                    "path '{}' is required, but there is no substituter that can build it",
                    dir.display(failed)
                );
                return Err(BuildFailure::new(BuildStatus::NoSubstituters, message));
            }
            match paths.iter().all(|path| end(path) == End::Valid) {
                true => Ok(Substituted::All),
                false => Ok(Substituted::NotAll),
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                Err(BuildFailure::new(BuildStatus::Cancelled, "interrupted by the user"))
            }
            result = work => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_core::ValidPathInfo;
    use firn_core::signature::SecretKey;
    use firn_store::MemoryStore;
    use firn_store::activity::SilentLogger;

    fn key() -> SecretKey {
        SecretKey::from_seed("k", &[5; 32])
    }

    fn substituter(from: &Arc<MemoryStore>, to: &Arc<MemoryStore>) -> StoreSubstituter {
        let trust = TrustPolicy { require_signatures: true, keys: vec![key().public()] };
        let config = SubstitutionConfig { fallback: false, jobs: 4, trust };
        StoreSubstituter::new(to.clone(), vec![from.clone()], config, Arc::new(SilentLogger))
    }

    /// Adds a path without a content address that refers to others.
    async fn add(
        store: &MemoryStore,
        n: char,
        references: &[&StorePath],
        signer: Option<&SecretKey>,
    ) -> StorePath {
        let text = store.add_text("text", &[n as u8], &BTreeSet::new(), false).await.unwrap();
        let mut archive = Vec::new();
        store.nar_from_path(&text, &mut archive).await.unwrap();
        let path = StorePath::from_base_name(&format!("{}-{n}", n.to_string().repeat(32))).unwrap();
        let info = store.query_path_info(&text).await.unwrap().unwrap();
        let mut info = ValidPathInfo { path: path.clone(), ca: None, ..(*info).clone() };
        info.references = references.iter().map(|path| (*path).clone()).collect();
        if let Some(key) = signer {
            info.signatures.insert(key.sign(info.fingerprint(store.store_dir()).as_bytes()));
        }
        store.add_nar(&info, &mut &archive[..], false, false).await.unwrap();
        path
    }

    async fn run(from: &Arc<MemoryStore>, path: &StorePath) -> (Result<Substituted, BuildFailure>, usize) {
        let to = Arc::new(MemoryStore::default());
        let cancel = CancellationToken::new();
        let result = substituter(from, &to).substitute(&[path.clone()].into(), false, &cancel).await;
        (result, to.query_all_valid_paths().await.unwrap().len())
    }

    #[tokio::test]
    async fn a_closure_with_signatures() {
        let from = Arc::new(MemoryStore::default());
        let a = add(&from, 'a', &[], Some(&key())).await;
        let b = add(&from, 'b', &[&a], Some(&key())).await;
        let c = add(&from, 'c', &[&a, &b], Some(&key())).await;
        assert_eq!(run(&from, &c).await, (Ok(Substituted::All), 3));
        // What nobody signed is not taken, nor what refers to it.
        let d = add(&from, 'd', &[], None).await;
        assert_eq!(run(&from, &d).await, (Ok(Substituted::NotAll), 0));
        let f = add(&from, 'f', &[&d, &a], Some(&key())).await;
        assert_eq!(run(&from, &f).await, (Ok(Substituted::NotAll), 1));
        let other = SecretKey::from_seed("k", &[6; 32]);
        let g = add(&from, 'g', &[], Some(&other)).await;
        assert_eq!(run(&from, &g).await, (Ok(Substituted::NotAll), 0));
        // A content address proves itself.
        let text = from.add_text("t", b"text", &BTreeSet::new(), false).await.unwrap();
        assert_eq!(run(&from, &text).await, (Ok(Substituted::All), 1));
    }

    #[tokio::test]
    async fn realisations_need_signatures() {
        let from = Arc::new(MemoryStore::default());
        let path = from.add_text("t", b"text", &BTreeSet::new(), false).await.unwrap();
        let id = "sha256:00!out";
        let mut realisation = Realisation::new(id.into(), path);
        from.register_realisation(&realisation, false).await.unwrap();
        let to = Arc::new(MemoryStore::default());
        assert_eq!(substituter(&from, &to).query_realisation(id).await.unwrap(), None);
        realisation.signatures.insert(key().sign(realisation.fingerprint().as_bytes()));
        from.register_realisation(&realisation, false).await.unwrap();
        assert_eq!(substituter(&from, &to).query_realisation(id).await.unwrap(), Some(realisation));
    }

    #[tokio::test]
    async fn many_are_asked_about_at_once() {
        let from = Arc::new(MemoryStore::default());
        let a = add(&from, 'a', &[], Some(&key())).await;
        let b = add(&from, 'b', &[&a], Some(&key())).await;
        let to = Arc::new(MemoryStore::default());
        let missing = StorePath::from_base_name(&format!("{}-x", "x".repeat(32))).unwrap();
        let found = substituter(&from, &to).query(&[a.clone(), b.clone(), missing].into()).await.unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&a, &b]);
        assert_eq!(found[&b].references, [a].into());
        // Who does not want to be asked only whether something is there is not.
        assert!(substituter(&from, &to).query_available(&[b].into()).await.unwrap().is_empty());
    }
}

//! The substituters, and what they say of paths.

use super::StoreSubstituter;
use firn_core::{StorePath, ValidPathInfo};
use firn_store::copy::shown_uri;
use firn_store::{Store, StoreError, SubstituterProperties};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) struct Source {
    pub store: Arc<dyn Store>,
    pub properties: SubstituterProperties,
}

impl StoreSubstituter {
    /// The stores that can be reached, best first. One that cannot is told about once and left out.
    pub(super) async fn sources(&self) -> &[Source] {
        self.sources
            .get_or_init(|| async {
                let asked = self
                    .stores
                    .iter()
                    .map(|store| async move { (Arc::clone(store), store.substituter_properties().await) });
                let mut sources = Vec::new();
                for (store, properties) in futures::future::join_all(asked).await {
                    match properties {
                        Ok(properties) => sources.push(Source { store, properties }),
                        Err(error) => self.logger.warn(&error.to_string()),
                    }
                }
                sources.sort_by_key(|source| source.properties.priority);
                sources
            })
            .await
    }

    /// What one source says of paths. A failure for all is a failure for none: each is asked for alone then, and what
    /// fails alone is told.
    pub(super) async fn ask(
        &self,
        source: &Source,
        paths: &BTreeSet<StorePath>,
        error: &mut Option<StoreError>,
    ) -> BTreeMap<StorePath, Arc<ValidPathInfo>> {
        if source.store.store_dir() != self.destination.store_dir() {
            return self.ask_elsewhere(source, paths, error).await;
        }
        let all = source.store.query_path_infos(paths).await;
        let first = match all {
            Ok(infos) => return infos,
            Err(StoreError::SubstituterDisabled { uri, reason }) => {
                error.get_or_insert(StoreError::SubstituterDisabled { uri, reason });
                return BTreeMap::new();
            }
            Err(first) => first,
        };
        let mut infos = BTreeMap::new();
        let mut told = false;
        for path in paths {
            match source.store.query_path_info(path).await {
                Ok(info) => infos.extend(info.map(|info| (path.clone(), info))),
                Err(StoreError::SubstituterDisabled { .. }) => break,
                Err(e) => {
                    self.set_error(error, e);
                    told = true;
                }
            }
        }
        if !told {
            self.set_error(error, first);
        }
        infos
    }

    /// The path that a content-addressed one has in a store with another directory.
    pub(super) fn path_elsewhere(&self, source: &Source, path: &StorePath) -> Option<StorePath> {
        if source.store.store_dir() == self.destination.store_dir() {
            return Some(path.clone());
        }
        let address = self.addresses.lock().get(path).copied()?;
        let none = firn_core::store_path::References::default();
        source.store.store_dir().make_fixed_output_path(&address, path.name(), &none).ok()
    }

    /// The same as [`StoreSubstituter::ask`] for a store with another directory, in which only content-addressed paths
    /// without references can be found.
    async fn ask_elsewhere(
        &self,
        source: &Source,
        paths: &BTreeSet<StorePath>,
        error: &mut Option<StoreError>,
    ) -> BTreeMap<StorePath, Arc<ValidPathInfo>> {
        let mut infos = BTreeMap::new();
        for path in paths {
            let Some(there) = self.path_elsewhere(source, path) else { continue };
            match source.store.query_path_info(&there).await {
                Ok(Some(info))
                    if info.is_content_addressed(source.store.store_dir()) && info.references.is_empty() =>
                {
                    let info = ValidPathInfo { path: path.clone(), ..(*info).clone() };
                    infos.insert(path.clone(), Arc::new(info));
                }
                Ok(_) => {}
                Err(e) => self.set_error(error, e),
            }
        }
        infos
    }

    /// Keeps an error, and tells the one that it takes the place of.
    pub(super) fn set_error(&self, slot: &mut Option<StoreError>, error: StoreError) {
        if let Some(earlier) = slot.replace(error) {
            self.logger.error(&earlier.to_string());
        }
    }

    pub(super) fn believes(&self, source: &Source, info: &ValidPathInfo) -> bool {
        source.properties.trusted || self.config.trust.accepts_path(self.destination.store_dir(), info)
    }

    /// The same, telling what is not believed.
    pub(super) fn accepts(&self, source: &Source, info: &ValidPathInfo) -> bool {
        if self.believes(source, info) {
            return true;
        }
        let dir = self.destination.store_dir();
        self.logger.warn(&format!(
            "ignoring substitute for '{}' from '{}', as it's not signed by any of the keys in 'trusted-public-keys'",
            dir.display(&info.path),
            shown_uri(&*source.store)
        ));
        false
    }
}

//! The store below an overlay: one that this process works on itself, or any other one that has its files on this
//! machine, such as a daemon's.

use crate::config::LocalStoreConfig;
use crate::store::LocalStore;
use firn_core::{StorePath, ValidPathInfo};
use firn_store::activity::Logger;
use firn_store::closure::{ClosureOptions, compute_fs_closure};
use firn_store::{Realisation, Store, StoreError, StoreResult};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which store is below.
#[derive(Clone)]
pub enum LowerConfig {
    Local(Box<LocalStoreConfig>),
    /// `real_store_dir` is where the files of the store are.
    Other {
        store: Arc<dyn Store>,
        real_store_dir: PathBuf,
    },
}

impl fmt::Debug for LowerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LowerConfig::Local(config) => config.fmt(f),
            LowerConfig::Other { store, .. } => f.write_str(&store.uri()),
        }
    }
}

/// The open store below. Its methods block, whoever calls them.
pub(crate) enum Lower {
    Local(LocalStore),
    Other(Other),
}

pub(crate) struct Other {
    store: Arc<dyn Store>,
    real_store_dir: PathBuf,
    /// What drives its connections: those who ask may themselves be on a thread of a runtime, and must not wait there.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Other {
    fn ask<T: Send>(&self, question: impl Future<Output = StoreResult<T>> + Send) -> StoreResult<T> {
        let Some(runtime) = &self.runtime else {
            return Err(StoreError::Other("the lower store cannot be asked: it has no runtime".into()));
        };
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| runtime.block_on(question));
            asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Lower {
    pub(crate) fn open(config: &LowerConfig, logger: &Arc<dyn Logger>) -> Lower {
        match config {
            LowerConfig::Local(config) => {
                Lower::Local(LocalStore::new((**config).clone(), Arc::clone(logger)))
            }
            LowerConfig::Other { store, real_store_dir } => Lower::Other(Other {
                store: Arc::clone(store),
                real_store_dir: real_store_dir.clone(),
                runtime: tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .ok(),
            }),
        }
    }

    pub(crate) fn real_store_dir(&self) -> &Path {
        match self {
            Lower::Local(store) => &store.config().real_store_dir,
            Lower::Other(other) => &other.real_store_dir,
        }
    }

    pub(crate) fn is_valid(&self, path: &StorePath) -> StoreResult<bool> {
        match self {
            Lower::Local(store) => store.is_valid(path),
            Lower::Other(other) => other.ask(other.store.is_valid_path(path)),
        }
    }

    pub(crate) fn path_info(&self, path: &StorePath) -> StoreResult<Option<ValidPathInfo>> {
        match self {
            Lower::Local(store) => store.path_info(path),
            Lower::Other(other) => {
                Ok(other.ask(other.store.query_path_info(path))?.map(|info| (*info).clone()))
            }
        }
    }

    /// A valid path with everything that it refers to.
    pub(crate) fn closure_of(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        let start = BTreeSet::from([path.clone()]);
        match self {
            Lower::Local(store) => store.closure_of(&start, false),
            Lower::Other(other) => {
                other.ask(compute_fs_closure(&*other.store, &start, ClosureOptions::default()))
            }
        }
    }

    pub(crate) fn referrers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        match self {
            Lower::Local(store) => store.referrers(path),
            Lower::Other(other) => other.ask(other.store.query_referrers(path)),
        }
    }

    pub(crate) fn valid_derivers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        match self {
            Lower::Local(store) => store.valid_derivers(path),
            Lower::Other(other) => other.ask(other.store.query_valid_derivers(path)),
        }
    }

    pub(crate) fn path_from_hash_part(&self, hash_part: &str) -> StoreResult<Option<StorePath>> {
        match self {
            Lower::Local(store) => store.path_from_hash_part(hash_part),
            Lower::Other(other) => other.ask(other.store.query_path_from_hash_part(hash_part)),
        }
    }

    pub(crate) fn realisation(&self, id: &str) -> StoreResult<Option<Realisation>> {
        match self {
            Lower::Local(store) => store.realisation(id),
            Lower::Other(other) => other.ask(other.store.query_realisation(id)),
        }
    }

    /// Outputs of a valid derivation whose paths are known.
    pub(crate) fn derivation_outputs(&self, drv: &StorePath) -> StoreResult<BTreeMap<String, StorePath>> {
        match self {
            Lower::Local(store) => store.static_derivation_outputs(drv),
            Lower::Other(other) => {
                let outputs = other.ask(other.store.query_derivation_outputs(drv))?;
                Ok(outputs.into_iter().filter_map(|(name, path)| Some((name, path?))).collect())
            }
        }
    }
}

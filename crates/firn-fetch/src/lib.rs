//! Fetching files and archives from URLs into a store, with a cache of what is known of URLs.
//!
//! Invariants:
//! - downloads go through the one HTTP client, and Git through the user's `git`; nothing here opens connections of its own;
//! - what is downloaded waits on disk, so memory does not grow with its size;
//! - the evaluator is not known here: [`Fetcher`] is what its host calls.

pub mod cache;
pub mod error;
pub mod file;
mod forge;
mod git;
mod hg;
mod locked;
mod options;
pub mod prefetch;
pub mod registry;
mod source;
pub mod tarball;
pub mod tree;

pub use cache::FetchCache;
pub use error::{FetchError, FetchResult};
pub use file::Downloaded;
pub use options::{Ensure, FetchOptions};
pub use prefetch::{Prefetch, Prefetched};
pub use source::{add_to_git, write_file};
pub use tarball::Tarball;
pub use tree::Tree;

use firn_core::StorePath;
use firn_http::HttpClient;
use firn_store::Store;
use firn_store::activity::Logger;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Fetches into one store. Cheap to clone; the cache is opened at first use.
#[derive(Clone)]
pub struct Fetcher {
    inner: Arc<Inner>,
}

/// What is done with a Git working tree that has changes which are not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dirty {
    Allow,
    Warn,
    Refuse,
}

struct Inner {
    store: Arc<dyn Store>,
    client: HttpClient,
    logger: Arc<dyn Logger>,
    cache_dir: Option<PathBuf>,
    /// Seconds for which what is known of a URL is believed (`tarball-ttl`).
    ttl: u32,
    dirty: Dirty,
    options: FetchOptions,
    cache: OnceLock<Option<FetchCache>>,
    registries: registry::Registries,
    /// What was fetched by this process, and what became of it.
    seen: Mutex<BTreeMap<locked::Key, Tree>>,
    /// The trees that this process has fetched.
    paths: Mutex<BTreeSet<StorePath>>,
}

impl Fetcher {
    /// `cache_dir` is the user's cache folder; without one nothing is remembered between runs.
    pub fn new(
        store: Arc<dyn Store>,
        client: HttpClient,
        logger: Arc<dyn Logger>,
        cache_dir: Option<PathBuf>,
        ttl: u32,
        dirty: Dirty,
    ) -> Fetcher {
        Fetcher::with_options(
            store,
            client,
            logger,
            FetchOptions { cache_dir, ttl, dirty, ..FetchOptions::default() },
        )
    }

    /// One with all that settings say.
    pub fn with_options(
        store: Arc<dyn Store>,
        client: HttpClient,
        logger: Arc<dyn Logger>,
        options: FetchOptions,
    ) -> Fetcher {
        let (cache_dir, ttl, dirty) = (options.cache_dir.clone(), options.ttl, options.dirty);
        let (cache, registries) = (OnceLock::new(), registry::Registries::default());
        let (seen, paths) = (Mutex::default(), Mutex::default());
        let inner =
            Inner { store, client, logger, cache_dir, ttl, dirty, options, cache, registries, seen, paths };
        Fetcher { inner: Arc::new(inner) }
    }

    pub fn options(&self) -> &FetchOptions {
        &self.inner.options
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    fn cache(&self) -> Option<&FetchCache> {
        let open = || {
            let dir = self.inner.cache_dir.as_ref()?;
            match FetchCache::open(dir) {
                Ok(cache) => Some(cache),
                Err(error) => {
                    self.inner.logger.warn(&format!("going on without the cache of fetchers: {error}"));
                    None
                }
            }
        };
        self.inner.cache.get_or_init(open).as_ref()
    }
}

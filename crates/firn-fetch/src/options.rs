//! What the settings say of fetching.

use crate::Dirty;
use firn_core::StorePath;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

/// Makes a path valid, by substitution or not at all; answers whether it is.
pub type Ensure = Arc<dyn Fn(StorePath) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Settings of fetchers.
#[derive(Clone)]
pub struct FetchOptions {
    /// The user's cache folder; without one nothing is remembered between runs.
    pub cache_dir: Option<PathBuf>,
    /// Seconds for which what is known of a URL is believed (`tarball-ttl`).
    pub ttl: u32,
    pub dirty: Dirty,
    /// `access-tokens`: by host, or host and path.
    pub access_tokens: BTreeMap<String, String>,
    /// `trust-tarballs-from-git-forges`.
    pub trust_forges: bool,
    /// A server that stands for all forges, each in the folder of its name; `None` for the forges themselves.
    pub forge_base: Option<String>,
    /// `flake-registry`: a URL, an absolute path, or nothing.
    pub global_registry: String,
    pub user_registry: Option<PathBuf>,
    pub system_registry: Option<PathBuf>,
    /// The experimental features that are on.
    pub features: BTreeSet<String>,
    /// How trees that are known by their hash come from substituters; `None` where that is not possible.
    pub ensure: Option<Ensure>,
}

impl Default for FetchOptions {
    fn default() -> FetchOptions {
        FetchOptions {
            cache_dir: None,
            ttl: 3600,
            dirty: Dirty::Warn,
            access_tokens: BTreeMap::new(),
            trust_forges: true,
            forge_base: None,
            global_registry: String::new(),
            user_registry: None,
            system_registry: None,
            features: BTreeSet::new(),
            ensure: None,
        }
    }
}

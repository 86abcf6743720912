//! Stores in memory with something in them, and caches of all kinds.

use firn_core::{CaMethod, HashAlgo, StoreDir, StorePath};
use firn_http::{HttpClient, HttpConfig, SilentObserver};
use firn_store::activity::{Logger, SilentLogger};
use firn_store::{AddSource, CopyOptions, MemoryStore, Store, copy_paths};
use firn_store_cache::{CacheEnvironment, CacheStore, DiskCacheConfig};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub fn logger() -> Arc<dyn Logger> {
    Arc::new(SilentLogger)
}

pub fn http_config() -> HttpConfig {
    HttpConfig {
        attempts: 4,
        retry_delay: Duration::from_millis(2),
        stalled_timeout: Some(Duration::from_secs(2)),
        ..HttpConfig::default()
    }
}

/// Opens a cache by its URI.
pub fn cache(uri: &str, disk_cache: Option<&Path>) -> CacheStore {
    let environment = CacheEnvironment {
        client: HttpClient::new(http_config(), Arc::new(SilentObserver)),
        logger: logger(),
        disk_cache: disk_cache.map(|dir| DiskCacheConfig {
            directory: dir.to_owned(),
            positive_ttl: 1000,
            negative_ttl: 1000,
            meta_ttl: 1000,
        }),
        store_dir: StoreDir::default(),
        ca_derivations: true,
        negative_ttl: Duration::from_secs(1000),
        force_http: false,
    };
    let parsed = firn_store::StoreUri::parse(uri, "/").unwrap();
    let firn_store::StoreKind::Specified { scheme, authority } = &parsed.kind else { panic!("{uri}") };
    let mut unknown = Vec::new();
    let store =
        firn_store_cache::open(&environment, scheme, authority, &parsed.params, &mut unknown).unwrap();
    assert!(unknown.is_empty(), "{unknown:?}");
    store
}

/// A store with a large file (above what a cache fetches whole before it passes it on), and a text that refers to it.
pub async fn filled() -> (MemoryStore, StorePath, StorePath) {
    let store = MemoryStore::default();
    let none = BTreeSet::new();
    let large: Vec<u8> = (0..400_000u32).flat_map(|n| (n.wrapping_mul(n) % 8191).to_le_bytes()).collect();
    let source = AddSource::Bytes(&large);
    let added = store
        .add_to_store("large", source, CaMethod::NixArchive, HashAlgo::Sha256, &none, false)
        .await
        .unwrap();
    let text = store.add_text("text", b"hello", &[added.path.clone()].into(), false).await.unwrap();
    (store, added.path, text)
}

pub async fn copy(from: &dyn Store, to: &dyn Store, paths: &[&StorePath]) -> firn_store::StoreResult<()> {
    let paths = paths.iter().map(|path| (*path).clone()).collect();
    copy_paths(from, to, &paths, CopyOptions::default(), &logger()).await.map(drop)
}

pub async fn nar(store: &dyn Store, path: &StorePath) -> Vec<u8> {
    let mut out = Vec::new();
    store.nar_from_path(path, &mut out).await.unwrap();
    out
}

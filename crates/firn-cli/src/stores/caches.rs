//! Binary caches.

use super::{Opened, store_dir};
use crate::context::Context;
use crate::error::CliResult;
use firn_core::StoreDir;
use firn_host::OpenCache;
use firn_settings::ExperimentalFeature;
use firn_store::Store;
use firn_store_cache::{CacheEnvironment, DiskCacheConfig};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn environment(context: &Context, dir: StoreDir) -> CacheEnvironment {
    let s = &*context.settings;
    let disk_cache = s.dirs.cache_home.clone().map(|directory| DiskCacheConfig {
        directory,
        positive_ttl: s.narinfo_cache_positive_ttl.into(),
        negative_ttl: s.narinfo_cache_negative_ttl.into(),
        meta_ttl: s.narinfo_cache_meta_ttl.into(),
    });
    CacheEnvironment {
        client: context.http_client().clone(),
        logger: Arc::clone(&context.logger),
        disk_cache,
        store_dir: dir,
        ca_derivations: s.has_feature(ExperimentalFeature::CaDerivations),
        negative_ttl: Duration::from_secs(s.narinfo_cache_negative_ttl.into()),
        force_http: std::env::var_os("_NIX_FORCE_HTTP").is_some_and(|value| value == "1"),
    }
}

/// How evaluation opens caches.
pub fn opener(context: &Context) -> CliResult<OpenCache> {
    let environment = environment(context, store_dir(&context.settings, None)?);
    Ok(Box::new(move |scheme, authority| {
        let none = BTreeMap::new();
        let opened = firn_store_cache::open(&environment, scheme, authority, &none, &mut Vec::new());
        opened.map(|store| Arc::new(store) as Arc<dyn Store>).map_err(|e| e.to_string())
    }))
}

/// `http://`, `https://`, `file://` and `s3://`.
pub fn open(
    context: &Context,
    scheme: &str,
    authority: &str,
    params: &BTreeMap<String, String>,
) -> CliResult<Opened> {
    let environment = environment(context, store_dir(&context.settings, params.get("store"))?);
    let mut unknown = Vec::new();
    let mut store = firn_store_cache::open(&environment, scheme, authority, params, &mut unknown)?;
    if !unknown.is_empty() {
        // They stand in the store's URI no longer.
        let mut known = params.clone();
        for name in unknown {
            context.logger.warn(&format!("unknown setting '{name}'"));
            known.remove(&name);
        }
        store = firn_store_cache::open(&environment, scheme, authority, &known, &mut Vec::new())?;
    }
    Ok(Opened { store: Arc::new(store), local: None, build: None, system_features: None, build_dir: None })
}

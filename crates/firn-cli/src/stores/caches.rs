//! Binary caches.

use super::{Opened, store_dir};
use crate::context::Context;
use crate::error::CliResult;
use firn_settings::ExperimentalFeature;
use firn_store_cache::{CacheEnvironment, DiskCacheConfig};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// `http://`, `https://`, `file://` and `s3://`.
pub fn open(
    context: &Context,
    scheme: &str,
    authority: &str,
    params: &BTreeMap<String, String>,
) -> CliResult<Opened> {
    let s = &*context.settings;
    let disk_cache = s.dirs.cache_home.clone().map(|directory| DiskCacheConfig {
        directory,
        positive_ttl: s.narinfo_cache_positive_ttl.into(),
        negative_ttl: s.narinfo_cache_negative_ttl.into(),
        meta_ttl: s.narinfo_cache_meta_ttl.into(),
    });
    let environment = CacheEnvironment {
        client: context.http_client().clone(),
        logger: Arc::clone(&context.logger),
        disk_cache,
        store_dir: store_dir(s, params.get("store"))?,
        ca_derivations: s.has_feature(ExperimentalFeature::CaDerivations),
        negative_ttl: Duration::from_secs(s.narinfo_cache_negative_ttl.into()),
        force_http: std::env::var_os("_NIX_FORCE_HTTP").is_some_and(|value| value == "1"),
    };
    let mut unknown = Vec::new();
    let store = firn_store_cache::open(&environment, scheme, authority, params, &mut unknown)?;
    for name in unknown {
        context.logger.warn(&format!("unknown setting '{name}'"));
    }
    Ok(Opened { store: Arc::new(store), local: None, build: None })
}

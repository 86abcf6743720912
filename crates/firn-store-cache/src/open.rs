//! From a URI to a cache.

use crate::config::{CacheConfig, CacheKind};
use crate::disk_cache::DiskCacheConfig;
use crate::files::Files;
use crate::http_files::HttpFiles;
use crate::local_files::LocalFiles;
use crate::s3_files::S3Files;
use crate::store::{CacheStore, Parts};
use firn_core::StoreDir;
use firn_http::HttpClient;
use firn_store::activity::Logger;
use firn_store::{StoreError, StoreKind, StoreResult, StoreUri};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What every cache of a process shares.
#[derive(Clone)]
pub struct CacheEnvironment {
    pub client: HttpClient,
    pub logger: Arc<dyn Logger>,
    /// Where answers are kept between runs; `None` to keep none.
    pub disk_cache: Option<DiskCacheConfig>,
    pub store_dir: StoreDir,
    /// The feature `ca-derivations`.
    pub ca_derivations: bool,
    /// `narinfo-cache-negative-ttl`.
    pub negative_ttl: Duration,
    /// Directories are treated as HTTP servers are, for tests of that (`_NIX_FORCE_HTTP`).
    pub force_http: bool,
}

/// Opens a cache; `scheme` is one of `file`, `http`, `https` and `s3`. Nothing is reached before the first use. Names
/// of unknown parameters are added to `unknown`.
pub fn open(
    environment: &CacheEnvironment,
    scheme: &str,
    authority: &str,
    params: &BTreeMap<String, String>,
    unknown: &mut Vec<String>,
) -> StoreResult<CacheStore> {
    let kind = match scheme {
        "file" => CacheKind::File,
        "s3" => CacheKind::S3,
        _ => CacheKind::Http,
    };
    let dir = environment.store_dir.clone();
    let as_http = kind != CacheKind::File || environment.force_http;
    let rules = if kind == CacheKind::File && as_http { CacheKind::Http } else { kind };
    let config = Arc::new(CacheConfig::from_params(rules, dir, params, unknown)?);
    let place = format!("{scheme}://{}", authority.trim_end_matches('/'));
    let files: Box<dyn Files> = match kind {
        CacheKind::File if !as_http => {
            let root = PathBuf::from(firn_http::auth::percent_decode(authority));
            if !root.is_absolute() {
                return Err(StoreError::Other(format!(
                    "local binary cache path '{}' must be absolute",
                    root.display()
                )));
            }
            Box::new(LocalFiles::new(root, place, config.index_debug_info))
        }
        CacheKind::S3 => {
            let http = HttpFiles::new(environment.client.clone(), Arc::clone(&config), &place)?;
            Box::new(S3Files::new(http, Arc::clone(&config)))
        }
        _ => Box::new(HttpFiles::new(environment.client.clone(), Arc::clone(&config), &place)?),
    };
    let disk_cache = environment.disk_cache.clone().filter(|_| as_http);
    let kind = StoreKind::Specified { scheme: scheme.to_owned(), authority: authority.to_owned() };
    // A folder is shown without them.
    let params = if as_http { params.clone() } else { BTreeMap::new() };
    Ok(CacheStore::new(Parts {
        uri: StoreUri { kind, params }.render(),
        config,
        files,
        disk_cache,
        ca_derivations: environment.ca_derivations,
        negative_ttl: environment.negative_ttl,
        logger: Arc::clone(&environment.logger),
    }))
}

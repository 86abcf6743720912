//! The parameters of a cache's URI.

use firn_archive::Method;
use firn_core::StoreDir;
use firn_core::signature::SecretKey;
use firn_http::TlsIdentity;
use firn_store::{StoreError, StoreResult};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which kind of place the files are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    File,
    Http,
    S3,
}

/// How a cache is used; names are those of the URI's parameters.
#[derive(Clone)]
pub struct CacheConfig {
    pub store_dir: StoreDir,
    pub compression: Method,
    pub compression_level: Option<i32>,
    /// Whether archives are compressed by several threads; `None` where the URI does not say: then they are.
    pub parallel_compression: Option<bool>,
    pub write_nar_listing: bool,
    pub index_debug_info: bool,
    /// `secret-key` and `secret-keys`.
    pub secret_keys: Vec<Arc<SecretKey>>,
    pub local_nar_cache: Option<PathBuf>,
    pub priority: Option<i64>,
    pub want_mass_query: Option<bool>,
    pub trusted: bool,
    /// How many paths' facts are kept in memory.
    pub path_info_cache_size: usize,
    pub narinfo_compression: Option<Method>,
    pub ls_compression: Option<Method>,
    pub log_compression: Option<Method>,
    pub tls_identity: Option<Arc<TlsIdentity>>,
    pub storage_class: Option<String>,
    pub multipart_upload: bool,
    /// Bytes.
    pub multipart_chunk_size: u64,
    pub multipart_threshold: u64,
    /// Parameters that belong to an S3 URL itself.
    pub s3_parameters: BTreeMap<String, String>,
}

const MIB: u64 = 1 << 20;

impl CacheConfig {
    pub fn new(store_dir: StoreDir) -> CacheConfig {
        CacheConfig {
            store_dir,
            compression: Method::Xz,
            compression_level: None,
            parallel_compression: None,
            write_nar_listing: false,
            index_debug_info: false,
            secret_keys: Vec::new(),
            local_nar_cache: None,
            priority: None,
            want_mass_query: None,
            trusted: false,
            path_info_cache_size: 65536,
            narinfo_compression: None,
            ls_compression: None,
            log_compression: None,
            tls_identity: None,
            storage_class: None,
            multipart_upload: false,
            multipart_chunk_size: 5 * MIB,
            multipart_threshold: 100 * MIB,
            s3_parameters: BTreeMap::new(),
        }
    }

    /// Reads parameters; secret keys are read from their files. The names of unknown ones are added to `unknown`.
    pub fn from_params(
        kind: CacheKind,
        store_dir: StoreDir,
        params: &BTreeMap<String, String>,
        unknown: &mut Vec<String>,
    ) -> StoreResult<CacheConfig> {
        let mut c = CacheConfig::new(store_dir);
        let mut tls = (None, None);
        for (name, value) in params {
            let has = |kinds: &[CacheKind]| kinds.contains(&kind);
            use CacheKind::{Http, S3};
            match name.as_str() {
                "store" => c.store_dir = StoreDir::new(value),
                "compression" => c.compression = method(name, value)?,
                "compression-level" => {
                    c.compression_level = Some(number(name, value)?).filter(|level| *level != -1);
                }
                "parallel-compression" => c.parallel_compression = Some(boolean(name, value)?),
                "write-nar-listing" => c.write_nar_listing = boolean(name, value)?,
                "index-debug-info" => c.index_debug_info = boolean(name, value)?,
                "secret-key" if value.is_empty() => {}
                "secret-key" => c.secret_keys.push(secret_key(value)?),
                "secret-keys" => {
                    for file in value.split(',').filter(|file| !file.is_empty()) {
                        c.secret_keys.push(secret_key(file)?);
                    }
                }
                "local-nar-cache" => c.local_nar_cache = Some(absolute(name, value)?),
                "priority" => c.priority = Some(number(name, value)?),
                "want-mass-query" => c.want_mass_query = Some(boolean(name, value)?),
                "trusted" => c.trusted = boolean(name, value)?,
                "path-info-cache-size" => c.path_info_cache_size = number(name, value)?,
                // Caches do not build.
                "system-features" => {}
                "narinfo-compression" if has(&[Http, S3]) => c.narinfo_compression = optional(name, value)?,
                "ls-compression" if has(&[Http, S3]) => c.ls_compression = optional(name, value)?,
                "log-compression" if has(&[Http, S3]) => c.log_compression = optional(name, value)?,
                "tls-certificate" if has(&[Http, S3]) => tls.0 = Some(absolute(name, value)?),
                "tls-private-key" if has(&[Http, S3]) => tls.1 = Some(absolute(name, value)?),
                "storage-class" if has(&[S3]) => c.storage_class = Some(value.clone()),
                "multipart-upload" if has(&[S3]) => c.multipart_upload = boolean(name, value)?,
                "multipart-chunk-size" | "buffer-size" if has(&[S3]) => {
                    c.multipart_chunk_size = number(name, value)?;
                    if !(5 * MIB..=5 * 1024 * MIB).contains(&c.multipart_chunk_size) {
                        return Err(StoreError::Other(format!(
                            "multipart-chunk-size must be between 5 MiB and 5 GiB, got {value} bytes"
                        )));
                    }
                }
                "multipart-threshold" if has(&[S3]) => c.multipart_threshold = number(name, value)?,
                "profile" | "region" | "scheme" | "endpoint" | "addressing-style" if has(&[S3]) => {
                    c.s3_parameters.insert(name.clone(), value.clone());
                }
                _ => unknown.push(name.clone()),
            }
        }
        c.tls_identity = match tls {
            (Some(certificate), key) => Some(Arc::new(TlsIdentity { certificate, key })),
            (None, Some(_)) => {
                return Err(StoreError::Other("'tls-private-key' needs 'tls-certificate'".into()));
            }
            (None, None) => None,
        };
        Ok(c)
    }

    /// Threads for one archive.
    pub(crate) fn threads(&self) -> u32 {
        match self.parallel_compression {
            Some(false) => 1,
            _ => std::thread::available_parallelism().map_or(1, |n| n.get().min(64)) as u32,
        }
    }
}

fn method(name: &str, value: &str) -> StoreResult<Method> {
    Method::parse(value)
        .map_err(|_| StoreError::Other(format!("option '{name}' has invalid value '{value}'")))
}

fn optional(name: &str, value: &str) -> StoreResult<Option<Method>> {
    if value.is_empty() { Ok(None) } else { method(name, value).map(Some) }
}

fn number<N: TryFrom<i128>>(name: &str, value: &str) -> StoreResult<N> {
    let number = firn_core::units::parse_integer(value).ok().and_then(|number| number.try_into().ok());
    number.ok_or_else(|| StoreError::Other(format!("setting '{name}' has invalid value '{value}'")))
}

fn boolean(name: &str, value: &str) -> StoreResult<bool> {
    match value {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(StoreError::Other(format!("Boolean setting '{name}' has invalid value '{value}'"))),
    }
}

fn absolute(name: &str, value: &str) -> StoreResult<PathBuf> {
    match Path::new(value).is_absolute() {
        true => Ok(PathBuf::from(value)),
        false => Err(StoreError::Other(format!("setting '{name}': not an absolute path: '{value}'"))),
    }
}

/// Reads a secret key from its file.
pub fn secret_key(file: &str) -> StoreResult<Arc<SecretKey>> {
    let text = std::fs::read_to_string(file).map_err(StoreError::io("reading secret key file", file))?;
    let key = SecretKey::parse(text.trim())
        .map_err(|e| StoreError::Other(format!("secret key file '{file}': {e}")))?;
    Ok(Arc::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: CacheKind, query: &str, expected: &str) {
        let params = firn_store::uri::parse_query(query).unwrap();
        let mut unknown = Vec::new();
        let got = match CacheConfig::from_params(kind, StoreDir::default(), &params, &mut unknown) {
            Ok(c) => format!("{} {:?} {}", c.compression.name(), c.compression_level, unknown.join(",")),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn parameters() {
        use CacheKind::*;
        check(File, "", "xz None ");
        check(File, "compression=zstd&compression-level=9", "zstd Some(9) ");
        check(File, "compression-level=-1&narinfo-compression=br&x=y", "xz None narinfo-compression,x");
        check(Http, "narinfo-compression=br&endpoint=h", "xz None endpoint");
        check(S3, "narinfo-compression=br&endpoint=h", "xz None ");
        check(File, "compression=foo", "option 'compression' has invalid value 'foo'");
        check(File, "trusted=perhaps", "Boolean setting 'trusted' has invalid value 'perhaps'");
        check(S3, "multipart-chunk-size=8M", "xz None ");
        check(S3, "multipart-threshold=1G&path-info-cache-size=2k", "xz None ");
        check(S3, "multipart-chunk-size=8X", "setting 'multipart-chunk-size' has invalid value '8X'");
        check(
            S3,
            "multipart-chunk-size=1",
            "multipart-chunk-size must be between 5 MiB and 5 GiB, got 1 bytes",
        );
    }
}

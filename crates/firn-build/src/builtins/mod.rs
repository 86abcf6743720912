//! Builders that are part of the program. They run in the sandbox of their build, as its user.

pub mod buildenv;
mod fetchurl;
mod listings;
mod unpack_channel;

use crate::config::BuildConfig;
use crate::outputs::Planned;
use firn_core::{CaMethod, HashFormat};
use firn_derivation::{Derivation, DerivationOutput};
use firn_http::s3::S3Credentials;
use firn_http::{HttpClient, HttpConfig, SilentObserver};
use firn_sandbox::{BuiltinCall, Bytes};
use firn_scheduler::BuildFailure;
use firn_store::BuildTarget;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a builtin builder is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Context {
    /// The derivation's environment; names that are not UTF-8 are of no use to a builtin.
    pub env: BTreeMap<String, Vec<u8>>,
    /// Output name to the path that is to be made.
    pub outputs: BTreeMap<String, String>,
    pub build_dir: PathBuf,
    /// The user's `netrc`, for downloads.
    pub netrc: Option<Vec<u8>>,
    /// The user's credentials for S3, where the URL is one of these.
    pub s3_credentials: Option<S3Credentials>,
    /// Certificates that downloads trust.
    pub certificates: Option<Vec<u8>>,
    pub hashed_mirrors: Vec<String>,
    /// Where mirrors have the output, if it is one file whose hash is known.
    pub mirror_path: Option<String>,
    /// Whether the derivation is one that may see the network.
    pub may_download: bool,
    pub downloads: Downloads,
}

/// How downloads work; names are those of settings. Times are in seconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Downloads {
    pub attempts: u32,
    pub connect_timeout: Option<u64>,
    pub stalled_timeout: Option<u64>,
    pub http2: bool,
    /// Bytes per second.
    pub speed_limit: Option<u64>,
    pub user_agent_suffix: String,
}

impl Context {
    /// An attribute as text.
    pub fn attribute(&self, name: &str) -> Result<&str, String> {
        let value = self.env.get(name).ok_or_else(|| format!("attribute '{name}' missing"))?;
        std::str::from_utf8(value).map_err(|_| format!("attribute '{name}' is not UTF-8"))
    }

    /// Whether an attribute is `1`.
    pub fn flag(&self, name: &str) -> bool {
        self.env.get(name).is_some_and(|value| value == b"1")
    }

    pub fn output(&self, name: &str) -> Result<&Path, String> {
        self.outputs.get(name).map(Path::new).ok_or_else(|| format!("output '{name}' missing"))
    }
}

/// The context for a build, encoded. Files of the host are read here, since the sandbox does not have them.
pub(crate) fn payload(
    target: &dyn BuildTarget,
    drv: &Derivation,
    config: &BuildConfig,
    planned: &BTreeMap<String, Planned>,
    build_dir: &Path,
) -> Result<Vec<u8>, BuildFailure> {
    let is_fetch = drv.builder == b"builtin:fetchurl";
    let read =
        |path: &Option<PathBuf>| path.as_ref().filter(|_| is_fetch).and_then(|p| std::fs::read(p).ok());
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).ok();
    let context = Context {
        env: drv.env.iter().filter_map(|(name, value)| Some((text(name)?, value.clone()))).collect(),
        outputs: planned
            .iter()
            .map(|(name, planned)| (name.clone(), target.store_dir().display(&planned.scratch)))
            .collect(),
        build_dir: build_dir.to_owned(),
        netrc: read(&config.netrc_file),
        s3_credentials: match drv.env.get(b"url".as_slice()).and_then(text) {
            Some(url) if is_fetch && url.starts_with("s3://") => s3_credentials(config, url),
            _ => None,
        },
        certificates: read(&config.ssl_cert_file),
        hashed_mirrors: config.hashed_mirrors.clone(),
        mirror_path: match drv.outputs.get("out") {
            Some(DerivationOutput::CaFixed(ca)) if ca.method == CaMethod::Flat => {
                Some(format!("{}/{}", ca.hash.algo(), ca.hash.to_base(HashFormat::Base16)))
            }
            _ => None,
        },
        may_download: drv.derivation_type().is_ok_and(|kind| kind.is_fixed() || kind.is_impure()),
        downloads: config.downloads.clone(),
    };
    serde_json::to_vec(&context).map_err(BuildFailure::other)
}

/// What signs requests for `url`, found where the sandbox does not get.
fn s3_credentials(config: &BuildConfig, url: String) -> Option<S3Credentials> {
    let http = HttpConfig { ca_file: config.ssl_cert_file.clone(), ..HttpConfig::default() };
    // The caller may be part of a runtime, which does not wait for others.
    let look = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let client = HttpClient::new(http, Arc::new(SilentObserver));
        runtime.block_on(firn_http::s3::credentials(&client, &url))
    };
    std::thread::spawn(look).join().ok()?
}

/// Runs the builder that `call` names; the program's main function hands this to the sandbox's init.
pub fn run(call: &BuiltinCall, _env: &[Bytes]) -> Result<(), String> {
    let context: Context = serde_json::from_slice(&call.payload)
        .map_err(|e| format!("the builder's context is damaged: {e}"))?;
    match call.name.as_str() {
        "buildenv" => buildenv::run(&context),
        "fetchurl" => fetchurl::run(&context),
        "unpack-channel" => unpack_channel::run(&context),
        other => Err(format!("unsupported builtin builder '{other}'")),
    }
}

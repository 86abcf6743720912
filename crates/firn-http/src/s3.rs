//! `s3://bucket/key?region=…&profile=…&scheme=…&endpoint=…&addressing-style=…` as HTTPS requests with AWS signatures.

use crate::client::HttpClient;
use crate::error::{ErrorKind, HttpError, HttpResult};
use crate::request::Method;
use bytes::Bytes;
use parking_lot::Mutex;
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, OsEnv, ProvideCredential, Signer};
use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The region where none is given.
const DEFAULT_REGION: &str = "us-east-1";

/// Parameters of a URL that are for us, not for the server.
const OURS: &[&str] = &["profile", "region", "scheme", "endpoint", "addressing-style"];

/// Region and profile of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    region: String,
    profile: Option<String>,
}

/// What signs requests to S3.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl std::fmt::Debug for S3Credentials {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// The credentials of this process for an `s3://` URL, for somebody who cannot look for them. `None` where there are
/// none.
pub async fn credentials(client: &HttpClient, url: &str) -> Option<S3Credentials> {
    let identity = region_and_profile(url);
    let found = provider(&identity).provide_credential(&context(client)).await.ok()??;
    Some(S3Credentials {
        access_key_id: found.access_key_id,
        secret_access_key: found.secret_access_key,
        session_token: found.session_token,
    })
}

fn parse(url: &str) -> HttpResult<Url> {
    let bad = |what: String| HttpError::new(ErrorKind::Misc, format!("S3 URL '{url}' is not valid: {what}"));
    let parsed = Url::parse(url).map_err(|e| bad(e.to_string()))?;
    match parsed.host_str() {
        None | Some("") => Err(bad("it has no bucket name".into())),
        Some(_) => Ok(parsed),
    }
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub(crate) fn region_and_profile(url: &str) -> Identity {
    let parsed = parse(url).ok();
    let get = |name| parsed.as_ref().and_then(|url| parameter(url, name)).filter(|v| !v.is_empty());
    Identity { region: get("region").unwrap_or_else(|| DEFAULT_REGION.into()), profile: get("profile") }
}

/// The URL that stands for an `s3://` one.
pub fn to_https(url: &str) -> HttpResult<String> {
    let bad = |what: &str| HttpError::new(ErrorKind::Misc, format!("S3 URL '{url}' is not valid: {what}"));
    let parsed = parse(url)?;
    let bucket = parsed.host_str().unwrap_or_default();
    let key = parsed.path();
    let region = parameter(&parsed, "region").unwrap_or_else(|| DEFAULT_REGION.into());
    let scheme = parameter(&parsed, "scheme").unwrap_or_else(|| "https".into());
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(bad("its scheme is neither 'http' nor 'https'"));
    }
    let style = parameter(&parsed, "addressing-style").unwrap_or_else(|| "auto".into());
    let endpoint = parameter(&parsed, "endpoint").filter(|e| !e.is_empty());
    let mut virtual_host = match style.as_str() {
        "auto" => endpoint.is_none(),
        "path" => false,
        "virtual" => true,
        _ => return Err(bad("its addressing style is none of 'auto', 'path' and 'virtual'")),
    };
    // The bucket's dots would be levels of a name that no certificate has.
    if virtual_host && bucket.contains('.') {
        if style == "virtual" {
            return Err(HttpError::new(
                ErrorKind::Misc,
                format!(
                    "bucket name '{bucket}' contains a dot, which is incompatible with virtual-hosted-style \
                     addressing (causes TLS certificate errors); use 'addressing-style=path' or \
                     'addressing-style=auto' instead"
                ),
            ));
        }
        virtual_host = false;
    }
    let base = match endpoint {
        None => format!("{scheme}://s3.{region}.amazonaws.com"),
        Some(endpoint) if endpoint.contains("://") => endpoint.trim_end_matches('/').to_owned(),
        Some(endpoint) => format!("{scheme}://{}", endpoint.trim_end_matches('/')),
    };
    let base = match virtual_host {
        true => base.replacen("://", &format!("://{bucket}."), 1),
        false => format!("{base}/{bucket}"),
    };
    let mut out = Url::parse(&format!("{base}{key}")).map_err(|e| bad(&e.to_string()))?;
    let rest: Vec<_> = parsed.query_pairs().filter(|(name, _)| !OURS.contains(&&**name)).collect();
    if !rest.is_empty() {
        out.query_pairs_mut().extend_pairs(rest);
    }
    Ok(out.to_string())
}

/// Signers by region and profile; each finds its credentials once.
#[derive(Default)]
pub(crate) struct S3Signers {
    signers: Mutex<HashMap<Identity, Signer<Credential>>>,
    warned: AtomicBool,
}

impl S3Signers {
    /// Adds a signature to `headers`. Without credentials the request goes out as it is: buckets may be public.
    pub async fn sign(
        &self,
        client: &HttpClient,
        identity: &Identity,
        method: Method,
        url: &Url,
        headers: &mut HeaderMap,
    ) {
        let signer = {
            let mut signers = self.signers.lock();
            signers.entry(identity.clone()).or_insert_with(|| signer(client, identity)).clone()
        };
        let name = match method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        };
        let request = http::Request::builder().method(name).uri(url.as_str()).body(());
        let Ok(request) = request else { return };
        let mut parts = request.into_parts().0;
        parts.headers = headers.clone();
        match signer.sign(&mut parts, None).await {
            Ok(()) => *headers = parts.headers,
            Err(error) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    let message = format!("AWS authentication failed for S3 request {url}: {error}");
                    client.inner.observer.warn(&message);
                }
            }
        }
    }
}

fn context(client: &HttpClient) -> Context {
    Context::new().with_file_read(Files).with_http_send(Http(client.clone())).with_env(OsEnv)
}

fn provider(identity: &Identity) -> DefaultCredentialProvider {
    let mut providers = DefaultCredentialProvider::builder();
    if let Some(profile) = &identity.profile {
        providers = providers.with_profile(profile);
    }
    // A container's own service stands in the place of the machine's.
    let in_container = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
    if in_container.iter().any(|name| std::env::var_os(name).is_some()) {
        providers = providers.no_imds();
    }
    providers.build()
}

fn signer(client: &HttpClient, identity: &Identity) -> Signer<Credential> {
    let signs = RequestSigner::new("s3", &identity.region);
    match &client.config().s3_credentials {
        None => {
            let profile = identity.profile.as_deref().unwrap_or("(default)");
            let pid = std::process::id();
            client
                .debug(&format!("[pid={pid}] creating new AWS credential provider for profile '{profile}'"));
            Signer::new(context(client), provider(identity), signs)
        }
        Some(given) => {
            let mut fixed = StaticCredentialProvider::new(&given.access_key_id, &given.secret_access_key);
            if let Some(token) = &given.session_token {
                fixed = fixed.with_session_token(token);
            }
            Signer::new(context(client), fixed, signs)
        }
    }
}

/// Reads AWS's configuration files.
#[derive(Debug)]
struct Files;

impl reqsign_core::FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        tokio::fs::read(path).await.map_err(|e| reqsign_core::Error::unexpected(format!("{path}: {e}")))
    }
}

/// Asks AWS's services for credentials.
struct Http(HttpClient);

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Http")
    }
}

/// The machine's own service answers at once or is not there.
const PATIENCE: Duration = Duration::from_secs(2);

impl reqsign_core::HttpSend for Http {
    async fn http_send(&self, request: http::Request<Bytes>) -> reqsign_core::Result<http::Response<Bytes>> {
        let fail = |e: String| reqsign_core::Error::unexpected(e);
        let (parts, body) = request.into_parts();
        let tls = parts.uri.scheme_str() == Some("https");
        let connections = self.0.connections(tls, None).map_err(fail)?;
        let method =
            reqwest::Method::from_bytes(parts.method.as_str().as_bytes()).map_err(|e| fail(e.to_string()))?;
        let mut builder =
            connections.request(method, parts.uri.to_string()).headers(parts.headers).body(body);
        if !tls {
            builder = builder.timeout(PATIENCE);
        }
        let response = builder.send().await.map_err(|e| fail(crate::exchange::chain(&e)))?;
        let mut answer = http::Response::builder().status(response.status().as_u16());
        for (name, value) in response.headers() {
            answer = answer.header(name.as_str(), value.as_bytes());
        }
        let body = response.bytes().await.map_err(|e| fail(crate::exchange::chain(&e)))?;
        answer.body(body).map_err(|e| fail(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let got = to_https(url).unwrap_or_else(|e| e.to_string());
        assert!(got.starts_with(expected), "{got}");
    }

    #[test]
    fn urls() {
        check("s3://b/k", "https://b.s3.us-east-1.amazonaws.com/k");
        check("s3://b/a/k?region=eu-west-1", "https://b.s3.eu-west-1.amazonaws.com/a/k");
        check("s3://b.c/k", "https://s3.us-east-1.amazonaws.com/b.c/k");
        check("s3://b.c/k?addressing-style=virtual", "bucket name 'b.c' contains a dot");
        check("s3://b/k?endpoint=h:9000&scheme=http", "http://h:9000/b/k");
        check("s3://b/k?endpoint=http://h:9000", "http://h:9000/b/k");
        check("s3://b/k?endpoint=http://h:9000/x&addressing-style=virtual", "http://b.h:9000/x/k");
        check("s3://b/k?versionId=7&profile=p", "https://b.s3.us-east-1.amazonaws.com/k?versionId=7");
        check("s3://b/k?scheme=ftp", "S3 URL 's3://b/k?scheme=ftp' is not valid");
        check("s3:///k", "S3 URL 's3:///k' is not valid");
    }
}

//! A cache behind HTTP.

use crate::config::CacheConfig;
use crate::files::{Content, Files, MAX_SMALL};
use async_trait::async_trait;
use bytes::Bytes;
use firn_archive::{EncoderOptions, Method as Compression};
use firn_http::client::DownloadError;
use firn_http::{ErrorKind, HttpClient, HttpError, Method, Request, Upload};
use firn_store::{StoreError, StoreResult, Trust};
use parking_lot::Mutex;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use url::Url;

/// How long a cache that failed is not asked again.
const REST: Duration = Duration::from_secs(60);

pub(crate) struct HttpFiles {
    client: HttpClient,
    config: Arc<CacheConfig>,
    /// With a slash at the end, so that paths can be joined to it.
    base: Url,
    uri: String,
    /// Since when the cache is left alone, and why.
    failed: Mutex<Option<(Instant, String)>>,
}

impl HttpFiles {
    /// `uri` is scheme, host and path; parameters are in `config`.
    pub fn new(client: HttpClient, config: Arc<CacheConfig>, uri: &str) -> StoreResult<HttpFiles> {
        let uri = uri.trim_end_matches('/').to_owned();
        let bad = |e: &dyn std::fmt::Display| StoreError::Other(format!("'{uri}' is not a valid URL: {e}"));
        let base = Url::parse(&format!("{uri}/")).map_err(|e| bad(&e))?;
        if base.scheme() != "file" && base.host_str().is_none_or(str::is_empty) {
            return Err(StoreError::Other(format!(
                "`{}` Store requires a non-empty authority in Store URL",
                base.scheme()
            )));
        }
        Ok(HttpFiles { client, config, base, uri, failed: Mutex::new(None) })
    }

    fn check_enabled(&self) -> StoreResult<()> {
        let mut failed = self.failed.lock();
        match &*failed {
            Some((since, reason)) if since.elapsed() < REST => {
                Err(StoreError::SubstituterDisabled { uri: self.uri.clone(), reason: reason.clone() })
            }
            _ => {
                *failed = None;
                Ok(())
            }
        }
    }

    /// Notes a failure that the next requests would meet too.
    fn failure(&self, error: HttpError) -> StoreError {
        if error.kind == ErrorKind::Transient {
            *self.failed.lock() = Some((Instant::now(), error.message.clone()));
        }
        StoreError::Other(error.to_string())
    }

    /// The URL of a file. `path` may be a URL of its own: caches may keep archives elsewhere.
    pub fn url(&self, path: &str) -> StoreResult<Url> {
        let bad = |what: &str| StoreError::Corrupt(format!("binary cache '{}': '{path}' {what}", self.uri));
        let mut url = self.base.join(path).map_err(|e| bad(&e.to_string()))?;
        if url.scheme() != self.base.scheme() && !matches!(url.scheme(), "http" | "https") {
            return Err(bad("is not a URL that a binary cache may lead to"));
        }
        if url.scheme() == "s3" && url.query().is_none() && !self.config.s3_parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.config.s3_parameters);
        }
        Ok(url)
    }

    pub fn request(&self, method: Method, path: &str) -> StoreResult<Request> {
        let url = self.url(path)?;
        let mut request = Request::new(method, url.to_string());
        // Archives can wait; what facts lead to cannot be asked for without them.
        request.urgent = method == Method::Get && !path.contains("nar/");
        // Who we are is told to the cache only, not to others that it leads to.
        if url.origin() == self.base.origin() {
            request.tls_identity.clone_from(&self.config.tls_identity);
        }
        Ok(request)
    }

    pub fn client(&self) -> &HttpClient {
        &self.client
    }

    /// Adds where it happened to the error of an upload.
    pub fn upload_error(&self, error: &HttpError) -> StoreError {
        StoreError::Other(format!("{error}\nwhile uploading to binary cache at '{}'", self.uri))
    }

    /// What is sent for a file, and the name of the compression that it got for its way.
    pub async fn encoded(
        &self,
        path: &str,
        content: &Content,
    ) -> StoreResult<(Upload, Option<&'static str>)> {
        let config = &self.config;
        let method = if path.ends_with(".narinfo") {
            config.narinfo_compression
        } else if path.ends_with(".ls") {
            config.ls_compression
        } else if path.starts_with("log/") {
            config.log_compression
        } else {
            None
        };
        let (Some(method), Content::Bytes(bytes)) = (method, content) else {
            return Ok((content.upload()?, None));
        };
        let bytes = bytes.clone();
        let work = tokio::task::spawn_blocking(move || compress(method, &bytes));
        let packed = work.await.unwrap_or_else(|e| Err(StoreError::Other(e.to_string())))?;
        Ok((Upload::Bytes(packed.into()), Some(method.name())))
    }
}

fn compress(method: Compression, bytes: &[u8]) -> StoreResult<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| StoreError::Other(format!("compressing: {e}"));
    let mut packed = Vec::new();
    let mut encoder =
        firn_archive::encoder(method, EncoderOptions::default(), &mut packed).map_err(|e| failed(&e))?;
    encoder.write_all(bytes).map_err(|e| failed(&e))?;
    encoder.finish().map_err(|e| failed(&e))?;
    Ok(packed)
}

#[async_trait]
impl Files for HttpFiles {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn trust(&self) -> Option<Trust> {
        None
    }

    async fn prepare(&self) -> StoreResult<()> {
        Ok(())
    }

    async fn get(&self, path: &str) -> StoreResult<Option<Bytes>> {
        self.check_enabled()?;
        match self.client.fetch(self.request(Method::Get, path)?, MAX_SMALL).await {
            Ok((_, bytes)) => Ok(Some(bytes)),
            Err(error) if error.is_missing_in_cache() => Ok(None),
            Err(error) => Err(self.failure(error)),
        }
    }

    async fn try_get(&self, path: &str) -> Option<Option<Bytes>> {
        self.check_enabled().ok()?;
        let mut request = self.request(Method::Get, path).ok()?;
        request.attempts = Some(1);
        match self.client.fetch(request, MAX_SMALL).await {
            Ok((_, bytes)) => Some(Some(bytes)),
            Err(error) if error.is_missing_in_cache() => Some(None),
            Err(_) => None,
        }
    }

    async fn stream(&self, path: &str, sink: &mut (dyn AsyncWrite + Send + Unpin)) -> StoreResult<bool> {
        self.check_enabled()?;
        match self.client.download(self.request(Method::Get, path)?, sink).await {
            Ok(_) => Ok(true),
            Err(DownloadError::Http(error)) if error.is_missing_in_cache() => Ok(false),
            Err(DownloadError::Http(error)) => Err(self.failure(error)),
            Err(DownloadError::Sink(error)) => Err(firn_nar::NarError::Write(error).into()),
        }
    }

    async fn exists(&self, path: &str) -> StoreResult<bool> {
        self.check_enabled()?;
        match self.client.fetch(self.request(Method::Head, path)?, 0).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing_in_cache() => Ok(false),
            Err(error) => Err(self.failure(error)),
        }
    }

    async fn put(&self, path: &str, content: Content, mime: &str) -> StoreResult<()> {
        let mut request = self.request(Method::Put, path)?;
        let (body, encoding) = self.encoded(path, &content).await?;
        request.body = Some(body);
        request.mime_type = Some(mime.to_owned());
        request.headers.extend(encoding.map(|name| ("Content-Encoding".to_owned(), name.to_owned())));
        self.client.send(request).await.map(drop).map_err(|e| self.upload_error(&e))
    }

    async fn hash_parts(&self) -> StoreResult<Option<Vec<String>>> {
        Ok(None)
    }
}

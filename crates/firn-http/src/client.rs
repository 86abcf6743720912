//! The client: attempts, and where the bytes go.

use crate::body::{self, Target};
use crate::config::HttpConfig;
use crate::error::{ErrorKind, HttpError, HttpResult};
use crate::exchange;
use crate::file;
use crate::netrc::Netrc;
use crate::observer::{TransferObserver, TransferProgress};
use crate::pace::Paces;
use crate::queue::{Permit, Queue};
use crate::request::{Method, Request, Response, TlsIdentity};
use crate::retry;
use crate::s3::S3Signers;
use crate::tls;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Makes transfers. Cheap to clone; connections are shared. Needs a tokio runtime when it is used.
#[derive(Clone)]
pub struct HttpClient {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: HttpConfig,
    pub observer: Arc<dyn TransferObserver>,
    netrc: OnceLock<Netrc>,
    clients: Mutex<HashMap<ClientKey, reqwest::Client>>,
    permits: Permits,
    /// Servers that answered, and whether they take many requests on one connection.
    servers: Mutex<HashMap<String, bool>>,
    /// Requests to servers of which that is not known yet: each of them may open a connection.
    first: Arc<Semaphore>,
    paces: Paces,
    pub s3: S3Signers,
}

/// What may be under way at once.
struct Permits {
    /// `http-connections`.
    connections: Arc<Queue>,
    /// Requests to servers that take many on one connection, which `http-connections` does not count.
    streams: Arc<Queue>,
}

/// What a request holds while it is under way.
struct Turn {
    _permit: Permit,
    /// Until it is known what the server can do.
    first: Option<OwnedSemaphorePermit>,
}

/// Requests that may be under way for each of `http-connections` where a server takes many on one connection.
const STREAMS: usize = 4;

/// How many of them a server can be expected to take; more wait on the connection, where nothing goes before the rest.
const MOST_STREAMS: usize = 128;

/// Requests that are sent to a server before it is known whether one connection is enough.
const FIRST: usize = 4;

/// How many connections there can be without a limit of their own: half of what the process may have open.
fn most_connections() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(4096, |files| usize::try_from(files / 2).unwrap_or(usize::MAX)).max(16)
}

/// The scheme and the server of a URL.
fn origin(url: &str) -> &str {
    let mut slashes = url.match_indices('/').skip(2);
    slashes.next().map_or(url, |(end, _)| &url[..end])
}

/// Connections that cannot be shared with others.
#[derive(PartialEq, Eq, Hash)]
enum ClientKey {
    /// Without TLS: authorities need not be read.
    Plain,
    Tls(Option<Arc<TlsIdentity>>),
}

/// Why a download to a sink ended.
#[derive(Debug)]
pub enum DownloadError {
    Http(HttpError),
    /// The sink failed; the transfer itself was fine.
    Sink(io::Error),
}

impl From<HttpError> for DownloadError {
    fn from(error: HttpError) -> Self {
        DownloadError::Http(error)
    }
}

/// Why one attempt failed.
pub(crate) struct Failure {
    pub error: DownloadError,
    /// Seconds that the server asked us to wait.
    pub retry_after: Option<u64>,
    /// Whether the server gives parts of files, so that bytes that were passed on need not come again.
    pub resumable: bool,
}

impl Failure {
    pub fn of(error: HttpError) -> Failure {
        Failure { error: DownloadError::Http(error), retry_after: None, resumable: false }
    }
}

impl HttpClient {
    /// Makes a client; nothing is read or opened before the first transfer.
    pub fn new(config: HttpConfig, observer: Arc<dyn TransferObserver>) -> HttpClient {
        let n = match config.connections as usize {
            0 => most_connections(),
            n => n,
        };
        HttpClient {
            inner: Arc::new(Inner {
                config,
                observer,
                netrc: OnceLock::new(),
                clients: Mutex::default(),
                permits: Permits {
                    connections: Arc::new(Queue::new(n)),
                    streams: Arc::new(Queue::new(n.saturating_mul(STREAMS).min(MOST_STREAMS).max(n))),
                },
                servers: Mutex::default(),
                first: Arc::new(Semaphore::new(FIRST)),
                paces: Paces::default(),
                s3: S3Signers::default(),
            }),
        }
    }

    pub fn config(&self) -> &HttpConfig {
        &self.inner.config
    }

    /// Makes a transfer with the answer's body in memory, which may have `limit` bytes.
    pub async fn fetch(&self, request: Request, limit: usize) -> HttpResult<(Response, Bytes)> {
        let mut target = Target::memory(limit);
        match self.run(request, &mut target).await {
            Ok(response) => Ok((response, target.into_bytes())),
            Err(DownloadError::Http(error)) => Err(error),
            // Memory does not fail.
            Err(DownloadError::Sink(error)) => Err(HttpError::new(ErrorKind::Misc, error.to_string())),
        }
    }

    /// Writes the body to `sink`. After a failure `sink` may have got a part of it.
    pub async fn download(
        &self,
        request: Request,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<Response, DownloadError> {
        self.run(request, &mut Target::sink(sink)).await
    }

    /// Sends a body (or deletes), with the answer of no interest but for its headers.
    pub async fn send(&self, request: Request) -> HttpResult<Response> {
        self.fetch(request, 1 << 20).await.map(|(response, _)| response)
    }

    async fn run(&self, request: Request, target: &mut Target<'_>) -> Result<Response, DownloadError> {
        let attempts =
            request.attempts.map_or(self.inner.config.attempts, |n| n.min(self.inner.config.attempts));
        let mut progress: Option<Box<dyn TransferProgress>> = None;
        let server = origin(&request.url);
        let paces = &self.inner.paces;
        let mut attempt = 0;
        loop {
            attempt += 1;
            target.restart();
            let served = paces.served(server);
            let failure = match self.attempt(&request, target, &mut progress).await {
                Ok(response) => {
                    paces.serve(server);
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            let DownloadError::Http(error) = &failure.error else { return Err(failure.error) };
            if error.kind != ErrorKind::Transient {
                // That is an answer too.
                paces.serve(server);
            }
            let can_go_on = target.passed_on() == 0 || failure.resumable;
            let mut is_new = true;
            if let (Some(429 | 503), Some(wait)) = (error.status, failure.retry_after) {
                is_new = paces.complain(server, retry::delay(Duration::ZERO, attempt, None, Some(wait)));
                // Others are served: our turn will come.
                if attempts > 1 && paces.served(server) > served {
                    attempt -= 1;
                }
            }
            if error.kind != ErrorKind::Transient || attempt >= attempts || !can_go_on {
                return Err(failure.error);
            }
            let delay = retry::delay(
                self.inner.config.retry_delay,
                attempt.max(1),
                error.status,
                failure.retry_after,
            );
            let offset = match target.passed_on() {
                0 => String::new(),
                n => format!(" from offset {n}"),
            };
            let millis = delay.as_millis();
            if is_new {
                self.inner.observer.warn(&format!(
                    "{error}; retrying{offset} in {millis} ms (attempt {}/{attempts})",
                    attempt.max(1)
                ));
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// Tells those who want to know everything.
    pub fn debug(&self, message: &str) {
        self.inner.observer.debug(message);
    }

    async fn attempt(
        &self,
        request: &Request,
        target: &mut Target<'_>,
        progress: &mut Option<Box<dyn TransferProgress>>,
    ) -> Result<Response, Failure> {
        let mut turn = self.turn(request).await;
        if progress.is_none() {
            let url = request.shown_url();
            let text = format!("{} '{url}'", request.method.continuous());
            *progress = self.inner.observer.start(&text, &url, request.parent);
        }
        if let Some(path) = request.url.strip_prefix("file://") {
            return file::transfer(request, path, target).await;
        }
        let answer = exchange::send(self, request, &target.resume()).await?;
        self.note_server(&request.url, &answer.response);
        turn.first = None;
        body::receive(self, request, answer, target, progress).await
    }

    /// Waits until a request may be sent.
    async fn turn(&self, request: &Request) -> Turn {
        let server = origin(&request.url);
        let known = || self.inner.servers.lock().get(server).copied();
        let unknown = server.starts_with("https:") && self.inner.config.http2 && known().is_none();
        let first = match unknown {
            true => Arc::clone(&self.inner.first).acquire_owned().await.ok(),
            false => None,
        };
        let multiplexed = known();
        let permit = loop {
            let permits = &self.inner.permits;
            let queue = if multiplexed == Some(true) { &permits.streams } else { &permits.connections };
            let permit = queue.acquire(request.urgent).await;
            match self.inner.paces.pause(server) {
                None => break permit,
                Some(left) => {
                    drop(permit);
                    tokio::time::sleep(left).await;
                }
            }
        };
        Turn { _permit: permit, first: first.filter(|_| multiplexed.is_none()) }
    }

    /// Notes what the server that answered can do. One that only leads to another is as good as one that can do nothing.
    fn note_server(&self, asked: &str, response: &reqwest::Response) {
        let (asked, answered) = (origin(asked), origin(response.url().as_str()));
        let multiplexed = response.version() == reqwest::Version::HTTP_2;
        let mut servers = self.inner.servers.lock();
        if servers.get(answered) != Some(&multiplexed) {
            servers.insert(answered.to_owned(), multiplexed);
        }
        if !servers.contains_key(asked) {
            servers.insert(asked.to_owned(), false);
        }
    }

    pub(crate) fn netrc(&self) -> &Netrc {
        self.inner
            .netrc
            .get_or_init(|| self.inner.config.netrc_file.as_deref().map(Netrc::read).unwrap_or_default())
    }

    /// The connections to use for a URL.
    pub(crate) fn connections(
        &self,
        tls: bool,
        identity: Option<&Arc<TlsIdentity>>,
    ) -> Result<reqwest::Client, String> {
        let key = if tls { ClientKey::Tls(identity.cloned()) } else { ClientKey::Plain };
        let mut clients = self.inner.clients.lock();
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let config = &self.inner.config;
        let suffix = match config.user_agent_suffix.as_str() {
            "" => String::new(),
            suffix => format!(" {suffix}"),
        };
        let agent =
            format!("firn/{} Nix/{}{suffix}", env!("CARGO_PKG_VERSION"), firn_core::REFERENCE_VERSION);
        // Without TLS there is nobody to verify; an empty list of authorities costs nothing.
        let tls_config = match tls {
            true => tls::config(config.ca_file.as_deref(), identity.map(|i| &**i), config.http2)?,
            false => tls::without_authorities()?,
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(agent)
            .referer(false)
            .pool_idle_timeout(Duration::from_secs(60))
            .http2_adaptive_window(true);
        if let Some(timeout) = config.connect_timeout {
            builder = builder.connect_timeout(timeout);
        }
        if !config.http2 {
            builder = builder.http1_only();
        }
        let client = builder.build().map_err(|e| exchange::chain(&e))?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// Whether a file is there.
    pub async fn exists(&self, url: &str) -> HttpResult<bool> {
        match self.fetch(Request::new(Method::Head, url), 0).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

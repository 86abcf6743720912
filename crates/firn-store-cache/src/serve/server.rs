//! Accepting connections.

use super::answer::{self, State};
use super::body::{self, Body};
use super::metrics::{Metrics, count};
use firn_archive::Method;
use firn_core::signature::SecretKey;
use firn_store::Store;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How a store is served.
#[derive(Clone)]
pub struct ServeConfig {
    /// `none` or `zstd`.
    pub compression: Method,
    pub compression_level: Option<i32>,
    /// What is told to clients; smaller is asked first.
    pub priority: i64,
    /// Sign all that is served.
    pub secret_keys: Vec<Arc<SecretKey>>,
    /// Clients may have a hundred each; those that are silent cost some memory, for as long as `patience`.
    pub max_connections: usize,
    /// Archives that are read at once; further ones wait.
    pub max_archives: usize,
    /// How long a client may stand still.
    pub patience: Duration,
    /// Gets what went wrong on this side.
    pub report: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        ServeConfig {
            compression: Method::Zstd,
            compression_level: None,
            priority: 50,
            secret_keys: Vec::new(),
            max_connections: 2048,
            max_archives: 64,
            patience: Duration::from_secs(60),
            report: Arc::new(|_| ()),
        }
    }
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    state: Arc<State>,
}

impl Server {
    /// Listens at an address; port 0 is one that is free.
    pub async fn bind(store: Arc<dyn Store>, config: ServeConfig, address: &str) -> io::Result<Server> {
        let listener = TcpListener::bind(address).await?;
        let slots = Arc::new(Semaphore::new(config.max_archives.max(1)));
        let metrics = Arc::new(Metrics::default());
        Ok(Server { listener, state: Arc::new(State { store, config, metrics, slots }) })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` fires; then what is under way gets a little time.
    pub async fn run(self, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.state.config.max_connections.max(1)));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            let stream = match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, mostly: others are about to end.
                Err(error) => {
                    (self.state.config.report)(&format!("accepting a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                count(&self.state.metrics.refused_connections);
                continue;
            };
            let (state, stop) = (Arc::clone(&self.state), stop.clone());
            connections.spawn(async move {
                count(&state.metrics.connections);
                count(&state.metrics.open_connections);
                serve(&state, stream, stop).await;
                state.metrics.open_connections.fetch_sub(1, Ordering::Relaxed);
                drop(place);
            });
        }
        let rest = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(10), rest).await;
    }
}

async fn serve(state: &Arc<State>, stream: TcpStream, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let patience = state.config.patience;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(64 * 1024)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(patience)
        .keep_alive_timeout(patience);
    let service = service_fn(|request: Request<Incoming>| {
        let state = Arc::clone(state);
        async move { Ok::<_, Infallible>(respond(&state, request).await) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            // What clients do wrong is theirs.
            _ = connection.as_mut() => return,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn respond(state: &State, request: Request<Incoming>) -> Response<Body> {
    count(&state.metrics.requests);
    let head = request.method() == hyper::Method::HEAD;
    if !head && request.method() != hyper::Method::GET {
        count(&state.metrics.bad_requests);
        let mut response = Response::new(body::full("this cache is only read\n"));
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(hyper::header::ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = answer::answer(state, request.uri().path(), request.headers()).await;
    if head {
        // Dropping the body ends what would have made it; its length stays told.
        let length = hyper::body::Body::size_hint(response.body()).exact();
        if let Some(length) = length {
            response.headers_mut().entry(hyper::header::CONTENT_LENGTH).or_insert(length.into());
        }
        *response.body_mut() = body::full("");
    }
    response
}

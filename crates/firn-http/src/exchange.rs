//! One request and the head of its answer, with redirects followed.

use crate::auth;
use crate::body::Resume;
use crate::client::{Failure, HttpClient};
use crate::error::{ErrorKind, HttpError};
use crate::pipe::PIECE;
use crate::request::{Method, Request, Upload};
use crate::retry;
use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MAX_REDIRECTS: usize = 10;

/// How much of a failed answer's body is kept.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// The encodings that can be undone, best first.
const ENCODINGS: &str = "zstd, br, gzip, deflate, xz, bzip2";

/// An answer whose status means success.
pub(crate) struct Answer {
    pub response: reqwest::Response,
    pub urls: Vec<String>,
}

/// What is wrong, with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text += ": ";
            text += &cause_text;
        }
        source = cause.source();
    }
    text
}

/// The cause of all causes, which is what users can do something about.
fn last_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

pub(crate) fn failed(request: &Request, what: &str) -> String {
    format!("unable to {} '{}': {what}", request.method.verb(), request.shown_url())
}

/// A failure below HTTP, in words that curl's users know.
pub(crate) fn transport_error(request: &Request, error: &reqwest::Error) -> HttpError {
    let details = chain(error);
    let unverified = details.contains("invalid peer certificate") || details.contains("UnknownIssuer");
    let kind = if unverified || error.is_builder() { ErrorKind::Misc } else { ErrorKind::Transient };
    let summary = if error.is_timeout() {
        "Timeout was reached"
    } else if unverified {
        "SSL peer certificate or SSH remote key was not OK"
    } else if details.contains("dns error") || details.contains("failed to lookup") {
        "Could not resolve hostname"
    } else if error.is_connect() {
        "Could not connect to server"
    } else if error.is_body() || error.is_decode() {
        "Transferred a partial file"
    } else {
        "Failure when receiving data from the peer"
    };
    HttpError::new(kind, failed(request, &format!("{summary}: {}", last_cause(error))))
}

/// Sends a request and waits for the head of the answer.
pub(crate) async fn send(client: &HttpClient, request: &Request, resume: &Resume) -> Result<Answer, Failure> {
    let misc = |what: String| Failure::of(HttpError::new(ErrorKind::Misc, failed(request, &what)));
    let bad_url = |e: &dyn std::fmt::Display| misc(format!("URL using bad/illegal format: {e}"));
    let s3 = request.url.starts_with("s3://");
    let text = match s3 {
        true => crate::s3::to_https(&request.url).map_err(|e| misc(e.to_string()))?,
        false => request.url.clone(),
    };
    let mut url = Url::parse(&text).map_err(|e| bad_url(&e))?;
    let origin = url.origin();
    let mut login = match s3 {
        true => None,
        false => auth::login(&mut url, request.login.as_ref(), client.netrc()),
    };
    let mut urls = vec![request.url.clone()];
    let mut method = request.method;
    let progress = Arc::new(AtomicU64::new(0));
    for hop in 0.. {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(misc(format!("Unsupported protocol '{}'", url.scheme())));
        }
        let tls = url.scheme() == "https";
        let own = url.origin() == origin;
        let connections =
            client.connections(tls, request.tls_identity.as_ref().filter(|_| own)).map_err(misc)?;
        let mut headers = HeaderMap::new();
        let mut add = |name: &str, value: &str| -> Result<(), Failure> {
            let name = HeaderName::from_bytes(name.as_bytes());
            match (name, HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) => {
                    headers.insert(name, value);
                    Ok(())
                }
                _ => Err(misc(format!("header with value '{value}' is not valid"))),
            }
        };
        if own {
            for (name, value) in &request.headers {
                add(name, value)?;
            }
        }
        if let Some(mime) = &request.mime_type {
            add("content-type", mime)?;
        }
        if let Some(etag) = request.expected_etag.as_deref().filter(|etag| !etag.is_empty()) {
            add("if-none-match", etag)?;
        }
        if resume.offset > 0 {
            add("range", &format!("bytes={}-", resume.offset))?;
            if let Some(etag) = &resume.strong_etag {
                add("if-range", etag)?;
            }
        } else if request.body.is_none() {
            add("accept-encoding", ENCODINGS)?;
        }
        if s3 && own {
            let region = crate::s3::region_and_profile(&request.url);
            client.inner.s3.sign(client, &region, method, &url, &mut headers).await;
        }
        // A header that was given says more than what is known of the machine.
        let authorized = headers.contains_key(header::AUTHORIZATION);
        let mut builder = connections.request(reqwest_method(method), url.clone()).headers(headers);
        if let Some((user, password)) = login.as_ref().filter(|_| !authorized) {
            builder = builder.basic_auth(user, Some(password));
        }
        if let Some(body) = request.body.as_ref().filter(|_| matches!(method, Method::Put | Method::Post)) {
            builder = builder.header(header::CONTENT_LENGTH, body.size());
            builder = builder.body(upload_body(body, &progress));
        }
        let response = match watch(builder.send(), client.inner.config.stalled_timeout, &progress).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => return Err(Failure::of(transport_error(request, &error))),
            None => return Err(Failure::of(stalled(client, request))),
        };
        let status = response.status();
        if retry::is_success(status.as_u16()) {
            return Ok(Answer { response, urls });
        }
        let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
        if status.is_redirection()
            && let Some(location) = location
        {
            if hop >= MAX_REDIRECTS {
                return Err(misc(format!("Maximum ({MAX_REDIRECTS}) redirects followed")));
            }
            let next = url.join(location).map_err(|e| bad_url(&e))?;
            if method == Method::Post && matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND)
                || status == StatusCode::SEE_OTHER && method != Method::Head
            {
                method = Method::Get;
            }
            // Nobody but the host that was asked gets what was meant for it.
            if next.origin() != url.origin() {
                login = None;
            }
            urls.push(next.to_string());
            url = next;
            if login.is_none() && !s3 {
                login = auth::login(&mut url, None, client.netrc());
            }
            continue;
        }
        return Err(status_failure(request, response).await);
    }
    Err(misc("too many redirects".into()))
}

pub(crate) fn stalled(client: &HttpClient, request: &Request) -> HttpError {
    let seconds = client.inner.config.stalled_timeout.unwrap_or_default().as_secs();
    let what = format!("Timeout was reached: no data for {seconds} seconds");
    HttpError::new(ErrorKind::Transient, failed(request, &what))
}

async fn status_failure(request: &Request, mut response: reqwest::Response) -> Failure {
    let status = response.status().as_u16();
    let headers = response.headers();
    let number = |name: HeaderName| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let length = number(header::CONTENT_LENGTH);
    let retry_after =
        headers.get(header::RETRY_AFTER).and_then(|value| retry::retry_after(value.to_str().ok()?));
    let encoded = headers.contains_key(header::CONTENT_ENCODING);
    let mut body = Vec::new();
    if length.is_none_or(|n| n <= MAX_ERROR_BODY as u64) && !encoded {
        let read = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                body.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR_BODY - body.len())]);
                if body.len() >= MAX_ERROR_BODY {
                    break;
                }
            }
        };
        // What it says is only an addition: it is not waited for long.
        let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
    }
    let error = HttpError {
        kind: retry::classify(status),
        message: failed(request, &format!("HTTP error {status}")),
        response: Some(String::from_utf8_lossy(&body).into_owned()),
        status: Some(status),
    };
    Failure { retry_after, ..Failure::of(error) }
}

fn reqwest_method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Put => reqwest::Method::PUT,
        Method::Post => reqwest::Method::POST,
        Method::Delete => reqwest::Method::DELETE,
    }
}

/// Waits for `future`, and gives up when `progress` stands still for `timeout`.
async fn watch<T>(
    future: impl Future<Output = T>,
    timeout: Option<Duration>,
    progress: &AtomicU64,
) -> Option<T> {
    let Some(timeout) = timeout else { return Some(future.await) };
    tokio::pin!(future);
    let mut seen = progress.load(Ordering::Relaxed);
    loop {
        tokio::select! {
            biased;
            result = &mut future => return Some(result),
            () = tokio::time::sleep(timeout) => {
                let now = progress.load(Ordering::Relaxed);
                if now == seen {
                    return None;
                }
                seen = now;
            }
        }
    }
}

/// A body that reads its file as it is sent.
fn upload_body(upload: &Upload, progress: &Arc<AtomicU64>) -> reqwest::Body {
    match upload {
        Upload::Bytes(bytes) => bytes.clone().into(),
        Upload::File { file, size } => {
            let (file, size, progress) = (Arc::clone(file), *size, Arc::clone(progress));
            let pieces = futures::stream::try_unfold(0u64, move |at| {
                let (file, progress) = (Arc::clone(&file), Arc::clone(&progress));
                async move {
                    let length = (size - at).min(PIECE as u64) as usize;
                    if length == 0 {
                        return Ok::<_, std::io::Error>(None);
                    }
                    let piece = tokio::task::spawn_blocking(move || {
                        let mut piece = vec![0; length];
                        file.read_exact_at(&mut piece, at).map(|()| piece)
                    })
                    .await
                    .map_err(std::io::Error::other)??;
                    progress.fetch_add(length as u64, Ordering::Relaxed);
                    Ok(Some((Bytes::from(piece), at + length as u64)))
                }
            });
            reqwest::Body::wrap_stream(pieces)
        }
    }
}

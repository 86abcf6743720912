//! From a request to an answer.

use super::body::{self, Archive, Body};
use super::metrics::{Metrics, count};
use super::range::{self, Part};
use super::server::ServeConfig;
use crate::listing;
use firn_archive::Method;
use firn_core::{HashFormat, NarInfo, StorePath, ValidPathInfo};
use firn_http::pipe::{self, PieceSink};
use firn_nar::NarReader;
use firn_nar::listing::Listing;
use firn_store::{Store, StoreResult};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::Semaphore;

/// What answers need.
pub(crate) struct State {
    pub store: Arc<dyn Store>,
    pub config: ServeConfig,
    pub metrics: Arc<Metrics>,
    /// Archives and listings at once.
    pub slots: Arc<Semaphore>,
}

/// What a path of a URL means.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    CacheInfo,
    NarInfo(&'a str),
    Listing(&'a str),
    /// Hash part of the store path, hash of the archive, compression.
    Archive(&'a str, &'a str, Method),
    Log(&'a str),
    Realisation(&'a str),
    Metrics,
    Unknown,
}

fn is_hash(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

fn parse(path: &str) -> Target<'_> {
    let Some(path) = path.strip_prefix('/') else { return Target::Unknown };
    match path {
        "nix-cache-info" => return Target::CacheInfo,
        "metrics" => return Target::Metrics,
        _ => {}
    }
    if let Some(part) = path.strip_suffix(".narinfo").filter(|part| is_hash(part, 32)) {
        return Target::NarInfo(part);
    }
    if let Some(part) = path.strip_suffix(".ls").filter(|part| is_hash(part, 32)) {
        return Target::Listing(part);
    }
    if let Some(name) = path.strip_prefix("log/").filter(|name| !name.contains('/')) {
        return Target::Log(name);
    }
    if let Some(id) = path.strip_prefix("realisations/").and_then(|name| name.strip_suffix(".doi")) {
        return Target::Realisation(id);
    }
    if let Some(name) = path.strip_prefix("nar/") {
        let (name, method) = match name.strip_suffix(".zst") {
            Some(name) => (name, Method::Zstd),
            None => (name, Method::None),
        };
        if let Some((part, hash)) = name.strip_suffix(".nar").and_then(|name| name.split_once('-'))
            && is_hash(part, 32)
            && is_hash(hash, 52)
        {
            return Target::Archive(part, hash, method);
        }
    }
    Target::Unknown
}

fn plain(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn typed(text: impl Into<bytes::Bytes>, mime: &str) -> Response<Body> {
    let mut response = plain(StatusCode::OK, text);
    set(&mut response, header::CONTENT_TYPE, mime);
    response
}

fn missing(what: &str) -> Response<Body> {
    plain(StatusCode::NOT_FOUND, format!("{what} is not here\n"))
}

/// Answers a request for a path (which may be percent-encoded).
pub(crate) async fn answer(state: &State, path: &str, headers: &HeaderMap) -> Response<Body> {
    let path = firn_http::auth::percent_decode(path);
    let result = match parse(&path) {
        Target::CacheInfo => Ok(cache_info(state)),
        Target::NarInfo(part) => nar_info(state, part).await,
        Target::Listing(part) => list(state, part).await,
        Target::Archive(part, hash, method) => archive(state, part, hash, method, headers).await,
        Target::Log(name) => log(state, name).await,
        Target::Realisation(id) => realisation(state, id).await,
        Target::Metrics => {
            let text = state.metrics.render();
            Ok(typed(text, "text/plain; version=0.0.4; charset=utf-8"))
        }
        Target::Unknown => {
            count(&state.metrics.bad_requests);
            Ok(missing("that"))
        }
    };
    result.unwrap_or_else(|error| {
        count(&state.metrics.errors);
        (state.config.report)(&format!("serving '{path}': {error}"));
        // What is wrong here is nobody's business there.
        plain(StatusCode::INTERNAL_SERVER_ERROR, "the store could not be read\n")
    })
}

fn cache_info(state: &State) -> Response<Body> {
    let text = format!(
        "StoreDir: {}\nWantMassQuery: 1\nPriority: {}\n",
        state.store.store_dir(),
        state.config.priority
    );
    typed(text, "text/x-nix-cache-info")
}

async fn find(state: &State, part: &str) -> StoreResult<Option<Arc<ValidPathInfo>>> {
    match state.store.query_path_from_hash_part(part).await? {
        Some(path) => state.store.query_path_info(&path).await,
        None => Ok(None),
    }
}

async fn nar_info(state: &State, part: &str) -> StoreResult<Response<Body>> {
    let Some(info) = find(state, part).await? else {
        count(&state.metrics.narinfo_missing);
        return Ok(missing("that path"));
    };
    count(&state.metrics.narinfo);
    let dir = state.store.store_dir();
    let mut info = (*info).clone();
    info.ultimate = false;
    let fingerprint = info.fingerprint(dir);
    for key in &state.config.secret_keys {
        info.signatures.insert(key.sign(fingerprint.as_bytes()));
    }
    let method = state.config.compression;
    let mut nar = NarInfo::new(info);
    nar.url =
        format!("nar/{part}-{}.nar{}", nar.info.nar_hash.to_base(HashFormat::Nix32), method.extension());
    nar.compression = method.name().to_owned();
    if method == Method::None {
        nar.file_hash = Some(nar.info.nar_hash);
        nar.file_size = Some(nar.info.nar_size);
    }
    Ok(typed(nar.render(dir), "text/x-nix-narinfo"))
}

async fn archive(
    state: &State,
    part: &str,
    hash: &str,
    method: Method,
    headers: &HeaderMap,
) -> StoreResult<Response<Body>> {
    // The hash in the name makes sure that nobody gets another content than he knows the facts of.
    let info = find(state, part).await?;
    let Some(info) = info.filter(|info| info.nar_hash.to_base(HashFormat::Nix32) == hash) else {
        return Ok(missing("that archive"));
    };
    let etag = format!("\"{hash}{}\"", method.extension());
    let sent = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if sent(header::IF_NONE_MATCH).is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == etag)) {
        let mut response = plain(StatusCode::NOT_MODIFIED, "");
        set(&mut response, header::ETAG, &etag);
        return Ok(response);
    }
    let size = info.nar_size;
    let is_same = sent(header::IF_RANGE).is_none_or(|tag| tag.trim() == etag);
    let wanted = match method {
        Method::None if is_same => range::parse(sent(header::RANGE), size),
        _ => Part::All,
    };
    if wanted == Part::Unsatisfiable {
        let mut response = plain(StatusCode::RANGE_NOT_SATISFIABLE, "");
        set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
        return Ok(response);
    }
    let part = match wanted {
        Part::Some(first, last) => Some((first, last - first + 1)),
        _ => None,
    };
    let source = Archive { store: Arc::clone(&state.store), path: info.path.clone(), method, part };
    let mut response = Response::new(body::archive(source, &state.config, &state.slots, &state.metrics));
    set(&mut response, header::CONTENT_TYPE, "application/x-nix-nar");
    set(&mut response, header::ETAG, &etag);
    set(&mut response, header::CACHE_CONTROL, "public, max-age=31536000, immutable");
    if method == Method::None {
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        let length = part.map_or(size, |(_, length)| length);
        set(&mut response, header::CONTENT_LENGTH, &length.to_string());
    }
    if let Part::Some(first, last) = wanted {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(&mut response, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
    }
    Ok(response)
}

async fn list(state: &State, part: &str) -> StoreResult<Response<Body>> {
    let Some(info) = find(state, part).await? else { return Ok(missing("that path")) };
    let Ok(_slot) = state.slots.acquire().await else { return Ok(missing("that path")) };
    count(&state.metrics.listings);
    let listing = read_listing(&*state.store, &info.path).await?;
    Ok(typed(listing::to_file(&listing), "application/json"))
}

async fn read_listing(store: &dyn Store, path: &StorePath) -> StoreResult<Listing> {
    let (raw, reader) = pipe::pipe(1 << 20);
    let work = tokio::task::spawn_blocking(move || Listing::read(&mut NarReader::new(reader)));
    let mut sink = PieceSink::new(raw);
    let sent = store.nar_from_path(path, &mut sink).await;
    drop(sink);
    let listing = work.await.map_err(|e| firn_store::StoreError::Other(e.to_string()))?;
    sent?;
    Ok(listing?)
}

async fn log(state: &State, name: &str) -> StoreResult<Response<Body>> {
    let found = match (StorePath::from_base_name(name), state.store.as_log()) {
        (Ok(path), Some(logs)) => logs.build_log(&path).await?,
        _ => None,
    };
    match found {
        Some(log) => {
            count(&state.metrics.logs);
            Ok(typed(log, "text/plain; charset=utf-8"))
        }
        None => Ok(missing("that log")),
    }
}

async fn realisation(state: &State, id: &str) -> StoreResult<Response<Body>> {
    let looks_right = id.split_once('!').is_some_and(|(hash, output)| {
        hash.starts_with("sha256:") && !output.is_empty() && !output.contains(['/', '!'])
    });
    let counter: &AtomicU64 = &state.metrics.realisations;
    match looks_right {
        false => Ok(missing("that realisation")),
        true => Ok(match state.store.query_realisation(id).await? {
            None => missing("that realisation"),
            Some(mut realisation) => {
                count(counter);
                let fingerprint = realisation.fingerprint();
                for key in &state.config.secret_keys {
                    realisation.signatures.insert(key.sign(fingerprint.as_bytes()));
                }
                typed(realisation.to_json().to_string(), "application/json")
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let (part, hash) = ("a".repeat(32), "b".repeat(52));
        let check = |path: &str, expected: Target<'_>| assert_eq!(parse(path), expected, "{path}");
        check("/nix-cache-info", Target::CacheInfo);
        check(&format!("/{part}.narinfo"), Target::NarInfo(&part));
        check(&format!("/{part}.ls"), Target::Listing(&part));
        check(&format!("/nar/{part}-{hash}.nar"), Target::Archive(&part, &hash, Method::None));
        check(&format!("/nar/{part}-{hash}.nar.zst"), Target::Archive(&part, &hash, Method::Zstd));
        check("/log/x.drv", Target::Log("x.drv"));
        check("/realisations/sha256:0!out.doi", Target::Realisation("sha256:0!out"));
        for odd in ["", "/", "/x.narinfo", "/../etc/passwd", "/nar/../x.nar", "/log/../../x", "/nar/x-y.nar"]
        {
            check(odd, Target::Unknown);
        }
    }
}

//! Caches that are slow, broken, or lie.

use crate::world::{cache, copy, filled, http_config, nar};
use firn_http::{HttpClient, HttpConfig, Request, SilentObserver};
use firn_store::{MemoryStore, Store, StoreError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a server does wrong with one request.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    Status(u16),
    /// The connection ends after half of the body.
    Half,
    /// Nothing more comes after half of the body.
    Stall,
    /// Requests for parts get the whole.
    NoRanges,
    /// Another file under the same name once a part was sent.
    Changes,
}

/// A small server of files that fails as it is told, one fault for each request for an archive.
struct Broken {
    url: String,
    requests: Arc<AtomicUsize>,
}

async fn broken(root: &Path, faults: &[Fault]) -> Broken {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let faults = Arc::new(Mutex::new(faults.to_vec()));
    let requests = Arc::new(AtomicUsize::new(0));
    let (root, counter) = (root.to_owned(), requests.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (root, faults, counter) = (root.clone(), faults.clone(), counter.clone());
            tokio::spawn(async move { drop(answer(stream, root, faults, counter).await) });
        }
    });
    Broken { url, requests }
}

async fn answer(
    stream: TcpStream,
    root: PathBuf,
    faults: Arc<Mutex<Vec<Fault>>>,
    counter: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut range) = (String::new(), None);
    stream.read_line(&mut first).await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? < 3 {
            break;
        }
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            range = text.trim().trim_end_matches('-').parse::<usize>().ok();
        }
    }
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    let is_archive = path.starts_with("/nar/");
    let fault = match is_archive {
        true => {
            counter.fetch_add(1, Ordering::Relaxed);
            let mut faults = faults.lock().unwrap();
            if faults.is_empty() { Fault::None } else { faults.remove(0) }
        }
        false => Fault::None,
    };
    if let Fault::Status(status) = fault {
        let text = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return stream.write_all(text.as_bytes()).await;
    }
    let Ok(data) = std::fs::read(root.join(path.trim_start_matches('/'))) else {
        return stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    };
    let start = range.filter(|_| fault != Fault::NoRanges).unwrap_or(0);
    let status = if start > 0 { "206 Part" } else { "200 OK" };
    let etag = if fault == Fault::Changes { "new" } else { "old" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nAccept-Ranges: bytes\r\nETag: \"{etag}\"\r\n\
         Content-Range: bytes {start}-{}/{}\r\nConnection: close\r\n\r\n",
        data.len() - start,
        data.len() - 1,
        data.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let body = &data[start..];
    match fault {
        Fault::Half => stream.write_all(&body[..body.len() / 2]).await?,
        Fault::Stall => {
            stream.write_all(&body[..body.len() / 2]).await?;
            stream.flush().await?;
            // Until the client gives up.
            let _ = stream.read(&mut [0; 1]).await;
        }
        _ => stream.write_all(body).await?,
    }
    stream.shutdown().await
}

/// Copies one path from a cache with faults; gives the error and how many requests for its archive there were.
async fn run(compression: &str, faults: &[Fault]) -> (Result<(), StoreError>, usize) {
    let (store, large, _) = filled().await;
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("file://{}?compression={compression}", dir.path().display());
    copy(&store, &cache(&uri, None), &[&large]).await.unwrap();
    let server = broken(dir.path(), faults).await;
    let back = MemoryStore::default();
    let result = copy(&cache(&server.url, None), &back, &[&large]).await;
    if result.is_ok() {
        assert_eq!(nar(&back, &large).await, nar(&store, &large).await);
    } else {
        assert!(back.query_path_info(&large).await.unwrap().is_none());
    }
    (result, server.requests.load(Ordering::Relaxed))
}

#[track_caller]
fn check(got: (Result<(), StoreError>, usize), requests: usize, message: Option<&str>) {
    assert_eq!(got.1, requests, "{:?}", got.0);
    match (got.0, message) {
        (Ok(()), None) => {}
        (Err(error), Some(message)) => assert!(error.to_string().contains(message), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_again_and_goes_on_where_it_broke_off() {
    for compression in ["none", "zstd"] {
        check(run(compression, &[Fault::Half, Fault::Half]).await, 3, None);
    }
    check(run("none", &[Fault::Status(503), Fault::Status(500)]).await, 3, None);
    check(run("none", &[Fault::Half, Fault::NoRanges]).await, 2, None);
    check(run("none", &[Fault::Stall]).await, 2, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_up() {
    check(run("none", &[Fault::Status(500); 9]).await, 4, Some("HTTP error 500"));
    check(run("none", &[Fault::Status(404)]).await, 1, Some("does not exist in binary cache"));
    check(run("none", &[Fault::Status(401)]).await, 1, Some("HTTP error 401"));
    check(run("none", &[Fault::Half, Fault::Changes]).await, 2, Some("changed while it was downloaded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_archives() {
    let (store, large, text) = filled().await;
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("file://{}?compression=xz", dir.path().display());
    copy(&store, &cache(&uri, None), &[&large, &text]).await.unwrap();
    let info = cache(&uri, None).query_nar_info(&large).await.unwrap().unwrap();
    let file = dir.path().join(&info.url);
    let good = std::fs::read(&file).unwrap();
    let attempt = |data: Vec<u8>| {
        std::fs::write(&file, data).unwrap();
        let uri = uri.clone();
        let large = large.clone();
        async move {
            let back = MemoryStore::default();
            let error = copy(&cache(&uri, None), &back, &[&large]).await.unwrap_err().to_string();
            assert!(back.query_path_info(&large).await.unwrap().is_none());
            error
        }
    };
    let cut = attempt(good[..good.len() / 2].to_vec()).await;
    assert!(cut.contains("decompressing"), "{cut}");
    let mut bent = good.clone();
    bent[good.len() / 2] ^= 0x55;
    let bent = attempt(bent).await;
    assert!(bent.contains("decompressing"), "{bent}");
    assert!(attempt(Vec::new()).await.contains("decompressing"));
    // An archive that becomes much larger than it should is not unpacked to its end.
    let mut bomb = Vec::new();
    let options = firn_archive::EncoderOptions::default();
    let mut encoder = firn_archive::encoder(firn_archive::Method::Xz, options, &mut bomb).unwrap();
    for _ in 0..64 {
        std::io::Write::write_all(&mut encoder, &vec![0; 1 << 20]).unwrap();
    }
    encoder.finish().unwrap();
    let bomb = attempt(bomb).await;
    assert!(bomb.contains("bytes come out") || bomb.contains("bad archive"), "{bomb}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_cache_is_asked_once() {
    let (_, large, _) = filled().await;
    // Nobody listens there any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let dead = cache(&url, None);
    let first = dead.query_path_info(&large).await.unwrap_err().to_string();
    assert!(first.contains("Could not connect to server"), "{first}");
    let second = dead.query_path_info(&large).await.unwrap_err();
    assert!(matches!(second, StoreError::SubstituterDisabled { .. }), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("large"), vec![b'x'; 100_000]).unwrap();
    let server = broken(dir.path(), &[]).await;
    let client = HttpClient::new(http_config(), Arc::new(SilentObserver));
    let error = client.fetch(Request::get(format!("{}/large", server.url)), 1000).await.unwrap_err();
    assert!(error.to_string().contains("longer than 1000 bytes"), "{error}");
}

/// A server that answers `burst` requests and turns everybody away for a second then.
async fn limited(burst: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let refused = Arc::new(AtomicUsize::new(0));
    let counter = refused.clone();
    let window = Arc::new(Mutex::new((Instant::now(), 0)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (counter, window) = (counter.clone(), window.clone());
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::from("begin");
                while line.len() > 2 {
                    line.clear();
                    stream.read_line(&mut line).await.unwrap_or_default();
                }
                let good = {
                    let mut window = window.lock().unwrap();
                    if window.0.elapsed() >= Duration::from_secs(1) {
                        *window = (Instant::now(), 0);
                    }
                    window.1 += 1;
                    window.1 <= burst
                };
                let head = match good {
                    true => "200 OK",
                    false => {
                        counter.fetch_add(1, Ordering::Relaxed);
                        "429 Slow down\r\nRetry-After: 1"
                    }
                };
                let text = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(text.as_bytes()).await.ok()?;
                stream.shutdown().await.ok()
            });
        }
    });
    (url, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_servers_are_kept() {
    let (url, refused) = limited(10).await;
    let client = HttpClient::new(
        HttpConfig { connections: 4, attempts: 2, ..http_config() },
        Arc::new(SilentObserver),
    );
    let started = Instant::now();
    // More than two attempts for each would last.
    let all = (0..45).map(|n| {
        let (client, url) = (client.clone(), format!("{url}/{n}"));
        tokio::spawn(async move { client.fetch(Request::get(url), 10).await })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    assert!(started.elapsed() >= Duration::from_secs(4));
    // While it is known that it wants to be left alone, nobody asks it: only those that were on their way are refused.
    let refused = refused.load(Ordering::Relaxed);
    assert!(refused <= 4 * 5, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_only_refuse_are_given_up() {
    let (url, refused) = limited(0).await;
    let client = HttpClient::new(HttpConfig { attempts: 2, ..http_config() }, Arc::new(SilentObserver));
    let error = client.fetch(Request::get(url), 10).await.unwrap_err();
    assert!(error.message.contains("HTTP error 429"), "{error}");
    assert_eq!(refused.load(Ordering::Relaxed), 2);
}

//! A store served over HTTP, seen by the client that reads caches.

use crate::world::{cache, copy, filled, http_config, nar};
use firn_archive::Method;
use firn_core::StorePath;
use firn_core::signature::SecretKey;
use firn_http::{HttpClient, Method as Verb, Request, SilentObserver};
use firn_store::{MemoryStore, Store, TrustPolicy};
use firn_store_cache::serve::{ServeConfig, Server};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

struct Served {
    url: String,
    stop: CancellationToken,
    large: StorePath,
    text: StorePath,
    store: Arc<MemoryStore>,
    key: Arc<SecretKey>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(compression: Method) -> Served {
    let (store, large, text) = filled().await;
    let store = Arc::new(store);
    let key = Arc::new(SecretKey::from_seed("served", &[3; 32]));
    let config = ServeConfig { compression, secret_keys: vec![key.clone()], ..ServeConfig::default() };
    let server = Server::bind(store.clone(), config, "127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.address().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(server.run(stop.clone()));
    Served { url, stop, large, text, store, key }
}

fn client() -> HttpClient {
    HttpClient::new(http_config(), Arc::new(SilentObserver))
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_from_it() {
    for method in [Method::None, Method::Zstd] {
        let served = serve(method).await;
        let dir = tempfile::tempdir().unwrap();
        let from = cache(&served.url, Some(dir.path()));
        let properties = from.substituter_properties().await.unwrap();
        assert!(properties.want_mass_query);
        let back = MemoryStore::default();
        copy(&from, &back, &[&served.large, &served.text]).await.unwrap();
        assert_eq!(nar(&back, &served.large).await, nar(&*served.store, &served.large).await);
        let trust = TrustPolicy { require_signatures: true, keys: vec![served.key.public()] };
        let mut info = (*from.query_path_info(&served.large).await.unwrap().unwrap()).clone();
        info.ca = None;
        assert!(trust.accepts_path(from.store_dir(), &info));
        // With the server gone, what was asked is known still.
        served.stop.cancel();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let again = cache(&served.url, Some(dir.path()));
        assert!(again.is_valid_path(&served.large).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_tags_and_verbs() {
    let served = serve(Method::None).await;
    let client = client();
    let from = cache(&served.url, None);
    let info = from.query_nar_info(&served.large).await.unwrap().unwrap();
    let url = format!("{}/{}", served.url, info.url);
    let whole = nar(&*served.store, &served.large).await;
    let mut request = Request::get(&url);
    request.headers.push(("Range".into(), "bytes=1000-1999".into()));
    let (response, part) = client.fetch(request, 1 << 20).await.unwrap();
    assert_eq!((response.status, &part[..]), (206, &whole[1000..2000]));
    let mut request = Request::get(&url);
    request.expected_etag = Some(response.etag);
    assert!(client.fetch(request, 1 << 20).await.unwrap().0.cached);
    let mut request = Request::get(&url);
    request.headers.push(("Range".into(), "bytes=999999999-".into()));
    assert_eq!(client.fetch(request, 1 << 20).await.unwrap_err().status, Some(416));
    assert!(client.exists(&url).await.unwrap());
    assert!(!client.exists(&format!("{}/nothing", served.url)).await.unwrap());
    let error = client.fetch(Request::new(Verb::Delete, &url), 100).await.unwrap_err();
    assert_eq!(error.status, Some(405));
    // Another content is not given under this name.
    let wrong = url.replace(served.large.hash_part(), served.text.hash_part());
    assert_eq!(client.fetch(Request::get(&wrong), 100).await.unwrap_err().status, Some(404));
    let odd = format!("{}/nar/%2e%2e/%2e%2e/etc/passwd", served.url);
    assert_eq!(client.fetch(Request::get(&odd), 100).await.unwrap_err().status, Some(404));
    let (_, listing) = client
        .fetch(Request::get(format!("{}/{}.ls", served.url, served.text.hash_part())), 1000)
        .await
        .unwrap();
    assert!(listing.starts_with(br#"{"root":{"narOffset":96"#));
    let (_, metrics) = client.fetch(Request::get(format!("{}/metrics", served.url)), 1 << 20).await.unwrap();
    assert!(String::from_utf8_lossy(&metrics).contains("firn_serve_narinfo_total 1\n"));
}

//! A store, a cache and a server of files.

use firn_core::flake_ref::{Attr, FlakeRef, Input, ParseContext};
use firn_core::store_path::StoreDir;
use firn_fetch::{FetchError, FetchOptions, Fetcher, Tree};
use firn_http::{HttpClient, HttpConfig, SilentObserver};
use firn_store::Store;
use firn_store::activity::SilentLogger;
use firn_store_local::{LocalStore, LocalStoreConfig};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub struct World {
    pub root: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
    pub store: Arc<dyn Store>,
}

impl World {
    pub fn new() -> World {
        let root = tempfile::tempdir().expect("a folder");
        let dir = |name: &str| root.path().join(name);
        let store_dir = StoreDir::new(dir("store").to_str().expect("a path"));
        let config = LocalStoreConfig::new(store_dir, dir("state"), dir("log"));
        let store = Arc::new(LocalStore::new(config, Arc::new(SilentLogger)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        World { runtime: runtime.expect("a runtime"), store, root }
    }

    pub fn fetcher(&self, options: FetchOptions) -> Fetcher {
        let config = HttpConfig { attempts: 1, ..HttpConfig::default() };
        let client = HttpClient::new(config, Arc::new(SilentObserver));
        let options = FetchOptions { cache_dir: Some(self.root.path().join("cache")), ..options };
        Fetcher::with_options(self.store.clone(), client, Arc::new(SilentLogger), options)
    }

    pub fn fetch(&self, fetcher: &Fetcher, input: &Input) -> Result<Tree, FetchError> {
        self.runtime.block_on(fetcher.fetch_tree(input))
    }

    /// A file of a tree.
    pub fn read(&self, tree: &Tree, name: &str) -> String {
        let path: PathBuf = self.store.store_dir().display(&tree.store_path).into();
        std::fs::read_to_string(path.join(name)).expect(name)
    }
}

pub fn input(text: &str) -> Input {
    let mut context = ParseContext { has_feature: &|_| true, warnings: Vec::new() };
    FlakeRef::parse(text.as_bytes(), &mut context).expect(text).input
}

pub fn text(tree: &Tree, name: &str) -> String {
    match tree.attrs.get(name) {
        Some(Attr::Str(text)) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("{name} is {other:?}"),
    }
}

/// A server: what it answers by path, and what was asked, with the headers that say who asks.
#[derive(Clone)]
pub struct Server {
    pub base: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start(answers: BTreeMap<String, Vec<u8>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                let mut lines = Vec::new();
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|len| len > 2) {
                    lines.push(std::mem::take(&mut line).trim_end().to_owned());
                }
                let path =
                    lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
                let who = lines.iter().find(|line| {
                    let line = line.to_ascii_lowercase();
                    line.starts_with("authorization:") || line.starts_with("private-token:")
                });
                let who = who.map_or(String::new(), |line| format!(" [{line}]"));
                if let Ok(mut log) = log.lock() {
                    log.push(format!("{path}{who}"));
                }
                let (status, body) = match answers.get(&path) {
                    Some(body) => ("200 OK", body.clone()),
                    None => ("404 Not Found", b"nothing here".to_vec()),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let mut stream = reader.into_inner();
                // One that goes away has what it wants.
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        Server { base, asked }
    }

    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("no panic while locked"))
    }
}

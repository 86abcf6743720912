//! `builtins.fetchurl`: a file as it is.

use crate::Fetcher;
use crate::cache::{Attrs, Entry};
use crate::error::{FetchError, FetchResult};
use firn_core::{CaMethod, HashAlgo, StorePath};
use firn_http::{Request, Response};
use firn_store::{AddSource, regular_file_of_archive};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::io::AsyncWriteExt;

/// A file that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    pub store_path: StorePath,
    pub etag: String,
    /// Where redirects led to.
    pub effective_url: String,
    pub immutable_url: Option<String>,
}

/// Largest body of an error that goes with it, and the smallest unit of what is buffered.
const BUFFER: usize = 256 * 1024;

impl Fetcher {
    /// Downloads a file into the store as `name`, unless it is there and still fresh.
    pub async fn download_file(
        &self,
        url: &str,
        name: &str,
        headers: &[(String, String)],
    ) -> FetchResult<Downloaded> {
        let key = self.key(url, name);
        let known = self.lookup("file", &key).await?;
        let cached = known.map(|(entry, path)| (downloaded(&entry, &path, url), entry));
        if let Some((known, entry)) = &cached
            && !entry.is_expired(self.inner.ttl)
        {
            return Ok(known.clone());
        }
        let mut request = Request::get(url);
        request.headers = headers.to_vec();
        request.expected_etag = cached.as_ref().map(|(known, _)| known.etag.clone());
        let (response, file) = match self.download(request).await {
            Ok(done) => done,
            Err(error @ FetchError::Http(_)) => match cached {
                Some((known, _)) => {
                    self.inner.logger.warn(&format!("{error}; using cached version"));
                    return Ok(known);
                }
                None => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let store_path = match (&cached, response.cached) {
            (Some((known, _)), true) => known.store_path.clone(),
            _ => {
                let source = AddSource::Path(file.path());
                let none = BTreeSet::new();
                let store = &self.inner.store;
                store.add_to_store(name, source, CaMethod::Flat, HashAlgo::Sha256, &none, false).await?.path
            }
        };
        let effective_url = response.urls.last().cloned().unwrap_or_else(|| url.to_owned());
        let mut value = Attrs::new();
        value.insert("etag".into(), json!(response.etag));
        value.insert("url".into(), json!(effective_url));
        value.insert("storePath".into(), json!(store_path.base_name()));
        if let Some(immutable) = &response.immutable_url {
            value.insert("immutableUrl".into(), json!(immutable));
        }
        // All URLs on the way lead to the same file.
        for url in &response.urls {
            self.upsert("file", &self.key(url, name), &value)?;
        }
        Ok(Downloaded {
            store_path,
            etag: response.etag,
            effective_url,
            immutable_url: response.immutable_url,
        })
    }

    /// Downloads into a temporary file.
    pub(crate) async fn download(
        &self,
        request: Request,
    ) -> FetchResult<(Response, tempfile::NamedTempFile)> {
        let file = tempfile::NamedTempFile::new()
            .map_err(FetchError::io("creating temporary file in", std::env::temp_dir()))?;
        let handle = file.reopen().map_err(FetchError::io("opening", file.path()))?;
        let mut sink = tokio::io::BufWriter::with_capacity(BUFFER, tokio::fs::File::from_std(handle));
        let response = self.inner.client.download(request, &mut sink).await?;
        sink.flush().await.map_err(FetchError::io("writing", file.path()))?;
        Ok((response, file))
    }

    pub(crate) fn key(&self, url: &str, name: &str) -> Attrs {
        let mut key = Attrs::new();
        key.insert("name".into(), json!(name));
        key.insert("store".into(), json!(self.inner.store.store_dir().as_str()));
        key.insert("url".into(), json!(url));
        key
    }

    /// An entry whose store path is still valid, and will be while this process lives.
    pub(crate) async fn lookup(&self, domain: &str, key: &Attrs) -> FetchResult<Option<(Entry, StorePath)>> {
        let Some(cache) = self.cache() else { return Ok(None) };
        let Some(entry) = cache.lookup(domain, key)? else { return Ok(None) };
        let path = entry.value.get("storePath").and_then(Value::as_str);
        let Some(path) = path.and_then(|path| StorePath::from_base_name(path).ok()) else { return Ok(None) };
        self.inner.store.add_temp_root(&path).await?;
        match self.inner.store.is_valid_path(&path).await? {
            true => Ok(Some((entry, path))),
            false => Ok(None),
        }
    }

    /// The contents of a file in the store, which may have its files anywhere, or none.
    pub(crate) async fn read_stored(&self, file: &StorePath) -> FetchResult<Vec<u8>> {
        if let Some(local) = self.store().as_local_fs() {
            let path = local.real_store_dir().join(file.base_name());
            return std::fs::read(&path).map_err(FetchError::io("reading", path));
        }
        let mut nar = Vec::new();
        self.store().nar_from_path(file, &mut nar).await?;
        Ok(regular_file_of_archive(&nar)?)
    }

    pub(crate) fn upsert(&self, domain: &str, key: &Attrs, value: &Attrs) -> FetchResult<()> {
        match self.cache() {
            Some(cache) => cache.upsert(domain, key, value),
            None => Ok(()),
        }
    }
}

fn downloaded(entry: &Entry, path: &StorePath, url: &str) -> Downloaded {
    Downloaded {
        store_path: path.clone(),
        etag: entry.text("etag").unwrap_or_default().to_owned(),
        effective_url: entry.text("url").unwrap_or(url).to_owned(),
        immutable_url: entry.text("immutableUrl").map(str::to_owned),
    }
}

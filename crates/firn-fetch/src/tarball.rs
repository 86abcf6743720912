//! `builtins.fetchTarball`: an archive, unpacked.

use crate::Fetcher;
use crate::cache::{Attrs, Entry};
use crate::error::{FetchError, FetchResult};
use firn_core::{CaMethod, HashAlgo, StorePath};
use firn_http::Request;
use firn_store::AddSource;
use firn_store::activity::{Activity, ActivityType, Verbosity};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The domain of our entries: the reference keeps trees in a Git repository of its own.
const DOMAIN: &str = "firn-tarball";

/// An archive whose contents are in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tarball {
    pub store_path: StorePath,
    /// The newest time of a member, in seconds since the epoch.
    pub last_modified: i64,
    /// A URL that will always give the same, if the server told one.
    pub immutable_url: Option<String>,
}

impl Fetcher {
    /// Downloads an archive and unpacks it into the store as `name`, unless that is there and still fresh. A single
    /// directory at the top is left out.
    pub async fn download_tarball(
        &self,
        url: &str,
        name: &str,
        headers: &[(String, String)],
    ) -> FetchResult<Tarball> {
        if let Some(path) = url.strip_prefix("file://") {
            check_local(url, path)?;
        }
        let key = self.key(url, name);
        let cached = self.lookup(DOMAIN, &key).await?;
        if let Some((entry, path)) = &cached
            && !entry.is_expired(self.inner.ttl)
        {
            return Ok(tarball(entry, path));
        }
        let mut request = Request::get(url);
        request.headers = headers.to_vec();
        request.expected_etag = cached.as_ref().and_then(|(entry, _)| entry.text("etag")).map(str::to_owned);
        let (response, file) = match self.download(request).await {
            Ok(done) => done,
            Err(error @ FetchError::Http(_)) => match cached {
                Some((entry, path)) => {
                    self.inner.logger.warn(&format!("{error}; using cached version"));
                    return Ok(tarball(&entry, &path));
                }
                None => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let (value, result) = match (cached, response.cached) {
            (Some((entry, path)), true) => {
                let result = tarball(&entry, &path);
                (entry.value, result)
            }
            _ => {
                let (store_path, last_modified) = self.unpack(url, name, file).await?;
                let mut value = Attrs::new();
                value.insert("etag".into(), json!(response.etag));
                value.insert("lastModified".into(), json!(last_modified));
                value.insert("storePath".into(), json!(store_path.base_name()));
                if let Some(immutable) = &response.immutable_url {
                    value.insert("immutableUrl".into(), json!(immutable));
                }
                (value, Tarball { store_path, last_modified, immutable_url: response.immutable_url })
            }
        };
        for url in &response.urls {
            self.upsert(DOMAIN, &self.key(url, name), &value)?;
        }
        Ok(result)
    }

    async fn unpack(
        &self,
        url: &str,
        name: &str,
        file: tempfile::NamedTempFile,
    ) -> FetchResult<(StorePath, i64)> {
        let text = format!("unpacking '{url}' into the store");
        let kind = ActivityType::Unknown;
        let _activity = Activity::start(&self.inner.logger, Verbosity::Info, kind, &text, &[], 0);
        let url = url.to_owned();
        let unpacked = tokio::task::spawn_blocking(move || unpack_file(&url, file.path()));
        let (dir, root, last_modified) = unpacked.await.map_err(|e| FetchError::Other(e.to_string()))??;
        let none = BTreeSet::new();
        let source = AddSource::Path(&root);
        let added = self
            .inner
            .store
            .add_to_store(name, source, CaMethod::NixArchive, HashAlgo::Sha256, &none, false)
            .await?;
        // The files are removed where removing may block.
        drop(tokio::task::spawn_blocking(move || drop(dir)).await);
        Ok((added.path, last_modified))
    }
}

/// What an entry of the cache says.
pub(crate) fn tarball(entry: &Entry, path: &StorePath) -> Tarball {
    Tarball {
        store_path: path.clone(),
        last_modified: entry.value.get("lastModified").and_then(serde_json::Value::as_i64).unwrap_or(0),
        immutable_url: entry.text("immutableUrl").map(str::to_owned),
    }
}

/// Common mistakes get an error that says what is wrong.
fn check_local(url: &str, path: &str) -> FetchResult<()> {
    let path = PathBuf::from(firn_http::auth::percent_decode(path.split(['?', '#']).next().unwrap_or("")));
    let shown = path.display();
    let fail = |text: String| Err(FetchError::Other(text));
    if !path.is_absolute() {
        return fail(format!(
            "tarball '{url}' must use an absolute path. The 'file' scheme does not support relative paths."
        ));
    }
    if !path.exists() {
        return fail(format!("tarball \"{shown}\" does not exist."));
    }
    if path.is_dir() {
        let is_git = path.join(".git").exists();
        return fail(match is_git {
            true => format!(
                "tarball \"{shown}\" is a git repository, not a tarball. Please use `git+file` as the scheme."
            ),
            false => format!("tarball \"{shown}\" is a directory, not a file."),
        });
    }
    Ok(())
}

/// Unpacks into a temporary directory. Returns it, what in it is the root of the tree, and the newest time.
pub(crate) fn unpack_file(url: &str, file: &Path) -> FetchResult<(tempfile::TempDir, PathBuf, i64)> {
    let dir = tempfile::TempDir::new()
        .map_err(FetchError::io("creating temporary directory in", std::env::temp_dir()))?;
    let root = dir.path().join("unpacked");
    let done = firn_archive::unpack(file, &root)
        .map_err(|source| FetchError::Unpack { url: url.to_owned(), source })?;
    let root = single_member(&root)?.unwrap_or(root);
    Ok((dir, root, done.last_modified))
}

/// The one directory that is all there is below `root`.
fn single_member(root: &Path) -> FetchResult<Option<PathBuf>> {
    let failed = || FetchError::io("reading directory", root);
    let mut entries = std::fs::read_dir(root).map_err(failed())?;
    let (first, second) = (entries.next(), entries.next());
    match (first, second) {
        (Some(first), None) => {
            let first = first.map_err(failed())?;
            let is_dir = first.file_type().map_err(failed())?.is_dir();
            Ok(is_dir.then(|| first.path()))
        }
        _ => Ok(None),
    }
}

//! `nix-prefetch-url` and `nix store prefetch-file`: into the store, whatever the hash turns out to be.

use crate::Fetcher;
use crate::error::{FetchError, FetchResult};
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, StorePath};
use firn_http::Request;
use firn_store::AddSource;
use firn_store::activity::{Activity, ActivityType, Verbosity};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Prefetch {
    pub url: String,
    /// The name in the store; `None` for the last part of the URL.
    pub name: Option<String>,
    pub algo: HashAlgo,
    /// With the hash known, nothing is fetched if it is there.
    pub expected: Option<Hash>,
    pub unpack: bool,
    pub executable: bool,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefetched {
    pub store_path: StorePath,
    pub hash: Hash,
}

impl Fetcher {
    pub async fn prefetch(&self, wanted: &Prefetch) -> FetchResult<Prefetched> {
        let method = match wanted.unpack || wanted.executable {
            true => CaMethod::NixArchive,
            false => CaMethod::Flat,
        };
        let url = &wanted.url;
        let name = match &wanted.name {
            Some(name) => name.clone(),
            None => last_part(url)
                .ok_or_else(|| FetchError::Other(format!("cannot figure out file name for '{url}'")))?,
        };
        firn_core::store_path::check_name(&name).map_err(|e| match wanted.name {
            Some(_) => FetchError::Other(e.to_string()),
            None => FetchError::Other(format!("{e}\nfile name '{name}' was extracted from URL '{url}'")),
        })?;
        let store = &self.inner.store;
        let algo = wanted.expected.map_or(wanted.algo, |hash| hash.algo());
        if let Some(hash) = wanted.expected {
            let ca = ContentAddress { method, hash };
            let path = store
                .store_dir()
                .make_fixed_output_path(&ca, &name, &References::default())
                .map_err(|e| FetchError::Other(e.to_string()))?;
            store.add_temp_root(&path).await?;
            if store.is_valid_path(&path).await? {
                return Ok(Prefetched { store_path: path, hash });
            }
        }
        let (_, file) = self.download(Request::get(url)).await?;
        let mut held = None;
        let mut source = file.path().to_owned();
        if wanted.unpack {
            let text = format!("unpacking '{url}'");
            let (level, kind) = (Verbosity::Chatty, ActivityType::Unknown);
            let _activity = Activity::start(&self.inner.logger, level, kind, &text, &[], 0);
            let (owned, path) = (url.clone(), source.clone());
            let work = tokio::task::spawn_blocking(move || unpack(&owned, &path));
            let (dir, root) = work.await.map_err(|e| FetchError::Other(e.to_string()))??;
            held = Some(dir);
            source = root;
        } else if wanted.executable {
            std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o700))
                .map_err(FetchError::io("changing permissions of", &source))?;
        }
        let (level, kind) = (Verbosity::Chatty, ActivityType::Unknown);
        let text = format!("adding '{url}' to the store");
        let _activity = Activity::start(&self.inner.logger, level, kind, &text, &[], 0);
        let none = BTreeSet::new();
        if let Some(expected) = wanted.expected {
            // Nothing is added that is not what was asked for.
            let (dir, path, owned) = (store.store_dir().clone(), source.clone(), name.clone());
            let work = tokio::task::spawn_blocking(move || {
                firn_store::source::path_of_source(&dir, &owned, &path, method, algo, None, false)
            });
            let (_, ca) = work.await.map_err(|e| FetchError::Other(e.to_string()))??;
            if ca.hash != expected {
                return Err(FetchError::Other(format!("hash mismatch for '{}'", source.display())));
            }
        }
        let added = store.add_to_store(&name, AddSource::Path(&source), method, algo, &none, false).await?;
        drop(held);
        let hash = added.ca.map(|ca| ca.hash).unwrap_or(added.nar_hash);
        Ok(Prefetched { store_path: added.path, hash })
    }
}

fn unpack(url: &str, file: &Path) -> FetchResult<(tempfile::TempDir, std::path::PathBuf)> {
    let (dir, root, _) = crate::tarball::unpack_file(url, file)?;
    // A single file is the root too here.
    let mut entries = std::fs::read_dir(&root).map_err(FetchError::io("reading directory", &root))?;
    let (first, second) = (entries.next(), entries.next());
    let below = root != dir.path().join("unpacked");
    match (first, second) {
        (None, _) if !below => Err(FetchError::Other(format!("archive '{url}' is empty"))),
        (Some(Ok(first)), None) if !below => Ok((dir, first.path())),
        _ => Ok((dir, root)),
    }
}

/// The last part of a URL's path that is not empty.
fn last_part(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next()?;
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let part = path.trim_end_matches('/').rsplit('/').next()?;
    Some(firn_http::auth::percent_decode(part)).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check =
            |url: &str, expected: Option<&str>| assert_eq!(last_part(url).as_deref(), expected, "{url}");
        check("https://h/a/b.tar.gz", Some("b.tar.gz"));
        check("https://h/a/b%2B.zip?x=/y", Some("b+.zip"));
        check("https://h/dir/", Some("dir"));
        check("file:///", None);
    }
}

//! What trees in the store are copies of: messages name what the user knows.

use crate::StoreHost;
use firn_core::StorePath;
use firn_core::flake_ref::{Input, Scheme};
use firn_eval::HostError;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Where a tree comes from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// The working tree of a Git repository.
    WorkingTree(PathBuf),
    /// What is fetched from a URL.
    Url(String),
}

impl Origin {
    /// The name of a file in it.
    pub(crate) fn path(&self, below: &[u8]) -> Vec<u8> {
        let root = match self {
            Self::WorkingTree(root) => root.as_os_str().as_bytes().to_vec(),
            Self::Url(url) => format!("«{url}»").into_bytes(),
        };
        match below.is_empty() {
            true => root,
            false => [&root[..], b"/", below].concat(),
        }
    }

    /// What is wrong with a file that is not in it.
    fn missing(&self, below: &[u8]) -> String {
        let name = String::from_utf8_lossy(below);
        match self {
            Self::Url(url) => format!("'«{url}»/{name}' does not exist"),
            Self::WorkingTree(root) => {
                let is_there = root.join(OsStr::from_bytes(below)).symlink_metadata().is_ok();
                let root = root.display();
                match is_there {
                    true => format!(
                        "Path '{name}' in the repository \"{root}\" is not tracked by Git.\n\nTo make it visible \
                         to Nix, run:\n\ngit -C \"{root}\" add \"{name}\""
                    ),
                    false => format!("Path '{name}' does not exist in Git repository \"{root}\"."),
                }
            }
        }
    }
}

impl StoreHost {
    /// Remembers what a tree is a copy of. `asked` is the input as it was asked for, `got` what it is.
    pub(crate) fn note_origin(&self, path: &StorePath, asked: &Input, got: &Input) {
        let has = |name: &str| asked.attrs.contains_key(name);
        let origin = match asked.scheme {
            Some(Scheme::Path) | None => None,
            Some(Scheme::Git) if !has("ref") && !has("rev") => {
                self.parts.fetcher.source_path(asked).ok().flatten().map(Origin::WorkingTree)
            }
            _ => None,
        };
        let url = || match asked.scheme {
            Some(Scheme::Path) | None => None,
            _ => {
                let mut plain = got.clone();
                for name in ["narHash", "lastModified", "revCount"] {
                    plain.attrs.remove(name);
                }
                plain.to_url().ok().map(|url| Origin::Url(url.to_string()))
            }
        };
        if let Some(origin) = origin.or_else(url) {
            self.origins.lock().insert(path.clone(), origin);
        }
    }

    /// The origin of the tree that a path is in, and the path in it.
    pub(crate) fn origin_of(&self, path: &[u8]) -> Option<(Origin, Vec<u8>)> {
        let origins = self.origins.lock();
        if origins.is_empty() {
            return None;
        }
        let text = String::from_utf8_lossy(path);
        let (tree, below) = self.parts.store.store_dir().split(&text).ok()?;
        let below = below.trim_start_matches('/').as_bytes().to_vec();
        Some((origins.get(&tree)?.clone(), below))
    }

    /// What is wrong with a file that is not there, if it is in a tree that the user knows by another name.
    pub(crate) fn missing_in_tree(&self, path: &[u8]) -> Option<HostError> {
        let (origin, below) = self.origin_of(path)?;
        Some(HostError { not_found: true, ..HostError::new(origin.missing(&below)) })
    }
}

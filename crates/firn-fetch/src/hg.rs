//! Mercurial repositories, by the user's `hg`: commits of any, and working trees of this machine.

use crate::cache::Attrs as Members;
use crate::error::{FetchError, FetchResult};
use crate::tree::{Tree, name_of, text};
use crate::{Dirty, Fetcher};
use firn_core::flake_ref::{Attr, Attrs, Input};
use firn_core::{Hash, HashAlgo, HashFormat};
use firn_store::activity::{Activity, ActivityType, Verbosity};
use serde_json::json;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn fail<T>(message: impl Into<String>) -> FetchResult<T> {
    Err(FetchError::Other(message.into()))
}

/// `hg` without what users set for themselves, and without questions.
fn hg() -> Command {
    #[expect(clippy::disallowed_methods, reason = "hg itself knows its transports, credentials and formats")]
    let mut command = Command::new("hg");
    command.env("HGPLAIN", "").stdin(Stdio::null());
    command
}

/// What `hg` prints.
fn run(args: &[&OsStr]) -> FetchResult<Vec<u8>> {
    let output = hg().args(args).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => FetchError::Other(
            "the program 'hg' is needed to fetch Mercurial repositories, and is not in PATH".to_owned(),
        ),
        _ => FetchError::Io { operation: "starting", path: "hg".into(), source: error },
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words: Vec<_> = args.iter().map(|word| word.to_string_lossy()).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    fail(format!("'hg {}' failed with {}: {}", words.join(" "), output.status, said.trim()))
}

fn line(args: &[&OsStr]) -> FetchResult<String> {
    Ok(String::from_utf8_lossy(&run(args)?).trim_end().to_owned())
}

fn os(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// Where a repository is.
struct Place {
    /// As `hg` takes it.
    address: OsString,
    /// Its working tree on this machine.
    tree: Option<PathBuf>,
}

fn place(input: &Input) -> FetchResult<Place> {
    let url = String::from_utf8_lossy(text(&input.attrs, "url").unwrap_or_default()).into_owned();
    if url.is_empty() {
        return fail("input attribute 'url' is missing");
    }
    let path = url.strip_prefix("file:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
    Ok(match path {
        Some(path) => {
            let path = PathBuf::from(firn_http::auth::percent_decode(path));
            Place { address: path.clone().into_os_string(), tree: Some(path) }
        }
        None => Place { address: url.into(), tree: None },
    })
}

/// What was found of a commit.
struct Found {
    rev: String,
    count: u64,
    branch: String,
}

impl Fetcher {
    pub(crate) async fn fetch_hg(&self, input: &Input) -> FetchResult<Tree> {
        let name = name_of(&input.attrs);
        let place = place(input)?;
        let has = |name: &str| input.attrs.contains_key(name);
        if let Some(tree) = &place.tree
            && !has("ref")
            && !has("rev")
            && tree.join(".hg").exists()
            && is_dirty(tree)?
        {
            return self.working_tree_of_hg(input, tree, &name).await;
        }
        let mut attrs = input.attrs.clone();
        attrs.entry("ref".to_owned()).or_insert_with(|| Attr::str("default"));
        let branch = String::from_utf8_lossy(text(&attrs, "ref").unwrap_or_default()).into_owned();
        let address = place.address.to_string_lossy().into_owned();
        let mut key = Members::new();
        key.insert("url".into(), json!(address));
        key.insert("ref".into(), json!(branch));
        let wanted = text(&attrs, "rev").map(|rev| String::from_utf8_lossy(rev).into_owned());
        let known = match &wanted {
            Some(_) => None,
            None => self.cache().map(|cache| cache.lookup("hgRefToRev", &key)).transpose()?.flatten(),
        };
        let fresh = known.filter(|entry| !entry.is_expired(self.inner.ttl));
        let rev = wanted.clone().or_else(|| fresh.and_then(|entry| entry.text("rev").map(str::to_owned)));
        if let Some(rev) = &rev
            && let Some((entry, store_path)) = self.lookup("hgRev", &self.rev_key(&name, rev)).await?
        {
            let count = entry.value.get("revCount").and_then(serde_json::Value::as_u64).unwrap_or(0);
            attrs.insert("rev".to_owned(), Attr::str(rev.as_bytes()));
            attrs.insert("revCount".to_owned(), Attr::Int(count));
            return Ok(Tree { store_path, attrs });
        }
        let this = self.clone();
        let asked = wanted.clone();
        let unpacked = tokio::task::spawn_blocking(move || this.unpack_hg(&place, &branch, asked.as_deref()));
        let (found, folder) = unpacked.await.map_err(|error| FetchError::Other(error.to_string()))??;
        let store_path = self.add_tree(&folder.path().join("tree"), &name).await?;
        drop(tokio::task::spawn_blocking(move || drop(folder)).await);
        if wanted.is_none() {
            let mut value = Members::new();
            value.insert("rev".into(), json!(found.rev));
            self.upsert("hgRefToRev", &key, &value)?;
        }
        let mut value = Members::new();
        value.insert("revCount".into(), json!(found.count));
        value.insert("storePath".into(), json!(store_path.base_name()));
        self.upsert("hgRev", &self.rev_key(&name, &found.rev), &value)?;
        attrs.insert("rev".to_owned(), Attr::str(found.rev));
        attrs.insert("ref".to_owned(), Attr::str(found.branch));
        attrs.insert("revCount".to_owned(), Attr::Int(found.count));
        Ok(Tree { store_path, attrs })
    }

    fn rev_key(&self, name: &str, rev: &str) -> Members {
        let mut key = Members::new();
        key.insert("name".into(), json!(name));
        key.insert("rev".into(), json!(rev));
        key.insert("store".into(), json!(self.store().store_dir().as_str()));
        key
    }

    /// The tracked files of a working tree with changes, as they are.
    async fn working_tree_of_hg(&self, input: &Input, tree: &Path, name: &str) -> FetchResult<Tree> {
        let message = format!("Mercurial tree '{}' is unclean", tree.display());
        match self.inner.dirty {
            Dirty::Refuse => return fail(message),
            Dirty::Warn => self.inner.logger.warn(&message),
            Dirty::Allow => {}
        }
        let mut attrs: Attrs = input.attrs.clone();
        attrs.insert("ref".to_owned(), Attr::str(line(&[os("branch"), os("-R"), tree.as_os_str()])?));
        let listing = run(&[
            os("status"),
            os("-R"),
            tree.as_os_str(),
            os("--clean"),
            os("--modified"),
            os("--added"),
            os("--no-status"),
            os("--print0"),
        ])?;
        let root = tree.canonicalize().map_err(FetchError::io("resolving", tree))?;
        let mut keep = HashSet::new();
        for file in listing.split(|byte| *byte == 0).filter(|file| !file.is_empty()) {
            let mut path = root.join(OsStr::from_bytes(file));
            // With the folders that they are in.
            while path != root && keep.insert(path.clone()) {
                if !path.pop() {
                    break;
                }
            }
        }
        let source = firn_store::AddSource::Selected { path: &root, keep: std::sync::Arc::new(keep) };
        let none = std::collections::BTreeSet::new();
        let (method, algo) = (firn_core::CaMethod::NixArchive, HashAlgo::Sha256);
        let added = self.store().add_to_store(name, source, method, algo, &none, false).await?;
        Ok(Tree { store_path: added.path, attrs })
    }

    /// Writes a commit below `tree` in a temporary folder.
    fn unpack_hg(
        &self,
        place: &Place,
        branch: &str,
        rev: Option<&str>,
    ) -> FetchResult<(Found, tempfile::TempDir)> {
        let Some(cache) = &self.inner.cache_dir else {
            return fail("there is no folder for copies of Mercurial repositories");
        };
        let shown = place.address.to_string_lossy().into_owned();
        let folder = cache.join("hg");
        std::fs::create_dir_all(&folder).map_err(FetchError::io("creating directory", &folder))?;
        let hash = Hash::of(HashAlgo::Sha256, place.address.as_bytes()).to_base(HashFormat::Nix32);
        let copy = folder.join(hash);
        let lock = copy.with_extension("lock");
        let lock_file = File::create(&lock).map_err(FetchError::io("opening lock file", &lock))?;
        lock_file.lock().map_err(FetchError::io("locking", &lock))?;
        let at = copy.as_os_str();
        let is_there = match rev {
            Some(rev) if copy.exists() => {
                let args = [os("log"), os("-R"), at, os("-r"), os(rev), os("--template"), os("1")];
                run(&args).is_ok_and(|printed| printed == b"1")
            }
            _ => false,
        };
        if !is_there {
            let text = format!("fetching Mercurial repository '{shown}'");
            let (level, kind) = (Verbosity::Talkative, ActivityType::Unknown);
            let _activity = Activity::start(&self.inner.logger, level, kind, &text, &[], 0);
            pull(&copy, &place.address)?;
        }
        let wanted = rev.unwrap_or(branch);
        let printed = line(&[
            os("log"),
            os("-R"),
            at,
            os("-r"),
            os(wanted),
            os("--template"),
            os("{node} {rev} {branch}"),
        ])?;
        let words: Vec<&str> = printed.splitn(3, ' ').collect();
        let found = match words[..] {
            [node, count, branch] => match count.parse() {
                Ok(count) => Found { rev: node.to_owned(), count, branch: branch.to_owned() },
                Err(_) => return fail(format!("'hg log' of '{shown}' printed '{printed}'")),
            },
            _ => return fail(format!("'hg log' of '{shown}' printed '{printed}'")),
        };
        let folder = tempfile::TempDir::new()
            .map_err(FetchError::io("creating temporary directory in", std::env::temp_dir()))?;
        let tree = folder.path().join("tree");
        run(&[os("archive"), os("-R"), at, os("-r"), os(&found.rev), tree.as_os_str()])?;
        let note = tree.join(".hg_archival.txt");
        match std::fs::remove_file(&note) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(FetchError::io("deleting", note)(error))
            }
            _ => Ok((found, folder)),
        }
    }
}

fn is_dirty(tree: &Path) -> FetchResult<bool> {
    let args = [os("status"), os("-R"), tree.as_os_str(), os("--modified"), os("--added"), os("--removed")];
    Ok(!run(&args)?.is_empty())
}

/// Brings our copy of a repository up to date.
fn pull(copy: &Path, address: &OsStr) -> FetchResult<()> {
    if !copy.exists() {
        // Whole or not at all.
        let part = copy.with_extension("new");
        let _ = std::fs::remove_dir_all(&part);
        run(&[os("clone"), os("--noupdate"), os("--"), address, part.as_os_str()])?;
        return std::fs::rename(&part, copy).map_err(FetchError::io("renaming", part));
    }
    let args = [os("pull"), os("-R"), copy.as_os_str(), os("--"), address];
    match run(&args) {
        Err(_) if copy.join(".hg/store/journal").exists() => {
            // A pull that was broken off.
            run(&[os("recover"), os("-R"), copy.as_os_str()])?;
            run(&args).map(drop)
        }
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_core::flake_ref::Scheme;

    #[test]
    fn places() {
        let check = |url: &str, address: &str, is_local: bool| {
            let attrs = Attrs::from([("url".to_owned(), Attr::str(url))]);
            let found = place(&Input { attrs, scheme: Some(Scheme::Mercurial) }).expect(url);
            assert_eq!((found.address.to_str(), found.tree.is_some()), (Some(address), is_local));
        };
        check("file:///a%20b", "/a b", true);
        check("https://h/x", "https://h/x", false);
        let none = Input { attrs: Attrs::new(), scheme: Some(Scheme::Mercurial) };
        assert!(place(&none).is_err());
    }
}

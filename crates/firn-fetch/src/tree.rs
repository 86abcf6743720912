//! `builtins.fetchTree` and `fetchGit`: inputs of all kinds, as trees in the store.

use crate::Fetcher;
use crate::error::{FetchError, FetchResult};
use firn_core::flake_ref::{Attr, Attrs, Input, ParseContext, Scheme};
use firn_core::{CaMethod, Hash, HashAlgo, StorePath};
use firn_store::AddSource;
use firn_store::activity::Verbosity;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A tree that is in the store now.
#[derive(Debug, Clone)]
pub struct Tree {
    pub store_path: StorePath,
    /// What was asked for, with what is known now: `narHash`, `rev`, `lastModified` and so on.
    pub attrs: Attrs,
}

pub(crate) fn text<'a>(attrs: &'a Attrs, name: &str) -> Option<&'a [u8]> {
    match attrs.get(name) {
        Some(Attr::Str(text)) => Some(text),
        _ => None,
    }
}

pub(crate) fn flag(attrs: &Attrs, name: &str) -> bool {
    matches!(attrs.get(name), Some(Attr::Bool(true)))
}

pub(crate) fn number(attrs: &Attrs, name: &str) -> Option<u64> {
    match attrs.get(name) {
        Some(Attr::Int(number)) => Some(*number),
        _ => None,
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// An input as messages name it.
pub(crate) fn shown(input: &Input) -> String {
    input.to_url().map_or_else(|_| format!("{:?}", input.attrs), |url| lossy(url.to_string().as_bytes()))
}

/// The name in the store.
pub(crate) fn name_of(attrs: &Attrs) -> String {
    text(attrs, "name").map_or_else(|| "source".to_owned(), lossy)
}

impl Fetcher {
    /// Fetches an input, and checks that it is what the input says of it.
    ///
    /// # Errors
    /// Kinds that are not supported, what cannot be fetched, and what is not as the input says.
    pub async fn fetch_tree(&self, input: &Input) -> FetchResult<Tree> {
        let tree = self.fetch_unchecked(input).await?;
        check(input, &tree)?;
        Ok(tree)
    }

    /// The tree of an input with its hash, whatever the input says of it.
    pub(crate) async fn fetch_unchecked(&self, input: &Input) -> FetchResult<Tree> {
        let fail = |what: String| Err(FetchError::Other(what));
        // A commit is a hash, and nothing else that programs would take for one.
        input.rev().map_err(|error| FetchError::Other(error.message))?;
        let mut tree = match input.scheme {
            Some(Scheme::Path) => self.fetch_path(input).await?,
            Some(Scheme::File) => {
                let url = self.url_of(input)?;
                let file = self.download_file(&url, &name_of(&input.attrs), &[]).await?;
                Tree { store_path: file.store_path, attrs: input.attrs.clone() }
            }
            Some(Scheme::Tarball) => self.fetch_archive(input).await?,
            Some(Scheme::Git) => self.fetch_git(input).await?,
            Some(Scheme::GitHub | Scheme::GitLab | Scheme::SourceHut) => self.fetch_forge(input).await?,
            Some(Scheme::Mercurial) => self.fetch_hg(input).await?,
            Some(Scheme::Indirect) => {
                return fail(format!("indirect input '{}' cannot be fetched directly", shown(input)));
            }
            None => return fail(input.to_url().map_or_else(|error| error.message, |url| url.to_string())),
        };
        let info = self.store().query_path_info(&tree.store_path).await?;
        let Some(info) = info else {
            let path = self.store().store_dir().display(&tree.store_path);
            return fail(format!("path '{path}' is not valid"));
        };
        tree.attrs.insert("narHash".to_owned(), Attr::str(info.nar_hash.to_sri()));
        Ok(tree)
    }

    fn url_of(&self, input: &Input) -> FetchResult<String> {
        let url = text(&input.attrs, "url");
        let url = url.ok_or_else(|| FetchError::Other("input attribute 'url' is missing".to_owned()))?;
        Ok(lossy(url))
    }

    async fn fetch_archive(&self, input: &Input) -> FetchResult<Tree> {
        let url = self.url_of(input)?;
        let tarball = self.download_tarball(&url, "source", &[]).await?;
        let mut attrs = input.attrs.clone();
        if let Some(immutable) = &tarball.immutable_url {
            let mut context = ParseContext { has_feature: &|_| true, warnings: Vec::new() };
            let bad =
                |text: String| FetchError::Other(format!("the server's immutable URL '{immutable}': {text}"));
            let reference = firn_core::flake_ref::FlakeRef::parse(immutable.as_bytes(), &mut context)
                .map_err(|error| bad(error.to_string()))?;
            if reference.input.scheme != Some(Scheme::Tarball) {
                return Err(bad("it is no tarball".to_owned()));
            }
            attrs = reference.input.attrs;
        }
        // Archives that were made to be always the same often have no times.
        if tarball.last_modified != 0 && !attrs.contains_key("lastModified") {
            attrs.insert("lastModified".to_owned(), Attr::Int(tarball.last_modified.unsigned_abs()));
        }
        Ok(Tree { store_path: tarball.store_path, attrs })
    }

    /// A folder or file of this machine.
    async fn fetch_path(&self, input: &Input) -> FetchResult<Tree> {
        let path = text(&input.attrs, "path").unwrap_or_default();
        let path = PathBuf::from(OsStr::from_bytes(path));
        if !path.is_absolute() {
            return Err(FetchError::Other(format!(
                "cannot fetch input '{}' because it uses a relative path",
                shown(input)
            )));
        }
        let store = self.store();
        let mut attrs = input.attrs.clone();
        let known = store.store_dir().parse(&path.to_string_lossy()).ok();
        if let Some(known) = &known {
            store.add_temp_root(known).await?;
        }
        let (store_path, modified) = match known {
            Some(known) if known.name() == "source" && store.is_valid_path(&known).await? => (known, 0),
            _ => {
                self.inner.logger.log(
                    Verbosity::Talkative,
                    format!("copying '{}' to the store", path.display()).as_bytes(),
                );
                let modified = newest(&path)?;
                (self.add_tree(&path, "source").await?, modified)
            }
        };
        attrs.entry("lastModified".to_owned()).or_insert(Attr::Int(modified));
        Ok(Tree { store_path, attrs })
    }

    pub(crate) async fn add_tree(&self, path: &Path, name: &str) -> FetchResult<StorePath> {
        let none = BTreeSet::new();
        let source = AddSource::Path(path);
        let store = self.store();
        Ok(store.add_to_store(name, source, CaMethod::NixArchive, HashAlgo::Sha256, &none, false).await?.path)
    }
}

/// Whether a tree is what its input says of it.
fn check(input: &Input, tree: &Tree) -> FetchResult<()> {
    let fail = |what: String| Err(FetchError::Other(what));
    let expected = input.nar_hash().map_err(|error| FetchError::Other(error.to_string()))?;
    let got = text(&tree.attrs, "narHash").and_then(|hash| Hash::parse_sri(&lossy(hash)).ok());
    if let (Some(expected), Some(got)) = (expected, got)
        && expected != got
    {
        return Err(FetchError::NarMismatch { input: shown(input), hashes: Box::new([expected, got]) });
    }
    for name in ["lastModified", "revCount"] {
        if let Some(before) = number(&input.attrs, name)
            && number(&tree.attrs, name) != Some(before)
        {
            return fail(format!(
                "'{name}' attribute mismatch in input '{}', expected {before}",
                shown(input)
            ));
        }
    }
    if let Some(before) = text(&input.attrs, "rev")
        && text(&tree.attrs, "rev") != Some(before)
    {
        return fail(format!(
            "'rev' attribute mismatch in input '{}', expected {}",
            shown(input),
            lossy(before)
        ));
    }
    Ok(())
}

/// When the last of all files below a path was changed, in seconds since 1970.
fn newest(path: &Path) -> FetchResult<u64> {
    let mut newest = 0;
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let data = path.symlink_metadata().map_err(FetchError::io("getting status of", &path))?;
        newest = newest.max(data.mtime());
        if data.is_dir() {
            for entry in path.read_dir().map_err(FetchError::io("reading directory", &path))? {
                todo.push(entry.map_err(FetchError::io("reading directory", &path))?.path());
            }
        }
    }
    Ok(newest.unsigned_abs())
}

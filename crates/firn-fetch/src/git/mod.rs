//! Git repositories: commits of any, and working trees of this machine.

mod command;
mod export;
mod lfs;
mod verify;

use crate::cache::Attrs as Members;
use crate::error::{FetchError, FetchResult};
use crate::tree::{Tree, flag, name_of, shown, text};
use crate::{Dirty, Fetcher};
use command::Git;
use export::{Exported, Gitlink};
use firn_core::flake_ref::{Attr, Attrs, Input, Scheme};
use firn_core::{Hash, HashAlgo, HashFormat};
use firn_store::activity::Verbosity;
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};
use verify::Signers;

/// The commit of a repository that has none.
const NO_REV: &str = "0000000000000000000000000000000000000000";

/// How deep submodules are in each other.
const MOST_NESTED: usize = 50;

fn fail<T>(text: impl Into<String>) -> FetchResult<T> {
    Err(FetchError::Other(text.into()))
}

/// Where a repository is.
pub(crate) enum Location {
    /// With a working tree on this machine.
    Local(PathBuf),
    Remote(String),
}

impl Location {
    fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Remote(url) => url.clone(),
        }
    }
}

/// What is asked for.
struct Wanted {
    location: Location,
    reference: Option<String>,
    rev: Option<String>,
    shallow: bool,
    submodules: bool,
    export_ignore: bool,
    /// Files instead of pointers to them (Git LFS).
    lfs: bool,
    all_refs: bool,
}

impl Wanted {
    fn of(attrs: &Attrs) -> FetchResult<Self> {
        let string = |name: &str| text(attrs, name).map(|text| String::from_utf8_lossy(text).into_owned());
        let Some(url) = string("url") else { return fail("input attribute 'url' is missing") };
        let (submodules, export_ignore) = (flag(attrs, "submodules"), flag(attrs, "exportIgnore"));
        if submodules && export_ignore {
            return fail("exportIgnore and submodules are not supported together yet");
        }
        Ok(Self {
            location: location(&url),
            reference: string("ref"),
            rev: string("rev"),
            shallow: flag(attrs, "shallow"),
            submodules,
            export_ignore,
            lfs: flag(attrs, "lfs"),
            all_refs: flag(attrs, "allRefs"),
        })
    }
}

/// Bare repositories are fetched from as those of other machines are.
pub(crate) fn location(url: &str) -> Location {
    let plain = url.split(['?', '#']).next().unwrap_or(url);
    let Some(path) = plain.strip_prefix("file:") else {
        let url = url.split_once('?').map_or(url.to_owned(), |(before, query)| {
            let rest: Vec<&str> = query.split('&').filter(|part| !part.starts_with("dir=")).collect();
            if rest.is_empty() { before.to_owned() } else { format!("{before}?{}", rest.join("&")) }
        });
        return Location::Remote(url);
    };
    let path = PathBuf::from(firn_http::auth::percent_decode(path.strip_prefix("//").unwrap_or(path)));
    let is_bare = path.exists() && !path.join(".git").exists();
    match is_bare || std::env::var("_NIX_FORCE_HTTP").is_ok_and(|value| value == "1") {
        true => Location::Remote(plain.to_owned()),
        false => Location::Local(std::path::absolute(&path).unwrap_or(path)),
    }
}

/// Short form of a commit.
fn short(rev: &str) -> &str {
    &rev[..rev.len().min(7)]
}

fn set(attrs: &mut Attrs, name: &str, value: impl Into<Vec<u8>>) {
    attrs.insert(name.to_owned(), Attr::Str(value.into()));
}

/// What is going to be written: a commit of a repository, or its working tree.
struct Prepared {
    /// What was asked for, with what is known now.
    attrs: Attrs,
    repository: PathBuf,
    from_tree: bool,
}

/// Adds when a commit was made, and how many there are up to it.
fn describe(git: &Git, rev: &str, wanted: &Wanted, attrs: &mut Attrs) -> FetchResult<()> {
    let modified = git.number(&["log", "-1", "--format=%ct", "--no-show-signature", rev, "--"])?;
    attrs.insert("lastModified".to_owned(), Attr::Int(modified));
    if wanted.shallow {
        return Ok(());
    }
    if git.line(&["rev-parse", "--is-shallow-repository"])?.as_deref() == Some("true") {
        return fail(format!(
            "'{}' is a shallow Git repository, but shallow repositories are only allowed when `shallow = true;` is \
             specified",
            wanted.location.shown()
        ));
    }
    let count = git.number(&["rev-list", "--count", rev, "--"])?;
    attrs.insert("revCount".to_owned(), Attr::Int(count));
    Ok(())
}

/// Whether files that Git tracks were changed and not committed, with `submodules` also in those.
fn is_dirty(git: &Git, submodules: bool, depth: usize) -> FetchResult<bool> {
    let status =
        git.run(&["status", "--porcelain=v1", "-z", "--untracked-files=no", "--ignore-submodules=all"])?;
    if !status.is_empty() || !submodules {
        return Ok(!status.is_empty());
    }
    for path in git.modules()? {
        let dir = git.dir.join(command::os(&path));
        if depth < MOST_NESTED && dir.join(".git").exists() && is_dirty(&Git { dir }, true, depth + 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Fetcher {
    /// A tree of a Git repository, with `rev`, `revCount` and `lastModified`.
    pub(crate) async fn fetch_git(&self, input: &Input) -> FetchResult<Tree> {
        let name = name_of(&input.attrs);
        let (this, attrs) = (self.clone(), input.attrs.clone());
        // Waiting for git and writing files blocks.
        let prepared = tokio::task::spawn_blocking(move || this.prepare(&attrs));
        let Prepared { attrs, repository, from_tree } =
            prepared.await.map_err(|error| FetchError::Other(error.to_string()))??;
        let key = text(&attrs, "rev").filter(|rev| *rev != NO_REV.as_bytes()).map(|rev| {
            let mut key = Members::new();
            key.insert("rev".into(), json!(String::from_utf8_lossy(rev)));
            key.insert("exportIgnore".into(), json!(flag(&attrs, "exportIgnore")));
            key.insert("submodules".into(), json!(flag(&attrs, "submodules")));
            if flag(&attrs, "lfs") {
                key.insert("lfs".into(), json!(true));
            }
            key.insert("name".into(), json!(name));
            key.insert("store".into(), json!(self.store().store_dir().as_str()));
            key
        });
        if let Some(key) = &key
            && let Some((_, store_path)) = self.lookup("firn-git-tree", key).await?
        {
            return Ok(Tree { store_path, attrs });
        }
        let (this, wanted) = (self.clone(), attrs.clone());
        let written = tokio::task::spawn_blocking(move || -> FetchResult<_> {
            let folder = tempfile::TempDir::new()
                .map_err(FetchError::io("creating temporary directory in", std::env::temp_dir()))?;
            let root = folder.path().join("tree");
            this.write(&Prepared { attrs: wanted, repository, from_tree }, &root, 0)?;
            Ok((folder, root))
        });
        let (folder, root) = written.await.map_err(|error| FetchError::Other(error.to_string()))??;
        let store_path = self.add_tree(&root, &name).await?;
        drop(tokio::task::spawn_blocking(move || drop(folder)).await);
        if let Some(key) = &key {
            let mut value = Members::new();
            value.insert("storePath".into(), json!(store_path.base_name()));
            self.upsert("firn-git-tree", key, &value)?;
        }
        Ok(Tree { store_path, attrs })
    }

    /// Finds the commit, fetching what is missing.
    fn prepare(&self, attrs: &Attrs) -> FetchResult<Prepared> {
        let wanted = Wanted::of(attrs)?;
        if let (Location::Local(path), None, None) = (&wanted.location, &wanted.reference, &wanted.rev) {
            let attrs = self.working_tree(attrs, &wanted, path)?;
            return Ok(Prepared { attrs, repository: path.clone(), from_tree: true });
        }
        let mut attrs = attrs.clone();
        let (git, rev, reference) = match &wanted.location {
            Location::Local(path) => {
                let git = Git { dir: path.clone() };
                let reference = match &wanted.reference {
                    Some(reference) => reference.clone(),
                    None => self.default_branch(&git, &wanted)?,
                };
                let rev = match &wanted.rev {
                    Some(rev) => rev.clone(),
                    None => resolve(&git, &reference)?,
                };
                (git, rev, reference)
            }
            Location::Remote(url) => self.cached_commit(url, &wanted)?,
        };
        set(&mut attrs, "ref", reference);
        self.check_signature(&git, &rev, Signers::of(&attrs)?.as_ref())?;
        describe(&git, &rev, &wanted, &mut attrs)?;
        set(&mut attrs, "rev", rev);
        Ok(Prepared { attrs, repository: git.dir, from_tree: false })
    }

    /// What there is to say of a working tree.
    fn working_tree(&self, attrs: &Attrs, wanted: &Wanted, path: &Path) -> FetchResult<Attrs> {
        let git = Git { dir: path.to_owned() };
        let mut attrs = attrs.clone();
        let head = git.line(&["rev-parse", "--verify", "--quiet", "HEAD"])?;
        let dirty = is_dirty(&git, wanted.submodules, 0)?;
        let signers = Signers::of(&attrs)?;
        if !dirty {
            self.check_signature(&git, head.as_deref().unwrap_or(NO_REV), signers.as_ref())?;
        }
        match &head {
            Some(head) => {
                // The number of commits is of no use where there is no commit.
                let wanted = Wanted { shallow: wanted.shallow || dirty, ..Wanted::of(&attrs)? };
                describe(&git, head, &wanted, &mut attrs)?;
            }
            None => drop(attrs.insert("lastModified".to_owned(), Attr::Int(0))),
        }
        if !dirty {
            if let Some(reference) = git.line(&["symbolic-ref", "--quiet", "HEAD"])? {
                set(&mut attrs, "ref", reference);
            }
            set(&mut attrs, "rev", head.as_deref().unwrap_or(NO_REV));
            if head.is_none() && !wanted.shallow {
                attrs.insert("revCount".to_owned(), Attr::Int(0));
            }
            return Ok(attrs);
        }
        let text = format!("Git tree '{}' is dirty", path.display());
        match self.inner.dirty {
            Dirty::Refuse => return fail(text),
            Dirty::Warn => self.inner.logger.warn(&text),
            Dirty::Allow => {}
        }
        if signers.is_some() {
            let input = Input { scheme: Some(Scheme::Git), attrs };
            return fail(format!(
                "commit verification is required for Git repository '{}', but it's dirty",
                shown(&input)
            ));
        }
        if let Some(head) = head {
            set(&mut attrs, "dirtyRev", format!("{head}-dirty"));
            set(&mut attrs, "dirtyShortRev", format!("{}-dirty", short(&head)));
        }
        Ok(attrs)
    }

    /// Writes the tree that [`Fetcher::prepare`] found below `to`.
    fn write(&self, prepared: &Prepared, to: &Path, depth: usize) -> FetchResult<()> {
        if depth > MOST_NESTED {
            return fail("Git submodules are in each other without an end");
        }
        let Prepared { attrs, repository, from_tree } = prepared;
        let wanted = Wanted::of(attrs)?;
        let git = Git { dir: repository.to_owned() };
        if *from_tree {
            let text = format!("copying '{}/' to the store", repository.display());
            self.inner.logger.log(Verbosity::Chatty, text.as_bytes());
            for link in git.copy_tracked(to, wanted.export_ignore)? {
                if wanted.submodules {
                    let path = repository.join(command::os(&link.path));
                    let mut module = Attrs::new();
                    set(&mut module, "url", format!("file://{}", path.display()));
                    self.write_module(module, &wanted, &link, to, depth)?;
                }
            }
            return Ok(());
        }
        let rev = wanted.rev.clone().unwrap_or_default();
        let Exported { links, large } = git.export(&rev, to, wanted.export_ignore, wanted.lfs)?;
        if !wanted.submodules && large.is_empty() {
            return Ok(());
        }
        let origin = match &wanted.location {
            Location::Remote(url) => Some(url.clone()),
            Location::Local(_) => git.line(&["config", "--get", "remote.origin.url"])?,
        };
        self.write_large(&git, &rev, origin.as_deref(), to, &large)?;
        if !wanted.submodules {
            return Ok(());
        }
        let origin = origin.unwrap_or_else(|| format!("file://{}", wanted.location.shown()));
        for link in links {
            let path = String::from_utf8_lossy(&link.path).into_owned();
            let Some((url, branch)) = module_of(&git, &rev, &path)? else { continue };
            let mut module = Attrs::new();
            set(&mut module, "url", resolve_url(&origin, &url));
            set(&mut module, "rev", link.rev.clone());
            match branch.as_deref() {
                Some(".") => set(&mut module, "ref", wanted.reference.clone().unwrap_or_default()),
                Some(branch) => set(&mut module, "ref", branch),
                None => {}
            }
            module.insert("allRefs".to_owned(), Attr::Bool(true));
            self.write_module(module, &wanted, &link, to, depth)?;
        }
        Ok(())
    }

    fn write_module(
        &self,
        mut module: Attrs,
        wanted: &Wanted,
        link: &Gitlink,
        to: &Path,
        depth: usize,
    ) -> FetchResult<()> {
        set(&mut module, "type", "git");
        module.insert("submodules".to_owned(), Attr::Bool(true));
        module.insert("shallow".to_owned(), Attr::Bool(wanted.shallow));
        module.insert("lfs".to_owned(), Attr::Bool(wanted.lfs));
        let prepared = self.prepare(&module)?;
        self.write(&prepared, &to.join(command::os(&link.path)), depth + 1)
    }

    /// A commit of a repository that is fetched from, in our copy of it.
    fn cached_commit(&self, url: &str, wanted: &Wanted) -> FetchResult<(Git, String, String)> {
        let Some(cache) = &self.inner.cache_dir else {
            return fail("there is no folder for copies of Git repositories");
        };
        let hash = Hash::of(HashAlgo::Sha256, url.as_bytes()).to_base(HashFormat::Nix32);
        let folder = cache.join("gitv3");
        std::fs::create_dir_all(&folder).map_err(FetchError::io("creating directory", &folder))?;
        let dir = folder.join(if wanted.shallow { format!("{hash}-shallow") } else { hash });
        let lock = dir.with_extension("lock");
        let lock_file = File::create(&lock).map_err(FetchError::io("opening lock file", &lock))?;
        lock_file.lock().map_err(FetchError::io("locking", &lock))?;
        let git = Git::create(&dir)?;
        let reference = match &wanted.reference {
            Some(reference) => reference.clone(),
            None => self.default_branch(&git, wanted)?,
        };
        let full = match reference.starts_with("refs/") || reference == "HEAD" {
            true => reference.clone(),
            false => format!("refs/heads/{reference}"),
        };
        let known = |rev: &str| {
            git.line(&["cat-file", "-e", &format!("{rev}^{{commit}}")]).map(|line| line.is_some())
        };
        let mut key = Members::new();
        key.insert("url".into(), json!(url));
        key.insert("ref".into(), json!(full));
        key.insert("shallow".into(), json!(wanted.shallow));
        let local = git.line(&["rev-parse", "--verify", "--quiet", &full])?;
        let is_fresh = || -> FetchResult<bool> {
            let entry = self.cache().map(|cache| cache.lookup("firn-git-ref", &key)).transpose()?.flatten();
            Ok(local.is_some() && entry.is_some_and(|entry| !entry.is_expired(self.inner.ttl)))
        };
        let needed = match &wanted.rev {
            Some(rev) => !known(rev)?,
            None => wanted.all_refs || !is_fresh()?,
        };
        if needed {
            let spec = match (&wanted.rev, wanted.all_refs) {
                (_, true) => "refs/*:refs/*".to_owned(),
                (Some(rev), false) => rev.clone(),
                (None, false) => format!("{full}:{full}"),
            };
            self.inner
                .logger
                .log(Verbosity::Talkative, format!("fetching Git repository '{url}'").as_bytes());
            match git.fetch(url, &spec, wanted.shallow) {
                Ok(()) => self.upsert("firn-git-ref", &key, &Members::new())?,
                Err(error) if local.is_none() => return Err(error),
                Err(error) => {
                    self.inner.logger.warn(&error.to_string());
                    self.inner.logger.warn(&format!(
                        "could not update local clone of Git repository '{url}'; continuing with the most recent version"
                    ));
                }
            }
        }
        let rev = match &wanted.rev {
            Some(rev) if known(rev)? => rev.clone(),
            Some(rev) => {
                return fail(format!(
                    "Cannot find Git revision '{rev}' in ref '{reference}' of repository '{url}'! Please make sure that \
                     the \x1b[1mrev\x1b[0m exists on the \x1b[1mref\x1b[0m you've specified or add \
                     \x1b[1mallRefs = true;\x1b[0m to \x1b[1mfetchGit\x1b[0m."
                ));
            }
            None => resolve(&git, &full)?,
        };
        Ok((git, rev, reference))
    }

    /// The branch that a repository is on.
    fn default_branch(&self, git: &Git, wanted: &Wanted) -> FetchResult<String> {
        let found = match &wanted.location {
            Location::Local(_) => git.line(&["symbolic-ref", "--quiet", "HEAD"])?,
            Location::Remote(url) => {
                let mut key = Members::new();
                key.insert("url".into(), json!(url));
                let entry =
                    self.cache().map(|cache| cache.lookup("firn-git-head", &key)).transpose()?.flatten();
                let known = entry.as_ref().and_then(|entry| entry.text("ref")).map(str::to_owned);
                match (&entry, known) {
                    (Some(entry), Some(known)) if !entry.is_expired(self.inner.ttl) => Some(known),
                    (_, known) => match remote_head(git, url)? {
                        Some(head) => {
                            let mut value = Members::new();
                            value.insert("ref".into(), json!(head));
                            self.upsert("firn-git-head", &key, &value)?;
                            Some(head)
                        }
                        None => known,
                    },
                }
            }
        };
        Ok(found.unwrap_or_else(|| {
            let shown = wanted.location.shown();
            self.inner
                .logger
                .warn(&format!("could not read HEAD ref from repo at '{shown}', using 'master'"));
            "master".to_owned()
        }))
    }
}

/// The branch that another machine's repository is on.
fn remote_head(git: &Git, url: &str) -> FetchResult<Option<String>> {
    let Some(text) = git.line(&["ls-remote", "--symref", "--", url, "HEAD"])? else { return Ok(None) };
    let head = text.lines().find_map(|line| line.strip_prefix("ref: ")?.split('\t').next());
    Ok(head.map(str::to_owned))
}

fn resolve(git: &Git, reference: &str) -> FetchResult<String> {
    let found = git.line(&["rev-parse", "--verify", "--quiet", &format!("{reference}^{{commit}}")])?;
    match found {
        Some(rev) => Ok(rev),
        None => {
            fail(format!("resolving Git reference '{reference}' in '{}': there is none", git.dir.display()))
        }
    }
}

/// What `.gitmodules` of a commit says of the module at `path`: its URL and branch.
fn module_of(git: &Git, rev: &str, path: &str) -> FetchResult<Option<(String, Option<String>)>> {
    let blob = format!("--blob={rev}:.gitmodules");
    let Some(text) = git.line(&["config", &blob, "-z", "--list"])? else { return Ok(None) };
    let pairs: Vec<(&str, &str)> = text.split('\0').filter_map(|pair| pair.split_once('\n')).collect();
    let name = pairs.iter().find_map(|(key, value)| {
        (*value == path).then(|| key.strip_prefix("submodule.")?.strip_suffix(".path")).flatten()
    });
    let Some(name) = name else { return Ok(None) };
    let get = |what: &str| {
        let key = format!("submodule.{name}.{what}");
        pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned())
    };
    Ok(get("url").map(|url| (url, get("branch"))))
}

/// A module's URL may be relative to that of the repository that has it.
fn resolve_url(origin: &str, url: &str) -> String {
    let with_scheme = |url: String| if url.starts_with('/') { format!("file://{url}") } else { url };
    if !url.starts_with("./") && !url.starts_with("../") {
        return with_scheme(url.to_owned());
    }
    let mut base = origin.trim_end_matches('/').to_owned();
    let mut rest = url;
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            rest = after;
            let cut = base.rfind(['/', ':']).unwrap_or(0);
            base.truncate(cut);
        } else {
            return with_scheme(format!("{base}/{rest}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_modules() {
        assert_eq!(resolve_url("https://h/a/b", "../c"), "https://h/a/c");
        assert_eq!(resolve_url("https://h/a/b/", "./c"), "https://h/a/b/c");
        assert_eq!(resolve_url("/a/b", "../c"), "file:///a/c");
        assert_eq!(resolve_url("https://h/a", "ssh://x/y"), "ssh://x/y");
    }
}

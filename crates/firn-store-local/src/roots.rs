//! Roots: what keeps paths from being collected.
//!
//! Sources: symlinks into the store below `gcroots` and `profiles`; symlinks in `gcroots/auto` to such symlinks
//! elsewhere; regular files there whose name is a store path; temporary roots of living processes; what running
//! programs have open or mapped.

use crate::runtime_roots;
use crate::store::LocalStore;
use crate::temp_roots;
use firn_core::{Hash, HashAlgo, HashFormat, StorePath};
use firn_store::{StoreError, StoreResult};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What points to each root: the path of a link or file, `{temp:<pid>}`, a file below /proc, or `{censored}`.
pub type Roots = BTreeMap<StorePath, BTreeSet<String>>;

/// A root in a folder.
pub(crate) struct FoundRoot {
    pub(crate) path: StorePath,
    /// The link, or the file whose name it is.
    pub(crate) source: PathBuf,
    is_link: bool,
}

const CENSORED: &str = "{censored}";

impl LocalStore {
    /// All roots that are valid (temporary ones also if they are not yet). `censor` hides what other users run.
    pub fn roots(&self, censor: bool) -> StoreResult<Roots> {
        let mut roots = self.permanent_roots()?;
        self.runtime_roots(censor, &mut roots)?;
        self.temporary_roots(censor, &mut roots)?;
        Ok(roots)
    }

    /// Roots in folders that are valid.
    pub(crate) fn permanent_roots(&self) -> StoreResult<Roots> {
        let mut found: Vec<(StorePath, String)> = Vec::new();
        self.walk_permanent_roots(&mut |root| {
            // There may be hundreds of thousands of files, so the database is asked for them together.
            if !root.is_link || self.is_valid(&root.path)? {
                found.push((root.path, shown(&root.source)));
                return Ok(true);
            }
            Ok(false)
        })?;
        let valid = self.valid_among(found.iter().map(|(path, _)| path))?;
        let mut roots = Roots::new();
        for (path, source) in found {
            if valid.contains(&path) {
                roots.entry(path).or_default().insert(source);
            }
        }
        Ok(roots)
    }

    /// Goes over the roots in folders. `visit` says whether a root is valid; links to what is not are told of.
    pub(crate) fn walk_permanent_roots(
        &self,
        visit: &mut dyn FnMut(FoundRoot) -> StoreResult<bool>,
    ) -> StoreResult<()> {
        let config = &self.inner.config;
        let mut todo = vec![config.gc_roots_dir(), config.state_dir.join("profiles")];
        while let Some(dir) = todo.pop() {
            let listing = match std::fs::read_dir(&dir) {
                Ok(listing) => listing,
                Err(e) => {
                    self.unreadable_root(&dir, e)?;
                    continue;
                }
            };
            for entry in listing {
                let entry = entry.map_err(StoreError::io("reading directory", &dir))?;
                // Directory entries say what they are, so plain files cost no system call each.
                let kind = entry.file_type().map_err(StoreError::io("getting status of", entry.path()))?;
                if kind.is_dir() {
                    todo.push(entry.path());
                } else if kind.is_symlink() {
                    if let Err(e) = self.symlink_root(&entry.path(), visit)? {
                        self.unreadable_root(&entry.path(), e)?;
                    }
                } else if kind.is_file()
                    && let Some(name) = entry.file_name().to_str()
                    && let Ok(path) = StorePath::from_base_name(name)
                {
                    visit(FoundRoot { path, source: entry.path(), is_link: false })?;
                }
            }
        }
        Ok(())
    }

    /// Follows one link, or two for indirect roots. The inner error is one of the file system.
    fn symlink_root(
        &self,
        link: &Path,
        visit: &mut dyn FnMut(FoundRoot) -> StoreResult<bool>,
    ) -> StoreResult<std::io::Result<()>> {
        let target = match std::fs::read_link(link) {
            Ok(target) => target,
            Err(e) => return Ok(Err(e)),
        };
        if self.is_in_store(&target) {
            self.found_root(link, &target, visit)?;
            return Ok(Ok(()));
        }
        let target = absolute(&link.parent().unwrap_or(link).join(target));
        let meta = match std::fs::symlink_metadata(&target) {
            Ok(meta) => meta,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if link.starts_with(self.inner.config.gc_roots_dir().join("auto")) {
                    self.say(format!("removing stale link from {:?} to {:?}", link, target));
                    let _ = std::fs::remove_file(link);
                }
                return Ok(Ok(()));
            }
            Err(e) => return Ok(Err(e)),
        };
        if meta.is_symlink() {
            match std::fs::read_link(&target) {
                Ok(second) if self.is_in_store(&second) => self.found_root(&target, &second, visit)?,
                Ok(_) => {}
                Err(e) => return Ok(Err(e)),
            }
        }
        Ok(Ok(()))
    }

    fn found_root(
        &self,
        link: &Path,
        target: &Path,
        visit: &mut dyn FnMut(FoundRoot) -> StoreResult<bool>,
    ) -> StoreResult<()> {
        let Some(Ok((path, _))) = target.to_str().map(|target| self.dir().split(target)) else {
            return Ok(());
        };
        if !visit(FoundRoot { path, source: link.to_owned(), is_link: true })? {
            self.say(format!("skipping invalid root from '{}' to '{}'", link.display(), target.display()));
        }
        Ok(())
    }

    fn is_in_store(&self, path: &Path) -> bool {
        path.to_str().is_some_and(|text| self.dir().contains(text))
    }

    /// A root that cannot be read for good reasons is passed over.
    fn unreadable_root(&self, path: &Path, e: std::io::Error) -> StoreResult<()> {
        match e.kind() {
            ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::NotADirectory => {
                self.say(format!("cannot read potential root '{}'", path.display()));
                Ok(())
            }
            _ => Err(StoreError::io("finding GC roots in", path)(e)),
        }
    }

    pub(crate) fn temporary_roots(&self, censor: bool, roots: &mut Roots) -> StoreResult<()> {
        for (pid, text) in temp_roots::read_all(&self.inner.config.state_dir, &*self.inner.logger)? {
            let path = std::str::from_utf8(&text).ok().map(|text| self.dir().parse(text));
            if let Some(Ok(path)) = path {
                let source = if censor { CENSORED.to_owned() } else { format!("{{temp:{pid}}}") };
                roots.entry(path).or_default().insert(source);
            }
        }
        Ok(())
    }

    /// Store paths, valid or not, that running programs use, as far as this process may know.
    pub fn used_by_programs(&self) -> BTreeSet<StorePath> {
        runtime_roots::find(self.dir()).into_keys().collect()
    }

    pub(crate) fn runtime_roots(&self, censor: bool, roots: &mut Roots) -> StoreResult<()> {
        let found = match self.inner.config.use_roots_daemon {
            true => runtime_roots::ask(self.dir(), &self.inner.config.roots_socket())?,
            false => runtime_roots::find(self.dir()),
        };
        for (path, sources) in found {
            if self.is_valid(&path)? {
                let entry = roots.entry(path).or_default();
                match censor {
                    true => {
                        entry.insert(CENSORED.to_owned());
                    }
                    false => entry.extend(sources),
                }
            }
        }
        Ok(())
    }

    /// Registers a link that lives outside of the state directory: `gcroots/auto/<hash of its path>`.
    pub fn add_indirect_root_link(&self, link: &Path) -> StoreResult<()> {
        let hash = Hash::of(HashAlgo::Sha1, link.as_os_str().as_bytes()).to_base(HashFormat::Nix32);
        make_symlink(&self.inner.config.gc_roots_dir().join("auto").join(hash), link)
    }

    /// Makes `link` a root of `path`; returns the link's absolute path. An existing link into the store is replaced,
    /// anything else is left alone.
    pub fn add_permanent_root(&self, path: &StorePath, link: &Path) -> StoreResult<PathBuf> {
        let link = absolute(&std::path::absolute(link).map_err(StoreError::io("resolving", link))?);
        if self.is_in_store(&link) {
            return Err(StoreError::Other(format!(
                "creating a garbage collector root ('{}') in the Nix store is forbidden (are you running nix-build \
                 inside the store?)",
                link.display()
            )));
        }
        self.add_temp_roots([path])?;
        let occupied = match std::fs::symlink_metadata(&link) {
            Ok(meta) if meta.is_symlink() => {
                !self.is_in_store(&std::fs::read_link(&link).map_err(StoreError::io("reading", &link))?)
            }
            Ok(_) => true,
            Err(_) => false,
        };
        if occupied {
            return Err(StoreError::Other(format!(
                "cannot create symlink '{}'; already exists",
                link.display()
            )));
        }
        make_symlink(&link, Path::new(&self.display(path)))?;
        self.add_indirect_root_link(&link)?;
        // A collection may have begun, and read the links, before this one was there.
        self.add_temp_roots([path])?;
        Ok(link)
    }
}

/// Makes a symlink, replacing one that is there in one step.
fn make_symlink(link: &Path, target: &Path) -> StoreResult<()> {
    if let Some(dir) = link.parent() {
        crate::layout::make_dirs(dir)?;
    }
    let mut temporary = link.as_os_str().to_owned();
    temporary.push(format!(".tmp-{}-{}", std::process::id(), crate::staging::random()));
    std::os::unix::fs::symlink(target, &temporary).map_err(StoreError::io("creating symlink", link))?;
    std::fs::rename(&temporary, link).map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        StoreError::io("creating symlink", link)(e)
    })
}

/// Takes out `.` and `..` by text, as the reference does.
fn absolute(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

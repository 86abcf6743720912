//! Saving space by hard-linking files of the same content to one in `.links`, named by the hash of its archive.

use crate::canonicalise::set_time;
use crate::store::LocalStore;
use crate::verify::hash_path;
use firn_core::HashFormat;
use firn_nar::fs::DumpOptions;
use firn_store::{StoreError, StoreResult};
use rustc_hash::FxHashSet;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What was saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OptimiseStats {
    pub files_linked: u64,
    pub bytes_freed: u64,
}

impl LocalStore {
    /// Goes over all valid paths.
    pub fn optimise(&self) -> StoreResult<OptimiseStats> {
        let paths = self.all_valid_paths()?;
        let dir = self.inner.config.links_dir();
        crate::layout::make_dirs(&dir)?;
        let mut run =
            Run { store: self, stats: OptimiseStats::default(), known: FxHashSet::default(), repair: false };
        for entry in std::fs::read_dir(&dir).map_err(StoreError::io("reading directory", &dir))? {
            run.known.insert(entry.map_err(StoreError::io("reading directory", &dir))?.ino());
        }
        for path in paths {
            self.add_temp_roots([&path])?;
            if self.is_valid(&path)? {
                run.tree(&self.real(&path))?;
            }
        }
        Ok(run.stats)
    }

    /// Optimises an object that was just written, if the setting says so.
    pub(crate) fn optimise_new(&self, real: &Path, repair: bool) -> StoreResult<()> {
        if !self.inner.config.auto_optimise_store {
            return Ok(());
        }
        crate::layout::make_dirs(&self.inner.config.links_dir())?;
        Run { store: self, stats: OptimiseStats::default(), known: FxHashSet::default(), repair }.tree(real)
    }
}

struct Run<'a> {
    store: &'a LocalStore,
    stats: OptimiseStats,
    /// Inodes known to be in `.links`.
    known: FxHashSet<u64>,
    repair: bool,
}

impl Run<'_> {
    fn tree(&mut self, root: &Path) -> StoreResult<()> {
        let mut todo = vec![root.to_owned()];
        while let Some(path) = todo.pop() {
            let meta =
                std::fs::symlink_metadata(&path).map_err(StoreError::io("getting status of", &path))?;
            if meta.is_dir() {
                for entry in std::fs::read_dir(&path).map_err(StoreError::io("reading directory", &path))? {
                    let entry = entry.map_err(StoreError::io("reading directory", &path))?;
                    if !self.known.contains(&entry.ino()) {
                        todo.push(entry.path());
                    }
                }
            } else if meta.is_file() || meta.is_symlink() {
                self.file(&path, &meta)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, meta: &Metadata) -> StoreResult<()> {
        // A file that something made writable may have been changed.
        if meta.is_file() && meta.mode() & 0o200 != 0 {
            let text = format!("skipping suspicious writable file '{}'", path.display());
            self.store.inner.logger.warn(&text);
            return Ok(());
        }
        if meta.nlink() > 1 && self.known.contains(&meta.ino()) {
            return Ok(());
        }
        let hash = hash_path(path, &DumpOptions::default)?.0.to_base(HashFormat::Nix32);
        let link = self.store.inner.config.links_dir().join(&hash);
        self.drop_corrupt_link(&link, meta, &hash)?;
        match std::fs::hard_link(path, &link) {
            Ok(()) => {
                self.known.insert(meta.ino());
                return Ok(());
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            // The directory of links is full; this file stays as it is.
            Err(e) if e.kind() == ErrorKind::StorageFull => {
                self.store.say(format!("cannot link '{}' to '{}': {e}", link.display(), path.display()));
                return Ok(());
            }
            Err(e) if e.kind() == ErrorKind::TooManyLinks => return Ok(()),
            Err(e) => return Err(StoreError::io("creating hard link to", &link)(e)),
        }
        let linked = std::fs::symlink_metadata(&link).map_err(StoreError::io("getting status of", &link))?;
        if linked.ino() == meta.ino() {
            self.known.insert(meta.ino());
            return Ok(());
        }
        self.replace(path, &link, meta)
    }

    /// Replaces `path` by a link to `link`, in one step, in a directory that is made writable for the moment.
    fn replace(&mut self, path: &Path, link: &Path, meta: &Metadata) -> StoreResult<()> {
        let store_dir = &self.store.inner.config.real_store_dir;
        let _parent = match path.parent() {
            Some(parent) if parent != store_dir => Some(WritableDir::new(parent)?),
            _ => None,
        };
        let temporary =
            store_dir.join(format!(".tmp-link-{}-{}", std::process::id(), crate::staging::random()));
        match std::fs::hard_link(link, &temporary) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::TooManyLinks => {
                if meta.len() > 0 {
                    self.store.say(format!("'{}' has maximum number of links", link.display()));
                }
                return Ok(());
            }
            Err(e) => return Err(StoreError::io("creating hard link to", link)(e)),
        }
        if let Err(e) = std::fs::rename(&temporary, path) {
            let _ = std::fs::remove_file(&temporary);
            if e.kind() == ErrorKind::TooManyLinks {
                return Ok(());
            }
            return Err(StoreError::io("renaming to", path)(e));
        }
        self.stats.files_linked += 1;
        self.stats.bytes_freed += meta.len();
        Ok(())
    }

    fn drop_corrupt_link(&self, link: &Path, meta: &Metadata, hash: &str) -> StoreResult<()> {
        let Ok(linked) = std::fs::symlink_metadata(link) else { return Ok(()) };
        let corrupt = linked.len() != meta.len()
            || (self.repair && hash_path(link, &DumpOptions::default)?.0.to_base(HashFormat::Nix32) != hash);
        if corrupt {
            let logger = &self.store.inner.logger;
            logger.warn(&format!("removing corrupted link '{}'", link.display()));
            logger.warn(
                "There may be more corrupted paths.\nYou should run `nix-store --verify --check-contents --repair` \
                 to fix them all",
            );
            std::fs::remove_file(link).map_err(StoreError::io("removing", link))?;
        }
        Ok(())
    }
}

/// A directory of a store object that can be written until this is dropped.
struct WritableDir(PathBuf);

impl WritableDir {
    fn new(dir: &Path) -> StoreResult<WritableDir> {
        set_mode(dir, 0o755).map_err(StoreError::io("changing mode of", dir))?;
        Ok(WritableDir(dir.to_owned()))
    }
}

impl Drop for WritableDir {
    fn drop(&mut self) {
        let _ = set_mode(&self.0, 0o555);
        if let Ok(name) = std::ffi::CString::new(self.0.as_os_str().as_bytes()) {
            let _ = set_time(rustix::fs::CWD, &name);
        }
    }
}

fn set_mode(dir: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(dir, PermissionsExt::from_mode(mode))
}

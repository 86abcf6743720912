//! Linking the files of one directory.

use super::Shared;
use crate::canonicalise::set_time;
use firn_core::{Hash, HashAlgo, HashFormat, Hasher};
use firn_nar::NarWriter;
use firn_store::{StoreError, StoreResult};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, linkat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

const OPEN_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A worker with its buffer.
pub(super) struct Linker<'a> {
    shared: &'a Shared<'a>,
    buffer: Vec<u8>,
}

/// Where a file is: its directory, open, with its path for messages; whether that may have to be made writable.
struct Place<'a> {
    dir: BorrowedFd<'a>,
    path: &'a Path,
    in_object: bool,
}

impl Place<'_> {
    fn full(&self, name: &CStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }
}

impl<'a> Linker<'a> {
    pub(super) fn new(shared: &'a Shared<'a>) -> Self {
        Linker { shared, buffer: vec![0; 256 * 1024] }
    }

    /// Links a file in the store directory, or the files of a directory; returns the directories below it.
    pub(super) fn place(&mut self, place: &Path) -> StoreResult<Vec<PathBuf>> {
        let io = |operation| move |e: Errno| StoreError::io(operation, place)(e.into());
        let stat = statat(CWD, place, AtFlags::SYMLINK_NOFOLLOW).map_err(io("getting status of"))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return self.directory(place);
        }
        let parent = place.parent().unwrap_or(Path::new("/"));
        let name = CString::new(place.file_name().unwrap_or_default().as_bytes())
            .map_err(|_| StoreError::Other("a path holds a NUL byte".into()))?;
        let dir = openat(CWD, parent, OPEN_DIR, Mode::empty())
            .map_err(|e| StoreError::io("opening directory", parent)(e.into()))?;
        self.file(&Place { dir: dir.as_fd(), path: parent, in_object: false }, &name, &mut None)?;
        Ok(Vec::new())
    }

    fn directory(&mut self, path: &Path) -> StoreResult<Vec<PathBuf>> {
        let io = |operation| move |e: Errno| StoreError::io(operation, path)(e.into());
        let fd = openat(CWD, path, OPEN_DIR, Mode::empty()).map_err(io("opening directory"))?;
        let (mut below, mut files) = (Vec::new(), Vec::new());
        for entry in Dir::read_from(&fd).map_err(io("reading directory"))? {
            let entry = entry.map_err(io("reading directory"))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || self.shared.known.lock().contains(&entry.ino()) {
                continue;
            }
            match entry.file_type() {
                FileType::Directory => below.push(path.join(OsStr::from_bytes(name.to_bytes()))),
                // File systems that do not say what an entry is.
                FileType::Unknown if self.is_dir(fd.as_fd(), name) => {
                    below.push(path.join(OsStr::from_bytes(name.to_bytes())));
                }
                _ => files.push(name.to_owned()),
            }
        }
        let stat = fstat(&fd).map_err(io("getting status of"))?;
        // Somebody was interrupted while it was writable.
        let odd = (stat.st_mode & 0o7777, stat.st_mtime) != (0o555, 1);
        let mut writable = odd.then(|| WritableDir::of(&fd)).transpose().map_err(io("opening directory"))?;
        for name in files {
            self.file(&Place { dir: fd.as_fd(), path, in_object: true }, &name, &mut writable)?;
        }
        Ok(below)
    }

    fn is_dir(&self, dir: BorrowedFd<'_>, name: &CStr) -> bool {
        statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    fn file(
        &mut self,
        place: &Place<'_>,
        name: &CStr,
        writable: &mut Option<WritableDir>,
    ) -> StoreResult<()> {
        let shared = self.shared;
        let io =
            |operation: &'static str| move |e: Errno| StoreError::io(operation, place.full(name))(e.into());
        let stat = statat(place.dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io("getting status of"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Symlink) {
            return Ok(());
        }
        // A file that something made writable may have been changed.
        if kind == FileType::RegularFile && stat.st_mode & 0o200 != 0 {
            let text = format!("skipping suspicious writable file '{}'", place.full(name).display());
            shared.store.inner.logger.warn(&text);
            return Ok(());
        }
        if stat.st_nlink > 1 && shared.known.lock().contains(&stat.st_ino) {
            return Ok(());
        }
        let hash = self.hash(place.dir, name, &stat).map_err(|(op, e)| io(op)(e))?.to_base(HashFormat::Nix32);
        let link = shared.links.join(&hash);
        loop {
            match linkat(place.dir, name, CWD, &link, AtFlags::empty()) {
                Ok(()) => {
                    shared.known.lock().insert(stat.st_ino);
                    return Ok(());
                }
                Err(Errno::EXIST) => {}
                // The directory of links is full; this file stays as it is.
                Err(e @ Errno::NOSPC) => {
                    let error = std::io::Error::from(e);
                    let path = place.full(name);
                    shared.store.say(format!(
                        "cannot link '{}' to '{}': {error}",
                        link.display(),
                        path.display()
                    ));
                    return Ok(());
                }
                Err(Errno::MLINK) => return Ok(()),
                Err(e) => return Err(StoreError::io("creating hard link to", link)(e.into())),
            }
            let linked = match statat(CWD, &link, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other.map_err(|e| StoreError::io("getting status of", &link)(e.into()))?,
            };
            if linked.st_ino == stat.st_ino {
                shared.known.lock().insert(stat.st_ino);
                return Ok(());
            }
            if self.is_corrupt(&link, &linked, &stat, &hash)? {
                continue;
            }
            return self.replace(place, name, &link, &stat, writable);
        }
    }

    /// SHA-256 of the archive of a file.
    fn hash(&mut self, dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<Hash, (&'static str, Errno)> {
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|e| ("reading link", e))?;
            let mut writer = NarWriter::new(Hasher::new(HashAlgo::Sha256));
            let hasher = writer.symlink(b"", target.as_bytes()).and_then(|()| writer.finish());
            return hasher.map(Hasher::finish).map_err(|_| ("hashing", Errno::IO));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = openat(dir, name, flags, Mode::empty()).map_err(|e| ("opening file", e))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut hasher = Hasher::new(HashAlgo::Sha256);
        firn_nar::writer::hash_regular_start(&mut hasher, stat.st_mode & 0o100 != 0, size);
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            let n = rustix::io::retry_on_intr(|| rustix::io::read(&fd, &mut self.buffer[..want]));
            match n.map_err(|e| ("reading", e))? {
                // It was cut short meanwhile; that is for `--verify` to tell.
                0 => return Err(("reading", Errno::IO)),
                n => {
                    hasher.update(&self.buffer[..n]);
                    left -= n as u64;
                }
            }
        }
        firn_nar::writer::hash_regular_end(&mut hasher, size);
        Ok(hasher.finish())
    }

    /// Replaces a file by a link to `link`, in one step, in a directory that is made writable for the moment.
    fn replace(
        &self,
        place: &Place<'_>,
        name: &CStr,
        link: &Path,
        stat: &Stat,
        writable: &mut Option<WritableDir>,
    ) -> StoreResult<()> {
        let shared = self.shared;
        if place.in_object {
            match writable {
                Some(dir) => dir.open_up(place)?,
                None => *writable = Some(WritableDir::new(place)?),
            }
        }
        let store_dir = &shared.store.inner.config.real_store_dir;
        let number = crate::staging::random();
        let temporary = store_dir.join(format!(".tmp-link-{}-{number}", std::process::id()));
        match linkat(CWD, link, CWD, &temporary, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::MLINK) => {
                if stat.st_size > 0 {
                    shared.store.say(format!("'{}' has maximum number of links", link.display()));
                }
                return Ok(());
            }
            Err(e) => return Err(StoreError::io("creating hard link to", link)(e.into())),
        }
        if let Err(e) = renameat(CWD, &temporary, place.dir, name) {
            let _ = unlinkat(CWD, &temporary, AtFlags::empty());
            if e == Errno::MLINK {
                return Ok(());
            }
            return Err(StoreError::io("renaming to", place.full(name))(e.into()));
        }
        shared.files_linked.fetch_add(1, Ordering::Relaxed);
        shared.bytes_freed.fetch_add(u64::try_from(stat.st_size).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// Whether a link is not what its name says; it is gone then.
    fn is_corrupt(&mut self, link: &Path, linked: &Stat, stat: &Stat, hash: &str) -> StoreResult<bool> {
        let name = CString::new(link.as_os_str().as_bytes())
            .map_err(|_| StoreError::Other("a path holds a NUL byte".into()))?;
        let mut corrupt = linked.st_size != stat.st_size;
        if !corrupt && self.shared.repair {
            let found = self.hash(CWD, &name, linked);
            let found = found.map_err(|(operation, e)| StoreError::io(operation, link)(e.into()))?;
            corrupt = found.to_base(HashFormat::Nix32) != hash;
        }
        if corrupt {
            let logger = &self.shared.store.inner.logger;
            logger.warn(&format!("removing corrupted link '{}'", link.display()));
            logger.warn(
                "There may be more corrupted paths.\nYou should run `nix-store --verify --check-contents --repair` \
                 to fix them all",
            );
            match unlinkat(CWD, link, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(StoreError::io("removing", link)(e.into())),
            }
        }
        Ok(corrupt)
    }
}

/// A directory of a store object that can be written until this is dropped.
struct WritableDir(OwnedFd);

impl WritableDir {
    /// A directory that is what it is; it gets its mode and time back in the end.
    fn of(dir: &OwnedFd) -> Result<WritableDir, Errno> {
        openat(dir, c".", OPEN_DIR, Mode::empty()).map(WritableDir)
    }

    fn new(place: &Place<'_>) -> StoreResult<WritableDir> {
        let io = |e: Errno| StoreError::io("changing mode of", place.path)(e.into());
        let fd = openat(place.dir, c".", OPEN_DIR, Mode::empty()).map_err(io)?;
        let dir = WritableDir(fd);
        dir.open_up(place)?;
        Ok(dir)
    }

    fn open_up(&self, place: &Place<'_>) -> StoreResult<()> {
        let io = |e: Errno| StoreError::io("changing mode of", place.path)(e.into());
        let mode = fstat(&self.0).map_err(io)?.st_mode & 0o7777;
        match mode & 0o200 {
            0 => rustix::fs::fchmod(&self.0, Mode::from_raw_mode(mode | 0o200)).map_err(io),
            _ => Ok(()),
        }
    }
}

impl Drop for WritableDir {
    fn drop(&mut self) {
        let _ = rustix::fs::fchmod(&self.0, Mode::from_raw_mode(0o555));
        let _ = set_time(self.0.as_fd(), &CString::from(c"."));
    }
}

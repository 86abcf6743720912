//! Making files below one directory, by names that come from an archive.

use crate::error::{ArchiveError, ArchiveResult};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Longest name of a member, in bytes.
const MAX_NAME: usize = 4096;

/// A directory that is filled. Every path is resolved below its descriptor, and no symlink is followed on the way.
pub(crate) struct Tree {
    root: OwnedFd,
    path: PathBuf,
    /// The directory of the last member, since the next one is mostly in the same.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree {
    /// Opens `path`, which is made if it is not there.
    pub fn create(path: &Path) -> ArchiveResult<Tree> {
        std::fs::create_dir_all(path).map_err(disk("creating directory", path))?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|e| disk("opening directory", path)(e.into()))?;
        Ok(Tree { root, path: path.to_owned(), last: None })
    }

    /// The parts of a member's name. Absolute names are taken as relative ones; `..` is refused.
    fn parts(name: &[u8]) -> ArchiveResult<Vec<&[u8]>> {
        let shown = || String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned();
        if name.len() > MAX_NAME || name.contains(&0) {
            return Err(ArchiveError::Malformed(format!("archive member name '{}' is not valid", shown())));
        }
        let parts: Vec<&[u8]> =
            name.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
        if parts.contains(&b"..".as_slice()) {
            return Err(ArchiveError::Malformed(format!("archive member '{}' contains '..'", shown())));
        }
        Ok(parts)
    }

    fn error(&self, operation: &'static str, name: &[u8], error: Errno) -> ArchiveError {
        let path = self.path.join(String::from_utf8_lossy(name).trim_start_matches('/'));
        ArchiveError::Disk { operation, path, source: error.into() }
    }

    /// The directory of a member, made with those above it where they are missing, and the member's own name.
    /// `None` for the root.
    fn parent<'n>(&mut self, name: &'n [u8]) -> ArchiveResult<Option<(BorrowedFd<'_>, &'n [u8])>> {
        let parts = Tree::parts(name)?;
        let Some((own, above)) = parts.split_last() else { return Ok(None) };
        let key = above.join(&b'/');
        if self.last.as_ref().is_none_or(|(last, _)| *last != key) {
            let dir = self.directory(above, name)?;
            self.last = Some((key, dir));
        }
        Ok(self.last.as_ref().map(|(_, fd)| (fd.as_fd(), *own)))
    }

    /// Part by part, since a build's sandbox does not let `openat2` through: no part holds a slash or is `..`, and
    /// none that is a symlink is opened, so this stays below the root.
    fn directory(&self, parts: &[&[u8]], name: &[u8]) -> ArchiveResult<OwnedFd> {
        let open = |dir: BorrowedFd<'_>, part: &[u8]| {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::openat(dir, part, flags, Mode::empty())
        };
        let mut dir = open(self.root.as_fd(), b".").map_err(|e| self.error("opening directory", name, e))?;
        for part in parts {
            let opened = match open(dir.as_fd(), part) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&dir, *part, Mode::RWXU) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(self.error("creating directory", name, e)),
                    }
                    open(dir.as_fd(), part)
                }
                opened => opened,
            };
            dir = opened.map_err(|e| self.error("opening directory", name, e))?;
        }
        Ok(dir)
    }

    /// Removes what an earlier member of the same name left, unless it is a directory.
    fn clear(dir: BorrowedFd<'_>, own: &[u8]) {
        let _ = rustix::fs::unlinkat(dir, own, AtFlags::empty());
    }

    pub fn add_directory(&mut self, name: &[u8]) -> ArchiveResult<()> {
        let parts = Tree::parts(name)?;
        self.directory(&parts, name).map(drop)
    }

    /// Writes a regular file; as many bytes as `contents` gives.
    pub fn add_file(&mut self, name: &[u8], executable: bool, contents: &mut dyn Read) -> ArchiveResult<u64> {
        let Some((dir, own)) = self.parent(name)? else {
            return Err(ArchiveError::Malformed("an archive member has no name".into()));
        };
        Tree::clear(dir, own);
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(dir, own, flags, mode).map_err(|e| self.error("creating file", name, e))?;
        let mut file = File::from(fd);
        let mut buffer = [0; 64 * 1024];
        let mut size = 0;
        loop {
            let n = match contents.read(&mut buffer) {
                Ok(0) => return Ok(size),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(ArchiveError::Read(e)),
            };
            size += n as u64;
            io::Write::write_all(&mut file, &buffer[..n])
                .map_err(disk("writing file", &self.path.join(String::from_utf8_lossy(name).as_ref())))?;
        }
    }

    pub fn add_symlink(&mut self, name: &[u8], target: &[u8]) -> ArchiveResult<()> {
        let Some((dir, own)) = self.parent(name)? else {
            return Err(ArchiveError::Malformed("an archive member has no name".into()));
        };
        Tree::clear(dir, own);
        rustix::fs::symlinkat(target, dir, own).map_err(|e| self.error("creating symlink", name, e))
    }

    /// Makes `name` the same file as the earlier member `target`.
    pub fn add_hard_link(&mut self, name: &[u8], target: &[u8]) -> ArchiveResult<()> {
        let parts = Tree::parts(target)?;
        let Some((target_own, above)) = parts.split_last() else {
            return Err(ArchiveError::Malformed("an archive member links to nothing".into()));
        };
        let target_dir = self.directory(above, target)?;
        let Some((dir, own)) = self.parent(name)? else {
            return Err(ArchiveError::Malformed("an archive member has no name".into()));
        };
        Tree::clear(dir, own);
        rustix::fs::linkat(&target_dir, *target_own, dir, own, AtFlags::empty())
            .map_err(|e| self.error("linking file", name, e))
    }
}

pub(crate) fn disk(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Disk { operation, path, source }
}

//! Making files outlive a power cut.

use firn_store::{StoreError, StoreResult};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fsync, openat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Makes a directory's own entries and metadata durable.
pub(crate) fn sync_dir(dir: &Path) -> StoreResult<()> {
    let sync = || std::fs::File::open(dir)?.sync_all();
    sync().map_err(StoreError::io("syncing", dir))
}

/// Makes a file or tree durable, directories after what they hold. Symlinks have nothing of their own to sync; they
/// are safe with their directory.
pub(crate) fn sync_tree(path: &Path) -> StoreResult<()> {
    let kind = path.symlink_metadata().map_err(StoreError::io("getting status of", path))?.file_type();
    if kind.is_symlink() {
        return Ok(());
    }
    let mut todo: Vec<PathBuf> = vec![path.to_owned()];
    let mut directories: Vec<(PathBuf, OwnedFd)> = Vec::new();
    while let Some(path) = todo.pop() {
        let io = |operation| {
            let path = path.clone();
            move |e: Errno| StoreError::io(operation, path)(e.into())
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match openat(CWD, &path, flags, Mode::empty()) {
            // A symlink.
            Err(Errno::LOOP) => continue,
            other => other.map_err(io("opening"))?,
        };
        let stat = rustix::fs::fstat(&fd).map_err(io("getting status of"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            fsync(&fd).map_err(io("syncing"))?;
            continue;
        }
        for entry in Dir::read_from(&fd).map_err(io("reading directory"))? {
            let entry = entry.map_err(io("reading directory"))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") && entry.file_type() != FileType::Symlink {
                todo.push(path.join(OsStr::from_bytes(name)));
            }
        }
        directories.push((path, fd));
    }
    for (path, fd) in directories.iter().rev() {
        fsync(fd).map_err(|e| StoreError::io("syncing", path)(e.into()))?;
    }
    Ok(())
}

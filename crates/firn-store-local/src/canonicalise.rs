//! Canonical metadata of store objects: modification time 1, modes 0444 and 0555, our ownership, no extended
//! attributes.

use firn_store::{StoreError, StoreResult};
use rustc_hash::FxHashSet;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What canonicalisation accepts.
#[derive(Debug, Clone, Default)]
pub struct CanonicaliseOptions<'a> {
    /// The users whose files these may be: those of the build. A file of anybody else was linked into the output
    /// and must not change hands.
    pub uid_range: Option<RangeInclusive<u32>>,
    /// Extended attributes to leave alone (setting `ignored-acls`).
    pub ignored_acls: Option<&'a BTreeSet<Vec<u8>>>,
}

/// Device and inode of files that were canonicalised before: other outputs of the same build may be hard links to
/// them.
pub type InodesSeen = FxHashSet<(u64, u64)>;

/// Canonicalises the tree at `path` by directory descriptors; no symlink is followed.
pub fn canonicalise_metadata(
    path: &Path,
    options: &CanonicaliseOptions<'_>,
    seen: &mut InodesSeen,
) -> StoreResult<()> {
    let owner = (rustix::process::geteuid(), rustix::process::getegid());
    let mut walk = Walk { options, seen, path: path.to_owned(), owner };
    let mut stack: Vec<(OwnedFd, Vec<CString>)> = Vec::new();
    let root = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| StoreError::Other("a path holds a NUL byte".into()))?;
    if let Some(fd) = walk.file(CWD, &root)? {
        let names = walk.names(&fd)?;
        stack.push((fd, names));
    }
    while let Some((dir, names)) = stack.last_mut() {
        let Some(name) = names.pop() else {
            stack.pop();
            walk.path.pop();
            continue;
        };
        walk.path.push(std::ffi::OsStr::from_bytes(name.as_bytes()));
        match walk.file(dir.as_fd(), &name)? {
            Some(fd) => {
                let names = walk.names(&fd)?;
                stack.push((fd, names));
            }
            None => {
                walk.path.pop();
            }
        }
    }
    Ok(())
}

struct Walk<'a> {
    options: &'a CanonicaliseOptions<'a>,
    seen: &'a mut InodesSeen,
    path: PathBuf,
    /// Who we are.
    owner: (Uid, Gid),
}

impl Walk<'_> {
    fn io(&self, operation: &'static str) -> impl FnOnce(Errno) -> StoreError {
        let path = self.path.clone();
        move |e| StoreError::io(operation, path)(e.into())
    }

    /// Canonicalises one file; a directory is returned to be walked.
    fn file(&mut self, dir: BorrowedFd<'_>, name: &CString) -> StoreResult<Option<OwnedFd>> {
        let stat =
            rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(self.io("getting status of"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink) {
            return Err(StoreError::Other(format!(
                "file \"{}\" has an unsupported type",
                self.path.display()
            )));
        }
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(range) = &self.options.uid_range
            && !range.contains(&stat.st_uid)
        {
            if kind != FileType::Directory && self.seen.contains(&inode) {
                return Ok(None);
            }
            return Err(StoreError::Other(format!("invalid ownership on file '{}'", self.path.display())));
        }
        self.remove_attributes(dir, name)?;
        self.seen.insert(inode);
        self.mode_and_time(dir, name, kind, &stat)?;
        if stat.st_uid != self.owner.0.as_raw() {
            change_owner(dir, name, self.owner.0, self.owner.1).map_err(self.io("changing owner of"))?;
        }
        if kind != FileType::Directory {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, Mode::empty()).map(Some).map_err(self.io("opening directory"))
    }

    fn mode_and_time(
        &self,
        dir: BorrowedFd<'_>,
        name: &CString,
        kind: FileType,
        stat: &Stat,
    ) -> StoreResult<()> {
        if kind != FileType::Symlink {
            let mode = stat.st_mode & 0o7777;
            let wanted = if kind == FileType::Directory || mode & 0o100 != 0 { 0o555 } else { 0o444 };
            let fine = mode == 0o555 || (mode == 0o444 && kind != FileType::Directory);
            if !fine {
                rustix::fs::chmodat(dir, name, Mode::from_raw_mode(wanted), AtFlags::empty())
                    .map_err(self.io("changing mode of"))?;
            }
        }
        if (stat.st_mtime, stat.st_mtime_nsec) != (1, 0) {
            set_time(dir, name).map_err(self.io("changing modification time of"))?;
        }
        Ok(())
    }

    fn remove_attributes(&self, dir: BorrowedFd<'_>, name: &CString) -> StoreResult<()> {
        for attribute in foreign_attributes(dir, name, self.options.ignored_acls, &self.path)? {
            rustix::fs::lremovexattr(descriptor_path(dir, name), &attribute).map_err(|e| {
                StoreError::Other(format!(
                    "removing extended attribute '{}' from '{}': {}",
                    attribute.to_string_lossy(),
                    self.path.display(),
                    std::io::Error::from(e)
                ))
            })?;
        }
        Ok(())
    }

    fn names(&self, fd: &OwnedFd) -> StoreResult<Vec<CString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(fd).map_err(self.io("reading directory"))? {
            let entry = entry.map_err(self.io("reading directory"))?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

/// Whether a file that we just made has attributes to remove; children inherit them, so the root tells for all.
pub(crate) fn has_foreign_attributes(path: &Path, ignored: &BTreeSet<Vec<u8>>) -> StoreResult<bool> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| StoreError::Other("a path holds a NUL byte".into()))?;
    Ok(!foreign_attributes(CWD, &name, Some(ignored), path)?.is_empty())
}

/// Sets the modification time of one file, not following it.
pub(crate) fn set_time(dir: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
    };
    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// A path to `name` that leads through the open directory, for system calls that take no descriptor: nobody can
/// exchange a folder on the way.
fn descriptor_path(dir: BorrowedFd<'_>, name: &CString) -> PathBuf {
    let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    match std::os::fd::AsRawFd::as_raw_fd(&dir) {
        fd if fd >= 0 => Path::new("/proc/self/fd").join(fd.to_string()).join(name),
        // The current directory, which is not open; the name is a path then.
        _ => name.to_owned(),
    }
}

/// The extended attributes that do not belong on a store object.
fn foreign_attributes(
    dir: BorrowedFd<'_>,
    name: &CString,
    ignored: Option<&BTreeSet<Vec<u8>>>,
    path: &Path,
) -> StoreResult<Vec<CString>> {
    let place = descriptor_path(dir, name);
    let mut buffer = vec![0u8; 256];
    let listed = loop {
        match rustix::fs::llistxattr(&place, &mut buffer[..]) {
            Ok(n) => break &buffer[..n],
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer = vec![0; buffer.len() * 8],
            Err(Errno::NOTSUP | Errno::NODATA) => return Ok(Vec::new()),
            Err(e) => return Err(StoreError::io("querying extended attributes of", path)(e.into())),
        }
    };
    Ok(listed
        .split(|b| *b == 0)
        .filter(|attribute| !attribute.is_empty())
        .filter(|attribute| !ignored.is_some_and(|set| set.contains(*attribute)))
        .filter_map(|attribute| CString::new(attribute).ok())
        .collect())
}

fn change_owner(dir: BorrowedFd<'_>, name: &CString, uid: Uid, gid: Gid) -> Result<(), Errno> {
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

//! Removing trees by directory descriptors, whatever modes their directories have.

use firn_store::{StoreError, StoreResult};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Removes a file or tree; no symlink is followed. A path that is not there is fine. Returns the bytes freed: blocks
/// of files whose last link went.
pub fn remove_tree(path: &Path) -> StoreResult<u64> {
    let mut removal = Removal { path: path.to_owned(), freed: 0 };
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| StoreError::Other("a path holds a NUL byte".into()))?;
    let mut stack: Vec<(OwnedFd, Vec<CString>, CString)> = Vec::new();
    if let Some((fd, names)) = removal.file(CWD, &name)? {
        stack.push((fd, names, name));
    }
    while let Some((dir, names, _)) = stack.last_mut() {
        if let Some(name) = names.pop() {
            removal.path.push(OsStr::from_bytes(name.as_bytes()));
            match removal.file(dir.as_fd(), &name)? {
                Some((fd, names)) => stack.push((fd, names, name)),
                None => {
                    removal.path.pop();
                }
            }
            continue;
        }
        let Some((_, _, name)) = stack.pop() else { break };
        let parent = stack.last().map_or(CWD, |(fd, _, _)| fd.as_fd());
        match rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(removal.io("removing directory")(e)),
        }
        removal.path.pop();
    }
    Ok(removal.freed)
}

struct Removal {
    path: PathBuf,
    freed: u64,
}

impl Removal {
    fn io(&self, operation: &'static str) -> impl FnOnce(Errno) -> StoreError {
        let path = self.path.clone();
        move |e| StoreError::io(operation, path)(e.into())
    }

    /// Removes one file; a directory is opened, made writable and returned with its entries.
    fn file(&mut self, dir: BorrowedFd<'_>, name: &CString) -> StoreResult<Option<(OwnedFd, Vec<CString>)>> {
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(self.io("getting status of")(e)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            // With two links, one may be in `.links`, which goes as soon as it is alone.
            if stat.st_nlink <= 2 {
                self.freed += u64::try_from(stat.st_size).unwrap_or(0);
            }
            return match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(None),
                Err(e) => Err(self.io("removing")(e)),
            };
        }
        if stat.st_mode & 0o700 != 0o700 {
            let mode = Mode::from_raw_mode((stat.st_mode & 0o7777) | 0o700);
            rustix::fs::chmodat(dir, name, mode, AtFlags::empty()).map_err(self.io("changing mode of"))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(self.io("opening directory"))?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd).map_err(self.io("reading directory"))? {
            let entry = entry.map_err(self.io("reading directory"))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        Ok(Some((fd, names)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn removes_what_is_read_only_and_follows_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let kept = tmp.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        let tree = tmp.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/b/file"), vec![1; 5000]).unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a/link")).unwrap();
        for dir in ["a/b", "a", ""] {
            std::fs::set_permissions(tree.join(dir), PermissionsExt::from_mode(0o555)).unwrap();
        }
        assert!(remove_tree(&tree).unwrap() >= 5000);
        assert!(!tree.exists() && kept.join("file").exists());
        assert_eq!(remove_tree(&tree).unwrap(), 0);
    }
}

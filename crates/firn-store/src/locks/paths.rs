//! Locks on store paths: a file `<path>.lock` beside each.
//!
//! Protocol, shared with the reference: create, flock exclusively, and look whether the file is still empty. Whoever
//! removes a lock file writes a byte into it while holding it, so that those who waited see that it is stale.

use super::flock::{self, Kind};
use crate::error::{StoreError, StoreResult};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Held locks; dropping releases them and removes their files.
#[derive(Debug, Default)]
pub struct PathLocks {
    held: Vec<(OwnedFd, PathBuf)>,
}

impl PathLocks {
    /// Locks the paths in order of their names, which keeps processes from waiting for each other in a circle.
    /// `on_wait` is called if that has to wait.
    pub fn lock(paths: &BTreeSet<PathBuf>, on_wait: &dyn Fn()) -> StoreResult<PathLocks> {
        let mut locks = PathLocks::default();
        for path in paths {
            locks.add(path, |fd| flock::lock(fd, Kind::Exclusive, on_wait).map(|()| true))?;
        }
        Ok(locks)
    }

    /// As [`PathLocks::lock`], but `None` if any of them is held by somebody else.
    pub fn try_lock(paths: &BTreeSet<PathBuf>) -> StoreResult<Option<PathLocks>> {
        let mut locks = PathLocks::default();
        for path in paths {
            if !locks.add(path, |fd| flock::try_lock(fd, Kind::Exclusive))? {
                return Ok(None);
            }
        }
        Ok(Some(locks))
    }

    fn add(
        &mut self,
        path: &Path,
        take: impl Fn(&OwnedFd) -> Result<bool, rustix::io::Errno>,
    ) -> StoreResult<bool> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock_path = PathBuf::from(name);
        let io = |operation| {
            let path = lock_path.clone();
            move |e: rustix::io::Errno| StoreError::io(operation, path)(e.into())
        };
        loop {
            let fd = flock::open_lock_file(&lock_path)?;
            if !take(&fd).map_err(io("acquiring lock"))? {
                return Ok(false);
            }
            let stat = rustix::fs::fstat(&fd).map_err(io("getting status of"))?;
            if stat.st_size == 0 {
                self.held.push((fd, lock_path));
                return Ok(true);
            }
            // Somebody removed the file while we waited: what we hold is a lock on nothing. Unless its name came back
            // in a power cut, or could not be removed; then it would be found again and again.
            match rustix::fs::lstat(&lock_path) {
                Ok(named) if (named.st_dev, named.st_ino) == (stat.st_dev, stat.st_ino) => {
                    rustix::fs::unlink(&lock_path).map_err(io("removing stale lock file"))?;
                }
                _ => {}
            }
        }
    }
}

impl Drop for PathLocks {
    fn drop(&mut self) {
        for (fd, path) in self.held.drain(..) {
            // Failing to remove the file costs nothing but the file, which is a good lock then. The byte goes in before
            // the lock is released.
            if rustix::fs::unlink(&path).is_ok() {
                let _ = rustix::io::write(&fd, b"d");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_is_no_obstacle() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a");
        std::fs::write(tmp.path().join("a.lock"), "d").unwrap();
        let lock = PathLocks::lock(&[path].into(), &|| ()).unwrap();
        assert_eq!(std::fs::read(tmp.path().join("a.lock")).unwrap(), b"");
        drop(lock);
        assert!(!tmp.path().join("a.lock").exists());
    }

    #[test]
    fn excludes_and_cleans_up() {
        let tmp = tempfile::tempdir().unwrap();
        let paths: BTreeSet<PathBuf> = [tmp.path().join("a"), tmp.path().join("b")].into();
        let first = PathLocks::lock(&paths, &|| ()).unwrap();
        assert!(tmp.path().join("a.lock").exists());
        assert!(PathLocks::try_lock(&paths).unwrap().is_none());
        let waiter = {
            let paths = paths.clone();
            std::thread::spawn(move || PathLocks::lock(&paths, &|| ()).map(drop).is_ok())
        };
        drop(first);
        assert!(waiter.join().unwrap());
        assert!(!tmp.path().join("a.lock").exists() && !tmp.path().join("b.lock").exists());
    }
}

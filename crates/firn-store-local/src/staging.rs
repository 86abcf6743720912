//! Directories in the store in which objects are restored before their path is known.

use crate::remove::remove_tree;
use crate::store::LocalStore;
use firn_store::{StoreError, StoreResult};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// A directory in the store whose lock tells collectors that it is in use; removed when dropped.
pub(crate) struct Staging {
    pub(crate) path: PathBuf,
    _lock: std::os::fd::OwnedFd,
}

impl Staging {
    pub(crate) fn new(store: &LocalStore) -> StoreResult<Staging> {
        loop {
            let name = format!("tmp-{}-{:016x}", std::process::id(), random());
            let path = store.inner.config.real_store_dir.join(name);
            let io = |operation| {
                let path = path.clone();
                move |e: Errno| StoreError::io(operation, path)(e.into())
            };
            match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700)) {
                Err(Errno::EXIST) => continue,
                other => other.map_err(io("creating directory"))?,
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            // A collector may take it before it is locked.
            let Ok(fd) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
            firn_store::locks::flock::lock(&fd, firn_store::locks::flock::Kind::Exclusive, &|| ())
                .map_err(io("locking"))?;
            if path.exists() {
                return Ok(Staging { path, _lock: fd });
            }
        }
    }

    /// Moves the staged object `x`. Moving a directory needs write permission on it, so that comes last.
    pub(crate) fn move_to(&self, dest: &Path, sync: bool) -> StoreResult<()> {
        let staged = self.path.join("x");
        let io = |operation| move |e: Errno| StoreError::io(operation, dest)(e.into());
        let is_dir = staged.symlink_metadata().is_ok_and(|m| m.is_dir());
        if is_dir {
            rustix::fs::chmod(&staged, Mode::from_raw_mode(0o755)).map_err(io("changing mode of"))?;
        }
        rustix::fs::rename(&staged, dest).map_err(io("moving to"))?;
        if is_dir {
            rustix::fs::chmod(dest, Mode::from_raw_mode(0o555)).map_err(io("changing mode of"))?;
            let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(dest.as_os_str()))
                .map_err(|_| StoreError::Other("a path holds a NUL byte".into()))?;
            crate::canonicalise::set_time(CWD, &name).map_err(io("changing modification time of"))?;
            if sync {
                crate::durable::sync_dir(dest)?;
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = remove_tree(&self.path);
    }
}

/// Enough for names that must not meet by accident.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

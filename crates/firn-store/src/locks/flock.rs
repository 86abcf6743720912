//! flock(2) as the reference uses it, on lock files that stay where they are.

use crate::error::{StoreError, StoreResult};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Shared,
    Exclusive,
}

/// Opens or creates a lock file.
pub fn open_lock_file(path: &Path) -> StoreResult<OwnedFd> {
    open(path, OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
        .map_err(|e| StoreError::io("opening lock file", path)(e.into()))
}

/// Takes the lock unless that would block.
pub fn try_lock(fd: impl AsFd, kind: Kind) -> Result<bool, Errno> {
    let operation = match kind {
        Kind::Shared => FlockOperation::NonBlockingLockShared,
        Kind::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        match flock(fd.as_fd(), operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes the lock; calls `on_wait` if that has to wait.
pub fn lock(fd: impl AsFd, kind: Kind, on_wait: &dyn Fn()) -> Result<(), Errno> {
    if try_lock(fd.as_fd(), kind)? {
        return Ok(());
    }
    on_wait();
    let operation = match kind {
        Kind::Shared => FlockOperation::LockShared,
        Kind::Exclusive => FlockOperation::LockExclusive,
    };
    loop {
        match flock(fd.as_fd(), operation) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

pub fn unlock(fd: impl AsFd) -> Result<(), Errno> {
    flock(fd, FlockOperation::Unlock)
}

//! Build users: one host user for each concurrent build, locked by a file in the state directory.

use crate::report::SandboxError;
use crate::spec::BuildUser;
use nix::unistd::{Gid, Group, User, getgrouplist};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// How many ids one automatically allocated range has.
pub const IDS_PER_BUILD: u32 = 65536;

/// A build user that nobody else has while this lives.
#[derive(Debug)]
pub struct UserLock {
    user: BuildUser,
    /// Holds the lock.
    _lock: OwnedFd,
}

/// The range that automatic allocation takes users from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRange {
    pub start: u32,
    /// A multiple of [`IDS_PER_BUILD`].
    pub count: u32,
}

impl UserLock {
    /// A free member of `group`; `None` while all are taken. `state_dir` is the store's state directory.
    pub fn from_group(state_dir: &Path, group: &str) -> Result<Option<UserLock>, SandboxError> {
        let pool = pool(state_dir, "userpool")?;
        let found = build_group(group)?;
        if found.mem.is_empty() {
            return Err(setup(format!("the build users group '{group}' has no members")));
        }
        for name in &found.mem {
            let user = User::from_name(name).map_err(|e| setup(format!("looking up user '{name}': {e}")))?;
            let Some(user) = user else {
                return Err(setup(format!("the user '{name}' in the group '{group}' does not exist")));
            };
            let Some(lock) = try_lock(&pool.join(user.uid.to_string()))? else { continue };
            if user.uid.is_root() || user.uid == nix::unistd::geteuid() {
                return Err(setup(format!("the Nix user should not be a member of '{group}'")));
            }
            let supplementary_gids = supplementary(name, user.gid, found.gid)?;
            let user =
                BuildUser { uid: user.uid.as_raw(), gid: found.gid.as_raw(), count: 1, supplementary_gids };
            return Ok(Some(UserLock { user, _lock: lock }));
        }
        Ok(None)
    }

    /// A free range of `range`; the build gets `count` ids of it. With `group`, the build is in that group of the
    /// machine, since there is no user namespace in which its own would mean anything.
    pub fn from_range(
        state_dir: &Path,
        range: UidRange,
        count: u32,
        group: Option<&str>,
    ) -> Result<Option<UserLock>, SandboxError> {
        let pool = pool(state_dir, "userpool2")?;
        for slot in 0..range.count / IDS_PER_BUILD {
            let Some(lock) = try_lock(&pool.join(format!("slot-{slot}")))? else { continue };
            let uid = slot
                .checked_mul(IDS_PER_BUILD)
                .and_then(|offset| offset.checked_add(range.start))
                .ok_or_else(|| setup("the settings 'start-id' and 'id-count' exceed all user ids".into()))?;
            if let Ok(Some(user)) = User::from_uid(uid.into()) {
                return Err(setup(format!(
                    "auto-allocated UID {uid} clashes with existing user account '{}'",
                    user.name
                )));
            }
            let gid = match group {
                Some(group) => build_group(group)?.gid.as_raw(),
                None => uid,
            };
            let user = BuildUser { uid, gid, count, supplementary_gids: Vec::new() };
            return Ok(Some(UserLock { user, _lock: lock }));
        }
        Ok(None)
    }

    /// The user.
    pub fn user(&self) -> &BuildUser {
        &self.user
    }
}

fn build_group(name: &str) -> Result<Group, SandboxError> {
    Group::from_name(name)
        .map_err(|e| setup(format!("looking up group '{name}': {e}")))?
        .ok_or_else(|| setup(format!("the group '{name}' specified in 'build-users-group' does not exist")))
}

fn setup(message: String) -> SandboxError {
    SandboxError::Setup(message)
}

fn pool(state_dir: &Path, name: &str) -> Result<std::path::PathBuf, SandboxError> {
    let pool = state_dir.join(name);
    std::fs::create_dir_all(&pool)
        .map_err(SandboxError::io(format!("creating directory '{}'", pool.display())))?;
    Ok(pool)
}

fn try_lock(path: &Path) -> Result<Option<OwnedFd>, SandboxError> {
    let fail =
        |e: rustix::io::Errno| SandboxError::io(format!("opening user lock '{}'", path.display()))(e.into());
    let file =
        rustix::fs::open(path, OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
            .map_err(fail)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(e) if io::Error::from(e).kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(fail(e)),
    }
}

/// The user's groups apart from the build group; lets an administrator give build users a group such as `kvm`.
fn supplementary(name: &str, gid: Gid, build_gid: Gid) -> Result<Vec<u32>, SandboxError> {
    let fail = || setup(format!("failed to get list of supplementary groups for '{name}'"));
    let name = CString::new(name).map_err(|_| fail())?;
    let groups = getgrouplist(&name, gid).map_err(|_| fail())?;
    Ok(groups.into_iter().filter(|g| *g != build_gid).map(Gid::as_raw).collect())
}

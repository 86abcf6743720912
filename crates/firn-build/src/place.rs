//! The directories of one build: its temporary directory and, in a sandbox, its root.

use crate::random;
use crate::text::{io_failure, quote};
use firn_core::StorePath;
use firn_sandbox::BuildUser;
use firn_scheduler::BuildFailure;
use firn_store::BuildTarget;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The temporary directory. Removed when dropped.
pub(crate) struct BuildDir {
    target: Arc<dyn BuildTarget>,
    /// 0700 and ours in a sandbox, so that nobody reaches what is below.
    top: PathBuf,
    /// Where the builder works: `top` or `top/build`.
    pub work: PathBuf,
    work_fd: OwnedFd,
    /// Tells others that the directory is in use.
    _lock: OwnedFd,
    user: Option<BuildUser>,
    kept: bool,
}

impl BuildDir {
    /// Makes one below `parent`.
    pub fn create(
        target: &Arc<dyn BuildTarget>,
        parent: &Path,
        sandboxed: bool,
        user: Option<&BuildUser>,
    ) -> Result<BuildDir, BuildFailure> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(io_failure("creating directory", parent))?;
        if user.is_some() {
            refuse_world_writable(parent)?;
        }
        remove_abandoned(&**target, parent);
        let token = random::token().map_err(BuildFailure::other)?;
        let top = parent.join(format!("{PREFIX}{}-{token}", std::process::id()));
        let make = |path: &Path| {
            DirBuilder::new().mode(0o700).create(path).map_err(io_failure("creating directory", path))
        };
        make(&top)?;
        let work = if sandboxed { top.join("build") } else { top.clone() };
        // From here on the guard removes what there is.
        let mut dir = BuildDir {
            target: Arc::clone(target),
            work_fd: open_directory(&top)?,
            _lock: locked_directory(&top)?,
            top,
            work,
            user: user.cloned(),
            kept: false,
        };
        if sandboxed {
            make(&dir.work)?;
            dir.work_fd = open_directory(&dir.work)?;
        }
        if let Some(user) = user {
            rustix::fs::fchown(&dir.work_fd, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
                .map_err(|e| io_failure("cannot change ownership of", &dir.work)(e.into()))?;
        }
        Ok(dir)
    }

    /// Writes a file that belongs to the builder. `name` is one path component.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<(), BuildFailure> {
        use std::io::Write;
        let path = self.work.join(name);
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err(BuildFailure::other(format!(
                "invalid file name {} in the build directory",
                quote(&path)
            )));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.work_fd, name, flags, Mode::from_raw_mode(0o666))
            .map_err(|e| io_failure("creating file", &path)(e.into()))?;
        if let Some(user) = &self.user {
            rustix::fs::fchown(&fd, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
                .map_err(|e| io_failure("cannot change ownership of", &path)(e.into()))?;
        }
        fs::File::from(fd).write_all(contents).map_err(io_failure("writing file", &path))
    }

    /// What is around the build directory, where that is below it.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Writes a file beside the build directory, and gives all of it to the builder.
    pub fn describe(&self, name: &str, contents: &[u8]) -> Result<PathBuf, BuildFailure> {
        let path = self.top.join(name);
        fs::write(&path, contents).map_err(io_failure("writing file", &path))?;
        if let Some(user) = &self.user {
            for path in [&self.top, &path] {
                std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))
                    .map_err(io_failure("cannot change ownership of", path))?;
            }
        }
        Ok(path)
    }

    /// A file in the directory, reached by the directory's descriptor.
    pub fn by_descriptor(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.work_fd.as_raw_fd()))
    }

    /// Gives a file that we made to the builder.
    pub fn hand_over(&self, name: &str, mode: Mode) -> Result<(), BuildFailure> {
        let fail =
            |e: rustix::io::Errno| io_failure("cannot change ownership of", &self.work.join(name))(e.into());
        rustix::fs::chmodat(&self.work_fd, name, mode, rustix::fs::AtFlags::empty()).map_err(fail)?;
        if let Some(user) = &self.user {
            let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&self.work_fd, name, Some(uid), Some(gid), flags).map_err(fail)?;
        }
        Ok(())
    }

    /// Leaves the directory for the user to look at.
    pub fn keep(&mut self) {
        self.kept = true;
        for path in [&self.top, &self.work] {
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
        }
    }
}

impl Drop for BuildDir {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Even if removing fails half way, nobody else gets in.
        let _ = fs::set_permissions(&self.top, fs::Permissions::from_mode(0o700));
        let _ = self.target.remove_tree(&self.top);
    }
}

/// What names of build directories begin with; the process and a random word follow.
const PREFIX: &str = "nix-";

/// Removes build directories of processes that were killed; once for each place in the life of a process. Those that
/// `--keep-failed` kept stay: they are open to all.
fn remove_abandoned(target: &dyn BuildTarget, parent: &Path) {
    static SEEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if !SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(parent.to_owned()) {
        return;
    }
    // Where everybody can make such names, they mean nothing.
    let Ok(meta) = fs::symlink_metadata(parent) else { return };
    if meta.permissions().mode() & 0o002 != 0 || meta.uid() != rustix::process::geteuid().as_raw() {
        return;
    }
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
        let closed =
            entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.permissions().mode() & 0o077 == 0);
        // One that lives may be about to lock it; a lock is for those of other machines and containers.
        if closed && test_kill_process(pid) == Err(Errno::SRCH) && locked_directory(&entry.path()).is_ok() {
            let _ = target.remove_tree(&entry.path());
        }
    }
}

/// The root of a sandbox, next to the outputs' final places so that they can be moved. Removed when dropped.
pub(crate) struct SandboxRoot {
    target: Arc<dyn BuildTarget>,
    /// `<drv>.chroot`, 0700 and ours.
    parent: PathBuf,
    pub root: PathBuf,
    /// The store directory in the root, opened before anything ran in it.
    store_fd: OwnedFd,
}

impl SandboxRoot {
    pub fn create(
        target: &Arc<dyn BuildTarget>,
        drv: &StorePath,
        user: Option<&BuildUser>,
    ) -> Result<SandboxRoot, BuildFailure> {
        let mut parent = target.real_store_dir().join(drv.base_name()).into_os_string();
        parent.push(".chroot");
        let parent = PathBuf::from(parent);
        // Left by somebody who was killed; the output locks are ours.
        target.remove_tree(&parent).map_err(BuildFailure::other)?;
        let make = |path: &Path, mode: u32| {
            DirBuilder::new().mode(mode).create(path).map_err(io_failure("cannot create", path))
        };
        make(&parent, 0o700)?;
        let root = parent.join("root");
        let guard = Remove(Some((Arc::clone(target), parent.clone())));
        let whole = user.is_some_and(|user| user.count != 1);
        make(&root, 0o700)?;
        let set_mode = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .map_err(io_failure("changing permissions of", path))
        };
        let own = |path: &Path, uid: u32, gid: u32| {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .map_err(io_failure("cannot change ownership of", path))
        };
        set_mode(&root, if whole { 0o755 } else { 0o750 })?;
        if let Some(user) = user {
            own(&root, if whole { user.uid } else { 0 }, user.gid)?;
        }
        let store = root.join(target.store_dir().as_str().trim_start_matches('/'));
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&store)
            .map_err(io_failure("creating directory", &store))?;
        set_mode(&store, 0o1775)?;
        if let Some(user) = user {
            own(&store, 0, user.gid)?;
        }
        let store_fd = open_directory(&store)?;
        guard.release();
        Ok(SandboxRoot { target: Arc::clone(target), parent, root, store_fd })
    }

    /// The store directory in the root, on the host.
    pub fn store_path(&self) -> PathBuf {
        self.root.join(self.target.store_dir().as_str().trim_start_matches('/'))
    }

    /// Its descriptor.
    pub fn store_fd(&self) -> Result<OwnedFd, BuildFailure> {
        self.store_fd.try_clone().map_err(io_failure("duplicating descriptor of", &self.root))
    }

    /// Where an output is: through the descriptor, whatever the builder made of the directories above it.
    pub fn output(&self, path: &StorePath) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", self.store_fd.as_raw_fd(), path.base_name()))
    }

    /// The same place as a name for messages.
    pub fn output_name(&self, path: &StorePath) -> PathBuf {
        let store = self.target.store_dir().display(path);
        self.root.join(store.trim_start_matches('/'))
    }
}

impl Drop for SandboxRoot {
    fn drop(&mut self) {
        let _ = self.target.remove_tree(&self.parent);
    }
}

/// Removes a tree unless released.
struct Remove(Option<(Arc<dyn BuildTarget>, PathBuf)>);

impl Remove {
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Remove {
    fn drop(&mut self) {
        if let Some((target, path)) = self.0.take() {
            let _ = target.remove_tree(&path);
        }
    }
}

/// A directory in the store that only we can reach, for the copy of an output. Removed when dropped.
pub(crate) struct StoreTempDir {
    target: Arc<dyn BuildTarget>,
    pub path: PathBuf,
    /// Tells collectors that the directory is in use.
    _lock: OwnedFd,
}

impl StoreTempDir {
    pub fn create(target: &Arc<dyn BuildTarget>) -> Result<StoreTempDir, BuildFailure> {
        let token = random::token().map_err(BuildFailure::other)?;
        let path = target.real_store_dir().join(format!("tmp-{}-{token}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).map_err(io_failure("creating directory", &path))?;
        let guard = Remove(Some((Arc::clone(target), path.clone())));
        let lock = locked_directory(&path)?;
        guard.release();
        Ok(StoreTempDir { target: Arc::clone(target), path, _lock: lock })
    }
}

impl Drop for StoreTempDir {
    fn drop(&mut self) {
        let _ = self.target.remove_tree(&self.path);
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, BuildFailure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| io_failure("opening directory", path)(e.into()))
}

/// Opens a directory and locks it; an error where somebody else holds it.
fn locked_directory(path: &Path) -> Result<OwnedFd, BuildFailure> {
    let lock = open_directory(path)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|e| io_failure("locking directory", path)(e.into()))?;
    Ok(lock)
}

/// With build users, a directory that others can rename in is no place for builds.
fn refuse_world_writable(path: &Path) -> Result<(), BuildFailure> {
    for path in path.ancestors() {
        let meta = fs::symlink_metadata(path).map_err(io_failure("getting status of", path))?;
        if meta.permissions().mode() & 0o002 != 0 {
            return Err(BuildFailure::other(format!(
                "Path {} is world-writable or a symlink. That's not allowed for security.",
                quote(path)
            )));
        }
    }
    Ok(())
}

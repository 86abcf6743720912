//! Builds that call Nix themselves (the system feature `recursive-nix`): a socket in the build directory, behind which
//! is a daemon that knows only what the build knows.

use crate::place::{BuildDir, SandboxRoot};
use crate::text::io_failure;
use firn_core::StorePath;
use firn_sandbox::Mounter;
use firn_scheduler::BuildFailure;
use firn_store::activity::Logger;
use firn_store::{BuildTarget, Scope, StoreError, StoreResult};
use rustix::fs::{Mode, OFlags};
use std::any::Any;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The feature that a derivation asks for.
pub(crate) const FEATURE: &str = "recursive-nix";

/// The socket in the build directory.
pub(crate) const SOCKET: &str = ".nix-socket";

/// Serves Nix to builds.
pub trait NestedServer: Send + Sync {
    /// Serves what connects to `listener`, until what is returned is dropped; then nothing of it goes on.
    fn serve(
        &self,
        listener: UnixListener,
        scope: Arc<dyn Scope>,
        logger: &Arc<dyn Logger>,
    ) -> io::Result<Box<dyn Any + Send>>;
}

/// The server of one build.
pub(crate) struct Nested {
    scope: Arc<BuildScope>,
    served: Option<Box<dyn Any + Send>>,
}

impl Nested {
    pub fn start(
        server: &dyn NestedServer,
        listener: UnixListener,
        scope: BuildScope,
        logger: &Arc<dyn Logger>,
    ) -> Result<Nested, BuildFailure> {
        let scope = Arc::new(scope);
        let served = server
            .serve(listener, Arc::clone(&scope) as _, logger)
            .map_err(|e| BuildFailure::other(format!("serving Nix to a build: {e}")))?;
        Ok(Nested { scope, served: Some(served) })
    }

    /// Ends serving; what the build added, apart from its inputs.
    pub fn stop(&mut self) -> BTreeSet<StorePath> {
        self.served = None;
        self.scope.added().clone()
    }
}

/// What one build may know of.
pub(crate) struct BuildScope {
    target: Arc<dyn BuildTarget>,
    inputs: BTreeSet<StorePath>,
    added: Mutex<BTreeSet<StorePath>>,
    /// `None`: the build sees the whole store anyway.
    sandbox: Option<SandboxStore>,
}

/// The store directory of a sandbox.
struct SandboxStore {
    mounter: Mounter,
    fd: OwnedFd,
    path: PathBuf,
}

impl BuildScope {
    pub fn new(
        target: &Arc<dyn BuildTarget>,
        inputs: &BTreeSet<StorePath>,
        sandbox: Option<(&SandboxRoot, Mounter)>,
    ) -> Result<BuildScope, BuildFailure> {
        let sandbox = match sandbox {
            None => None,
            Some((root, mounter)) => {
                Some(SandboxStore { mounter, fd: root.store_fd()?, path: root.store_path() })
            }
        };
        let (target, inputs) = (Arc::clone(target), inputs.clone());
        Ok(BuildScope { target, inputs, added: Mutex::default(), sandbox })
    }

    fn added(&self) -> MutexGuard<'_, BTreeSet<StorePath>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scope for BuildScope {
    fn allows(&self, path: &StorePath) -> bool {
        self.inputs.contains(path) || self.added().contains(path)
    }

    fn paths(&self) -> BTreeSet<StorePath> {
        self.inputs.union(&self.added()).cloned().collect()
    }

    fn add(&self, path: &StorePath) -> StoreResult<()> {
        // Held throughout: whoever hears that it is known finds it there.
        let mut added = self.added();
        if self.inputs.contains(path) || added.contains(path) {
            return Ok(());
        }
        self.target.add_temp_roots(std::slice::from_ref(path))?;
        if let Some(sandbox) = &self.sandbox {
            let real = self.target.real_store_dir().join(path.base_name());
            sandbox.show(&real, path).map_err(|e| {
                let path = self.target.store_dir().display(path);
                StoreError::Other(format!("could not add path '{path}' to sandbox: {e}"))
            })?;
        }
        added.insert(path.clone());
        Ok(())
    }
}

impl SandboxStore {
    /// Makes the place for a path, which must be free, and mounts it there.
    fn show(&self, real: &Path, path: &StorePath) -> io::Result<()> {
        let kind = real.symlink_metadata()?.file_type();
        let name = path.base_name();
        if kind.is_symlink() {
            return Ok(rustix::fs::symlinkat(std::fs::read_link(real)?, &self.fd, name)?);
        }
        if kind.is_dir() {
            rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))?;
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o644))?;
        }
        self.mounter.mount(real, &self.path.join(name)).map_err(io::Error::other)
    }
}

/// Makes the socket, which belongs to the builder.
pub(crate) fn listen(dir: &BuildDir) -> Result<UnixListener, BuildFailure> {
    let path = dir.work.join(SOCKET);
    // Through the descriptor: the path may be longer than a socket's may be.
    let listener =
        UnixListener::bind(dir.by_descriptor(SOCKET)).map_err(io_failure("creating socket", &path))?;
    dir.hand_over(SOCKET, Mode::RUSR | Mode::WUSR)?;
    Ok(listener)
}

//! Making more of the host visible to a build that runs already.
//!
//! A build's own mount namespace has nothing of the host left, so nothing of it can be mounted there. But the namespace
//! that its process was born into has: the directory that grows is shared between the two, so that a mount which is
//! made in the first appears in the second. Entering it takes a process of its own, since the init must stay outside.

use super::clone::{Cloned, Namespaces, clone_process};
use super::{SetupError, SetupResult, os_message};
use crate::leave::exit_now;
use crate::report::{ExitStatus, MountRequest};
use crate::spec::to_path;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The namespaces that the build's process was born into.
pub(super) struct Growing {
    mounts: File,
    user: Option<File>,
}

impl Growing {
    /// To be called while the process waits to be let go.
    pub fn of(pid: Pid, user_namespace: bool) -> SetupResult<Growing> {
        let open = |name: &str| {
            let path = format!("/proc/{}/ns/{name}", pid.as_raw_nonzero());
            File::open(&path).map_err(SetupError::os(format!("opening '{path}'")))
        };
        let user = if user_namespace { Some(open("user")?) } else { None };
        Ok(Growing { mounts: open("mnt")?, user })
    }

    /// Carries out a request.
    pub fn mount(&self, request: &MountRequest) -> Result<(), String> {
        let shown =
            || format!("making '{}' visible in the sandbox", String::from_utf8_lossy(&request.source));
        let result = match clone_process(Namespaces::NONE) {
            Ok(Cloned::Child) => exit_now(match self.enter_and_mount(request) {
                Ok(()) => 0,
                // Numbers of errors are small.
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            }),
            Ok(Cloned::Parent(pid)) => super::wait(pid),
            Err(error) => return Err(format!("{}: {}", shown(), os_message(&error))),
        };
        match result {
            Ok(ExitStatus::Code(0)) => Ok(()),
            Ok(ExitStatus::Code(number)) => {
                Err(format!("{}: {}", shown(), os_message(&io::Error::from_raw_os_error(number))))
            }
            Ok(status) => Err(format!("{}: the process that does it {status}", shown())),
            Err(_) => Err(shown()),
        }
    }

    fn enter_and_mount(&self, request: &MountRequest) -> io::Result<()> {
        if let Some(user) = &self.user {
            setns(user, CloneFlags::CLONE_NEWUSER)?;
        }
        setns(&self.mounts, CloneFlags::CLONE_NEWNS)?;
        // The builder may write where the target is: links of its own must not lead elsewhere.
        let open = |bytes: &[u8]| -> io::Result<OwnedFd> {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(rustix::fs::open(to_path(bytes), flags, Mode::empty())?)
        };
        let (source, target) = (open(&request.source)?, open(&request.target)?);
        let by_number = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(
            Some(by_number(&source).as_str()),
            by_number(&target).as_str(),
            None::<&str>,
            flags,
            None::<&str>,
        )?;
        Ok(())
    }
}

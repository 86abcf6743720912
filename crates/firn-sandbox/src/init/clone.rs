//! clone(2) into namespaces.

use rustix::process::Pid;
use std::io;

/// Which namespaces a process gets of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Namespaces(libc::c_int);

impl Namespaces {
    pub const NONE: Namespaces = Namespaces(0);
    /// What every sandboxed build has.
    pub const SANDBOX: Namespaces =
        Namespaces(libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS);

    pub fn with_network(self) -> Namespaces {
        Namespaces(self.0 | libc::CLONE_NEWNET)
    }

    pub fn with_user(self) -> Namespaces {
        Namespaces(self.0 | libc::CLONE_NEWUSER)
    }
}

/// Which side of the clone this is.
pub(super) enum Cloned {
    Child,
    Parent(Pid),
}

/// As fork(2), with new namespaces for the child.
pub(super) fn clone_process(namespaces: Namespaces) -> io::Result<Cloned> {
    let flags = libc::c_long::from(namespaces.0 | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack, clone behaves as fork: the child goes on with a copy of this
    // process's memory. The init has one thread, so no lock can be held by another in that copy.
    #[cfg(not(target_arch = "s390x"))]
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) };
    // SAFETY: as above; this architecture has stack and flags the other way round.
    #[cfg(target_arch = "s390x")]
    let result = unsafe { libc::syscall(libc::SYS_clone, 0usize, flags, 0usize, 0usize, 0usize) };
    match i32::try_from(result) {
        Ok(0) => Ok(Cloned::Child),
        // Not given to `Pid` first, which takes no negative numbers.
        Ok(..0) => Err(io::Error::last_os_error()),
        Ok(pid) => match Pid::from_raw(pid) {
            Some(pid) => Ok(Cloned::Parent(pid)),
            None => Ok(Cloned::Child),
        },
        Err(_) => Err(io::Error::other("the kernel returned an impossible process id")),
    }
}

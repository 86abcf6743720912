//! Leaving no process of a build alive.

use super::clone::{Cloned, Namespaces, clone_process};
use super::{SetupError, SetupResult};
use crate::leave::exit_now;
use crate::spec::BuildUser;
use rustix::process::{Pid, Signal, WaitOptions};

/// Orphans of the build become children of the init, so that it can find them.
pub(super) fn become_subreaper() -> SetupResult<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(SetupError::os("becoming the parent of orphans"))
}

/// Kills the process group of the builder, which it leads.
pub(super) fn kill_group(leader: Pid) {
    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
}

/// Kills every process that descends from the init, until there are none.
pub(super) fn kill_descendants() {
    let path = format!("/proc/self/task/{}/children", rustix::process::getpid().as_raw_nonzero());
    loop {
        // A child that forks while it is killed leaves orphans, which the next round sees.
        for pid in std::fs::read_to_string(&path).unwrap_or_default().split_ascii_whitespace() {
            if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Kills every process of a build user.
pub(super) fn kill_user(user: &BuildUser) -> SetupResult<()> {
    if user.uid == 0 {
        return Err(SetupError::Failed("refusing to kill all processes of root".into()));
    }
    let cloned =
        clone_process(Namespaces::NONE).map_err(SetupError::os("creating a process that kills others"))?;
    match cloned {
        Cloned::Child => {
            // kill(-1) spares its caller, and reaches only what this user may signal.
            let uid = nix::unistd::Uid::from_raw(user.uid);
            if nix::unistd::setresuid(uid, uid, uid).is_err() {
                exit_now(1);
            }
            // One call is enough: it is atomic, and a process with a pending SIGKILL cannot fork. Success also counts
            // processes that are dead but not yet waited for, so it must not be repeated until it fails.
            loop {
                match nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::SIGKILL) {
                    Err(nix::errno::Errno::EINTR) => {}
                    Ok(()) | Err(nix::errno::Errno::ESRCH | nix::errno::Errno::EPERM) => exit_now(0),
                    Err(_) => exit_now(1),
                }
            }
        }
        Cloned::Parent(pid) => match super::wait(pid)? {
            status if status.success() => Ok(()),
            status => Err(SetupError::Failed(format!(
                "killing the processes of user {}: the process that does it {status}",
                user.uid
            ))),
        },
    }
}

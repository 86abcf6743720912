//! A process that inits are forked from.
//!
//! Executing the program anew for each build costs more than everything else that starting one takes: relocations, the
//! allocator's first pages, the processor's features. So the program is executed once, waits with its one thread for
//! requests, and forks for each; with one thread that is safe. It ends when its caller does.

use super::clone::{Cloned, Namespaces, clone_process};
use super::{BuiltinRunner, duplicate, os_message, run, to_null};
use crate::report::{Report, send};
use nix::sys::signal::{SigHandler, Signal, signal};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// Descriptors of a request: the specification, the reports' socket, the log.
pub(crate) const DESCRIPTORS: usize = 3;

/// Serves requests from the standard input until it ends. The result is the exit status, of this process or of an init.
pub(super) fn serve(builtins: BuiltinRunner<'_>) -> i32 {
    let Ok(socket) = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3) else { return 2 };
    if to_null(0).is_err() {
        return 2;
    }
    // Small pages: each init that is forked writes to few of them. Best effort.
    let _ = small_pages();
    // Nobody waits for inits here: whoever asked for one sees its socket close.
    // SAFETY: ignoring a signal runs no code of this process.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
    loop {
        let request = match receive(&socket) {
            Ok(Some(request)) => request,
            Ok(None) => return 0,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return 2,
        };
        match clone_process(Namespaces::NONE) {
            Ok(Cloned::Parent(_)) => {}
            Ok(Cloned::Child) => {
                drop(socket);
                // SAFETY: the default disposition runs no code of this process.
                let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
                return become_init(request, builtins);
            }
            Err(error) => {
                let text = format!("creating a process: {}", os_message(&error));
                let [_, control, _] = request;
                let _ = send(std::fs::File::from(control), &Report::Failed(text));
            }
        }
    }
}

fn become_init(request: [OwnedFd; DESCRIPTORS], builtins: BuiltinRunner<'_>) -> i32 {
    // A group of its own: signals of a terminal are for the caller.
    let _ = rustix::process::setpgid(None, None);
    for (number, fd) in (0..).zip(&request) {
        if duplicate(fd.as_fd(), number).is_err() {
            return 2;
        }
    }
    drop(request);
    run(builtins)
}

/// One request; `None` when the caller is gone.
fn receive(socket: &OwnedFd) -> io::Result<Option<[OwnedFd; DESCRIPTORS]>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?;
    if message.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    let wrong = |_| io::Error::other("a request to start a build lacks descriptors");
    <[OwnedFd; DESCRIPTORS]>::try_from(fds).map(Some).map_err(wrong)
}

fn small_pages() -> io::Result<()> {
    // SAFETY: this only changes how the kernel backs memory.
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

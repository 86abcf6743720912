//! `nix-nswrapper`: becomes a program that is root in a user namespace, with the users and groups that `/etc/subuid` and
//! `/etc/subgid` lend to who runs it. So a daemon builds with users of their own without ever being root.
//!
//! Only `newuidmap` and `newgidmap` may write such maps, only for another process, and only once that has left the first
//! namespace; so they are run by a process that was started before and waits. Both it and the one that changes
//! namespaces are this program, executed again.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The first argument of the process that has the maps written.
const ARGUMENT: &str = "__write-id-maps";

/// Users and groups with the same numbers inside and outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent {
    first: u32,
    count: u32,
}

impl Lent {
    /// # Errors
    /// None, too many, or such as the caller is one of.
    pub fn new(first: u32, count: u32) -> Result<Lent, String> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if count == 0 {
            return Err("Must have at least 1 extra UID".to_owned());
        }
        let Some(end) = first.checked_add(count) else {
            return Err("Extra UIDs must not wrap".to_owned());
        };
        for (id, what) in [(uid, "UID"), (gid, "GID")] {
            if (first..end).contains(&id) {
                return Err(format!("Extra {what}s must not include current {what}"));
            }
        }
        Ok(Lent { first, count })
    }

    /// Becomes the program. This process must have one thread.
    ///
    /// # Errors
    /// What is in the way of it.
    pub fn exec(self, program: OsString, args: &[OsString]) -> Result<Infallible, String> {
        let os = |what: &'static str| move |e: nix::Error| format!("{what}: {}", e.desc());
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let numbers = [std::process::id(), uid, gid, self.first, self.count];
        #[expect(clippy::disallowed_methods, reason = "this program, which waits until it is needed")]
        let mut helper = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .args(numbers.map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|e| format!("starting the helper: {e}"))?;
        // A mount namespace too, for the terminals.
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(os("creating new namespace"))?;
        if let Some(mut pipe) = helper.stdin.take() {
            // One that went away says so when it is waited for.
            let _ = pipe.write_all(b"\n");
        }
        if !helper.wait().is_ok_and(|status| status.success()) {
            return Err("adding uids/gids to namespace".to_owned());
        }
        let (root, root_group) = (Uid::from_raw(0), Gid::from_raw(0));
        setresuid(root, root, root).map_err(os("setting uid"))?;
        setresgid(root_group, root_group, root_group).map_err(os("setting gid"))?;
        setgroups(&[]).map_err(os("dropping groups"))?;
        // Terminals can be given to build users only where they belong to this namespace.
        mount(Some("none"), "/dev/pts", Some("devpts"), MsFlags::empty(), Some("mode=0620"))
            .map_err(os("mounting /dev/pts"))?;
        #[expect(clippy::disallowed_methods, reason = "this process becomes what the user asked for")]
        let error = Command::new(program).args(args).exec();
        let code = nix::Error::from_raw(error.raw_os_error().unwrap_or_default());
        Err(format!("executing wrapped program: {}", code.desc()))
    }
}

/// If this process was started by [`Lent::exec`], has the maps written and never returns.
pub fn write_id_maps_if_requested() {
    // Any bytes may stand there when it was not.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|arg| arg != ARGUMENT) {
        return;
    }
    let Err(error) = write_maps(&args.collect::<Vec<_>>()) else { std::process::exit(0) };
    // There is no logger here.
    eprintln!("error: {error}");
    std::process::exit(1);
}

fn write_maps(args: &[OsString]) -> Result<(), String> {
    let [process, uid, gid, first, count] = args else {
        return Err(format!("'{ARGUMENT}' is for internal use"));
    };
    // Nothing comes if the other process failed, which it told itself.
    let mut byte = [0];
    if io::stdin().read_exact(&mut byte).is_err() {
        std::process::exit(1);
    }
    for (program, own) in [("newuidmap", uid), ("newgidmap", gid)] {
        #[expect(clippy::disallowed_methods, reason = "only these programs may write the maps")]
        let status = Command::new(program)
            .args([process, &"0".into(), own, &"1".into(), first, first, count])
            .stdin(Stdio::null())
            .status()
            .map_err(|e| format!("executing '{program}': {e}"))?;
        match status.code() {
            Some(0) => {}
            Some(code) => return Err(format!("program '{program}' failed with exit code {code}")),
            None => return Err(format!("program '{program}' failed: {status}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_cannot_be_lent() {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let check = |first, count, expected: &str| {
            assert_eq!(Lent::new(first, count), Err(expected.to_owned()), "{first} {count}");
        };
        check(5, 0, "Must have at least 1 extra UID");
        check(u32::MAX - 5, 10, "Extra UIDs must not wrap");
        check(uid, 1, "Extra UIDs must not include current UID");
        if uid != gid {
            check(gid, 1, "Extra GIDs must not include current GID");
        }
        assert!(Lent::new(uid.max(gid) + 1, 10).is_ok());
    }
}

//! The init: a single-threaded process between the program and the builder.
//!
//! Order of things. The init reads the specification from its standard input, makes the new root's directories and
//! files as the calling user, drops supplementary groups, and clones the builder's process into new namespaces. It
//! writes that process's id maps (only an ancestor may) and lets it go on. The child mounts, pivots, filters system
//! calls, becomes the build's user and executes the builder. The init waits for it, or for the caller to hang up,
//! kills what is left and reports.
//!
//! The init's standard output is the socket that reports go to; its standard error is the builder's log.

mod child;
mod clone;
mod filter;
mod grow;
mod landlock;
mod leftovers;
mod root;
pub(crate) mod server;

use crate::report::{CpuTimes, ExitStatus, MountRequest, Report, receive, send};
use crate::spawn::{INIT_ARGUMENT, SERVER_ARGUMENT};
use crate::spec::{BuildUser, Bytes, SandboxSpec};
use clone::{Cloned, Namespaces, clone_process};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A builder of the program's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltinCall {
    /// Without `builtin:`.
    pub name: String,
    /// What the builder needs to know; its own format.
    pub payload: Bytes,
}

/// Runs a builtin builder in the sandbox, with its environment (`NAME=value`). The error is what the log says.
pub type BuiltinRunner<'a> = &'a dyn Fn(&BuiltinCall, &[Bytes]) -> Result<(), String>;

/// A step of setting up that failed, for the user.
#[derive(Debug)]
pub(crate) enum SetupError {
    /// What was tried, and why it failed.
    Failed(String),
    /// The kernel refuses namespaces as such.
    NoNamespaces(String),
}

impl SetupError {
    /// From an errno of whatever crate.
    pub(crate) fn os<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> SetupError {
        let what = what.into();
        move |e| SetupError::Failed(format!("{what}: {}", os_message(&e.into())))
    }

    fn report(self) -> Report {
        match self {
            SetupError::Failed(text) => Report::Failed(text),
            SetupError::NoNamespaces(text) => Report::NoNamespaces(text),
        }
    }
}

/// The system's text of an error, without the number that Rust adds.
pub(crate) fn os_message(error: &io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.rfind(" (os error ")) {
        (Some(_), Some(at)) => text[..at].to_owned(),
        _ => text,
    }
}

pub(crate) type SetupResult<T> = Result<T, SetupError>;

/// Becomes the init and never returns, if this process was started as one. To be called before anything else,
/// while the process has one thread.
pub fn run_init_if_requested(builtins: BuiltinRunner<'_>) {
    let code = match std::env::args_os().nth(1) {
        Some(argument) if argument == INIT_ARGUMENT => run(builtins),
        Some(argument) if argument == SERVER_ARGUMENT => server::serve(builtins),
        _ => return,
    };
    std::process::exit(code);
}

fn run(builtins: BuiltinRunner<'_>) -> i32 {
    let control = match rustix::io::fcntl_dupfd_cloexec(io::stdout().as_fd(), 3) {
        Ok(fd) => UnixStream::from(fd),
        Err(_) => return 2,
    };
    match supervise(&control, builtins) {
        Ok(status) => {
            let _ = send(&control, &Report::Exited(status, cpu_times()));
            0
        }
        Err(error) => {
            let _ = send(&control, &error.report());
            1
        }
    }
}

/// What the kernel counted for processes that ended.
fn cpu_times() -> CpuTimes {
    use nix::sys::resource::{UsageWho, getrusage};
    let micros = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0)
    };
    match getrusage(UsageWho::RUSAGE_CHILDREN) {
        Ok(usage) => CpuTimes { user: micros(usage.user_time()), system: micros(usage.system_time()) },
        Err(_) => CpuTimes::default(),
    }
}

/// Reads the specification, starts the builder, waits for its end.
fn supervise(control: &UnixStream, builtins: BuiltinRunner<'_>) -> SetupResult<ExitStatus> {
    let mut body = Vec::new();
    io::stdin().lock().read_to_end(&mut body).map_err(SetupError::os("reading the build's specification"))?;
    let spec: SandboxSpec = postcard::from_bytes(&body)
        .map_err(|e| SetupError::Failed(format!("the build's specification is damaged: {e}")))?;
    drop(body);
    to_null(0)?;
    to_null(1)?;

    leftovers::become_subreaper()?;
    let is_root = rustix::process::geteuid().is_root();
    if let Some(user) = &spec.user {
        // Whatever an earlier build left must not meet this one.
        leftovers::kill_user(user)?;
    }
    if let Some(isolation) = &spec.isolation {
        root::prepare(isolation, &spec)?;
    }
    if is_root && let Err(e) = nix::unistd::setgroups(&[]) {
        if e != nix::errno::Errno::EPERM {
            return Err(SetupError::os("setgroups failed")(e));
        }
        if spec.require_drop_groups {
            return Err(SetupError::Failed(
                "setgroups failed. Set the require-drop-supplementary-groups option to false to skip this step."
                    .into(),
            ));
        }
    }

    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(SetupError::os("creating a pipe"))
    };
    let (sync_read, sync_write) = pipe()?;
    // Closed when the builder is executed; a byte comes before that when it cannot be.
    let (ran_read, ran_write) = pipe()?;
    let (cloned, user_namespace) = clone_with_fallback(&spec)?;
    let pid = match cloned {
        Cloned::Child => {
            drop(sync_write);
            drop(ran_read);
            let fds = child::Descriptors { control, sync: sync_read, ran: ran_write };
            child::run(&spec, user_namespace, fds, builtins);
        }
        Cloned::Parent(pid) => pid,
    };
    drop(sync_read);
    drop(ran_write);
    let growing = match spec.isolation.as_ref().and_then(|isolation| isolation.grows.as_ref()) {
        Some(_) => Some(grow::Growing::of(pid, user_namespace)?),
        None => None,
    };
    let result = let_go(&spec, pid, user_namespace, sync_write);
    // The log ends when the builder's processes are gone, so the init must not hold it.
    to_null(2)?;
    if let Err(error) = result {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        let _ = wait(pid);
        return Err(error);
    }
    let status = wait_or_kill(pid, control, ran_read, growing.as_ref())?;
    if spec.isolation.is_none() {
        leftovers::kill_group(pid);
    }
    leftovers::kill_descendants();
    if let Some(user) = &spec.user {
        leftovers::kill_user(user)?;
    }
    Ok(status)
}

/// Clones into the namespaces that the specification asks for. Where user namespaces are not to be had, a build
/// user does as well.
fn clone_with_fallback(spec: &SandboxSpec) -> SetupResult<(Cloned, bool)> {
    let Some(isolation) = &spec.isolation else {
        let cloned = clone_process(Namespaces::NONE).map_err(SetupError::os("creating a process"))?;
        return Ok((cloned, false));
    };
    let mut namespaces = Namespaces::SANDBOX;
    if isolation.private_network {
        namespaces = namespaces.with_network();
    }
    let first = match clone_process(namespaces.with_user()) {
        Ok(cloned) => return Ok((cloned, true)),
        Err(e) => e,
    };
    if spec.user.is_some()
        && let Ok(cloned) = clone_process(namespaces)
    {
        return Ok((cloned, false));
    }
    Err(SetupError::NoNamespaces(os_message(&first)))
}

/// Maps ids and tells the child to go on.
fn let_go(spec: &SandboxSpec, pid: Pid, user_namespace: bool, sync: OwnedFd) -> SetupResult<()> {
    if let Some(cgroup) = &spec.cgroup {
        let path = crate::spec::to_path(cgroup).join("cgroup.procs");
        std::fs::write(&path, pid.as_raw_nonzero().to_string())
            .map_err(SetupError::os(format!("writing '{}'", path.display())))?;
    }
    if user_namespace {
        let inside = ids_inside(spec.user.as_ref());
        let (uid, gid, count) = match &spec.user {
            Some(user) => (user.uid, user.gid, user.count),
            None => (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw(), 1),
        };
        let write = |name: &str, text: String| {
            let path = format!("/proc/{}/{name}", pid.as_raw_nonzero());
            std::fs::write(&path, text).map_err(SetupError::os(format!("writing '{path}'")))
        };
        write("uid_map", format!("{} {uid} {count}", inside.0))?;
        if count == 1 {
            write("setgroups", "deny".into())?;
        }
        write("gid_map", format!("{} {gid} {count}", inside.1))?;
    }
    File::from(sync).write_all(b"1").map_err(SetupError::os("letting the build's process go on"))
}

/// User and group id that the builder sees as its own, in a user namespace.
pub(crate) fn ids_inside(user: Option<&BuildUser>) -> (u32, u32) {
    match user {
        Some(user) if user.count != 1 => (0, 0),
        _ => (1000, 100),
    }
}

/// Waits for the builder to run and to end; kills it when the caller hangs up.
fn wait_or_kill(
    pid: Pid,
    control: &UnixStream,
    ran: OwnedFd,
    growing: Option<&grow::Growing>,
) -> SetupResult<ExitStatus> {
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(SetupError::os("following the build's process"))?;
    let mut hung_up = false;
    let mut ran = Some(ran);
    loop {
        let (ended, runs) = {
            let mut fds = vec![PollFd::new(&process, PollFlags::IN)];
            if !hung_up {
                fds.push(PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN));
            }
            let ran_at = fds.len();
            if let Some(ran) = &ran {
                fds.push(PollFd::new(ran, PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(SetupError::os("waiting for the build's process")(e)),
            }
            let seen = |i: usize| fds.get(i).is_some_and(|fd| !fd.revents().is_empty());
            let runs = seen(ran_at);
            if !hung_up && seen(1) {
                match (receive::<MountRequest>(control), growing) {
                    (Ok(Some(request)), Some(growing)) => {
                        let _ = send(control, &Report::Mounted(growing.mount(&request)));
                    }
                    _ => {
                        hung_up = true;
                        let _ = rustix::process::kill_process(pid, Signal::KILL);
                    }
                }
            }
            (seen(0), runs)
        };
        if runs
            && let Some(ran) = ran.take()
            && matches!(rustix::io::read(&ran, &mut [0]), Ok(0))
        {
            let _ = send(control, &Report::Runs);
        }
        if ended {
            return wait(pid);
        }
    }
}

fn wait(pid: Pid) -> SetupResult<ExitStatus> {
    loop {
        match rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                if let Some(code) = status.exit_status() {
                    return Ok(ExitStatus::Code(code));
                }
                if let Some(signal) = status.terminating_signal() {
                    return Ok(ExitStatus::Signal(signal));
                }
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(SetupError::os("waiting for the build's process")(e)),
        }
    }
}

/// Puts `/dev/null` in the place of a standard descriptor.
fn to_null(number: i32) -> SetupResult<()> {
    use rustix::fs::{Mode, OFlags};
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(SetupError::os("opening '/dev/null'"))?;
    duplicate(null.as_fd(), number)
}

/// Makes descriptor `number`, one of the standard three, the same as `fd`.
pub(crate) fn duplicate(fd: BorrowedFd<'_>, number: i32) -> SetupResult<()> {
    let result = match number {
        0 => rustix::stdio::dup2_stdin(fd),
        1 => rustix::stdio::dup2_stdout(fd),
        _ => rustix::stdio::dup2_stderr(fd),
    };
    result.map_err(SetupError::os("redirecting a standard descriptor"))
}

//! The builder's process, from its birth to the execution of the builder.

use super::root::{DEVICES, is_mounted, place};
use super::{
    BuiltinCall, BuiltinRunner, SetupError, SetupResult, duplicate, filter, ids_inside, landlock, os_message,
};
use crate::leave::exit_now;
use crate::report::{Report, send};
use crate::spec::{Isolation, Program, SandboxSpec, to_path};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::personality::{self, Persona};
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What the builder's process has from its init.
pub(super) struct Descriptors<'a> {
    /// Where reports go.
    pub control: &'a UnixStream,
    /// Readable when the init has done its part.
    pub sync: OwnedFd,
    /// Closed when the builder is executed.
    pub ran: OwnedFd,
}

/// Does everything and ends as the builder, or with status 1.
pub(super) fn run(
    spec: &SandboxSpec,
    user_namespace: bool,
    fds: Descriptors<'_>,
    builtins: BuiltinRunner<'_>,
) -> ! {
    let Descriptors { control, sync, ran } = fds;
    if let Err(error) = set_up(spec, user_namespace, control, sync, &ran) {
        let _ = send(control, &error.report());
        exit_now(1);
    }
    match &spec.program {
        Program::Execute { path, args } => {
            let _ = send(control, &Report::Started);
            let error = match execute(path, args, &spec.env) {
                Err(error) => error,
                Ok(never) => match never {},
            };
            let _ = rustix::io::write(&ran, b"0");
            eprintln!("error: executing '{}': {}", String::from_utf8_lossy(path), os_message(&error));
            exit_now(1);
        }
        Program::Builtin { name, payload } => {
            let _ = send(control, &Report::Started);
            drop(ran);
            let call = BuiltinCall { name: name.clone(), payload: payload.clone() };
            let result =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builtins(&call, &spec.env)));
            match result {
                Ok(Ok(())) => exit_now(0),
                Ok(Err(text)) => {
                    eprintln!("error: {text}");
                    exit_now(1);
                }
                Err(_) => exit_now(1),
            }
        }
    }
}

fn set_up(
    spec: &SandboxSpec,
    user_namespace: bool,
    control: &UnixStream,
    sync: OwnedFd,
    ran: &OwnedFd,
) -> SetupResult<()> {
    let mut go = [0];
    match rustix::io::read(&sync, &mut go) {
        Ok(1) => {}
        // The init failed and says so itself.
        _ => exit_now(1),
    }
    drop(sync);
    die_with_parent()?;
    default_signals()?;
    // A session of its own: no controlling terminal, no terminal signals.
    rustix::process::setsid().map_err(SetupError::os("creating a new session"))?;
    duplicate(io::stderr().as_fd(), 1)?;

    if let Some(isolation) = &spec.isolation {
        if spec.cgroup.is_some() {
            // Its own cgroup is the root that the build sees.
            unshare(CloneFlags::CLONE_NEWCGROUP).map_err(SetupError::os("unsharing cgroup namespace"))?;
        }
        enter(isolation)?;
    }
    limit_processes();
    rustix::process::chdir(to_path(&spec.cwd))
        .map_err(SetupError::os(format!("changing into '{}'", String::from_utf8_lossy(&spec.cwd))))?;
    if !spec.allow_new_privileges {
        rustix::thread::set_no_new_privs(true)
            .map_err(SetupError::os("failed to set PR_SET_NO_NEW_PRIVS"))?;
    }
    if spec.filter_syscalls {
        filter::install()?;
    }
    // Without root, the kernel lets only those be restricted who cannot gain privileges.
    if let Err(warning) = landlock::scope_abstract_sockets()
        && !spec.allow_new_privileges
    {
        let _ = send(control, &Report::Warning(warning));
    }
    set_personality(spec);
    close_others(&[control.as_fd(), ran.as_fd()])?;
    // No core dumps; programs may ask for them again.
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, libc::RLIM_INFINITY)
        .or_else(|_| {
            let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE)?;
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, hard)
        });
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    become_user(spec, user_namespace)?;
    // Changing the user cleared it.
    die_with_parent()
}

/// Has the kernel kill this process when the init dies.
fn die_with_parent() -> SetupResult<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(SetupError::os("setting the death signal"))
}

/// So many processes may a build have at once. Far more than any build needs, and few enough that one which starts them
/// without end fails before the machine does.
const MAX_PROCESSES: u64 = 16384;

/// Limits how many processes the build's user has, which are those of the build where it has a user or user namespace
/// of its own.
fn limit_processes() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NPROC) {
        let _ = setrlimit(Resource::RLIMIT_NPROC, soft.min(MAX_PROCESSES), hard.min(MAX_PROCESSES));
    }
}

/// The number of the last signal, and the size of a set of signals, as the kernel counts.
const LAST_SIGNAL: libc::c_int = 64;
const SIGNAL_SET: usize = 8;

/// Gives all signals their default meaning. Also those of the C library, which its own functions refuse to touch, and
/// which it has ignored in programs that it spawns.
fn default_signals() -> SetupResult<()> {
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
    // The kernel's structure is shorter on all architectures. Zeros are the default.
    let default = [0_u64; 16];
    for signal in (1..=LAST_SIGNAL).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        let nowhere = std::ptr::null_mut::<u64>();
        // SAFETY: the kernel reads a structure that is shorter than this; the default runs no code of this process.
        let done =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), nowhere, SIGNAL_SET) };
        if done != 0 {
            return Err(SetupError::os("resetting signals")(nix::errno::Errno::last()));
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(SetupError::os("resetting the signal mask"))
}

/// Moves into the new root and out of everything else.
fn enter(isolation: &Isolation) -> SetupResult<()> {
    if isolation.private_network {
        loopback_up()?;
    }
    nix::unistd::sethostname("localhost").map_err(SetupError::os("cannot set host name"))?;
    rustix::system::setdomainname(b"(none)").map_err(SetupError::os("cannot set domain name"))?;

    // What is mounted here must not be seen outside, and what is mounted outside must not be seen here.
    mount(none(), "/", none(), MsFlags::MS_PRIVATE | MsFlags::MS_REC, none())
        .map_err(SetupError::os("unable to make '/' private"))?;
    let root = to_path(&isolation.root);
    // pivot_root wants a mount point.
    mount(Some(&root), &root, none(), MsFlags::MS_BIND, none())
        .map_err(SetupError::os(format!("unable to bind mount '{}'", root.display())))?;

    if let Some(directory) = &isolation.grows {
        let directory = place(isolation, directory)?;
        let failed = |what: &str| SetupError::os(format!("{what} '{}'", directory.display()));
        mount(Some(&directory), &directory, none(), MsFlags::MS_BIND, none())
            .map_err(failed("unable to bind mount"))?;
        mount(none(), &directory, none(), MsFlags::MS_SHARED, none()).map_err(failed("unable to share"))?;
    }

    let host_dev = is_mounted(isolation, "/dev");
    if !host_dev {
        for device in DEVICES {
            let source = Path::new(device);
            if source.exists() {
                bind(source, &place(isolation, device.as_bytes())?)?;
            }
        }
    }
    for each in &isolation.mounts {
        let source = to_path(&each.source);
        match source.symlink_metadata() {
            // Symlinks were copied; they cannot be mounted.
            Ok(meta) if meta.file_type().is_symlink() => {}
            Ok(_) => bind(&source, &place(isolation, &each.target)?)?,
            Err(e) if each.optional && e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                return Err(SetupError::os(format!("getting attributes of path '{}'", source.display()))(e));
            }
        }
    }

    let proc = place(isolation, b"/proc")?;
    mount(Some("none"), &proc, Some("proc"), MsFlags::empty(), none()).map_err(|e| match e {
        // A host that hides parts of its own /proc lets nobody mount a whole one.
        nix::errno::Errno::EPERM => {
            SetupError::NoNamespaces("mounting /proc: Operation not permitted".into())
        }
        e => SetupError::os("mounting /proc")(e),
    })?;
    if isolation.whole_system {
        let sys = place(isolation, b"/sys")?;
        mount(Some("none"), &sys, Some("sysfs"), MsFlags::empty(), none())
            .map_err(SetupError::os("mounting /sys"))?;
    }
    if !host_dev {
        let shm = place(isolation, b"/dev/shm")?;
        let options = format!("size={}", isolation.shm_size);
        mount(Some("none"), &shm, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .map_err(SetupError::os("mounting /dev/shm"))?;
        terminals(isolation)?;
    }
    if isolation.grows.is_some() {
        // What is mounted in the namespace that is left behind will be seen here too, where it is shared.
        unshare(CloneFlags::CLONE_NEWNS).map_err(SetupError::os("unsharing mount namespace"))?;
    }
    pivot(&root)
}

/// A new instance of `/dev/pts`.
fn terminals(isolation: &Isolation) -> SetupResult<()> {
    if !isolation.private_pts || is_mounted(isolation, "/dev/pts") || !Path::new("/dev/pts/ptmx").exists() {
        return Ok(());
    }
    let pts = place(isolation, b"/dev/pts")?;
    mount(Some("none"), &pts, Some("devpts"), MsFlags::empty(), Some("newinstance,mode=0620"))
        .map_err(SetupError::os("mounting /dev/pts"))?;
    // Some kernels make it with mode 0.
    let _ = rustix::fs::chmod(pts.join("ptmx"), rustix::fs::Mode::from_raw_mode(0o666));
    Ok(())
}

/// Makes `root` the root, and unmounts the old one so that nothing leads back to it.
fn pivot(root: &Path) -> SetupResult<()> {
    rustix::process::chdir(root)
        .map_err(SetupError::os(format!("cannot change directory to '{}'", root.display())))?;
    // With the same directory twice, the old root ends up mounted over the new one, and "." is the old.
    rustix::process::pivot_root(".", ".").map_err(SetupError::os(format!(
        "cannot pivot the old root directory away from '{}'",
        root.display()
    )))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(SetupError::os("cannot unmount real root filesystem"))?;
    rustix::process::chdir("/").map_err(SetupError::os("cannot change to the new root directory"))
}

fn none() -> Option<&'static str> {
    None
}

fn bind(source: &Path, target: &Path) -> SetupResult<()> {
    mount(Some(source), target, none(), MsFlags::MS_BIND | MsFlags::MS_REC, none()).map_err(SetupError::os(
        format!("bind mount from '{}' to '{}' failed", source.display(), target.display()),
    ))
}

fn loopback_up() -> SetupResult<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(SetupError::os("cannot open IP socket"))?;
    // SAFETY: ifreq is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_LOOPBACK | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a valid ifreq with flags set, which SIOCSIFFLAGS only reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    if result == -1 {
        return Err(SetupError::os("cannot set loopback interface flags")(io::Error::last_os_error()));
    }
    Ok(())
}

/// Makes builds see the machine they are for. Best effort, as a build for this machine needs none of it.
fn set_personality(spec: &SandboxSpec) {
    let mut persona = match personality::get() {
        Ok(persona) => persona,
        Err(_) => return,
    };
    /// From <linux/personality.h>.
    const PER_LINUX32: libc::c_int = 8;
    if spec.linux32 {
        persona = Persona::from_bits_retain(PER_LINUX32);
    }
    if spec.linux26 {
        persona |= Persona::UNAME26;
    }
    // Addresses that are the same every time make for outputs that are.
    persona |= Persona::ADDR_NO_RANDOMIZE;
    let _ = personality::set(persona);
}

/// Closes all but the standard descriptors and the one for reports, which closes when the builder is executed.
fn close_others(keep: &[BorrowedFd<'_>]) -> SetupResult<()> {
    use std::os::fd::AsRawFd;
    let close = |from: u32, to: u32| -> SetupResult<()> {
        if from > to {
            return Ok(());
        }
        // SAFETY: no value of this process that owns one of these descriptors is used after this.
        let result = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        if result == -1 {
            return Err(SetupError::os("closing descriptors")(io::Error::last_os_error()));
        }
        Ok(())
    };
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep {
        close(from, fd.saturating_sub(1))?;
        from = fd.saturating_add(1);
    }
    close(from, u32::MAX)
}

fn become_user(spec: &SandboxSpec, user_namespace: bool) -> SetupResult<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    let (uid, gid) = match (&spec.user, user_namespace) {
        (user, true) => ids_inside(user.as_ref()),
        (Some(user), false) => {
            let groups: Vec<Gid> = user.supplementary_gids.iter().copied().map(Gid::from_raw).collect();
            setgroups(&groups).map_err(SetupError::os("cannot set supplementary groups of build user"))?;
            (user.uid, user.gid)
        }
        (None, false) => return Ok(()),
    };
    let gid = Gid::from_raw(gid);
    setresgid(gid, gid, gid).map_err(SetupError::os("setgid failed"))?;
    let uid = Uid::from_raw(uid);
    setresuid(uid, uid, uid).map_err(SetupError::os("setuid failed"))
}

fn execute(path: &[u8], args: &[Vec<u8>], env: &[Vec<u8>]) -> io::Result<Infallible> {
    let strings = |items: &[Vec<u8>]| {
        items.iter().map(|item| CString::new(item.as_slice())).collect::<Result<Vec<_>, _>>()
    };
    let path = CString::new(OsStr::from_bytes(path).as_bytes())?;
    Ok(nix::unistd::execve(&path, &strings(args)?, &strings(env)?)?)
}

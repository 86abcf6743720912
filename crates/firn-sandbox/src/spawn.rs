//! The caller's side: start the init, follow it, kill it.

use crate::init::server::DESCRIPTORS;
use crate::report::{CpuTimes, ExitStatus, MountRequest, Report, SandboxError, receive, send};
use crate::spec::{SandboxSpec, path_bytes};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, Mode};
use rustix::pty::OpenptFlags;
use rustix::time::Timespec;
use std::io::{self, ErrorKind, IoSlice, Seek, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The argument that makes the program an init.
pub const INIT_ARGUMENT: &str = "__build-init";

/// The argument that makes the program the process which inits are forked from.
pub const SERVER_ARGUMENT: &str = "__build-init-server";

/// How long a builder whose output has ended may take to end itself.
const GRACE: Duration = Duration::from_secs(10);

/// Starts builds. Clones share the process that inits are forked from.
#[derive(Debug, Clone)]
pub struct Spawner {
    program: PathBuf,
    server: Arc<Mutex<Option<Server>>>,
}

impl Default for Spawner {
    /// With the running program itself as init; it must call [`crate::run_init_if_requested`] first of all.
    fn default() -> Self {
        Spawner::with_program("/proc/self/exe")
    }
}

impl Spawner {
    /// With another program as init.
    pub fn with_program(program: impl Into<PathBuf>) -> Spawner {
        Spawner { program: program.into(), server: Arc::default() }
    }

    /// Starts the init with `spec`.
    pub fn spawn(&self, spec: &SandboxSpec) -> Result<Sandbox, SandboxError> {
        let body = postcard::to_stdvec(spec)
            .map_err(|e| SandboxError::Setup(format!("cannot encode the build's specification: {e}")))?;
        let memory = rustix::fs::memfd_create("firn-build-spec", MemfdFlags::CLOEXEC)
            .map_err(|e| SandboxError::io("creating a memory file")(e.into()))?;
        let mut memory = std::fs::File::from(memory);
        memory.write_all(&body).map_err(SandboxError::io("writing the build's specification"))?;
        memory.rewind().map_err(SandboxError::io("writing the build's specification"))?;
        let (control, theirs) = UnixStream::pair().map_err(SandboxError::io("creating a socket pair"))?;
        let (log, slave) = open_terminal(spec).map_err(SandboxError::io("opening a pseudoterminal"))?;
        self.request([memory.as_fd(), theirs.as_fd(), slave.as_fd()])?;
        Ok(Sandbox {
            control,
            log: Some(log),
            status: None,
            runs: false,
            silent_since: None,
            warnings: Vec::new(),
            cpu: None,
            mounted: None,
        })
    }

    /// Has an init forked that gets these as its standard descriptors.
    fn request(&self, fds: [BorrowedFd<'_>; DESCRIPTORS]) -> Result<(), SandboxError> {
        let failed = || SandboxError::io(format!("starting '{}'", self.program.display()));
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = server.as_ref() {
            match running.request(fds) {
                Ok(()) => return Ok(()),
                // Somebody killed it.
                Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
                Err(e) => return Err(failed()(e)),
            }
        }
        let started = Server::start(&self.program).map_err(failed())?;
        started.request(fds).map_err(failed())?;
        *server = Some(started);
        Ok(())
    }
}

/// The process that inits are forked from.
#[derive(Debug)]
struct Server {
    socket: OwnedFd,
    child: Child,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "this is where builds start")]
    fn start(program: &Path) -> io::Result<Server> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let flags = SocketFlags::CLOEXEC;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let child = Command::new(program)
            .arg0("firn")
            .arg(SERVER_ARGUMENT)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Server { socket, child })
    }

    fn request(&self, fds: [BorrowedFd<'_>; DESCRIPTORS]) -> io::Result<()> {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        loop {
            match sendmsg(&self.socket, &[IoSlice::new(b"1")], &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

/// A pseudoterminal in raw mode; its slave belongs to the build's user.
fn open_terminal(spec: &SandboxSpec) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    let mut mode = rustix::termios::tcgetattr(&slave)?;
    mode.make_raw();
    rustix::termios::tcsetattr(&slave, rustix::termios::OptionalActions::Now, &mode)?;
    if let Some(user) = &spec.user {
        rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(user.uid)), None)?;
        rustix::fs::fchmod(&slave, Mode::RUSR | Mode::WUSR)?;
    }
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((master, slave))
}

/// What [`Sandbox::next_event`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes that the builder wrote; in the buffer that was handed in.
    Output(usize),
    /// The time that was given passed without anything happening.
    Timeout,
    /// The other descriptor became readable.
    Interrupted,
    /// The builder ended, all that it left is dead, and its output was read to the end. A builder that closes its
    /// output and stays is killed after a while.
    Exited(ExitStatus),
}

/// Shows a running build more of the host, in the directory that its specification says grows.
#[derive(Debug)]
pub struct Mounter(Mutex<(UnixStream, Receiver<Result<(), String>>)>);

impl Mounter {
    /// Mounts `source` at `target`, an empty file or directory below the build's root; both on the host.
    pub fn mount(&self, source: &Path, target: &Path) -> Result<(), SandboxError> {
        let both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let request = MountRequest { source: path_bytes(source), target: path_bytes(target) };
        send(&both.0, &request).map_err(SandboxError::io("asking the build's init for a mount"))?;
        match both.1.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(SandboxError::Setup(why)),
            Err(_) => Err(SandboxError::Silent),
        }
    }
}

/// A build that was started. Dropping it kills the build and waits until it is dead.
#[derive(Debug)]
pub struct Sandbox {
    control: UnixStream,
    log: Option<OwnedFd>,
    status: Option<ExitStatus>,
    /// Whether the builder itself was seen running.
    runs: bool,
    /// When the builder's output ended.
    silent_since: Option<Instant>,
    warnings: Vec<String>,
    cpu: Option<CpuTimes>,
    /// Where answers to a [`Mounter`] go.
    mounted: Option<Sender<Result<(), String>>>,
}

impl Sandbox {
    /// Waits until the builder runs, or ended already, or could not be executed, which its output says; tells why it
    /// could not be set up.
    pub fn wait_started(&mut self) -> Result<(), SandboxError> {
        let mut started = false;
        loop {
            match receive(&self.control).map_err(SandboxError::io("reading from the build's init"))? {
                None => return Err(SandboxError::Silent),
                Some(Report::Started) => started = true,
                Some(Report::Runs) if started => {
                    self.runs = true;
                    return Ok(());
                }
                // The process ended before it could execute anything; its end is reported next.
                Some(Report::Runs) => {}
                Some(Report::Exited(status, cpu)) if started => {
                    (self.status, self.cpu) = (Some(status), Some(cpu));
                    return Ok(());
                }
                Some(Report::Mounted(_)) => {}
                Some(Report::Warning(text)) => self.warnings.push(text),
                Some(Report::Failed(text)) => return Err(SandboxError::Setup(text)),
                Some(Report::NoNamespaces(text)) => return Err(SandboxError::NoNamespaces(text)),
                Some(Report::Exited(status, _)) => {
                    return Err(SandboxError::Setup(format!("the build's process {status}")));
                }
            }
        }
    }

    /// Whether the builder was executed, as far as is known since [`Sandbox::wait_started`].
    pub fn runs(&self) -> bool {
        self.runs
    }

    /// What the init warned of so far.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// What shows the build more of the host while it runs; its answers come while [`Sandbox::next_event`] is called
    /// elsewhere.
    pub fn mounter(&mut self) -> Result<Mounter, SandboxError> {
        let control = self.control.try_clone().map_err(SandboxError::io("duplicating the init's socket"))?;
        let (sender, answers) = channel();
        self.mounted = Some(sender);
        Ok(Mounter(Mutex::new((control, answers))))
    }

    /// The processor time that the build took, once it ended by itself.
    pub fn cpu_times(&self) -> Option<CpuTimes> {
        self.cpu
    }

    /// Waits for output, the end, readability of `interrupt`, or for `timeout` to pass.
    pub fn next_event(
        &mut self,
        buffer: &mut [u8],
        interrupt: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> Result<Event, SandboxError> {
        loop {
            if let (Some(status), None) = (self.status, &self.log) {
                return Ok(Event::Exited(status));
            }
            let grace = self.grace();
            let timeout = match (timeout, grace) {
                (Some(timeout), Some(grace)) => Some(timeout.min(grace)),
                (timeout, grace) => timeout.or(grace),
            };
            // After the end only what is left in the terminal is waited for: everyone who could write is dead.
            let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
            let readable = |fd: BorrowedFd<'_>, fds: &[PollFd<'_>]| {
                fds.iter().any(|p| p.as_fd().as_raw_fd() == fd.as_raw_fd() && !p.revents().is_empty())
            };
            let (log_ready, control_ready, interrupted, any) = {
                let mut fds = Vec::with_capacity(3);
                if let Some(log) = &self.log {
                    fds.push(PollFd::new(log, PollFlags::IN));
                }
                if self.status.is_none() {
                    fds.push(PollFd::new(&self.control, PollFlags::IN));
                }
                if let Some(fd) = interrupt {
                    fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                }
                match poll(&mut fds, timeout.as_ref()) {
                    Ok(_) => {}
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(e) => return Err(SandboxError::io("waiting for the build")(e.into())),
                }
                (
                    self.log.as_ref().is_some_and(|log| readable(log.as_fd(), &fds)),
                    self.status.is_none() && readable(self.control.as_fd(), &fds),
                    interrupt.is_some_and(|fd| readable(fd, &fds)),
                    fds.iter().any(|p| !p.revents().is_empty()),
                )
            };
            if interrupted {
                return Ok(Event::Interrupted);
            }
            if log_ready && let Some(count) = self.read_log(buffer)? {
                return Ok(Event::Output(count));
            }
            if control_ready {
                self.read_report()?;
            }
            if !any {
                match self.grace() {
                    Some(Duration::ZERO) => {
                        self.silent_since = None;
                        self.kill();
                    }
                    _ => return Ok(Event::Timeout),
                }
            }
        }
    }

    /// How long a builder that has closed its output may still go on.
    fn grace(&self) -> Option<Duration> {
        let since = self.silent_since.filter(|_| self.status.is_none())?;
        Some(GRACE.saturating_sub(since.elapsed()))
    }

    /// Reads output; `None` where there was none, the log being closed at its end.
    fn read_log(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, SandboxError> {
        let Some(log) = &self.log else { return Ok(None) };
        match rustix::io::read(log, buffer) {
            Ok(0) | Err(rustix::io::Errno::IO) => {
                self.log = None;
                // Nobody holds the log any more: the builder is about to end, as programs that close their output
                // before they exit are, or means to go on unseen.
                self.silent_since = Some(Instant::now());
                Ok(None)
            }
            Ok(count) => Ok(Some(count)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                if self.status.is_some() {
                    self.log = None;
                }
                Ok(None)
            }
            Err(e) => Err(SandboxError::io("reading the builder's output")(e.into())),
        }
    }

    fn read_report(&mut self) -> Result<(), SandboxError> {
        match receive(&self.control).map_err(SandboxError::io("reading from the build's init"))? {
            Some(Report::Exited(status, cpu)) => {
                self.status = Some(status);
                self.cpu = Some(cpu);
                self.mounted = None;
            }
            Some(Report::Mounted(result)) => {
                if let Some(waiting) = &self.mounted {
                    let _ = waiting.send(result);
                }
            }
            Some(Report::Warning(text)) => self.warnings.push(text),
            Some(Report::Failed(text)) => return Err(SandboxError::Setup(text)),
            Some(Report::NoNamespaces(text)) => return Err(SandboxError::NoNamespaces(text)),
            Some(Report::Started | Report::Runs) => {}
            None => {
                // Somebody killed the init; the kernel killed the builder with it.
                self.status = Some(ExitStatus::Signal(libc::SIGKILL));
                self.mounted = None;
            }
        }
        Ok(())
    }

    /// Asks the init to kill the build; its end is then seen as usual.
    pub fn kill(&self) {
        // The init sees the end of its input. It may be gone already.
        let _ = self.control.shutdown(Shutdown::Write);
    }

    /// Reads output to nowhere until the build has ended.
    pub fn wait(&mut self) -> Result<ExitStatus, SandboxError> {
        let mut buffer = [0; 4096];
        loop {
            if let Event::Exited(status) = self.next_event(&mut buffer, None, None)? {
                return Ok(status);
            }
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
        // The init ends after all processes of the build have; its log must not block it.
        let mut rest = [0; 4096];
        while self.status.is_none() {
            if self.next_event(&mut rest, None, None).is_err() {
                break;
            }
        }
        drop(self.log.take());
        // When the socket closes, the init is gone too.
        while let Ok(Some(_)) = receive::<Report>(&self.control) {}
    }
}

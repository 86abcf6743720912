//! What the init tells its caller, and how.

use crate::spec::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read, Write};
use thiserror::Error;

/// Greatest size of one report in bytes.
const MAX_REPORT: u32 = 1 << 20;

/// How the builder ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
}

impl ExitStatus {
    pub fn success(self) -> bool {
        self == ExitStatus::Code(0)
    }
}

/// `failed with exit code 1`, `failed due to signal 9 (Killed)`, as error messages have it.
impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(0) => f.write_str("succeeded"),
            ExitStatus::Code(code) => write!(f, "failed with exit code {code}"),
            ExitStatus::Signal(signal) => {
                let name = rustix::process::Signal::from_named_raw(*signal).map(describe);
                write!(f, "failed due to signal {signal} ({})", name.unwrap_or("Unknown signal"))
            }
        }
    }
}

/// The C library's names of signals.
fn describe(signal: rustix::process::Signal) -> &'static str {
    use rustix::process::Signal;
    match signal {
        Signal::HUP => "Hangup",
        Signal::INT => "Interrupt",
        Signal::QUIT => "Quit",
        Signal::ILL => "Illegal instruction",
        Signal::TRAP => "Trace/breakpoint trap",
        Signal::ABORT => "Aborted",
        Signal::BUS => "Bus error",
        Signal::FPE => "Floating point exception",
        Signal::KILL => "Killed",
        Signal::USR1 => "User defined signal 1",
        Signal::SEGV => "Segmentation fault",
        Signal::USR2 => "User defined signal 2",
        Signal::PIPE => "Broken pipe",
        Signal::ALARM => "Alarm clock",
        Signal::TERM => "Terminated",
        Signal::XCPU => "CPU time limit exceeded",
        Signal::XFSZ => "File size limit exceeded",
        Signal::SYS => "Bad system call",
        _ => "Unknown signal",
    }
}

/// Why a build could not be started or followed.
#[derive(Debug, Error)]
pub enum SandboxError {
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// The init could not set up what was asked for; nothing of the builder ran.
    #[error("while setting up the build environment: {0}")]
    Setup(String),
    /// The kernel or its configuration does not give this user the namespaces that a sandbox is made of.
    #[error(
        "this system does not support the kernel namespaces that are required for sandboxing ({0}); use '--no-sandbox' to disable sandboxing"
    )]
    NoNamespaces(String),
    #[error("the build's init process ended without a report")]
    Silent,
}

impl SandboxError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> SandboxError {
        let what = what.into();
        move |source| SandboxError::Io { what, source }
    }
}

/// Processor time in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuTimes {
    pub user: u64,
    pub system: u64,
}

/// One report of the init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Worth telling the user; the build goes on.
    Warning(String),
    Failed(String),
    NoNamespaces(String),
    /// The environment is set up; the builder is about to run.
    Started,
    /// The builder was executed.
    Runs,
    /// With the processor time of all processes of the build that were waited for.
    Exited(ExitStatus, CpuTimes),
    /// A request was carried out, or why not.
    Mounted(Result<(), String>),
}

/// What the caller asks of a running init: a mount within the directory that grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountRequest {
    /// On the host.
    pub source: Bytes,
    /// On the host too: an empty file or directory in the build's root.
    pub target: Bytes,
}

/// Writes a length-prefixed report or request.
pub(crate) fn send(mut to: impl Write, report: &impl Serialize) -> io::Result<()> {
    let body = postcard::to_stdvec(report).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    // One write: the builder's process and the init share the socket.
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&body);
    to.write_all(&frame)
}

/// Reads one report or request; `None` at the end.
pub(crate) fn receive<T: serde::de::DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Err(e) => return Err(e),
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_REPORT {
        return Err(io::Error::other("a report of the build's init is too long"));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    postcard::from_bytes(&body).map(Some).map_err(io::Error::other)
}

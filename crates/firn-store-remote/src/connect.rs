//! How a connection comes about.

use async_trait::async_trait;
use firn_store::{StoreError, StoreResult};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::any::Any;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// Both directions of a connection.
pub struct Transport {
    pub input: Box<dyn AsyncRead + Send + Unpin>,
    pub output: Box<dyn AsyncWrite + Send + Unpin>,
    /// What the other side says on its standard error, where it is listened to.
    pub said: Option<Said>,
    /// What must live as long, such as the ssh process.
    pub keep: Option<Box<dyn Any + Send>>,
    /// Set when the other side holds roots for us, so that closing waits until it let go of them.
    pub holds_roots: Arc<AtomicBool>,
}

/// Closes a socket in order: whoever collects garbage after us finds our roots gone.
struct Farewell {
    stream: StdUnixStream,
    holds_roots: Arc<AtomicBool>,
}

/// How long a daemon may take to let go.
const FAREWELL: Duration = Duration::from_millis(200);

impl Drop for Farewell {
    fn drop(&mut self) {
        if !self.holds_roots.load(Ordering::Relaxed) || self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let started = Instant::now();
        let mut rest = [0; 4096];
        while started.elapsed() < FAREWELL {
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
            let left = FAREWELL.saturating_sub(started.elapsed());
            let wait = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut fds, Some(&wait)) {
                Ok(0) | Err(_) => return,
                Ok(_) => match rustix::io::read(&self.stream, &mut rest) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
            }
        }
    }
}

/// What a program at the other end of a connection writes to its standard error.
pub struct Said {
    /// The first lines of it.
    pub(crate) lines: Arc<Mutex<Vec<u8>>>,
    /// Ends with it.
    pub(crate) reader: tokio::task::JoinHandle<()>,
}

impl Said {
    /// What was said, after a colon, for the error of a connection that has failed; nothing if that is nothing. The program
    /// is ending then, and what it said may come a little later.
    pub async fn why(said: Option<Said>) -> String {
        /// Somebody else may hold the other end.
        const PATIENCE: Duration = Duration::from_millis(300);
        let Some(Said { lines, reader }) = said else { return String::new() };
        let _ = tokio::time::timeout(PATIENCE, reader).await;
        let lines = lines.lock();
        match String::from_utf8_lossy(&lines).trim() {
            "" => String::new(),
            text => format!(": {text}"),
        }
    }
}

/// Makes connections to one store.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Connects. Errors say to what.
    async fn connect(&self) -> StoreResult<Transport>;
}

/// A daemon's socket on this machine.
pub struct UnixConnector {
    pub path: PathBuf,
}

/// How long a daemon that has many callers waiting is tried.
const PATIENCE: Duration = Duration::from_secs(20);

#[async_trait]
impl Connector for UnixConnector {
    async fn connect(&self) -> StoreResult<Transport> {
        let started = std::time::Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match self.try_connect().await {
                Ok(stream) => {
                    let failed = StoreError::io("cannot connect to socket at", &self.path);
                    return self.transport(stream).map_err(failed);
                }
                // The queue of callers is full.
                Err(e) if e.kind() == ErrorKind::WouldBlock && started.elapsed() < PATIENCE => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(100));
                }
                Err(e) => return Err(StoreError::io("cannot connect to socket at", &self.path)(e)),
            }
        }
    }
}

impl UnixConnector {
    fn transport(&self, stream: UnixStream) -> std::io::Result<Transport> {
        let stream = stream.into_std()?;
        let holds_roots = Arc::new(AtomicBool::new(false));
        let farewell = Farewell { stream: stream.try_clone()?, holds_roots: Arc::clone(&holds_roots) };
        let (input, output) = UnixStream::from_std(stream)?.into_split();
        // Closing this half would end the connection before the farewell.
        let keep: Box<dyn Any + Send> = Box::new(farewell);
        Ok(Transport {
            input: Box::new(input),
            output: Box::new(output),
            said: None,
            keep: Some(keep),
            holds_roots,
        })
    }

    /// Paths that are too long for a socket's address are reached through their folder's descriptor.
    async fn try_connect(&self) -> std::io::Result<UnixStream> {
        if self.path.as_os_str().len() < 108 {
            return UnixStream::connect(&self.path).await;
        }
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return UnixStream::connect(&self.path).await;
        };
        let dir = std::fs::File::open(parent)?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&dir);
        UnixStream::connect(PathBuf::from(format!("/proc/self/fd/{fd}")).join(name)).await
    }
}

//! How a connection comes about.

use async_trait::async_trait;
use firn_store::{StoreError, StoreResult};
use std::any::Any;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// Both directions of a connection.
pub struct Transport {
    pub input: Box<dyn AsyncRead + Send + Unpin>,
    pub output: Box<dyn AsyncWrite + Send + Unpin>,
    /// What must live as long, such as the ssh process.
    pub keep: Option<Box<dyn Any + Send>>,
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
                    let (input, output) = stream.into_split();
                    return Ok(Transport { input: Box::new(input), output: Box::new(output), keep: None });
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

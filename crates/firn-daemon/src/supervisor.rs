//! The process that accepts connections and starts a process for each. It outlives them, and tells a client when the
//! process of its connection dies.

mod refusal;
mod sockets;
mod workers;

pub use sockets::{bind_socket, inherited_sockets};
pub use workers::WorkerCommand;

use crate::auth::{Peer, Policy, Verdict};
use firn_store::activity::{Logger, Verbosity};
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;
use tokio::net::UnixListener;

#[derive(Debug, Error)]
pub enum SupervisorError {
    #[error("{operation} '{}': {source}", path.display())]
    Socket { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Accepts connections on sockets.
pub struct Supervisor {
    pub policy: Policy,
    pub worker: WorkerCommand,
    pub logger: Arc<dyn Logger>,
}

impl Supervisor {
    /// Serves until a signal ends the process. Call it in a runtime of one thread.
    pub async fn run(self, sockets: Vec<StdListener>) -> Result<(), SupervisorError> {
        let this = Arc::new(self);
        let mut accepting = tokio::task::JoinSet::new();
        for socket in sockets {
            socket.set_nonblocking(true)?;
            let listener = UnixListener::from_std(socket)?;
            let this = Arc::clone(&this);
            accepting.spawn(async move { this.accept(listener).await });
        }
        while let Some(ended) = accepting.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    }

    async fn accept(self: Arc<Self>, listener: UnixListener) -> io::Result<()> {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let this = Arc::clone(&self);
                    tokio::spawn(async move {
                        match stream.into_std() {
                            Ok(stream) => this.connection(stream).await,
                            Err(e) => this.complain(&format!("error processing connection: {e}")),
                        }
                    });
                }
                // The caller went away, or there are too many files open: others may fare better.
                Err(e) => {
                    self.complain(&format!("accepting connection: {e}"));
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(&self, stream: std::os::unix::net::UnixStream) {
        let (peer, verdict) = match self.policy.force {
            Some(trusted) => (None, if trusted { Verdict::Trusted } else { Verdict::Untrusted }),
            None => match Peer::of(&stream) {
                Ok(peer) => {
                    let verdict = self.policy.judge(&peer);
                    (Some(peer), verdict)
                }
                Err(e) => return self.complain(&format!("error processing connection: {e}")),
            },
        };
        let user = peer.as_ref().map_or("<unknown>", |peer| peer.user.as_str());
        let pid = peer.as_ref().and_then(|peer| peer.pid);
        let shown_pid = pid.map_or("<unknown>".to_owned(), |pid| pid.to_string());
        if verdict == Verdict::Refused {
            let message = format!("user '{user}' is not allowed to connect to the Nix daemon");
            self.complain(&format!("error processing connection: {message}"));
            return refusal::refuse(stream, &message).await;
        }
        let trusted = verdict == Verdict::Trusted;
        let note = if trusted { " (trusted)" } else { "" };
        let text = format!("accepted connection from pid {shown_pid}, user {user}{note}");
        self.logger.log(Verbosity::Info, text.as_bytes());
        if let Err(e) = self.worker.run(stream, trusted, pid, &self.logger).await {
            self.complain(&format!("error processing connection: {e}"));
        }
    }

    fn complain(&self, message: &str) {
        self.logger.error(message);
    }
}

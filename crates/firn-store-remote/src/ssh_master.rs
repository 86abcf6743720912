//! One ssh connection that several others go through (`ControlMaster`): one login, one key exchange.

use crate::connect::Said;
use crate::ssh::{SshConnector, first_line, pass_lines};
use firn_store::activity::Verbosity;
use firn_store::{StoreError, StoreResult};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use tokio::process::Child;

/// A running `ssh -M`; it ends with this.
pub(crate) struct SshMaster {
    child: Child,
    /// Holds the socket.
    folder: tempfile::TempDir,
    _host_key: Option<tempfile::NamedTempFile>,
}

impl SshMaster {
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("ssh.sock")
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// The master of a connector, started when it is first wanted and again when it is gone.
#[derive(Default)]
pub struct MasterSlot(tokio::sync::Mutex<Option<SshMaster>>);

impl SshConnector {
    /// The socket of the master, which runs afterwards.
    pub(crate) async fn master_socket(&self) -> StoreResult<PathBuf> {
        let mut slot = self.master.0.lock().await;
        if let Some(master) = &mut *slot
            && master.is_alive()
        {
            return Ok(master.socket());
        }
        let master = self.start_master().await?;
        let socket = master.socket();
        *slot = Some(master);
        Ok(socket)
    }

    async fn start_master(&self) -> StoreResult<SshMaster> {
        let temporary = || std::env::temp_dir();
        let folder = tempfile::Builder::new()
            .prefix("firn-ssh")
            .tempdir()
            .map_err(|e| StoreError::io("making a folder in", temporary())(e))?;
        let (mut command, host_key) = self.ssh_command(Some(&folder.path().join("ssh.sock")))?;
        command.args(["-M", "-N"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command.stderr(if self.log.is_some() { Stdio::piped() } else { Stdio::inherit() });
        let mut child =
            command.spawn().map_err(|e| StoreError::Other(format!("unable to execute 'ssh': {e}")))?;
        let said = match (&self.log, child.stderr.take()) {
            (Some(log), Some(stderr)) => Some(pass_lines(stderr, Arc::clone(log))),
            _ => None,
        };
        let Some(mut output) = child.stdout.take() else {
            return Err(StoreError::Other("ssh has no standard streams".into()));
        };
        self.logger.pause();
        let line = first_line(&mut output).await;
        self.logger.resume();
        if line != b"started" {
            return Err(StoreError::ConnectionLost(format!(
                "failed to start SSH master connection to '{}'{}",
                self.command.target.host,
                Said::why(said).await
            )));
        }
        Ok(SshMaster { child, folder, _host_key: host_key })
    }

    /// Whether ssh is set up such that a master of the user's own runs already: then it does not say when it is
    /// connected.
    pub(crate) async fn has_own_master(&self) -> StoreResult<bool> {
        let (mut command, _host_key) = self.ssh_command(None)?;
        command.args(["-O", "check"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let status =
            command.status().await.map_err(|e| StoreError::Other(format!("unable to execute 'ssh': {e}")))?;
        if status.success() {
            self.logger.log(Verbosity::Debug, b"using a running ssh master connection");
        }
        Ok(status.success())
    }
}

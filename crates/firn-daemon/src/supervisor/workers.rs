//! One process for each connection.

use crate::status::{Phase, Status};
use firn_store::activity::Logger;
use firn_wire::Message;
use firn_wire::worker::{RemoteError, StderrMessage};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

/// What to execute: `program arguments… trusted|untrusted pid`, with the connection as standard input and the status
/// file as standard output.
pub struct WorkerCommand {
    pub program: OsString,
    /// Arguments in front of those for the connection.
    pub before: Vec<OsString>,
    /// Arguments behind them.
    pub after: Vec<OsString>,
}

/// The last lines of what a process says, in bytes.
const LAST_WORDS: usize = 4096;

impl WorkerCommand {
    pub(super) async fn run(
        &self,
        stream: UnixStream,
        trusted: bool,
        pid: Option<i32>,
        logger: &Arc<dyn Logger>,
    ) -> io::Result<()> {
        let status_file = Status::make_file()?;
        // Kept for telling the client what became of the process.
        let ours = stream.try_clone()?;
        let mut child = Command::new(&self.program)
            .args(&self.before)
            .arg(if trusted { "trusted" } else { "untrusted" })
            .arg(pid.map_or("-".to_owned(), |pid| pid.to_string()))
            .args(&self.after)
            .current_dir("/")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(stream)))
            .stdout(Stdio::from(status_file.try_clone()?))
            .stderr(Stdio::piped())
            .spawn()?;
        let mut hears = child.stderr.take().map(|stderr| tokio::spawn(pass_on(stderr)));
        let exit = child.wait().await?;
        if exit.success() {
            return Ok(());
        }
        // Some process that it started may hold the pipe open for longer.
        let said = match &mut hears {
            Some(hears) => tokio::time::timeout(Duration::from_millis(500), hears).await,
            None => Ok(Ok(Vec::new())),
        };
        let reason = reason(exit, &said.ok().and_then(Result::ok).unwrap_or_default());
        logger.error(&format!("unexpected Nix daemon error: {reason}"));
        let (version, phase) = Status::read(&status_file);
        if phase == Phase::Listening {
            let mut message = Message::new();
            StderrMessage::Error(RemoteError::new(reason, 1)).write(&mut message, version);
            tell(ours, message).await;
        }
        Ok(())
    }
}

/// Why a process ended.
fn reason(exit: ExitStatus, said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said).trim().to_owned();
    if said.contains("memory allocation of") {
        return "Nix daemon out of memory".to_owned();
    }
    let how = match (exit.signal(), exit.code()) {
        // The kernel's killer of last resort uses this one.
        (Some(9), _) => "was killed (out of memory?)".to_owned(),
        (Some(signal), _) => format!("died of signal {signal}"),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    };
    match said.is_empty() {
        true => format!("the Nix daemon's process for this connection {how}"),
        false => format!("the Nix daemon's process for this connection {how}: {said}"),
    }
}

/// Copies what a process says to our own standard error; the last of it is returned at its end.
async fn pass_on(stderr: tokio::process::ChildStderr) -> Vec<u8> {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    let mut last = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(1 << 16).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return last,
            Ok(_) => {
                let _ = io::stderr().lock().write_all(&line);
                last.extend_from_slice(&line);
                if last.len() > LAST_WORDS {
                    last.drain(..last.len() - LAST_WORDS);
                }
            }
        }
    }
}

/// Sends the last message. What the client still sends is read, so that it gets to hear it.
async fn tell(stream: UnixStream, message: Message) {
    let Ok(stream) = stream.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(stream))
    else {
        return;
    };
    let (mut input, mut output) = stream.into_split();
    let talk = async {
        tokio::io::AsyncWriteExt::write_all(&mut output, &message.0).await?;
        tokio::io::AsyncWriteExt::shutdown(&mut output).await?;
        tokio::io::copy(&mut input, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), talk).await;
}

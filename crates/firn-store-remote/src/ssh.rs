//! Connections through `ssh`.

use crate::connect::{Connector, Said, Transport};
use crate::ssh_master::MasterSlot;
use async_trait::async_trait;
use firn_core::base::base64_decode;
use firn_store::activity::{Logger, Verbosity};
use firn_store::{StoreError, StoreResult};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// Takes lines of what a remote program says on its standard error, without their newlines.
pub type LineSink = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// `[user@]host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// What ssh is told: user and host.
    pub destination: String,
    pub host: String,
    pub port: Option<u16>,
    /// As it was written.
    pub authority: String,
}

impl SshTarget {
    /// Parses and checks the part of a URI behind `://`.
    pub fn parse(authority: &str) -> StoreResult<SshTarget> {
        let bad = |why: String| StoreError::Other(format!("invalid SSH authority: '{authority}': {why}"));
        let (user, rest) = match authority.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, authority),
        };
        // An IPv6 address stands in brackets where a port can follow, and may stand without.
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':')),
            None if rest.matches(':').count() == 1 => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
            None => (rest, None),
        };
        let port = match port {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| bad(format!("port '{text}' is not a number")))?),
        };
        match user {
            Some("") => return Err(bad("user name must not be empty".into())),
            Some(user) if user.starts_with('-') => {
                return Err(bad(format!("user name '{user}' must not start with '-'")));
            }
            _ => {}
        }
        if host.is_empty() {
            return Err(bad("host name must not be empty".into()));
        }
        if host.starts_with('-') {
            return Err(bad(format!("host name '{host}' must not start with '-'")));
        }
        let destination = match user {
            Some(user) => format!("{user}@{host}"),
            None => host.to_owned(),
        };
        Ok(SshTarget { destination, host: host.to_owned(), port, authority: authority.to_owned() })
    }

    /// `localhost` stands for this machine without ssh, as tests use it.
    fn is_here(&self) -> bool {
        self.authority == "localhost"
    }
}

/// How to call ssh and what to run there.
#[derive(Debug, Clone)]
pub struct SshCommand {
    pub target: SshTarget,
    /// `ssh-key`.
    pub key: Option<String>,
    /// `base64-ssh-public-host-key`.
    pub host_key: Option<String>,
    pub compress: bool,
    /// Words of `NIX_SSHOPTS`.
    pub options: Vec<String>,
    /// The program there with its arguments.
    pub program: Vec<String>,
    pub verbose: bool,
}

impl SshCommand {
    /// Splits `NIX_SSHOPTS` as a shell would.
    pub fn split_options(text: &str) -> StoreResult<Vec<String>> {
        shlex::split(text).ok_or_else(|| {
            StoreError::Other(format!("while splitting NIX_SSHOPTS '{text}': a quote is not closed"))
        })
    }
}

/// Runs the command for each connection.
pub struct SshConnector {
    pub command: SshCommand,
    /// Where the other side's standard error goes; to ours if there is none.
    pub log: Option<LineSink>,
    pub logger: Arc<dyn Logger>,
    /// Whether all connections go through one.
    pub use_master: bool,
    pub master: MasterSlot,
}

#[async_trait]
impl Connector for SshConnector {
    async fn connect(&self) -> StoreResult<Transport> {
        let target = &self.command.target;
        let master = match self.use_master && !target.is_here() {
            true => Some(self.master_socket().await?),
            false => None,
        };
        let told_when_started = !target.is_here() && master.is_none() && !self.has_own_master().await?;
        let (mut command, host_key_file) = self.make_command(master.as_deref())?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command.stderr(match self.log {
            Some(_) => Stdio::piped(),
            None => Stdio::inherit(),
        });
        let mut child = command.spawn().map_err(|e| {
            let program = if target.is_here() { self.command.program[0].as_str() } else { "ssh" };
            let text = e.to_string();
            let why = text.split(" (os error").next().unwrap_or(&text);
            StoreError::Other(format!("unable to execute '{program}': {why}"))
        })?;
        let said = match (&self.log, child.stderr.take()) {
            (Some(log), Some(stderr)) => Some(pass_lines(stderr, Arc::clone(log))),
            _ => None,
        };
        let (Some(input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(StoreError::Other("ssh has no standard streams".into()));
        };
        if told_when_started {
            // ssh prints this once it is connected; until then it may ask for a password.
            self.logger.pause();
            let line = first_line(&mut output).await;
            self.logger.resume();
            if line != b"started" {
                let text = String::from_utf8_lossy(&line).into_owned();
                self.logger.log(Verbosity::Talkative, format!("SSH stdout first line: {text}").as_bytes());
                return Err(StoreError::ConnectionLost(format!(
                    "failed to start SSH connection to '{}'{}",
                    target.host,
                    Said::why(said).await
                )));
            }
        }
        Ok(Transport {
            input: Box::new(output),
            output: Box::new(input),
            said,
            keep: Some(Box::new(Process { _child: child, _host_key: host_key_file })),
            holds_roots: Arc::default(),
        })
    }
}

/// Lives as long as the connection; ssh ends with it.
struct Process {
    _child: Child,
    _host_key: Option<tempfile::NamedTempFile>,
}

impl SshConnector {
    fn make_command(&self, master: Option<&Path>) -> StoreResult<(Command, Option<tempfile::NamedTempFile>)> {
        let c = &self.command;
        let Some((program, arguments)) = c.program.split_first() else {
            return Err(StoreError::Other("setting 'remote-program' is empty".into()));
        };
        if c.target.is_here() {
            let mut command = Command::new(program);
            command.args(arguments);
            return Ok((command, None));
        }
        let (mut command, host_key_file) = self.ssh_command(master)?;
        command.arg("--").args(&c.program);
        Ok((command, host_key_file))
    }

    /// ssh with the host and the options for it.
    pub(crate) fn ssh_command(
        &self,
        socket: Option<&Path>,
    ) -> StoreResult<(Command, Option<tempfile::NamedTempFile>)> {
        let c = &self.command;
        let mut args: Vec<OsString> = vec![c.target.destination.clone().into(), "-x".into()];
        args.extend(c.options.iter().map(OsString::from));
        if let Some(key) = &c.key {
            args.extend(["-i".into(), key.into()]);
        }
        let mut host_key_file = None;
        if let Some(key) = &c.host_key {
            let file = write_host_key(&c.target.host, key)?;
            let mut arg = OsString::from("-oUserKnownHostsFile=");
            arg.push(file.path());
            args.push(arg);
            host_key_file = Some(file);
        }
        if c.compress {
            args.push("-C".into());
        }
        if let Some(port) = c.target.port {
            args.push(format!("-p{port}").into());
        }
        args.extend(["-oPermitLocalCommand=yes".into(), "-oLocalCommand=echo started".into()]);
        if c.verbose {
            args.push("-v".into());
        }
        if let Some(socket) = socket {
            args.extend(["-S".into(), socket.into()]);
        }
        let mut command = Command::new("ssh");
        // The local command is run by the user's shell, which may be any.
        command.args(args).env("SHELL", "/bin/sh");
        Ok((command, host_key_file))
    }
}

fn write_host_key(host: &str, key: &str) -> StoreResult<tempfile::NamedTempFile> {
    let decoded = base64_decode(key.as_bytes()).map_err(|e| {
        StoreError::Other(format!("while decoding ssh public host key for host '{host}': {e}"))
    })?;
    let write = || -> std::io::Result<tempfile::NamedTempFile> {
        use std::io::Write;
        let mut file = tempfile::Builder::new().prefix("nix-host-key").tempfile()?;
        file.write_all(host.as_bytes())?;
        file.write_all(b" ")?;
        file.write_all(&decoded)?;
        file.write_all(b"\n")?;
        file.flush()?;
        Ok(file)
    };
    write().map_err(StoreError::io("writing", std::env::temp_dir()))
}

/// Reads a line byte by byte: what follows belongs to the protocol.
pub(crate) async fn first_line(output: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut line = Vec::new();
    while let Ok(byte) = output.read_u8().await {
        if byte == b'\n' || line.len() > 4096 {
            break;
        }
        line.push(byte);
    }
    line
}

/// Hands lines on; keeps the first ones for the error of a connection that fails.
pub(crate) fn pass_lines(stderr: tokio::process::ChildStderr, log: LineSink) -> Said {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let reader = tokio::spawn(pass_lines_until_the_end(stderr, log, Arc::clone(&lines)));
    Said { lines, reader }
}

async fn pass_lines_until_the_end(
    stderr: tokio::process::ChildStderr,
    log: LineSink,
    said: Arc<Mutex<Vec<u8>>>,
) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        // Lines without end are cut, so that nothing floods the memory.
        match (&mut reader).take(1 << 16).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                if said.lock().len() < 4096 {
                    let mut said = said.lock();
                    said.extend_from_slice(text);
                    said.push(b'\n');
                }
                log(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(authority: &str, expected: &str) {
        let shown = match SshTarget::parse(authority) {
            Ok(target) => format!("{} {:?}", target.destination, target.port),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn targets() {
        check("host", "host None");
        check("root@host:22", "root@host Some(22)");
        check("[::1]:22", "::1 Some(22)");
        check("u@::1", "u@::1 None");
        check(
            "-oProxyCommand=x",
            "invalid SSH authority: '-oProxyCommand=x': host name '-oProxyCommand=x' must not start with '-'",
        );
        check("-x@host", "invalid SSH authority: '-x@host': user name '-x' must not start with '-'");
        check("@host", "invalid SSH authority: '@host': user name must not be empty");
        check("", "invalid SSH authority: '': host name must not be empty");
    }
}

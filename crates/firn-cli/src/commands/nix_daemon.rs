//! `nix-daemon`, `nix daemon`, and the processes of a daemon's connections.

use super::nix::NixCommand;
use crate::args::{FlagSink, LogFormat, LowArgs, Values, parse};
use crate::context::{Context, Start};
use crate::daemon::StoreHost;
use crate::error::{CliError, CliResult};
use firn_core::REFERENCE_VERSION;
use firn_daemon::{
    ConnectionConfig, Farewell, Output, Policy, Status, Supervisor, WorkerCommand, bind_socket,
    inherited_sockets, open_input, serve_connection,
};
use firn_settings::ExperimentalFeature;
use firn_store::activity::Verbosity;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The name by which this program is a connection's process.
pub const WORKER: &str = "__daemon-worker";

/// The command as it was written.
#[derive(Default)]
pub struct Daemon {
    stdio: bool,
    force: Option<bool>,
    /// Features that flags need.
    needed: Vec<ExperimentalFeature>,
}

impl FlagSink for Daemon {
    fn flag(&mut self, flag: &str, _: &mut Values) -> CliResult<bool> {
        let force = match flag {
            // Ignored, for older scripts.
            "--daemon" => return Ok(true),
            "--stdio" => {
                self.stdio = true;
                return Ok(true);
            }
            // Operations are always processed here: so settings and trust of this process hold.
            "--process-ops" => {
                self.needed.push(ExperimentalFeature::MountedSshStore);
                return Ok(true);
            }
            "--force-trusted" => Some(true),
            "--force-untrusted" => Some(false),
            "--default-trust" => None,
            _ => return Ok(false),
        };
        self.force = force;
        self.needed.push(ExperimentalFeature::DaemonTrustOverride);
        Ok(true)
    }
}

impl NixCommand for Daemon {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        run(&self, context)
    }

    fn feature(&self) -> Option<ExperimentalFeature> {
        Some(ExperimentalFeature::NixCommand)
    }
}

pub fn main(start: Start) -> CliResult<u8> {
    let mut daemon = Daemon::default();
    let context = start.parse(&mut daemon, HELP)?;
    run(&daemon, &context)
}

fn run(daemon: &Daemon, context: &Context) -> CliResult<u8> {
    for feature in &daemon.needed {
        context.require(*feature)?;
    }
    match daemon.stdio {
        true => stdio(daemon, context),
        false => supervise(daemon, context),
    }
}

/// One client on standard input and output. Who that is cannot be seen: whoever can start us is trusted.
fn stdio(daemon: &Daemon, context: &Context) -> CliResult<u8> {
    let input = own(std::io::stdin())?;
    let output = own(std::io::stdout())?;
    // Nobody else learns what became of it.
    match connection(context, input, output, Status::default(), daemon.force.unwrap_or(true))? {
        Ok(Farewell::Known) => Ok(0),
        Ok(Farewell::Unknown) => Err(CliError::failed("unexpected end-of-file")),
        Err(message) => Err(CliError::failed(message)),
    }
}

fn own(stream: impl AsFd) -> CliResult<OwnedFd> {
    let failed = CliError::io("duplicating", "standard input or output");
    stream.as_fd().try_clone_to_owned().map_err(failed)
}

fn connection(
    context: &Context,
    input: OwnedFd,
    output: OwnedFd,
    status: Status,
    trusted: bool,
) -> CliResult<Result<Farewell, String>> {
    let watch = input.try_clone().map_err(CliError::io("duplicating", "the connection"))?;
    let output = Arc::new(Output::new(output, status));
    let host = Arc::new(StoreHost::new(context)?);
    let config = ConnectionConfig {
        trusted,
        program_version: REFERENCE_VERSION.to_owned(),
        settings: (*context.settings).clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("starting threads: {error}")))?;
    let served = runtime.block_on(async {
        let input = open_input(input).map_err(|e| format!("reading from the client: {e}"))?;
        serve_connection(input, output, host, config, Some(watch)).await
    });
    // Threads that still wait for something are of no use to anybody.
    runtime.shutdown_background();
    Ok(served)
}

/// Accepts connections until the process is ended.
fn supervise(daemon: &Daemon, context: &Context) -> CliResult<u8> {
    let failed = |e: firn_daemon::SupervisorError| CliError::failed(e.to_string());
    let mut sockets = inherited_sockets().map_err(failed)?;
    if sockets.is_empty() {
        sockets.push(bind_socket(&context.settings.dirs.daemon_socket).map_err(failed)?);
    }
    if context.settings.use_cgroups {
        firn_build::make_room_for_builds().map_err(CliError::io("making the cgroup", "nix-daemon"))?;
    }
    let program = std::env::current_exe().map_err(CliError::io("finding", "/proc/self/exe"))?;
    let supervisor = Supervisor {
        policy: Policy::new(&context.settings, daemon.force),
        worker: WorkerCommand {
            program: program.into(),
            before: vec![WORKER.into()],
            // The flags that this process was given hold for the connections too.
            after: std::env::args_os().skip(1).collect(),
        },
        logger: Arc::clone(&context.logger),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("starting the daemon: {error}")))?;
    runtime.block_on(async {
        let stop = async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Ok::<(), std::io::Error>(())
        };
        tokio::select! {
            ended = supervisor.run(sockets) => ended.map_err(failed),
            stopped = stop => stopped.map_err(|e| CliError::failed(format!("waiting for signals: {e}"))),
        }
    })?;
    // Connections go on by themselves.
    Ok(0)
}

/// The process of one connection: `trusted|untrusted PID`, then the daemon's own arguments.
pub fn worker(start: Start) -> CliResult<u8> {
    let mut args = start.args.into_iter();
    let trusted = args.next().is_some_and(|word| word == "trusted");
    let _pid = args.next();
    let mut low = LowArgs::default();
    // `nix daemon` has its words among them.
    let rest: Vec<OsString> = args.collect();
    let is_nix = rest.iter().any(|word| word == "daemon");
    if is_nix {
        low = LowArgs::nix();
    }
    parse(rest, &mut low, &mut AnyWords(Daemon::default()))?;
    let context =
        Context::resolve("nix-daemon", &low, start.settings, LogFormat::RawWithLogs, Verbosity::Info)?;
    let socket = own(std::io::stdin())?;
    let answers = socket.try_clone().map_err(CliError::io("duplicating", "the connection"))?;
    let status = Status::new(own(std::io::stdout())?.into());
    // The client was told already.
    if let Err(message) = connection(&context, socket, answers, status, trusted)? {
        context.logger.log(Verbosity::Error, format!("error processing connection: {message}").as_bytes());
    }
    Ok(0)
}

/// The daemon's flags, with whatever words.
struct AnyWords(Daemon);

impl FlagSink for AnyWords {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.0.flag(flag, values)
    }
    fn positional(&mut self, _: OsString) -> CliResult<()> {
        Ok(())
    }
}

pub const HELP: &str = "
Usage: nix-daemon [--stdio] [OPTIONS...]

Serves the store to users who cannot write it themselves, on the socket that NIX_DAEMON_SOCKET_PATH or systemd names.

  --stdio            serve one client on standard input and output
  --force-trusted    trust every client (needs the experimental feature daemon-trust-override)
  --force-untrusted  trust no client
  --default-trust    trust as 'trusted-users' says
";

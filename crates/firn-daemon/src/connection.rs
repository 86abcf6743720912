//! One connection in the worker protocol: greeting, then operation after operation.

use crate::error::{OpError, OpResult, refuse};
use crate::host::{Host, Stores};
use crate::input::Input;
use crate::ops;
use crate::options::apply_options;
use crate::output::Output;
use crate::output_ids::OutputIds;
use firn_settings::Settings;
use firn_store::activity::{Logger, Verbosity};
use firn_store::{StoreError, StoreResult, Trust};
use firn_wire::worker::handshake::features;
use firn_wire::worker::{
    ClientGreeting, ClientOptions, Op, Protocol, ServerInfo, Version, read_client_greeting, server_greeting,
};
use firn_wire::{Message, WireError};
use futures::FutureExt;
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What is known of the connection beforehand.
pub struct ConnectionConfig {
    pub trusted: bool,
    /// The version that the client is told.
    pub program_version: String,
    /// Before the client changes any.
    pub settings: Settings,
}

/// How long builds may take to end after the client is gone.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// Settings may be changed so often while temporary roots of earlier ones are held.
const MAX_HELD: usize = 64;

/// How a client went that broke no rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// Before it had greeted.
    Unknown,
    Known,
}

/// Serves one client until it is gone. `Err` is what the daemon's own log should know.
pub async fn serve_connection(
    mut input: Input,
    output: Arc<Output>,
    host: Arc<dyn Host>,
    config: ConnectionConfig,
    watch: Option<OwnedFd>,
) -> Result<Farewell, String> {
    let protocol = match greet(&mut input, &output).await {
        Ok(protocol) => protocol,
        Err(e) if e.is_disconnect() => return Ok(Farewell::Unknown),
        Err(e) => return Err(e.to_string()),
    };
    let gone = CancellationToken::new();
    if let Some(fd) = watch {
        let gone = gone.clone();
        std::thread::spawn(move || {
            // Neither reading nor writing is asked for: only the end of the connection wakes this.
            while matches!(
                poll(&mut [PollFd::new(&fd, PollFlags::empty())], None),
                Err(rustix::io::Errno::INTR)
            ) {}
            gone.cancel();
        });
    }
    let logger: Arc<dyn Logger> = Arc::clone(&output) as _;
    let mut session = Session {
        input,
        output,
        logger,
        host,
        trusted: config.trusted,
        base: config.settings.clone(),
        settings: config.settings,
        options: None,
        stores: None,
        held: Vec::new(),
        has_roots: false,
        version: protocol.version,
        ids: OutputIds::default(),
    };
    if let Err(e) = session.introduce(config.program_version).await {
        return if e.is_disconnect() { Ok(Farewell::Unknown) } else { Err(e.to_string()) };
    }
    loop {
        let number = tokio::select! {
            biased;
            number = session.input.u64_or_end() => number,
            () = gone.cancelled() => return Ok(Farewell::Known),
        };
        let op = match number {
            Ok(Some(number)) => Op::from_number(number).ok_or(number),
            Ok(None) => return Ok(Farewell::Known),
            Err(e) if e.is_disconnect() => return Ok(Farewell::Known),
            Err(e) => return Err(e.to_string()),
        };
        let done = match op {
            Err(number) => Err(OpError::Wire(WireError::Invalid(format!("invalid operation {number}")))),
            Ok(op) => session.perform_or_leave(op, &gone).await,
        };
        match done {
            Ok(()) => {}
            Err(OpError::Store(error)) if session.output.is_working() => session.output.fail(&error),
            Err(error) => return session.end(error).map(|()| Farewell::Known),
        }
        if session.output.finish().is_err() {
            return Ok(Farewell::Known);
        }
    }
}

async fn greet(input: &mut Input, output: &Output) -> Result<Protocol, WireError> {
    read_client_greeting(input).await?;
    output.send(&server_greeting(Version::LATEST))?;
    output.flush()?;
    let version = ClientGreeting::read(input).await?.version;
    output.set_version(version);
    let protocol = Protocol::read_features(input, version).await?;
    if version.has(38) {
        output.send(&features())?;
        output.flush()?;
    }
    // Obsolete: the processor to run on, and whether to reserve space.
    if input.bool().await? {
        input.u64().await?;
    }
    input.u64().await?;
    Ok(protocol)
}

/// A connection after the greeting.
pub(crate) struct Session {
    pub input: Input,
    pub output: Arc<Output>,
    pub logger: Arc<dyn Logger>,
    host: Arc<dyn Host>,
    pub trusted: bool,
    base: Settings,
    pub settings: Settings,
    options: Option<ClientOptions>,
    stores: Option<Stores>,
    /// Stores under earlier settings, whose temporary roots the client counts on.
    held: Vec<Stores>,
    pub has_roots: bool,
    pub version: Version,
    pub ids: OutputIds,
}

impl Session {
    async fn introduce(&mut self, program_version: String) -> Result<(), WireError> {
        let opened = match self.stores() {
            // A store behind us may not trust us.
            Ok(stores) => stores.store.is_trusted().await,
            Err(e) => Err(e),
        };
        let trusted = match (self.trusted, &opened) {
            (false, _) => Some(false),
            (true, Ok(trust)) => trust.map(|trust| trust == Trust::Trusted),
            (true, Err(_)) => None,
        };
        let info = ServerInfo { program_version: Some(program_version), trusted };
        self.output.send(&info.write(self.version))?;
        self.output.start_work()?;
        match opened {
            Ok(_) => self.output.stop_work(),
            Err(error) => {
                self.output.fail(&error);
                self.output.flush()?;
                return Err(WireError::Invalid(error.to_string()));
            }
        }
        self.output.finish()?;
        Ok(())
    }

    /// The stores under the settings that hold now.
    pub fn stores(&mut self) -> StoreResult<Stores> {
        if let Some(stores) = &self.stores {
            return Ok(stores.clone());
        }
        let stores = self.host.open(&self.settings, &self.logger)?;
        self.stores = Some(stores.clone());
        Ok(stores)
    }

    /// Takes over a client's settings.
    pub fn set_options(&mut self, options: ClientOptions) -> OpResult<()> {
        self.output.set_verbosity(Verbosity::from_number(options.verbosity));
        if self.options.as_ref() == Some(&options) {
            return Ok(());
        }
        let mut settings = self.base.clone();
        let logger = Arc::clone(&self.logger);
        apply_options(&mut settings, &options, self.trusted, &mut |text| logger.warn(text));
        self.settings = settings;
        self.options = Some(options);
        if let Some(stores) = self.stores.take()
            && self.has_roots
        {
            if self.held.len() >= MAX_HELD {
                return Err(refuse("settings were changed too often on this connection"));
            }
            self.held.push(stores);
        }
        Ok(())
    }

    /// Performs an operation, unless the client goes away meanwhile: then builds are ended first.
    async fn perform_or_leave(&mut self, op: Op, gone: &CancellationToken) -> OpResult<()> {
        let cancel = self.stores.as_ref().map(|stores| stores.cancel.clone()).unwrap_or_default();
        let mut work = Box::pin(AssertUnwindSafe(ops::perform(self, op)).catch_unwind());
        let result = tokio::select! {
            biased;
            result = &mut work => result,
            () = gone.cancelled() => {
                cancel.cancel();
                // Bounded, since a client that is gone needs nothing.
                match tokio::time::timeout(LAST_WORDS, &mut work).await {
                    Ok(result) => result,
                    Err(_) => Ok(Err(OpError::Wire(WireError::Eof))),
                }
            }
        };
        drop(work);
        match result {
            Ok(result) => result,
            Err(panic) => {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("unknown reason");
                // What is left of the request is not known any more.
                Err(OpError::Wire(WireError::Invalid(format!(
                    "the Nix daemon has a bug and gave up: {text}"
                ))))
            }
        }
    }

    /// The connection ends because of `error`, which the client is told if it can be.
    fn end(&self, error: OpError) -> Result<(), String> {
        let gone = matches!(&error, OpError::Wire(e) if e.is_disconnect());
        let text = error.to_string();
        self.output.fail(&match error {
            OpError::Store(error) => error,
            OpError::Wire(error) => StoreError::Other(error.to_string()),
        });
        match self.output.finish() {
            Ok(()) if !gone => Err(text),
            _ => Ok(()),
        }
    }

    /// The operation's arguments are complete.
    pub fn start(&self) -> OpResult<()> {
        Ok(self.output.start_work()?)
    }

    /// The operation is done, with this result.
    pub fn answer(&self, message: &Message) -> OpResult<()> {
        self.output.stop_work();
        Ok(self.output.send(message)?)
    }
}

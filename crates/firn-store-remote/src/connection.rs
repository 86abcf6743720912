//! One connection in the worker protocol.

use crate::connect::{Said, Transport};
use crate::error::{Failure, Outcome};
use firn_store::activity::{ActivityStart, ActivityType, Field as LogField, Logger, ResultType, Verbosity};
use firn_store::{NarSource, StoreError, StoreResult};
use firn_wire::worker::handshake::features;
use firn_wire::worker::{
    Field, Protocol, RemoteError, ServerInfo, StderrMessage, Version, client_greeting, read_server_greeting,
};
use firn_wire::{Message, WireError, WireReader};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) type Input = WireReader<Box<dyn AsyncRead + Send + Unpin>>;
pub(crate) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// What was learnt when the connection was made.
#[derive(Debug, Clone)]
pub struct Handshake {
    pub protocol: Protocol,
    pub server: ServerInfo,
}

pub(crate) struct Connection {
    pub input: Input,
    pub output: Output,
    pub handshake: Handshake,
    pub since: Instant,
    /// Whether the daemon holds roots for this connection.
    pub holds_roots: Arc<AtomicBool>,
    pub _keep: Option<Box<dyn Any + Send>>,
}

impl Connection {
    /// Greets. `uri` is for errors.
    pub async fn open(transport: Transport, uri: &str, logger: &dyn Logger) -> StoreResult<Connection> {
        let fail = |e: String| {
            StoreError::ConnectionLost(format!("cannot open connection to remote store '{uri}': {e}"))
        };
        let mut input = WireReader::new(transport.input);
        let mut output = transport.output;
        let mut first = Vec::new();
        let handshake = match greet(&mut input, &mut output, &mut first).await {
            Ok(handshake) => handshake,
            Err(WireError::Invalid(message)) if message == "protocol mismatch" => {
                // Something else speaks: a shell's greeting, an error message.
                drop(output);
                let rest = input.read_to_end(&mut first);
                let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
                first.truncate(4096);
                let text = String::from_utf8_lossy(&first);
                return Err(fail(format!("error: protocol mismatch, got '{}'", text.trim_end())));
            }
            Err(e) if e.is_disconnect() => {
                let why = Said::why(transport.said).await;
                return Err(fail(format!(
                    "error: Nix daemon disconnected unexpectedly (maybe it crashed?){why}"
                )));
            }
            Err(e) => return Err(fail(format!("error: {e}"))),
        };
        let mut connection = Connection {
            input,
            output,
            handshake,
            since: Instant::now(),
            holds_roots: transport.holds_roots,
            _keep: transport.keep,
        };
        connection.stderr(logger, None).await.map_err(|e| fail(format!("error: {}", StoreError::from(e))))?;
        Ok(connection)
    }

    pub fn version(&self) -> Version {
        self.handshake.protocol.version
    }

    pub async fn send(&mut self, message: &Message) -> Outcome<()> {
        self.output.write_all(&message.0).await?;
        Ok(self.output.flush().await?)
    }

    /// The daemon is asked for something that it holds roots for.
    pub fn will_hold_roots(&self) {
        self.holds_roots.store(true, Ordering::Relaxed);
    }

    /// Sends a request and takes in what the daemon says up to its result.
    pub async fn exchange(&mut self, message: &Message, logger: &dyn Logger) -> Outcome<()> {
        let sent = self.send(message).await;
        let said = self.stderr(logger, None).await;
        match (sent, said) {
            // A daemon that went away may have said why.
            (_, Err(Failure::Remote(error))) => Err(Failure::Remote(error)),
            (Err(e), _) => Err(e),
            (Ok(()), said) => said,
        }
    }

    /// Takes in messages up to the last one. `source` is what older daemons read from.
    pub async fn stderr(&mut self, logger: &dyn Logger, mut source: Option<NarSource<'_>>) -> Outcome<()> {
        let version = self.version();
        loop {
            match StderrMessage::read(&mut self.input, version).await? {
                StderrMessage::Last => return Ok(()),
                StderrMessage::Read(wanted) => {
                    let Some(source) = source.as_mut() else {
                        return Err(WireError::Invalid("no source".into()).into());
                    };
                    let mut data = vec![0; usize::try_from(wanted).unwrap_or(usize::MAX).min(1 << 20)];
                    let n = source.read(&mut data).await.map_err(|e| Failure::Store(read_error(e)))?;
                    let mut message = Message::new();
                    message.bytes(&data[..n]);
                    self.send(&message).await?;
                }
                StderrMessage::Error(error) => return Err(refused(error, version)),
                other => show(other, logger)?,
            }
        }
    }

    /// Whether nothing was sent unasked and the other side is still there.
    pub async fn is_idle(&mut self) -> bool {
        if self.input.has_data() {
            return false;
        }
        let pending = std::future::poll_fn(|cx| {
            let fill = std::pin::pin!(self.input.fill_buf());
            std::task::Poll::Ready(fill.poll(cx).is_pending())
        });
        pending.await
    }
}

/// The daemon refused. Those that do not know dependencies on dynamic derivations do not understand their text.
fn refused(mut error: RemoteError, version: Version) -> Failure {
    let says = |text: &str| error.message.windows(text.len()).any(|part| part == text.as_bytes());
    if !version.has(36) && says("parsing derivation") && says("expected string") && says("Derive([") {
        error.message.extend_from_slice(
            b", this might be because the daemon is too old to understand dependencies on dynamic derivations. \
              Check to see if the raw derivation is in the form 'Drv WithVersion(..)'",
        );
    }
    Failure::Remote(error)
}

/// An error of what is to be sent.
pub(crate) fn read_error(error: std::io::Error) -> StoreError {
    firn_nar::NarError::read(error).into()
}

/// Reads messages up to the last, from a connection whose other direction is in use.
pub(crate) async fn stderr_of(input: &mut Input, version: Version, logger: &dyn Logger) -> Outcome<()> {
    loop {
        match StderrMessage::read(input, version).await? {
            StderrMessage::Last => return Ok(()),
            StderrMessage::Error(error) => return Err(refused(error, version)),
            StderrMessage::Read(_) => return Err(WireError::Invalid("no source".into()).into()),
            other => show(other, logger)?,
        }
    }
}

async fn greet(input: &mut Input, output: &mut Output, first: &mut Vec<u8>) -> Result<Handshake, WireError> {
    let sent = async {
        output.write_all(&client_greeting(Version::LATEST).0).await?;
        output.flush().await
    };
    let sent = sent.await;
    input.fill_buf().await?;
    // Who does not listen may still have said why.
    if input.at_hand().is_empty() {
        sent?;
    }
    first.extend_from_slice(input.at_hand());
    let taken = input.at_hand().len();
    let version = read_server_greeting(input, Version::LATEST).await.inspect_err(|_| {
        // What is still at hand will be read again.
        first.truncate(taken.saturating_sub(input.at_hand().len()));
    })?;
    let mut message = Message::new();
    if version.has(38) {
        message = features();
    }
    let own_features = message.0.len();
    if own_features > 0 {
        output.write_all(&message.0).await?;
        output.flush().await?;
    }
    let protocol = Protocol::read_features(input, version).await?;
    // Obsolete: the processor to run on, and whether to reserve space.
    let mut message = Message::new();
    message.num(0u64).num(0u64);
    output.write_all(&message.0).await?;
    output.flush().await?;
    let server = ServerInfo::read(input, version).await?;
    Ok(Handshake { protocol, server })
}

/// Gives a message to the logger.
fn show(message: StderrMessage, logger: &dyn Logger) -> Result<(), WireError> {
    match message {
        StderrMessage::Next(line) => logger.log(Verbosity::Error, line.trim_ascii_end()),
        StderrMessage::StartActivity { id, level, kind, text, fields, parent } => {
            logger.start(&ActivityStart {
                id,
                level: Verbosity::from_number(level),
                kind: ActivityType::from_number(kind),
                text: &String::from_utf8_lossy(&text),
                fields: &log_fields(fields),
                parent,
            });
        }
        StderrMessage::StopActivity(id) => logger.stop(id),
        StderrMessage::Result { id, kind, fields } => {
            // Kinds that are not known yet mean nothing here.
            if let Some(kind) = ResultType::from_number(kind) {
                logger.result(id, kind, &log_fields(fields));
            }
        }
        StderrMessage::Write(_) => return Err(WireError::Invalid("no sink".into())),
        StderrMessage::Read(_) | StderrMessage::Last | StderrMessage::Error(_) => {}
    }
    Ok(())
}

fn log_fields(fields: Vec<Field>) -> Vec<LogField> {
    fields
        .into_iter()
        .map(|field| match field {
            Field::Int(number) => LogField::Int(number),
            Field::Text(text) => LogField::Text(text),
        })
        .collect()
}

//! What a daemon says while it works.

use super::Version;
use crate::error::{WireError, WireResult};
use crate::read::WireReader;
use crate::write::Message;
use tokio::io::AsyncRead;

const NEXT: u64 = 0x6f6c_6d67;
const READ: u64 = 0x6461_7461;
const WRITE: u64 = 0x6461_7416;
const LAST: u64 = 0x616c_7473;
const ERROR: u64 = 0x6378_7470;
const START_ACTIVITY: u64 = 0x5354_5254;
const STOP_ACTIVITY: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;

/// One field of an activity or result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Int(u64),
    Text(Vec<u8>),
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteError {
    pub level: u64,
    pub message: Vec<u8>,
    /// Further lines of context, newest first (from 1.26).
    pub traces: Vec<Vec<u8>>,
    /// The exit status that it leads to (before 1.26); 1 where it is not told.
    pub status: u32,
}

impl RemoteError {
    pub fn new(message: impl Into<Vec<u8>>, status: u32) -> RemoteError {
        RemoteError { level: 0, message: message.into(), traces: Vec::new(), status }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StderrMessage {
    /// A line for the user, with its newline.
    Next(Vec<u8>),
    /// The daemon wants so many bytes of what the client adds (before 1.23).
    Read(u64),
    /// Data for the client (of no version that is spoken here).
    Write(Vec<u8>),
    /// The result follows.
    Last,
    /// There is no result.
    Error(RemoteError),
    StartActivity {
        id: u64,
        level: u64,
        kind: u64,
        text: Vec<u8>,
        fields: Vec<Field>,
        parent: u64,
    },
    StopActivity(u64),
    Result {
        id: u64,
        kind: u64,
        fields: Vec<Field>,
    },
}

impl StderrMessage {
    pub fn write(&self, message: &mut Message, version: Version) {
        match self {
            StderrMessage::Next(line) => message.num(NEXT).bytes(line),
            StderrMessage::Read(len) => message.num(READ).num(*len),
            StderrMessage::Write(data) => message.num(WRITE).bytes(data),
            StderrMessage::Last => message.num(LAST),
            StderrMessage::Error(error) => {
                message.num(ERROR);
                write_error(message, error, version)
            }
            StderrMessage::StartActivity { id, level, kind, text, fields, parent } => {
                message.num(START_ACTIVITY).num(*id).num(*level).num(*kind).bytes(text);
                write_fields(message, fields).num(*parent)
            }
            StderrMessage::StopActivity(id) => message.num(STOP_ACTIVITY).num(*id),
            StderrMessage::Result { id, kind, fields } => {
                message.num(RESULT).num(*id).num(*kind);
                write_fields(message, fields)
            }
        };
    }

    pub async fn read<R: AsyncRead + Unpin>(
        input: &mut WireReader<R>,
        version: Version,
    ) -> WireResult<StderrMessage> {
        input.start_message(crate::read::DEFAULT_BUDGET);
        Ok(match input.u64().await? {
            NEXT => StderrMessage::Next(input.bytes().await?),
            READ => StderrMessage::Read(input.u64().await?),
            WRITE => StderrMessage::Write(input.bytes().await?),
            LAST => StderrMessage::Last,
            ERROR => StderrMessage::Error(read_error(input, version).await?),
            START_ACTIVITY => StderrMessage::StartActivity {
                id: input.u64().await?,
                level: input.u64().await?,
                kind: input.u64().await?,
                text: input.bytes().await?,
                fields: read_fields(input).await?,
                parent: input.u64().await?,
            },
            STOP_ACTIVITY => StderrMessage::StopActivity(input.u64().await?),
            RESULT => StderrMessage::Result {
                id: input.u64().await?,
                kind: input.u64().await?,
                fields: read_fields(input).await?,
            },
            other => {
                return Err(WireError::Invalid(format!(
                    "got unknown message type {other:x} from Nix daemon"
                )));
            }
        })
    }
}

fn write_error<'a>(message: &'a mut Message, error: &RemoteError, version: Version) -> &'a mut Message {
    if !version.has(26) {
        return message.bytes(&error.message).num(error.status);
    }
    // The second word was the error's name once; the zeros say that there are no positions.
    message.bytes("Error").num(error.level).bytes("Error").bytes(&error.message).num(0u64);
    message.count(error.traces.len());
    for trace in &error.traces {
        message.num(0u64).bytes(trace);
    }
    message
}

async fn read_error<R: AsyncRead + Unpin>(
    input: &mut WireReader<R>,
    version: Version,
) -> WireResult<RemoteError> {
    if !version.has(26) {
        let message = input.bytes().await?;
        return Ok(RemoteError {
            level: 0,
            message,
            traces: Vec::new(),
            status: input.number("a status").await?,
        });
    }
    if input.bytes().await? != b"Error" {
        return Err(WireError::Invalid("got an unknown type of error from Nix daemon".into()));
    }
    let level = input.u64().await?;
    input.bytes().await?;
    let message = input.bytes().await?;
    no_position(input).await?;
    let mut traces = Vec::new();
    for _ in 0..input.count().await? {
        no_position(input).await?;
        traces.push(input.bytes().await?);
    }
    Ok(RemoteError { level, message, traces, status: 1 })
}

async fn no_position<R: AsyncRead + Unpin>(input: &mut WireReader<R>) -> WireResult<()> {
    match input.u64().await? {
        0 => Ok(()),
        _ => Err(WireError::Invalid("got an error with a position from Nix daemon".into())),
    }
}

fn write_fields<'a>(message: &'a mut Message, fields: &[Field]) -> &'a mut Message {
    message.count(fields.len());
    for field in fields {
        match field {
            Field::Int(number) => message.num(0u64).num(*number),
            Field::Text(text) => message.num(1u64).bytes(text),
        };
    }
    message
}

async fn read_fields<R: AsyncRead + Unpin>(input: &mut WireReader<R>) -> WireResult<Vec<Field>> {
    let mut fields = Vec::new();
    for _ in 0..input.count().await? {
        fields.push(match input.u64().await? {
            0 => Field::Int(input.u64().await?),
            1 => Field::Text(input.bytes().await?),
            other => {
                return Err(WireError::Invalid(format!(
                    "got unsupported field type {other:x} from Nix daemon"
                )));
            }
        });
    }
    Ok(fields)
}

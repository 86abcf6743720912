//! The greeting.

use super::{FEATURES, Protocol, Version};
use crate::error::{WireError, WireResult};
use crate::read::WireReader;
use crate::write::Message;
use std::collections::BTreeSet;
use tokio::io::AsyncRead;

const CLIENT_MAGIC: u64 = 0x6e69_7863;
const SERVER_MAGIC: u64 = 0x6478_696f;

/// Memory that a greeting may take.
const BUDGET: usize = 64 * 1024;

/// What a client says first.
pub fn client_greeting(version: Version) -> Message {
    let mut message = Message::new();
    message.num(CLIENT_MAGIC).num(version.0);
    message
}

/// What a daemon answers to the magic.
pub fn server_greeting(version: Version) -> Message {
    let mut message = Message::new();
    message.num(SERVER_MAGIC).num(version.0);
    message
}

/// Features of this side, for versions that have them.
pub fn features() -> Message {
    let mut message = Message::new();
    message.strings(FEATURES);
    message
}

async fn version<R: AsyncRead + Unpin>(input: &mut WireReader<R>) -> WireResult<Version> {
    Ok(Version((input.u64().await? & 0xffff) as u16))
}

/// The magic and the version of a client.
pub struct ClientGreeting {
    pub version: Version,
}

/// Reads a client's magic; its version follows only after the answer.
pub async fn read_client_greeting<R: AsyncRead + Unpin>(input: &mut WireReader<R>) -> WireResult<()> {
    input.start_message(BUDGET);
    match input.u64().await? {
        CLIENT_MAGIC => Ok(()),
        _ => Err(WireError::Invalid("protocol mismatch".into())),
    }
}

impl ClientGreeting {
    pub async fn read<R: AsyncRead + Unpin>(input: &mut WireReader<R>) -> WireResult<ClientGreeting> {
        let version = version(input).await?;
        if version.major() != Version::LATEST.major() || version < Version::MINIMUM {
            return Err(WireError::Invalid("the Nix client version is too old".into()));
        }
        Ok(ClientGreeting { version: version.min(Version::LATEST) })
    }
}

/// Reads a daemon's answer: the version that both sides speak.
pub async fn read_server_greeting<R: AsyncRead + Unpin>(
    input: &mut WireReader<R>,
    ours: Version,
) -> WireResult<Version> {
    input.start_message(BUDGET);
    if input.u64().await? != SERVER_MAGIC {
        return Err(WireError::Invalid("protocol mismatch".into()));
    }
    let theirs = version(input).await?;
    if theirs.major() != Version::LATEST.major() {
        return Err(WireError::Invalid("Nix daemon protocol version not supported".into()));
    }
    if theirs < Version::MINIMUM {
        return Err(WireError::Invalid("the Nix daemon version is too old".into()));
    }
    Ok(theirs.min(ours))
}

impl Protocol {
    /// Reads the other side's features; what both have is agreed on.
    pub async fn read_features<R: AsyncRead + Unpin>(
        input: &mut WireReader<R>,
        version: Version,
    ) -> WireResult<Protocol> {
        let mut features = BTreeSet::new();
        if version.has(38) {
            let theirs: BTreeSet<String> = input.texts("a feature").await?;
            features.extend(theirs.into_iter().filter(|name| FEATURES.contains(&name.as_str())));
        }
        Ok(Protocol { version, features })
    }
}

/// What a daemon tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// The version of its program (from 1.33).
    pub program_version: Option<String>,
    /// Whether it trusts the client, where it says so (from 1.35).
    pub trusted: Option<bool>,
}

impl ServerInfo {
    pub fn write(&self, version: Version) -> Message {
        let mut message = Message::new();
        if version.has(33) {
            message.bytes(self.program_version.as_deref().unwrap_or_default());
        }
        if version.has(35) {
            message.num(match self.trusted {
                None => 0u64,
                Some(true) => 1,
                Some(false) => 2,
            });
        }
        message
    }

    pub async fn read<R: AsyncRead + Unpin>(
        input: &mut WireReader<R>,
        version: Version,
    ) -> WireResult<ServerInfo> {
        let mut info = ServerInfo::default();
        if version.has(33) {
            info.program_version = Some(input.text("the daemon's version").await?);
        }
        if version.has(35) {
            info.trusted = match input.u64().await? {
                0 => None,
                1 => Some(true),
                2 => Some(false),
                _ => return Err(WireError::Invalid("Invalid trusted status from remote".into())),
            };
        }
        Ok(info)
    }
}

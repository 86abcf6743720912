//! The greeting, and what differs from the worker protocol.

use super::Version;
use crate::error::{WireError, WireResult};
use crate::read::WireReader;
use crate::worker::BuildResult;
use crate::write::Message;
use firn_core::raw_text;
use firn_core::{Hash, HashFormat, StoreDir, StorePath, ValidPathInfo};
use tokio::io::AsyncRead;

const CLIENT_MAGIC: u64 = 0x390c_9deb;
const SERVER_MAGIC: u64 = 0x5452_eecb;

pub fn client_greeting(version: Version) -> Message {
    let mut message = Message::new();
    message.num(CLIENT_MAGIC).num(version.0);
    message
}

pub fn server_greeting(version: Version) -> Message {
    let mut message = Message::new();
    message.num(SERVER_MAGIC).num(version.0);
    message
}

pub async fn read_client_magic<R: AsyncRead + Unpin>(input: &mut WireReader<R>) -> WireResult<()> {
    match input.u64().await? {
        CLIENT_MAGIC => Ok(()),
        _ => Err(WireError::Invalid("protocol mismatch".into())),
    }
}

/// The version that both sides speak, as the server learns it.
pub async fn read_client_version<R: AsyncRead + Unpin>(input: &mut WireReader<R>) -> WireResult<Version> {
    Ok(Version((input.u64().await? & 0xffff) as u16).min(Version::LATEST))
}

/// The version that both sides speak, as the client learns it. `host` is for errors.
pub async fn read_server_greeting<R: AsyncRead + Unpin>(
    input: &mut WireReader<R>,
    host: &str,
) -> WireResult<Version> {
    if input.u64().await? != SERVER_MAGIC {
        return Err(WireError::Invalid(format!("'nix-store --serve' protocol mismatch from '{host}'")));
    }
    let theirs = Version((input.u64().await? & 0xffff) as u16);
    if theirs.major() != 2 || theirs < Version::MINIMUM_SERVER {
        return Err(WireError::Invalid(format!(
            "unsupported 'nix-store --serve' protocol version on '{host}'"
        )));
    }
    Ok(theirs.min(Version::LATEST))
}

/// How builds are to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// Seconds; 0 for no limit.
    pub max_silent_time: u64,
    pub build_timeout: u64,
    /// Bytes; 0 for no limit (from 2.2).
    pub max_log_size: u64,
    /// Builds are repeated so often (from 2.3). Nobody does that any more.
    pub repeats: u64,
    pub enforce_determinism: bool,
    /// From 2.7.
    pub keep_failed: bool,
}

impl BuildOptions {
    pub fn write(&self, message: &mut Message, version: Version) {
        message.num(self.max_silent_time).num(self.build_timeout);
        if version.has(2) {
            message.num(self.max_log_size);
        }
        if version.has(3) {
            message.num(self.repeats).num(self.enforce_determinism);
        }
        if version.has(7) {
            message.num(self.keep_failed);
        }
    }

    pub async fn read<R: AsyncRead + Unpin>(
        input: &mut WireReader<R>,
        version: Version,
    ) -> WireResult<BuildOptions> {
        let mut options = BuildOptions {
            max_silent_time: input.u64().await?,
            build_timeout: input.u64().await?,
            ..BuildOptions::default()
        };
        if version.has(2) {
            options.max_log_size = input.u64().await?;
        }
        if version.has(3) {
            options.repeats = input.u64().await?;
            options.enforce_determinism = input.bool().await?;
        }
        if version.has(7) {
            options.keep_failed = input.bool().await?;
        }
        Ok(options)
    }
}

pub fn write_build_result(message: &mut Message, result: &BuildResult, version: Version) {
    message.num(result.status).bytes(raw_text::restore(&result.error));
    if version.has(3) {
        result.write_times(message);
    }
    if version.has(6) {
        result.write_outputs(message);
    }
}

pub async fn read_build_result<R: AsyncRead + Unpin>(
    input: &mut WireReader<R>,
    version: Version,
) -> WireResult<BuildResult> {
    let mut result = BuildResult::read_status(input).await?;
    if version.has(3) {
        result.read_times(input).await?;
    }
    if version.has(6) {
        result.read_outputs(input).await?;
    }
    Ok(result)
}

/// Writes what is known of a path, without the path itself.
pub fn write_path_info(message: &mut Message, dir: &StoreDir, info: &ValidPathInfo, version: Version) {
    message.opt_path(dir, info.deriver.as_ref()).paths(dir, &info.references);
    // The first is the size of the download, which nobody knows.
    message.num(info.nar_size).num(info.nar_size);
    if version.has(4) {
        message
            .bytes(info.nar_hash.to_prefixed(HashFormat::Nix32))
            .content_address(info.ca.as_ref())
            .strings(&info.signatures);
    }
}

/// Reads what is known of `path`.
pub async fn read_path_info<R: AsyncRead + Unpin>(
    input: &mut WireReader<R>,
    dir: &StoreDir,
    path: StorePath,
    version: Version,
) -> WireResult<ValidPathInfo> {
    let mut info = ValidPathInfo::new(path, Hash::dummy(), 0);
    info.deriver = input.opt_path(dir).await?;
    info.references = input.paths(dir).await?;
    input.u64().await?;
    info.nar_size = input.u64().await?;
    if version.has(4) {
        let hash = input.text("a hash").await?;
        if !hash.is_empty() {
            info.nar_hash = Hash::parse_any_prefixed(&hash)?;
        }
        info.ca = input.opt_content_address().await?;
        info.signatures = input.texts("a signature").await?;
    }
    Ok(info)
}

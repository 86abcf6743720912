//! Arguments of operations that differ by version.

use super::Version;
use crate::error::{WireError, WireResult};
use crate::read::WireReader;
use crate::values::{parse_path_with_outputs, render_path_with_outputs};
use crate::write::Message;
use firn_core::{DerivedPath, StoreDir};
use std::collections::BTreeMap;
use tokio::io::AsyncRead;

/// Writes what is to be built. Fails where an older version cannot say that.
pub fn write_derived_path(
    message: &mut Message,
    dir: &StoreDir,
    path: &DerivedPath,
    version: Version,
) -> WireResult<()> {
    if version.has(30) {
        message.bytes(path.render_legacy(dir));
        return Ok(());
    }
    match render_path_with_outputs(dir, path) {
        Some(text) => {
            message.bytes(text);
            Ok(())
        }
        None => Err(WireError::Invalid(match path {
            DerivedPath::Opaque(path) => format!(
                "trying to request '{}', but daemon protocol {version} is too old (< 1.29) to request a derivation file",
                dir.display(path)
            ),
            DerivedPath::Built { .. } => {
                "wanted to build a derivation that is itself a build product, but protocols do not \
                 support that. Try upgrading the Nix on the other end of this connection"
                    .into()
            }
        })),
    }
}

pub fn write_derived_paths(
    message: &mut Message,
    dir: &StoreDir,
    paths: &[DerivedPath],
    version: Version,
) -> WireResult<()> {
    message.count(paths.len());
    paths.iter().try_for_each(|path| write_derived_path(message, dir, path, version))
}

pub async fn read_derived_path<R: AsyncRead + Unpin>(
    input: &mut WireReader<R>,
    dir: &StoreDir,
    version: Version,
) -> WireResult<DerivedPath> {
    let text = input.text("a derived path").await?;
    match version.has(30) {
        true => Ok(DerivedPath::parse(dir, &text, '!')?),
        false => parse_path_with_outputs(dir, &text),
    }
}

pub async fn read_derived_paths<R: AsyncRead + Unpin>(
    input: &mut WireReader<R>,
    dir: &StoreDir,
    version: Version,
) -> WireResult<Vec<DerivedPath>> {
    let count = input.count().await?;
    let mut paths = Vec::new();
    for _ in 0..count {
        paths.push(read_derived_path(input, dir, version).await?);
    }
    Ok(paths)
}

/// A client's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientOptions {
    pub keep_failed: bool,
    pub keep_going: bool,
    pub fallback: bool,
    pub verbosity: u64,
    pub max_jobs: u64,
    pub max_silent_time: u64,
    pub verbose_build: bool,
    pub cores: u64,
    pub substitute: bool,
    /// All other settings that the user changed.
    pub overrides: BTreeMap<String, Vec<u8>>,
}

impl ClientOptions {
    pub fn write(&self, message: &mut Message) {
        message
            .num(self.keep_failed)
            .num(self.keep_going)
            .num(self.fallback)
            .num(self.verbosity)
            .num(self.max_jobs)
            .num(self.max_silent_time)
            .num(1u64)
            .num(if self.verbose_build { 0u64 } else { 7 })
            .num(0u64)
            .num(0u64)
            .num(self.cores)
            .num(self.substitute)
            .count(self.overrides.len());
        for (name, value) in &self.overrides {
            message.bytes(name).bytes(value);
        }
    }

    pub async fn read<R: AsyncRead + Unpin>(input: &mut WireReader<R>) -> WireResult<ClientOptions> {
        let mut options = ClientOptions {
            keep_failed: input.bool().await?,
            keep_going: input.bool().await?,
            fallback: input.bool().await?,
            verbosity: input.u64().await?,
            max_jobs: input.u64().await?,
            max_silent_time: input.u64().await?,
            ..ClientOptions::default()
        };
        // Whether to use the build hook, once.
        input.u64().await?;
        options.verbose_build = input.u64().await? == 0;
        // Kind of log and build trace, once.
        input.u64().await?;
        input.u64().await?;
        options.cores = input.u64().await?;
        options.substitute = input.bool().await?;
        for _ in 0..input.count().await? {
            let name = input.text("a setting's name").await?;
            options.overrides.insert(name, input.bytes().await?);
        }
        Ok(options)
    }
}

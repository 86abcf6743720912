//! Flakes on the command line: references, lock files, outputs.

mod cache;
mod config;
mod flags;
mod installable;
mod outputs;
mod rules;

pub use config::{ConfigQueue, new_queue};
pub use flags::{FlakeArgs, input_path};
pub use installable::{Defaults, FlakeInstallable, FlakeSource, split_outputs};
pub use outputs::{Cursor, OpenFlake};
pub use rules::rules;

use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::flake_ref::{FlakeRef, FlakeRefError, ParseContext};
use firn_settings::ExperimentalFeature;
use firn_store::activity::Verbosity;
use std::path::{Path, PathBuf};

/// Runs `f` with what the settings say of references, and tells of what is bearable.
pub fn with_context<T, E>(
    context: &Context,
    f: impl FnOnce(&mut ParseContext<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let has_feature =
        |name: &str| context.settings.experimental_features.iter().any(|known| known.to_string() == name);
    let mut parsing = ParseContext { has_feature: &has_feature, warnings: Vec::new() };
    let result = f(&mut parsing);
    for warning in &parsing.warnings {
        context.logger.warn(warning);
    }
    result
}

pub fn current_dir() -> CliResult<PathBuf> {
    std::env::current_dir().map_err(CliError::io("finding the current directory", "."))
}

/// The folder that references of the command line are relative to.
pub fn base_dir(context: &Context) -> CliResult<PathBuf> {
    match &context.base_dir {
        Some(dir) => Ok(dir.clone()),
        None => current_dir(),
    }
}

/// A reference of the command line with what comes after `#`, relative to `base`.
pub fn parse_with_fragment(context: &Context, text: &[u8], base: &Path) -> CliResult<(FlakeRef, Vec<u8>)> {
    parse_in(context, text, base, false)
}

fn parse_in(
    context: &Context,
    text: &[u8],
    base: &Path,
    allow_missing: bool,
) -> CliResult<(FlakeRef, Vec<u8>)> {
    let mut notices = Vec::new();
    let found = with_context(context, |parsing| {
        firn_flake::parse_argument(text, base, allow_missing, parsing, &mut notices)
    });
    for notice in notices {
        context.logger.log(Verbosity::Notice, notice.as_bytes());
    }
    found.map_err(|error| CliError::failed(error.to_string()))
}

/// A reference of the command line without a fragment.
pub fn parse(context: &Context, text: &[u8], allow_missing: bool) -> CliResult<FlakeRef> {
    let (reference, fragment) = parse_in(context, text, &base_dir(context)?, allow_missing)?;
    match fragment.is_empty() {
        true => Ok(reference),
        false => Err(CliError::failed(format!(
            "unexpected fragment '{}' in flake reference '{}'",
            String::from_utf8_lossy(&fragment),
            String::from_utf8_lossy(text)
        ))),
    }
}

/// A reference that does not depend on the current folder.
pub fn parse_absolute(context: &Context, text: &[u8]) -> CliResult<FlakeRef> {
    with_context(context, |parsing| FlakeRef::parse(text, parsing))
        .map_err(|error: FlakeRefError| CliError::failed(error.message))
}

/// Fails unless flakes are on.
pub fn require(context: &Context) -> CliResult<()> {
    context.require(ExperimentalFeature::Flakes)
}

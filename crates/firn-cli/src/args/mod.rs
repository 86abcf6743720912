//! The command line. Flags are read low, into [`LowArgs`] and the command's own [`FlagSink`], and resolved high,
//! into [`crate::context::Context`].

mod common;
mod engine;
mod eval;

pub use common::{LogFormat, LowArgs};
pub use engine::{FlagSink, Values, parse};
pub use eval::{AutoArg, EvalArgs};

use crate::error::{CliError, CliResult};
use std::ffi::OsString;

/// An argument that must be text.
pub fn text(what: &str, value: OsString) -> CliResult<String> {
    value
        .into_string()
        .map_err(|value| CliError::usage(format!("{what} '{}' is not valid UTF-8", value.to_string_lossy())))
}

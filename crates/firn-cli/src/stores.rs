//! The composition root: which store stands behind the traits.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_store::Store;
use std::sync::Arc;

/// Opens the store `uri`.
pub fn open(uri: &str, context: &Context) -> CliResult<Arc<dyn Store>> {
    let _ = context;
    Err(CliError::failed(format!("don't know how to open Nix store '{uri}'")))
}

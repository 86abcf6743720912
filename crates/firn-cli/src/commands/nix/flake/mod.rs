//! `nix flake`.

pub mod archive;
pub mod check;
pub mod copies;
pub mod init;
pub mod lock;
pub mod metadata;
pub mod show;

use crate::args::{EvalArgs, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::flakes::{self, FlakeArgs};
use firn_core::flake_ref::{Attr, Attrs, FlakeRef};
use firn_flake::{LockFlags, LockedFlake};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The flake that a command works on.
#[derive(Default)]
pub struct FlakeArg {
    pub eval: EvalArgs,
    pub flakes: FlakeArgs,
    pub url: Option<OsString>,
}

impl FlakeArg {
    /// Handles `flag` if it is one of these.
    pub fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        Ok(self.flakes.flag(flag, values)? || self.eval.flag_or_repair(flag, values)?)
    }

    pub fn positional(&mut self, arg: OsString) -> CliResult<()> {
        if self.url.is_some() {
            return Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy())));
        }
        self.url = Some(arg);
        Ok(())
    }

    pub fn reference(&self, context: &Context) -> CliResult<FlakeRef> {
        flakes::require(context)?;
        let url = self.url.clone().unwrap_or_else(|| ".".into());
        flakes::parse(context, url.as_bytes(), false)
    }

    /// The evaluator, and what the flags mean.
    pub fn start(&self, context: &Context, read_only: bool) -> CliResult<(Evaluation, LockFlags)> {
        flakes::require(context)?;
        let mut evaluation = Evaluation::new(context, &self.eval, read_only)?;
        let flags = self.flakes.resolve(context, &mut evaluation)?;
        Ok((evaluation, flags))
    }

    /// Locks the flake as the flags say.
    pub fn lock(&self, context: &Context) -> CliResult<(Evaluation, LockedFlake)> {
        let (mut evaluation, flags) = self.start(context, context.settings.read_only_mode)?;
        let reference = self.reference(context)?;
        let locked = evaluation.lock(context, &reference, &flags)?;
        Ok((evaluation, locked))
    }
}

/// Attributes of an input as JSON.
pub fn attrs_json(attrs: &Attrs) -> Value {
    let value = |attr: &Attr| match attr {
        Attr::Int(number) => json!(number),
        Attr::Bool(flag) => json!(flag),
        Attr::Str(text) => json!(String::from_utf8_lossy(text)),
    };
    Value::Object(attrs.iter().map(|(name, attr)| (name.clone(), value(attr))).collect())
}

/// Lines of trees.
pub const BRANCH: &str = "├───";
pub const LAST: &str = "└───";
pub const LINE: &str = "│   ";
pub const NOTHING: &str = "    ";

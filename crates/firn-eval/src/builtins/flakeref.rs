//! Flake references as text and as sets: not yet supported, and said so.

use super::{Entry, experimental};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::source::Pos;
use crate::value::Value;
use crate::vm::Vm;

pub(super) const TABLE: &[Entry] = &[
    experimental("parseFlakeRef", 1, parse, "flakes"),
    experimental("flakeRefToString", 1, render, "flakes"),
];

fn parse(_: &mut Vm, _: &[Value], pos: Pos) -> EvalResult<Value> {
    Err(EvalError::at(
        ErrorKind::Eval,
        pos,
        "'builtins.parseFlakeRef' is not supported by this version of firn",
    ))
}

fn render(_: &mut Vm, _: &[Value], pos: Pos) -> EvalResult<Value> {
    Err(EvalError::at(
        ErrorKind::Eval,
        pos,
        "'builtins.flakeRefToString' is not supported by this version of firn",
    ))
}

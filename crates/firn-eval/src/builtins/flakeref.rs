//! Flake references as text and as sets: not yet supported, and said so.

use super::{Entry, experimental};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::source::Pos;
use crate::value::{Kind, Value};
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

fn render(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the argument passed to builtins.flakeRefToString";
    let attrs = vm.force_attrs(args[0], Pos::NONE, what)?;
    for (i, key) in attrs.shape().syms().iter().enumerate() {
        let value = vm.force_at(attrs.get(i), attrs.position(i))?;
        match value.kind() {
            Kind::Int(n) if n < 0 => {
                let message = format!("negative value given for flake ref attr {key}: {n}");
                return Err(EvalError::at(ErrorKind::Eval, pos, message));
            }
            Kind::Int(_) | Kind::Bool(_) | Kind::Str(_) => {}
            _ => {
                let found = crate::coerce::type_phrase(value);
                return Err(EvalError::new(
                    ErrorKind::Eval,
                    format!(
                        "flake reference attribute sets may only contain integers, Booleans, and strings, but attribute '{key}' is {found}"
                    ),
                ));
            }
        }
    }
    Err(EvalError::at(
        ErrorKind::Eval,
        pos,
        "'builtins.flakeRefToString' is not supported by this version of firn",
    ))
}

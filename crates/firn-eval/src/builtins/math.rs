//! Numbers.

use super::{Entry, entry};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::source::Pos;
use crate::value::{Kind, Value};
use crate::vm::Vm;

pub(super) const TABLE: &[Entry] = &[
    entry("add", 2, add),
    entry("sub", 2, sub),
    entry("mul", 2, mul),
    entry("div", 2, div),
    entry("bitAnd", 2, bit_and),
    entry("bitOr", 2, bit_or),
    entry("bitXor", 2, bit_xor),
    entry("ceil", 1, ceil),
    entry("floor", 1, floor),
    entry("lessThan", 2, less_than),
];

enum Pair {
    Ints(i64, i64),
    Floats(f64, f64),
}

fn pair(
    vm: &mut Vm,
    args: &[Value],
    pos: Pos,
    first: &'static str,
    second: &'static str,
) -> EvalResult<Pair> {
    let (a, b) = (vm.force_at(args[0], pos)?, vm.force_at(args[1], pos)?);
    match (a.kind(), b.kind()) {
        (Kind::Int(a), Kind::Int(b)) => Ok(Pair::Ints(a, b)),
        (Kind::Int(a), Kind::Float(b)) => Ok(Pair::Floats(a as f64, b)),
        (Kind::Float(a), Kind::Int(b)) => Ok(Pair::Floats(a, b as f64)),
        (Kind::Float(a), Kind::Float(b)) => Ok(Pair::Floats(a, b)),
        (x, y) => {
            let float = matches!(x, Kind::Float(_)) || matches!(y, Kind::Float(_));
            let expected = if float { "a float" } else { "an integer" };
            let bad_first = !matches!(x, Kind::Int(_) | Kind::Float(_));
            let (bad, what) = if bad_first { (a, first) } else { (b, second) };
            Err(vm.type_error(bad, expected, pos).context(pos, what))
        }
    }
}

fn overflow(pos: Pos, doing: &str, a: i64, op: char, b: i64) -> EvalError {
    EvalError::at(ErrorKind::Eval, pos, format!("integer overflow in {doing} {a} {op} {b}"))
}

fn add(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = (
        "while evaluating the first argument of the addition",
        "while evaluating the second argument of the addition",
    );
    match pair(vm, args, pos, what.0, what.1)? {
        Pair::Ints(a, b) => {
            a.checked_add(b).map(Value::int).ok_or_else(|| overflow(pos, "adding", a, '+', b))
        }
        Pair::Floats(a, b) => Ok(Value::float(a + b)),
    }
}

pub(crate) fn sub(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = (
        "while evaluating the first argument of the subtraction",
        "while evaluating the second argument of the subtraction",
    );
    match pair(vm, args, pos, what.0, what.1)? {
        Pair::Ints(a, b) => {
            a.checked_sub(b).map(Value::int).ok_or_else(|| overflow(pos, "subtracting", a, '-', b))
        }
        Pair::Floats(a, b) => Ok(Value::float(a - b)),
    }
}

pub(crate) fn mul(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let (a, b) = (vm.force_at(args[0], pos)?, vm.force_at(args[1], pos)?);
    // With floats the reference says it in other words.
    let first = match matches!(a.kind(), Kind::Float(_)) || matches!(b.kind(), Kind::Float(_)) {
        true => "while evaluating the first of the multiplication",
        false => "while evaluating the first argument of the multiplication",
    };
    let second = "while evaluating the second argument of the multiplication";
    match pair(vm, &[a, b], pos, first, second)? {
        Pair::Ints(a, b) => {
            a.checked_mul(b).map(Value::int).ok_or_else(|| overflow(pos, "multiplying", a, '*', b))
        }
        Pair::Floats(a, b) => Ok(Value::float(a * b)),
    }
}

pub(crate) fn div(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let (first, second) = (
        "while evaluating the first operand of the division",
        "while evaluating the second operand of the division",
    );
    // The divisor is looked at first.
    let (_, divisor) = (vm.force_at(args[0], pos)?, vm.force_at(args[1], pos)?);
    let zero = match divisor.kind() {
        Kind::Int(n) => n == 0,
        Kind::Float(f) => f == 0.0,
        _ => return Err(vm.type_error(divisor, "a float", pos).context(pos, second)),
    };
    if zero {
        return Err(EvalError::at(ErrorKind::Eval, pos, "division by zero"));
    }
    match pair(vm, args, pos, first, second)? {
        Pair::Ints(a, b) => {
            a.checked_div(b).map(Value::int).ok_or_else(|| overflow(pos, "dividing", a, '/', b))
        }
        Pair::Floats(a, b) => Ok(Value::float(a / b)),
    }
}

fn bits(
    vm: &mut Vm,
    args: &[Value],
    pos: Pos,
    what: [&'static str; 2],
    op: fn(i64, i64) -> i64,
) -> EvalResult<Value> {
    let a = vm.force_int(args[0], pos, what[0])?;
    let b = vm.force_int(args[1], pos, what[1])?;
    Ok(Value::int(op(a, b)))
}

fn bit_and(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = [
        "while evaluating the first argument passed to builtins.bitAnd",
        "while evaluating the second argument passed to builtins.bitAnd",
    ];
    bits(vm, args, pos, what, |a, b| a & b)
}

fn bit_or(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = [
        "while evaluating the first argument passed to builtins.bitOr",
        "while evaluating the second argument passed to builtins.bitOr",
    ];
    bits(vm, args, pos, what, |a, b| a | b)
}

fn bit_xor(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = [
        "while evaluating the first argument passed to builtins.bitXor",
        "while evaluating the second argument passed to builtins.bitXor",
    ];
    bits(vm, args, pos, what, |a, b| a ^ b)
}

fn round(vm: &mut Vm, value: Value, pos: Pos, what: &'static str, op: fn(f64) -> f64) -> EvalResult<Value> {
    let value = vm.force_at(value, pos).map_err(|e| e.context(pos, what))?;
    match value.kind() {
        Kind::Int(n) => round_int(n, pos).map(|()| value),
        Kind::Float(f) => {
            let rounded = op(f);
            // The bounds of 64-bit integers that floats can hold.
            if rounded >= -9_223_372_036_854_775_808.0 && rounded < 9_223_372_036_854_775_808.0 {
                Ok(Value::int(rounded as i64))
            } else {
                let shown = firn_syntax::show::format_g6(f);
                Err(EvalError::at(
                    ErrorKind::Eval,
                    pos,
                    format!("NixFloat argument {shown} is not in the range of NixInt"),
                ))
            }
        }
        _ => Err(vm.type_error(value, "a float", pos).context(pos, what)),
    }
}

/// Integers that older versions of the reference spoiled by making floats of them are errors.
fn round_int(n: i64, pos: Pos) -> EvalResult<()> {
    let as_float = n as f64;
    let bug = "Due to a bug (see https://github.com/NixOS/nix/issues/12899)";
    let future = "\n\tFuture Nix versions might implement the correct behavior.";
    let message = if as_float >= 9_223_372_036_854_775_808.0 {
        format!("{bug} the NixInt argument {n} caused undefined behavior in previous Nix versions.{future}")
    } else if as_float as i64 != n {
        format!(
            "{bug} a loss of precision occurred in previous Nix versions because the NixInt argument {n} was rounded to {}.{future}",
            as_float as i64
        )
    } else {
        return Ok(());
    };
    Err(EvalError::at(ErrorKind::Eval, pos, message))
}

fn ceil(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    round(vm, args[0], pos, "while evaluating the first argument passed to builtins.ceil", f64::ceil)
}

fn floor(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    round(vm, args[0], pos, "while evaluating the first argument passed to builtins.floor", f64::floor)
}

fn less_than(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    vm.less_than(args[0], args[1], pos, "").map(Value::bool)
}

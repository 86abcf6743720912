//! Errors, tracing and strictness.

use super::{Entry, entry};
use crate::attrs::AttrsBuilder;
use crate::coerce::{Coerce, CopyToStore};
use crate::error::{ErrorKind, EvalError, EvalResult, TraceKind};
use crate::source::Pos;
use crate::value::{Kind, Value, ValueVec};
use crate::vm::Vm;
use firn_syntax::sym;

pub(super) const TABLE: &[Entry] = &[
    entry("abort", 1, abort),
    entry("throw", 1, throw),
    entry("addErrorContext", 2, add_error_context),
    entry("tryEval", 1, try_eval),
    entry("trace", 2, trace),
    entry("traceVerbose", 2, trace_verbose),
    entry("warn", 2, warn),
    entry("break", 1, break_),
    entry("seq", 2, seq),
    entry("deepSeq", 2, deep_seq),
    entry("genericClosure", 1, generic_closure),
];

fn message(vm: &mut Vm, value: Value, pos: Pos, what: &'static str) -> EvalResult<Vec<u8>> {
    // Paths are copied to the store, as into any string.
    let (text, _) = vm.coerce(value, Coerce { more: false, copy: CopyToStore::Yes }, pos, what)?;
    Ok(text)
}

fn abort(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let text = message(vm, args[0], pos, "while evaluating the error message passed to builtins.abort")?;
    let message = [b"evaluation aborted with the following error message: '", &text[..], b"'"].concat();
    Err(EvalError::new(ErrorKind::Abort, message))
}

fn throw(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let text = message(vm, args[0], pos, "while evaluating the error message passed to builtin.throw")?;
    Err(EvalError::new(ErrorKind::Throw, text))
}

fn add_error_context(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    match vm.force_at(args[1], pos) {
        Ok(value) => Ok(value),
        Err(error) => {
            let what = "while evaluating the error message passed to builtins.addErrorContext";
            let (text, _) = vm.coerce(args[0], Coerce::PLAIN, pos, what)?;
            Err(error.trace(Pos::NONE, TraceKind::Context(text.into())))
        }
    }
}

fn try_eval(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let result = match vm.watch {
        None => vm.force_at(args[0], pos),
        Some(_) => vm.guarded(|vm| vm.force_at(args[0], pos)),
    };
    let (success, value) = match result {
        Ok(value) => (Value::TRUE, value),
        Err(error) if error.is_catchable() => (Value::FALSE, Value::FALSE),
        Err(error) => return Err(error),
    };
    let mut out = AttrsBuilder::with_capacity(2);
    out.push(sym!("success"), success);
    out.push(sym!("value"), value);
    Ok(out.finish())
}

fn trace(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let value = vm.force_at(args[0], pos)?;
    let text = match value.as_str() {
        Some(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        None => {
            let options = crate::fmt::print::PrintOptions {
                derivation_paths: false,
                ..crate::fmt::print::PrintOptions::unambiguous(false)
            };
            let shown = crate::fmt::print::print_value(vm, value, &options)?;
            String::from_utf8_lossy(&shown).into_owned()
        }
    };
    vm.in_turn()?;
    vm.host.trace(&text);
    if vm.settings.debugger_on_trace {
        vm.pause()?;
    }
    vm.force_at(args[1], pos)
}

fn trace_verbose(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    if vm.settings.trace_verbose { trace(vm, args, pos) } else { vm.force_at(args[1], pos) }
}

fn warn(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument; the message passed to builtins.warn";
    let text = vm.force_string(args[0], pos, what)?;
    vm.in_turn()?;
    vm.host.warn_from_expression(text.as_bytes());
    if vm.settings.abort_on_warn {
        return Err(EvalError::new(
            ErrorKind::Abort,
            "aborting to reveal stack trace of warning, as abort-on-warn is set",
        ));
    }
    if vm.settings.debugger_on_trace || vm.settings.debugger_on_warn {
        vm.pause()?;
    }
    vm.force_at(args[1], pos)
}

/// Without a debugger, `break` is the identity.
fn break_(vm: &mut Vm, args: &[Value], _: Pos) -> EvalResult<Value> {
    vm.breakpoint()?;
    Ok(args[0])
}

fn seq(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    vm.force_at(args[0], pos)?;
    vm.force_at(args[1], pos)
}

fn deep_seq(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    vm.force_deep(args[0])?;
    vm.force_at(args[1], pos)
}

/// A key of `genericClosure` that can be looked up without calling the language's comparison.
#[derive(PartialEq, Eq, Hash, Clone)]
enum Key {
    Int(i64),
    Str(Vec<u8>),
    Path(Vec<u8>),
}

fn key_of(value: Value) -> Option<Key> {
    Some(match value.kind() {
        Kind::Int(n) => Key::Int(n),
        Kind::Str(s) => Key::Str(s.as_bytes().to_vec()),
        Kind::Path(p) => Key::Path(p.as_bytes().to_vec()),
        _ => return None,
    })
}

fn generic_closure(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let attrs = vm.force_attrs(
        args[0],
        pos,
        "while evaluating the first argument passed to builtins.genericClosure",
    )?;
    let missing = "in the attrset passed as argument to builtins.genericClosure";
    let start = super::sets::required(attrs, sym!("startSet"), missing)?;
    let what = "while evaluating the 'startSet' attribute passed as argument to builtins.genericClosure";
    let start = vm.force_list(start, pos, what)?;
    if start.is_empty() {
        return Ok(Value::EMPTY_LIST);
    }
    let operator = super::sets::required(attrs, sym!("operator"), missing)?;
    let what = "while evaluating the 'operator' attribute passed as argument to builtins.genericClosure";
    let operator = vm.force_function(operator, pos, what)?;
    let mut queue: ValueVec = start.iter().collect();
    let mut next = 0;
    let mut seen: rustc_hash::FxHashSet<Key> = Default::default();
    // Keys of other types are compared with each other as the language orders them.
    let mut others = ValueVec::default();
    let mut first_key: Option<(Value, Value)> = None;
    let mut out = ValueVec::default();
    while let Some(item) = queue.as_slice().get(next).copied() {
        next += 1;
        let key = vm
            .force_attrs(item, pos, "")
            .and_then(|element| super::sets::required(element, sym!("key"), ""))
            .map_err(|e| closure_element(vm, e, "in genericClosure element", item))?;
        let key = vm.force_at(key, pos)?;
        // Keys that cannot be compared are an error, as soon as there are two.
        match first_key {
            Some((first, other)) => {
                if let Err(error) = vm.less_than(key, first, pos, "") {
                    let error = closure_element(vm, error, "with element", other);
                    return Err(closure_element(vm, error, "while comparing element", item));
                }
            }
            None => first_key = Some((key, item)),
        }
        let new = match key_of(key) {
            Some(key) => seen.insert(key),
            None => {
                let mut new = true;
                for other in others.as_slice() {
                    let less = vm.less_than(key, *other, pos, "")?;
                    if !less && !vm.less_than(*other, key, pos, "")? {
                        new = false;
                        break;
                    }
                }
                if new {
                    others.push(key);
                }
                new
            }
        };
        if !new {
            continue;
        }
        out.push(item);
        let what = "while evaluating the return value of the `operator` passed to builtins.genericClosure";
        let more = vm.call(operator, &[item], pos).and_then(|more| vm.force_list(more, pos, what));
        let queued = more.and_then(|more| {
            for item in more.iter() {
                vm.force_at(item, pos)?;
                queue.push(item);
            }
            Ok(())
        });
        if let Err(error) = queued {
            return Err(closure_element(vm, error, "while calling operator on genericClosure element", item));
        }
    }
    Ok(out.to_list())
}

#[cold]
fn closure_element(vm: &mut Vm, error: EvalError, what: &str, item: Value) -> EvalError {
    let shown = vm.show_for_error(item);
    error.trace(Pos::NONE, TraceKind::Text(format!("{what} {shown}").into()))
}

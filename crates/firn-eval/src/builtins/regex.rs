//! `match` and `split`.

use super::{Entry, entry};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::regex::{Regex, RegexError};
use crate::source::Pos;
use crate::value::{ListBuilder, Value, ValueVec};
use crate::vm::Vm;
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[entry("match", 2, match_), entry("split", 2, split)];

fn compiled(vm: &mut Vm, pattern: &[u8], pos: Pos) -> EvalResult<Rc<Regex>> {
    if let Some(regex) = vm.regexes.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = Regex::new(pattern).map_err(|e| regex_error(e, pattern, pos))?;
    let regex = Rc::new(regex);
    vm.regexes.insert(pattern.to_vec(), regex.clone());
    Ok(regex)
}

fn regex_error(error: RegexError, pattern: &[u8], pos: Pos) -> EvalError {
    let shown = String::from_utf8_lossy(pattern);
    let message = match error {
        RegexError::Invalid(_) => format!("invalid regular expression '{shown}'"),
        RegexError::MemoryLimit => format!("memory limit exceeded by regular expression '{shown}'"),
    };
    EvalError::at(ErrorKind::Eval, pos, message)
}

/// The groups (not the whole match) as a list; a group that took no part is null.
fn groups(text: &[u8], captures: &[Option<(usize, usize)>]) -> Value {
    let groups = captures.get(1..).unwrap_or_default();
    let mut out = ListBuilder::new(groups.len());
    for group in groups {
        out.push(match group {
            Some((start, end)) => Value::str(&text[*start..*end]),
            None => Value::NULL,
        });
    }
    out.finish()
}

fn match_(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let pattern =
        vm.string_no_context(args[0], pos, "while evaluating the first argument passed to builtins.match")?;
    let regex = compiled(vm, pattern.as_bytes(), pos)?;
    let text =
        vm.force_string(args[1], pos, "while evaluating the second argument passed to builtins.match")?;
    let found = regex.full_match(text.as_bytes()).map_err(|e| regex_error(e, pattern.as_bytes(), pos))?;
    Ok(match found {
        Some(captures) => groups(text.as_bytes(), &captures),
        None => Value::NULL,
    })
}

fn split(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let pattern =
        vm.string_no_context(args[0], pos, "while evaluating the first argument passed to builtins.split")?;
    let regex = compiled(vm, pattern.as_bytes(), pos)?;
    let input =
        vm.force_string(args[1], pos, "while evaluating the second argument passed to builtins.split")?;
    let text = input.as_bytes();
    let mut out = ValueVec::default();
    let mut from = 0;
    for found in regex.find_iter(text) {
        let captures = found.map_err(|e| regex_error(e, pattern.as_bytes(), pos))?;
        let Some(Some((start, end))) = captures.first().copied() else { break };
        out.push(Value::str(&text[from..start]));
        out.push(groups(text, &captures));
        from = end;
    }
    if out.is_empty() {
        return Ok(Value::list(&[input.value()]));
    }
    out.push(Value::str(&text[from..]));
    Ok(out.to_list())
}

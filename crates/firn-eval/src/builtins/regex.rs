//! `match` and `split`.

use super::{Entry, entry};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::regex::Regex;
use crate::source::Pos;
use crate::value::{ListBuilder, Value, ValueVec};
use crate::vm::Vm;
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[entry("match", 2, match_), entry("split", 2, split)];

fn compiled(vm: &mut Vm, pattern: &[u8], pos: Pos) -> EvalResult<Rc<Regex>> {
    if let Some(regex) = vm.caches.regexes.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = Regex::new(pattern).map_err(|_| {
        let shown = String::from_utf8_lossy(pattern);
        EvalError::at(ErrorKind::Eval, pos, format!("invalid regular expression '{shown}'"))
    })?;
    let regex = Rc::new(regex);
    vm.caches.regexes.insert(pattern.to_vec(), regex.clone());
    Ok(regex)
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
    let text = vm.force_string(args[1], pos, "while evaluating the second argument passed to builtins.match")?;
    Ok(match regex.full_match(text.as_bytes()) {
        Some(captures) => groups(text.as_bytes(), &captures),
        None => Value::NULL,
    })
}

fn split(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let pattern =
        vm.string_no_context(args[0], pos, "while evaluating the first argument passed to builtins.split")?;
    let regex = compiled(vm, pattern.as_bytes(), pos)?;
    let input = vm.force_string(args[1], pos, "while evaluating the second argument passed to builtins.split")?;
    let text = input.as_bytes();
    let mut out = ValueVec::default();
    let mut from = 0;
    let mut search = 0;
    while search <= text.len() {
        let Some(captures) = regex.search_at(text, search) else { break };
        let Some(Some((start, end))) = captures.first().copied() else { break };
        out.push(Value::str(&text[from..start]));
        out.push(groups(text, &captures));
        from = end;
        // After an empty match the search goes on one byte further, as the reference's iterator does.
        search = if end == start { end + 1 } else { end };
    }
    if out.is_empty() {
        return Ok(Value::list(&[input.value()]));
    }
    out.push(Value::str(&text[from..]));
    Ok(out.to_list())
}

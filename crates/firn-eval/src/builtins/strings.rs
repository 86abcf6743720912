//! Strings.

use super::{Entry, entry};
use crate::ahead::Pace;
use crate::coerce::{Coerce, CopyToStore};
use crate::context::ContextBuilder;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::source::Pos;
use crate::value::{Ahead, Value};
use crate::vm::Vm;

pub(super) const TABLE: &[Entry] = &[
    entry("toString", 1, to_string),
    entry("substring", 3, substring),
    entry("stringLength", 1, string_length),
    entry("concatStringsSep", 2, concat_strings_sep),
    entry("replaceStrings", 3, replace_strings),
];

/// As string interpolation has it.
const INTERPOLATE: Coerce = Coerce { more: false, copy: CopyToStore::Yes };

fn to_string(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let value = vm.force_text(args[0], pos)?;
    if value.as_str().is_some() {
        return Ok(value);
    }
    let how = Coerce { more: true, copy: CopyToStore::No };
    let what = "while evaluating the first argument passed to builtins.toString";
    let (text, context) = vm.coerce(value, how, pos, what)?;
    Ok(Value::str_with(&text, context))
}

fn substring(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument (the start offset) passed to builtins.substring";
    let start = vm.force_int(args[0], pos, what)?;
    let Ok(start) = usize::try_from(start) else {
        return Err(EvalError::at(ErrorKind::Eval, pos, "negative start position in 'substring'"));
    };
    let what = "while evaluating the second argument (the substring length) passed to builtins.substring";
    let len = vm.force_int(args[1], pos, what)?;
    if len == 0 {
        let value = vm.force_text(args[2], pos)?;
        if let Some(text) = value.as_str() {
            return Ok(Value::str_with(b"", text.context()));
        }
    }
    let what = "while evaluating the third argument (the string) passed to builtins.substring";
    let value = vm.force_text(args[2], pos)?;
    let cut = |text: &[u8]| -> (usize, usize) {
        let start = start.min(text.len());
        let end = usize::try_from(len).map_or(text.len(), |len| start.saturating_add(len).min(text.len()));
        (start, end)
    };
    if let Some(text) = value.as_str() {
        let (start, end) = cut(text.as_bytes());
        if start == 0 && end == text.len() {
            return Ok(value);
        }
        return Ok(Value::str_with(&text.as_bytes()[start..end], text.context()));
    }
    let (text, context) = vm.coerce(value, INTERPOLATE, pos, what)?;
    let (start, end) = cut(&text);
    Ok(Value::str_with(&text[start..end], context))
}

fn string_length(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the argument passed to builtins.stringLength";
    let value = vm.force_text(args[0], pos)?;
    if let Some(text) = value.as_str() {
        return Ok(Value::int(text.len() as i64));
    }
    let (text, _) = vm.coerce(value, INTERPOLATE, pos, what)?;
    Ok(Value::int(text.len() as i64))
}

fn concat_strings_sep(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what =
        "while evaluating the first argument (the separator string) passed to builtins.concatStringsSep";
    let separator = vm.force_string(args[0], pos, what)?;
    let what = "while evaluating the second argument (the list of strings to concat) passed to builtins.concatStringsSep";
    let list = vm.force_list(args[1], pos, what)?;
    let what =
        "while evaluating one element of the list of strings to concat passed to builtins.concatStringsSep";
    let mut text = Vec::new();
    let mut context = ContextBuilder::default();
    context.add(separator.context());
    let mut pace = Pace::new(vm);
    for (i, item) in list.iter().enumerate() {
        if pace.is_slow(vm, i, list.len()) {
            vm.elements_ahead(list, Ahead::Text);
        }
        if i > 0 {
            text.extend_from_slice(separator.as_bytes());
        }
        vm.coerce_into(item, INTERPOLATE, &mut text, &mut context, pos, what)?;
    }
    Ok(Value::str_with(&text, context.finish()))
}

fn replace_strings(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let from =
        vm.force_list(args[0], pos, "while evaluating the first argument passed to builtins.replaceStrings")?;
    let to = vm.force_list(
        args[1],
        pos,
        "while evaluating the second argument passed to builtins.replaceStrings",
    )?;
    if from.len() != to.len() {
        return Err(EvalError::at(
            ErrorKind::Eval,
            pos,
            "'from' and 'to' arguments passed to builtins.replaceStrings have different lengths",
        ));
    }
    let what = "while evaluating one of the strings to replace passed to builtins.replaceStrings";
    let patterns = from
        .iter()
        .map(|item| Ok(vm.force_string(item, pos, what)?.as_bytes()))
        .collect::<EvalResult<Vec<&[u8]>>>()?;
    let what = "while evaluating the third argument passed to builtins.replaceStrings";
    let input = vm.force_string(args[2], pos, what)?;
    let text = input.as_bytes();
    // For each byte, whether some pattern starts with it; an empty pattern starts anywhere.
    let mut starts = [false; 256];
    let mut any_empty = false;
    for pattern in &patterns {
        match pattern.first() {
            Some(c) => starts[*c as usize] = true,
            None => any_empty = true,
        }
    }
    let mut replacements: Vec<Option<&'static [u8]>> = vec![None; patterns.len()];
    let mut context = ContextBuilder::default();
    context.add(input.context());
    let mut out = Vec::with_capacity(text.len());
    let mut p = 0;
    let what = "while evaluating one of the replacement strings passed to builtins.replaceStrings";
    while p <= text.len() {
        let rest = &text[p..];
        let candidate = any_empty || rest.first().is_some_and(|c| starts[*c as usize]);
        let found = if candidate { patterns.iter().position(|f| rest.starts_with(f)) } else { None };
        let Some(n) = found else {
            out.extend(rest.first());
            p += 1;
            continue;
        };
        let replacement = match replacements[n] {
            Some(text) => text,
            None => {
                let string = vm.force_string(to.get(n), pos, what)?;
                context.add(string.context());
                replacements[n] = Some(string.as_bytes());
                string.as_bytes()
            }
        };
        out.extend_from_slice(replacement);
        if patterns[n].is_empty() {
            out.extend(rest.first());
            p += 1;
        } else {
            p += patterns[n].len();
        }
    }
    Ok(Value::str_with(&out, context.finish()))
}

//! JSON, as `builtins.toJSON` and `--json` print it.

use crate::ahead::Pace;
use crate::coerce::{Coerce, CopyToStore};
use crate::context::ContextBuilder;
use crate::error::{ErrorKind, EvalError, EvalResult, ResultExt, TraceKind};
use crate::source::Pos;
use crate::value::{Ahead, Kind, Value};
use crate::vm::Vm;
use firn_syntax::sym;

/// JSON as it is written, and what is wrong with the first string in it that is not UTF-8. As in the reference,
/// that is an error only when everything is evaluated.
struct Writer<'a> {
    text: &'a mut Vec<u8>,
    bad: Option<String>,
    /// Whether thunks are evaluated; otherwise they are errors.
    force: bool,
}

impl Writer<'_> {
    fn put(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    fn string(&mut self, text: &[u8]) {
        if let Err(error) = write_string(text, self.text) {
            self.bad.get_or_insert(error);
        }
    }
}

/// Appends a value as JSON; paths are copied to the store if asked for.
pub fn to_json(
    vm: &mut Vm,
    value: Value,
    copy: CopyToStore,
    out: &mut Vec<u8>,
    context: &mut ContextBuilder,
    pos: Pos,
) -> EvalResult<()> {
    write_all(vm, value, copy, Writer { text: out, bad: None, force: true }, context, pos)
}

/// As [`to_json`], but what is not evaluated yet cannot be written.
pub fn evaluated_to_json(
    vm: &mut Vm,
    value: Value,
    copy: CopyToStore,
    out: &mut Vec<u8>,
    context: &mut ContextBuilder,
    pos: Pos,
) -> EvalResult<()> {
    write_all(vm, value, copy, Writer { text: out, bad: None, force: false }, context, pos)
}

fn write_all(
    vm: &mut Vm,
    value: Value,
    copy: CopyToStore,
    mut writer: Writer<'_>,
    context: &mut ContextBuilder,
    pos: Pos,
) -> EvalResult<()> {
    nested(vm, value, copy, &mut writer, context, pos)?;
    match writer.bad {
        Some(error) => Err(not_utf8(error)),
        None => Ok(()),
    }
}

fn nested(
    vm: &mut Vm,
    value: Value,
    copy: CopyToStore,
    out: &mut Writer<'_>,
    context: &mut ContextBuilder,
    pos: Pos,
) -> EvalResult<()> {
    if !out.force && value.as_thunk().is_some_and(|thunk| thunk.result().is_none()) {
        return Err(EvalError::at(ErrorKind::Type, pos, "cannot convert a thunk to JSON"));
    }
    vm.nested(pos, |vm| {
        let value = vm.force_at(value, pos)?;
        write(vm, value, copy, out, context, pos)
    })
}

fn write(
    vm: &mut Vm,
    value: Value,
    copy: CopyToStore,
    out: &mut Writer<'_>,
    context: &mut ContextBuilder,
    pos: Pos,
) -> EvalResult<()> {
    match value.kind() {
        Kind::Null => out.put(b"null"),
        Kind::Bool(b) => out.put(if b { b"true" } else { b"false" }),
        Kind::Int(n) => out.put(n.to_string().as_bytes()),
        Kind::Float(f) => out.put(float(f).as_bytes()),
        Kind::Str(s) => {
            context.add(s.context());
            out.string(s.as_bytes());
        }
        Kind::Path(path) => {
            let mut text = Vec::new();
            let how = Coerce { more: false, copy };
            let _ = path;
            vm.coerce_into(value, how, &mut text, context, pos, "")?;
            out.string(&text);
        }
        Kind::Attrs(attrs) => {
            if attrs.find(sym!("__toString")).is_some() {
                let mut text = Vec::new();
                vm.coerce_into(value, Coerce::PLAIN, &mut text, context, pos, "")?;
                out.string(&text);
                return Ok(());
            }
            if let Some(path) = attrs.find(sym!("outPath")) {
                return nested(vm, path, copy, out, context, attrs.position_of(sym!("outPath")));
            }
            out.put(b"{");
            let mut pace = Pace::new(vm);
            for (i, (name, value)) in attrs.sorted().enumerate() {
                if out.force && pace.is_slow(vm, i, attrs.len()) {
                    vm.values_ahead(attrs, Ahead::Json);
                }
                if i > 0 {
                    out.put(b",");
                }
                out.string(name.as_bytes());
                out.put(b":");
                let at = attrs.position_of(name);
                nested(vm, value, copy, out, context, at).traced(at, || {
                    TraceKind::Text(format!("while evaluating attribute '{}'", name.shown()).into())
                })?;
            }
            out.put(b"}");
        }
        Kind::List(list) => {
            out.put(b"[");
            let mut pace = Pace::new(vm);
            for (i, item) in list.iter().enumerate() {
                if out.force && pace.is_slow(vm, i, list.len()) {
                    vm.elements_ahead(list, Ahead::Json);
                }
                if i > 0 {
                    out.put(b",");
                }
                nested(vm, item, copy, out, context, pos).traced(pos, || {
                    TraceKind::Text(format!("while evaluating list element at index {i}").into())
                })?;
            }
            out.put(b"]");
        }
        Kind::Fun(_) | Kind::Thunk(_) | Kind::Unset => {
            let phrase = crate::coerce::type_phrase(value);
            let place = crate::coerce::function_place(value);
            let place = if place.is_none() { pos } else { place };
            return Err(EvalError::at(ErrorKind::Type, place, format!("cannot convert {phrase} to JSON")));
        }
    }
    Ok(())
}

/// A text that reads back as the number, always with a fraction or an exponent.
pub(crate) fn float(f: f64) -> String {
    if !f.is_finite() {
        return "null".into();
    }
    let sign = if f.is_sign_negative() { "-" } else { "" };
    if f == 0.0 {
        return format!("{sign}0.0");
    }
    let (digits, exponent) = super::grisu::digits(f.abs());
    let text = String::from_utf8_lossy(&digits);
    let count = digits.len() as i32;
    // How many digits stand before the point.
    let whole = count + exponent;
    let zeros = |count: i32| "0".repeat(count.max(0).unsigned_abs() as usize);
    match whole {
        1..=15 if whole >= count => format!("{sign}{text}{}.0", zeros(whole - count)),
        1..=15 => {
            let (before, after) = text.split_at(whole as usize);
            format!("{sign}{before}.{after}")
        }
        -3..=0 => format!("{sign}0.{}{text}", zeros(-whole)),
        _ => {
            let (first, rest) = text.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let exponent = whole - 1;
            let direction = if exponent < 0 { '-' } else { '+' };
            format!("{sign}{first}{point}{rest}e{direction}{:02}", exponent.abs())
        }
    }
}

/// A JSON string; text that is not UTF-8 is an error.
pub(crate) fn string(text: &[u8], out: &mut Vec<u8>) -> EvalResult<()> {
    write_string(text, out).map_err(not_utf8)
}

#[cold]
fn not_utf8(error: String) -> EvalError {
    EvalError::new(ErrorKind::Eval, format!("JSON serialization error: {error}"))
}

/// Where text stops being UTF-8, in the words of the reference's JSON library.
#[cold]
fn describe_bad(text: &[u8], error: std::str::Utf8Error) -> String {
    let start = error.valid_up_to();
    let prefix = "[json.exception.type_error.316]";
    let Some(len) = error.error_len() else {
        let last = text.last().copied().unwrap_or_default();
        return format!("{prefix} incomplete UTF-8 string; last byte: 0x{last:02X}");
    };
    // A byte that may start a character is fine; the one that does not go on from it is not.
    let at = if matches!(text[start], 0xc2..=0xf4) { start + len } else { start };
    format!("{prefix} invalid UTF-8 byte at index {at}: 0x{:02X}", text[at])
}

fn write_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|error| describe_bad(text, error))?;
    out.push(b'"');
    for c in text.bytes() {
        match c {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            0..32 => out.extend_from_slice(format!("\\u{c:04x}").as_bytes()),
            _ => out.push(c),
        }
    }
    out.push(b'"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats() {
        for (f, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (1e20, "1e+20"),
            (1e-7, "1e-07"),
            (123456789.0, "123456789.0"),
            (0.0001, "0.0001"),
            (4.987531172069826e-5, "4.987531172069826e-05"),
            (100_000_000_000_000.0, "100000000000000.0"),
            (1e15, "1e+15"),
            (-99_999_999_999_999_000.0, "-9.999999999999901e+16"),
        ] {
            assert_eq!(float(f), text);
        }
    }
}

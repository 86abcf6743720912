//! JSON, as `builtins.toJSON` and `--json` print it.

use crate::coerce::{Coerce, CopyToStore};
use crate::context::Context;
use crate::error::{ErrorKind, EvalError, EvalResult, ResultExt, TraceKind};
use crate::source::Pos;
use crate::value::{Kind, Value};
use crate::vm::Vm;
use firn_syntax::Sym;

/// Appends a value as JSON; paths are copied to the store if asked for.
pub fn to_json(
    vm: &mut Vm,
    value: Value,
    copy: CopyToStore,
    out: &mut Vec<u8>,
    context: &mut Context,
    pos: Pos,
) -> EvalResult<()> {
    let value = vm.force_at(value, pos)?;
    vm.nested(pos, |vm| write(vm, value, copy, out, context, pos))
}

fn write(
    vm: &mut Vm,
    value: Value,
    copy: CopyToStore,
    out: &mut Vec<u8>,
    context: &mut Context,
    pos: Pos,
) -> EvalResult<()> {
    match value.kind() {
        Kind::Null => out.extend_from_slice(b"null"),
        Kind::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Kind::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Kind::Float(f) => out.extend_from_slice(float(f).as_bytes()),
        Kind::Str(s) => {
            *context = context.union(s.context());
            string(s.as_bytes(), out)?;
        }
        Kind::Path(path) => {
            let mut text = Vec::new();
            let how = Coerce { more: false, copy };
            let _ = path;
            vm.coerce_into(value, how, &mut text, context, pos, "")?;
            string(&text, out)?;
        }
        Kind::Attrs(attrs) => {
            if attrs.find(Sym::from_static("__toString")).is_some() {
                let mut text = Vec::new();
                vm.coerce_into(value, Coerce { more: false, copy }, &mut text, context, pos, "")?;
                return string(&text, out);
            }
            if let Some(path) = attrs.find(Sym::from_static("outPath")) {
                return to_json(vm, path, copy, out, context, pos);
            }
            out.push(b'{');
            for (i, (name, value)) in attrs.sorted().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                string(name.as_bytes(), out)?;
                out.push(b':');
                to_json(vm, value, copy, out, context, pos).traced(attr_pos(attrs, name), || {
                    TraceKind::Text(format!("while evaluating attribute '{name}'").into())
                })?;
            }
            out.push(b'}');
        }
        Kind::List(list) => {
            out.push(b'[');
            for (i, item) in list.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                to_json(vm, item, copy, out, context, pos).traced(pos, || {
                    TraceKind::Text(format!("while evaluating list element at index {i}").into())
                })?;
            }
            out.push(b']');
        }
        Kind::Fun(_) | Kind::Thunk(_) | Kind::Unset => {
            let phrase = crate::coerce::type_phrase(value);
            return Err(EvalError::at(ErrorKind::Type, pos, format!("cannot convert {phrase} to JSON")));
        }
    }
    Ok(())
}

fn attr_pos(attrs: crate::value::Attrs, name: Sym) -> Pos {
    let shape = attrs.shape();
    shape.find(name).map_or(Pos::NONE, |p| shape.positions()[p])
}

/// The shortest text that reads back as the number, always with a fraction or an exponent.
pub(crate) fn float(f: f64) -> String {
    if !f.is_finite() {
        return "null".into();
    }
    let text = format!("{f:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-5..15).contains(&exponent) {
        let plain = format!("{f}");
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// A JSON string; text that is not UTF-8 is an error.
pub(crate) fn string(text: &[u8], out: &mut Vec<u8>) -> EvalResult<()> {
    let Ok(text) = std::str::from_utf8(text) else {
        let shown = String::from_utf8_lossy(text);
        return Err(EvalError::new(
            ErrorKind::Eval,
            format!("cannot convert a string to JSON because it is not valid UTF-8: '{shown}'"),
        ));
    };
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
        for (f, text) in
            [(1.0, "1.0"), (0.1, "0.1"), (1e20, "1e+20"), (1e-7, "1e-07"), (123456789.0, "123456789.0")]
        {
            assert_eq!(float(f), text);
        }
    }
}

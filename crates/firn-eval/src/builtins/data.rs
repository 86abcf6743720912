//! JSON, XML and TOML.

use super::{Entry, entry};
use crate::attrs::AttrsBuilder;
use crate::coerce::CopyToStore;
use crate::context::ContextBuilder;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::fmt::{json, xml};
use crate::source::Pos;
use crate::value::{Value, ValueVec};
use crate::vm::Vm;
use firn_syntax::{Sym, sym};

pub(super) const TABLE: &[Entry] = &[
    entry("toJSON", 1, to_json),
    entry("fromJSON", 1, from_json),
    entry("toXML", 1, to_xml),
    entry("fromTOML", 1, from_toml),
];

fn to_json(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let mut out = Vec::new();
    let mut context = ContextBuilder::default();
    json::to_json(vm, args[0], CopyToStore::Yes, &mut out, &mut context, pos)?;
    Ok(Value::str_with(&out, context.finish()))
}

fn to_xml(vm: &mut Vm, args: &[Value], _: Pos) -> EvalResult<Value> {
    let mut context = ContextBuilder::default();
    let out = xml::to_xml(vm, args[0], true, false, &mut context)?;
    Ok(Value::str_with(&out, context.finish()))
}

fn from_json(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument passed to builtins.fromJSON";
    let text = vm.string_no_context(args[0], pos, what)?;
    super::json_reader::parse_json(text.as_bytes())
}

fn from_toml(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the argument passed to builtins.fromTOML";
    let text = vm.string_no_context(args[0], pos, what)?;
    let fail = |e: String| EvalError::at(ErrorKind::Eval, pos, format!("while parsing TOML: {e}"));
    let text = std::str::from_utf8(text.as_bytes()).map_err(|e| fail(e.to_string()))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| fail(toml_error(text, &e)))?;
    toml_value(vm, &toml::Value::Table(table)).map_err(|e| match e.kind() {
        ErrorKind::Restricted => fail(e.message().into_owned()),
        _ => fail(format!("error: {}", e.message())),
    })
}

/// What is wrong with a TOML text. Integers out of range are told in the words of the reference's library.
fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let out_of_range = ["number too large to fit in target type", "number too small to fit in target type"];
    let (true, Some(span)) = (out_of_range.contains(&error.message()), error.span()) else {
        return error.to_string();
    };
    let start = text[..span.start].rfind('\n').map_or(0, |n| n + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let number = (text[..start].matches('\n').count() + 1).to_string();
    let margin = " ".repeat(number.len() + 2);
    // The mark stands after the number.
    let digits = text[span.start..].find(|c: char| !c.is_ascii_alphanumeric() && !"+-_".contains(c));
    let end = digits.map_or(text.len(), |n| span.start + n);
    let column = " ".repeat(text[start..end].chars().count());
    format!(
        "[error] toml::parse_dec_integer: too large integer: current max digits = 2^63\n{}--> fromTOML\n\
         {margin}|\n {number} | {line}\n{margin}| {column}^-- must be < 2^63\n\x1b[0m",
        &margin[2..]
    )
}

/// A time, with the digits of its seconds rounded up to three, six or nine, as in the reference.
fn toml_time(time: &toml::value::Datetime) -> String {
    let text = time.to_string();
    let Some((whole, rest)) = text.split_once('.') else { return text };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (fraction, zone) = rest.split_at(digits);
    let fraction = fraction.trim_end_matches('0');
    match fraction.len() {
        0 => format!("{whole}{zone}"),
        n => format!("{whole}.{fraction:0<width$}{zone}", width = n.min(9).div_ceil(3) * 3),
    }
}

fn toml_value(vm: &Vm, value: &toml::Value) -> EvalResult<Value> {
    Ok(match value {
        toml::Value::String(s) => {
            crate::coerce::no_nul(s.as_bytes(), Pos::NONE)?;
            Value::str(s.as_bytes())
        }
        toml::Value::Integer(n) => Value::int(*n),
        toml::Value::Float(f) => Value::float(*f),
        toml::Value::Boolean(b) => Value::bool(*b),
        toml::Value::Datetime(time) if vm.settings.has_feature("parse-toml-timestamps") => {
            let mut out = AttrsBuilder::with_capacity(2);
            out.push(sym!("_type"), Value::str(b"timestamp"));
            out.push(sym!("value"), Value::str(toml_time(time).as_bytes()));
            out.finish()
        }
        toml::Value::Datetime(_) => {
            return Err(EvalError::new(ErrorKind::Restricted, "Dates and times are not supported"));
        }
        toml::Value::Array(items) => {
            let mut out = ValueVec::with_capacity(items.len());
            for item in items {
                out.push(toml_value(vm, item)?);
            }
            out.to_list()
        }
        toml::Value::Table(table) => {
            let mut out = AttrsBuilder::with_capacity(table.len());
            for (name, value) in table {
                crate::coerce::no_nul(name.as_bytes(), Pos::NONE)?;
                out.push(Sym::new(name.as_bytes()), toml_value(vm, value)?);
            }
            out.finish()
        }
    })
}

//! JSON, XML and TOML.

use super::{Entry, entry};
use crate::attrs::AttrsBuilder;
use crate::coerce::CopyToStore;
use crate::context::Context;
use crate::error::{ErrorKind, EvalError, EvalResult, ResultExt};
use crate::fmt::{json, xml};
use crate::source::Pos;
use crate::value::{Value, ValueVec};
use crate::vm::Vm;
use firn_syntax::Sym;

pub(super) const TABLE: &[Entry] = &[
    entry("toJSON", 1, to_json),
    entry("fromJSON", 1, from_json),
    entry("toXML", 1, to_xml),
    entry("fromTOML", 1, from_toml),
];

fn to_json(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let mut out = Vec::new();
    let mut context = Context::EMPTY;
    json::to_json(vm, args[0], CopyToStore::Yes, &mut out, &mut context, pos)?;
    Ok(Value::str_with(&out, context))
}

fn to_xml(vm: &mut Vm, args: &[Value], _: Pos) -> EvalResult<Value> {
    let mut context = Context::EMPTY;
    let out = xml::to_xml(vm, args[0], true, false, &mut context)?;
    Ok(Value::str_with(&out, context))
}

fn from_json(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument passed to builtins.fromJSON";
    let text = vm.string_no_context(args[0], pos, what)?;
    parse_json(text.as_bytes()).context(pos, "while decoding a JSON string")
}

/// Parses a JSON document.
pub(crate) fn parse_json(text: &[u8]) -> EvalResult<Value> {
    let mut reader = JsonReader { text, at: 0, depth: 0 };
    let value = reader.value()?;
    reader.blank();
    if reader.at < text.len() {
        return Err(reader.error("unexpected text after the value"));
    }
    Ok(value)
}

/// How deep JSON may nest: the reader recurses.
const MAX_JSON_DEPTH: usize = 100_000;

struct JsonReader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl JsonReader<'_> {
    fn error(&self, what: &str) -> EvalError {
        let before = &self.text[..self.at.min(self.text.len())];
        let line = before.iter().filter(|c| **c == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|c| **c != b'\n').count() + 1;
        EvalError::new(ErrorKind::Eval, format!("parse error at line {line}, column {column}: {what}"))
    }

    fn blank(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn literal(&mut self, word: &[u8], value: Value) -> EvalResult<Value> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.error("syntax error while parsing value - invalid literal"))
        }
    }

    fn value(&mut self) -> EvalResult<Value> {
        self.blank();
        match self.text.get(self.at) {
            None => Err(self.error("syntax error while parsing value - unexpected end of input")),
            Some(b'n') => self.literal(b"null", Value::NULL),
            Some(b't') => self.literal(b"true", Value::TRUE),
            Some(b'f') => self.literal(b"false", Value::FALSE),
            Some(b'"') => Ok(Value::str(&self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'[' | b'{') => {
                self.depth += 1;
                if self.depth > MAX_JSON_DEPTH {
                    return Err(self.error("the text nests too deep"));
                }
                let value = if self.text[self.at] == b'[' { self.array() } else { self.object() };
                self.depth -= 1;
                value
            }
            Some(_) => Err(self.error("syntax error while parsing value - unexpected character")),
        }
    }

    fn array(&mut self) -> EvalResult<Value> {
        self.at += 1;
        let mut items = ValueVec::default();
        self.blank();
        if self.text.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(Value::EMPTY_LIST);
        }
        loop {
            items.push(self.value()?);
            self.blank();
            match self.text.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(items.to_list());
                }
                _ => return Err(self.error("syntax error while parsing array - expected ',' or ']'")),
            }
        }
    }

    fn object(&mut self) -> EvalResult<Value> {
        self.at += 1;
        let mut keys: rustc_hash::FxHashMap<Sym, usize> = Default::default();
        let mut names: Vec<Sym> = Vec::new();
        let mut values = ValueVec::default();
        self.blank();
        if self.text.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(AttrsBuilder::new().finish());
        }
        loop {
            self.blank();
            if self.text.get(self.at) != Some(&b'"') {
                return Err(self.error("syntax error while parsing object key - expected string literal"));
            }
            let name = Sym::new(&self.string()?);
            self.blank();
            if self.text.get(self.at) != Some(&b':') {
                return Err(self.error("syntax error while parsing object separator - expected ':'"));
            }
            self.at += 1;
            let value = self.value()?;
            // The last of several values under one name counts.
            match keys.get(&name) {
                Some(place) => values.as_mut_slice()[*place] = value,
                None => {
                    keys.insert(name, names.len());
                    names.push(name);
                    values.push(value);
                }
            }
            self.blank();
            match self.text.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    let mut out = AttrsBuilder::with_capacity(names.len());
                    for (name, value) in names.iter().zip(values.as_slice()) {
                        out.push(*name, *value);
                    }
                    return Ok(out.finish());
                }
                _ => return Err(self.error("syntax error while parsing object - expected ',' or '}'")),
            }
        }
    }

    fn number(&mut self) -> EvalResult<Value> {
        let start = self.at;
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while reader.text.get(reader.at).is_some_and(u8::is_ascii_digit) {
                reader.at += 1;
            }
            reader.at - from
        };
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        let leading_zero = self.text.get(self.at) == Some(&b'0');
        let count = digits(self);
        if count == 0 || (leading_zero && count > 1) {
            return Err(self.error("syntax error while parsing value - invalid number"));
        }
        let mut float = false;
        if self.text.get(self.at) == Some(&b'.') {
            float = true;
            self.at += 1;
            if digits(self) == 0 {
                return Err(
                    self.error("syntax error while parsing value - invalid number; expected digit after '.'")
                );
            }
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            float = true;
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if digits(self) == 0 {
                return Err(self
                    .error("syntax error while parsing value - invalid number; expected digit in exponent"));
            }
        }
        let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        if !float {
            if let Ok(n) = text.parse::<i64>() {
                return Ok(Value::int(n));
            }
            if text.parse::<u64>().is_ok() {
                return Err(EvalError::new(
                    ErrorKind::Eval,
                    format!("unsigned json number {text} outside of Nix integer range"),
                ));
            }
        }
        match text.parse::<f64>() {
            Ok(f) if f.is_finite() => Ok(Value::float(f)),
            _ => Err(self.error(&format!("number overflow parsing '{text}'"))),
        }
    }

    fn string(&mut self) -> EvalResult<Vec<u8>> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.iter().position(|c| matches!(c, b'"' | b'\\' | 0..32)).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    break;
                }
                Some(b'\\') => self.escape(&mut out)?,
                Some(_) => {
                    return Err(self.error("syntax error while parsing value - invalid string: control character must be escaped"));
                }
                None => {
                    return Err(self
                        .error("syntax error while parsing value - invalid string: missing closing quote"));
                }
            }
        }
        if std::str::from_utf8(&out).is_err() {
            return Err(
                self.error("syntax error while parsing value - invalid string: ill-formed UTF-8 byte")
            );
        }
        if out.contains(&0) {
            return Err(EvalError::new(
                ErrorKind::Eval,
                "input string cannot be represented as Nix string because it contains null bytes",
            ));
        }
        Ok(out)
    }

    fn hex4(&mut self) -> EvalResult<u32> {
        let code = self
            .text
            .get(self.at..self.at + 4)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u32::from_str_radix(h, 16).ok());
        match code {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => Err(self.error(
                "syntax error while parsing value - invalid string: '\\u' must be followed by 4 hex digits",
            )),
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> EvalResult<()> {
        let c = self.text.get(self.at + 1).copied();
        self.at += 2;
        out.push(match c {
            Some(c @ (b'"' | b'\\' | b'/')) => c,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let mut code = self.hex4()?;
                if (0xd800..0xdc00).contains(&code)
                    && self.text[self.at.min(self.text.len())..].starts_with(b"\\u")
                {
                    self.at += 2;
                    let low = self.hex4()?;
                    if (0xdc00..0xe000).contains(&low) {
                        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    }
                }
                let Some(c) = char::from_u32(code) else {
                    return Err(self.error(
                        "syntax error while parsing value - invalid string: surrogate without its pair",
                    ));
                };
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => {
                return Err(self.error(
                    "syntax error while parsing value - invalid string: forbidden character after backslash",
                ));
            }
        });
        Ok(())
    }
}

fn from_toml(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the argument passed to builtins.fromTOML";
    let text = vm.string_no_context(args[0], pos, what)?;
    let fail = |e: String| EvalError::at(ErrorKind::Eval, pos, format!("while parsing TOML: {e}"));
    let text = std::str::from_utf8(text.as_bytes()).map_err(|e| fail(e.to_string()))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| fail(e.to_string()))?;
    toml_value(vm, &toml::Value::Table(table)).map_err(|e| fail(e.message().to_owned()))
}

fn toml_value(vm: &Vm, value: &toml::Value) -> EvalResult<Value> {
    Ok(match value {
        toml::Value::String(s) => Value::str(s.as_bytes()),
        toml::Value::Integer(n) => Value::int(*n),
        toml::Value::Float(f) => Value::float(*f),
        toml::Value::Boolean(b) => Value::bool(*b),
        toml::Value::Datetime(time) if vm.settings.has_feature("parse-toml-timestamps") => {
            let mut out = AttrsBuilder::with_capacity(2);
            out.push(Sym::from_static("_type"), Value::str(b"timestamp"));
            out.push(Sym::from_static("value"), Value::str(time.to_string().as_bytes()));
            out.finish()
        }
        toml::Value::Datetime(_) => {
            return Err(EvalError::new(ErrorKind::Eval, "Dates and times are not supported"));
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
                out.push(Sym::new(name.as_bytes()), toml_value(vm, value)?);
            }
            out.finish()
        }
    })
}

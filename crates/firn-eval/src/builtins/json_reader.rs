//! Reading JSON. What is accepted, and what errors say about it, is as in the reference's JSON library, because
//! expressions print these messages.

use crate::attrs::AttrsBuilder;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::source::Pos;
use crate::value::{Value, ValueVec};
use firn_syntax::Sym;

/// Parses a JSON document.
pub(crate) fn parse_json(text: &[u8]) -> EvalResult<Value> {
    let mut reader = Reader { lexer: Lexer::new(text), token: Token::End, values: ValueVec::default() };
    reader.next()?;
    reader.document()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Null,
    True,
    False,
    Str,
    Number(Number),
    BeginArray,
    BeginObject,
    EndArray,
    EndObject,
    Colon,
    Comma,
    Bad,
    End,
    /// Never read: what is expected where a value should stand.
    AnyValue,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Number {
    Int(i64),
    /// Too large for a signed integer.
    Unsigned(u64),
    /// The bits of a float.
    Float(u64),
}

impl Token {
    fn name(self) -> &'static str {
        match self {
            Token::Null => "null literal",
            Token::True => "true literal",
            Token::False => "false literal",
            Token::Str => "string literal",
            Token::Number(_) => "number literal",
            Token::BeginArray => "'['",
            Token::BeginObject => "'{'",
            Token::EndArray => "']'",
            Token::EndObject => "'}'",
            Token::Colon => "':'",
            Token::Comma => "','",
            Token::Bad => "<parse error>",
            Token::End => "end of input",
            Token::AnyValue => "'[', '{', or a literal",
        }
    }
}

/// A list or set that is not closed yet.
enum Open {
    Array { first: usize },
    Object { first: usize, keys: rustc_hash::FxHashMap<Sym, usize>, names: Vec<Sym>, key: Sym },
}

struct Reader<'a> {
    lexer: Lexer<'a>,
    token: Token,
    /// What all open lists and sets have so far, one after the other: where the collector finds it.
    values: ValueVec,
}

impl Reader<'_> {
    fn next(&mut self) -> EvalResult<()> {
        self.token = self.lexer.scan();
        Ok(())
    }

    fn document(&mut self) -> EvalResult<Value> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            let mut value = match self.opening_or_value(&mut open)? {
                Some(value) => value,
                None => continue,
            };
            // A finished value goes into what is open, which may finish that in turn.
            loop {
                let Some(top) = open.last_mut() else {
                    self.next()?;
                    if self.token != Token::End {
                        return Err(self.syntax(Some(Token::End), "value"));
                    }
                    return Ok(value);
                };
                let closing = match top {
                    Open::Array { .. } => {
                        self.values.push(value);
                        Token::EndArray
                    }
                    Open::Object { first, keys, names, key } => {
                        // The last of several values under one name counts.
                        match keys.get(key) {
                            Some(place) => self.values.as_mut_slice()[*first + *place] = value,
                            None => {
                                keys.insert(*key, names.len());
                                names.push(*key);
                                self.values.push(value);
                            }
                        }
                        Token::EndObject
                    }
                };
                self.next()?;
                if self.token == Token::Comma {
                    self.next()?;
                    if let Some(Open::Object { key, .. }) = open.last_mut() {
                        *key = self.key()?;
                    }
                    break;
                }
                if self.token != closing {
                    let context = if closing == Token::EndArray { "array" } else { "object" };
                    return Err(self.syntax(Some(closing), context));
                }
                value = match open.pop() {
                    Some(Open::Array { first }) => self.close(first, Value::list),
                    Some(Open::Object { first, names, .. }) => {
                        self.close(first, |values| object(&names, values))
                    }
                    None => Value::NULL,
                };
            }
        }
    }

    /// Makes a list or set of the values from `first` on.
    fn close(&mut self, first: usize, make: impl FnOnce(&[Value]) -> Value) -> Value {
        let value = make(&self.values.as_slice()[first..]);
        self.values.truncate(first);
        value
    }

    /// A value that the current token is; `None` when it opens a list or set that is not empty.
    fn opening_or_value(&mut self, open: &mut Vec<Open>) -> EvalResult<Option<Value>> {
        Ok(Some(match self.token {
            Token::Null => Value::NULL,
            Token::True => Value::TRUE,
            Token::False => Value::FALSE,
            Token::Str => Value::str(&self.text()?),
            Token::Number(number) => self.number(number)?,
            Token::BeginArray => {
                self.next()?;
                if self.token != Token::EndArray {
                    open.push(Open::Array { first: self.values.len() });
                    return Ok(None);
                }
                Value::EMPTY_LIST
            }
            Token::BeginObject => {
                self.next()?;
                if self.token != Token::EndObject {
                    let key = self.key()?;
                    open.push(Open::Object {
                        first: self.values.len(),
                        keys: Default::default(),
                        names: Vec::new(),
                        key,
                    });
                    return Ok(None);
                }
                AttrsBuilder::new().finish()
            }
            Token::Bad => return Err(self.syntax(None, "value")),
            Token::End if self.lexer.total == 1 => {
                return Err(self.parse_error(
                    "attempting to parse an empty input; check that your input string or stream contains the expected JSON",
                ));
            }
            _ => return Err(self.syntax(Some(Token::AnyValue), "value")),
        }))
    }

    /// The current token as a key, and the colon after it; ends at the value.
    fn key(&mut self) -> EvalResult<Sym> {
        if self.token != Token::Str {
            return Err(self.syntax(Some(Token::Str), "object key"));
        }
        let key = Sym::new(&self.text()?);
        self.next()?;
        if self.token != Token::Colon {
            return Err(self.syntax(Some(Token::Colon), "object separator"));
        }
        self.next()?;
        Ok(key)
    }

    fn text(&mut self) -> EvalResult<Vec<u8>> {
        let text = std::mem::take(&mut self.lexer.string);
        crate::coerce::no_nul(&text, Pos::NONE)?;
        Ok(text)
    }

    fn number(&self, number: Number) -> EvalResult<Value> {
        match number {
            Number::Int(n) => Ok(Value::int(n)),
            Number::Unsigned(n) => Err(EvalError::new(
                ErrorKind::Eval,
                format!("unsigned json number {n} outside of Nix integer range"),
            )),
            Number::Float(bits) if f64::from_bits(bits).is_finite() => Ok(Value::float(f64::from_bits(bits))),
            Number::Float(_) => Err(decoding(format!(
                "[json.exception.out_of_range.406] number overflow parsing '{}'",
                self.lexer.token_text()
            ))),
        }
    }

    fn syntax(&self, expected: Option<Token>, context: &str) -> EvalError {
        let mut message = format!("syntax error while parsing {context} - ");
        if self.token == Token::Bad {
            let last = self.lexer.token_text();
            message.push_str(&format!("{}; last read: '{last}'", self.lexer.error));
        } else {
            message.push_str(&format!("unexpected {}", self.token.name()));
        }
        if let Some(expected) = expected {
            message.push_str(&format!("; expected {}", expected.name()));
        }
        self.parse_error(&message)
    }

    fn parse_error(&self, what: &str) -> EvalError {
        let (line, column) = (self.lexer.lines + 1, self.lexer.column);
        decoding(format!(
            "[json.exception.parse_error.101] parse error at line {line}, column {column}: {what}"
        ))
    }
}

#[cold]
fn decoding(message: String) -> EvalError {
    EvalError::new(ErrorKind::Eval, message).context(Pos::NONE, "while decoding a JSON string")
}

fn object(names: &[Sym], values: &[Value]) -> Value {
    let mut out = AttrsBuilder::with_capacity(names.len());
    for (name, value) in names.iter().zip(values) {
        out.push(*name, *value);
    }
    out.finish()
}

/// Cuts tokens, and counts as the reference's library does, which its messages show.
struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    /// Bytes read, the end included.
    total: usize,
    lines: usize,
    column: usize,
    /// Where what errors call "last read" begins.
    token_start: usize,
    string: Vec<u8>,
    error: &'static str,
}

/// A byte, or the end.
type Byte = Option<u8>;

impl<'a> Lexer<'a> {
    fn new(text: &'a [u8]) -> Self {
        Lexer { text, at: 0, total: 0, lines: 0, column: 0, token_start: 0, string: Vec::new(), error: "" }
    }

    fn get(&mut self) -> Byte {
        self.total += 1;
        self.column += 1;
        let byte = self.text.get(self.at).copied();
        self.at += 1;
        if byte == Some(b'\n') {
            self.lines += 1;
            self.column = 0;
        }
        byte
    }

    fn unget(&mut self) {
        self.total -= 1;
        self.at -= 1;
        if self.column == 0 {
            self.lines = self.lines.saturating_sub(1);
        } else {
            self.column -= 1;
        }
    }

    /// What was last read, control characters made visible.
    fn token_text(&self) -> String {
        let mut out = Vec::new();
        for c in &self.text[self.token_start.min(self.text.len())..self.at.min(self.text.len())] {
            if *c <= 0x1f {
                out.extend_from_slice(format!("<U+{c:04X}>").as_bytes());
            } else {
                out.push(*c);
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    fn bad(&mut self, error: &'static str) -> Token {
        self.error = error;
        Token::Bad
    }

    fn scan(&mut self) -> Token {
        if self.total == 0 && self.text.first() == Some(&0xef) {
            self.get();
            if self.get() != Some(0xbb) || self.get() != Some(0xbf) {
                return self.bad("invalid BOM; must be 0xEF 0xBB 0xBF if given");
            }
        }
        let mut byte = self.get();
        while matches!(byte, Some(b' ' | b'\t' | b'\n' | b'\r')) {
            byte = self.get();
        }
        match byte {
            Some(b'[') => Token::BeginArray,
            Some(b']') => Token::EndArray,
            Some(b'{') => Token::BeginObject,
            Some(b'}') => Token::EndObject,
            Some(b':') => Token::Colon,
            Some(b',') => Token::Comma,
            Some(b't') => self.literal(b"rue", Token::True),
            Some(b'f') => self.literal(b"alse", Token::False),
            Some(b'n') => self.literal(b"ull", Token::Null),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(0) | None => Token::End,
            Some(_) => self.bad("invalid literal"),
        }
    }

    fn literal(&mut self, rest: &[u8], token: Token) -> Token {
        for c in rest {
            if self.get() != Some(*c) {
                return self.bad("invalid literal");
            }
        }
        token
    }

    /// Reads digits; gives the byte after them.
    fn digits(&mut self) -> Byte {
        loop {
            let byte = self.get();
            if !byte.is_some_and(|c| c.is_ascii_digit()) {
                return byte;
            }
        }
    }

    fn number(&mut self) -> Token {
        self.token_start = self.at - 1;
        let is_digit = |byte: Byte| byte.is_some_and(|c| c.is_ascii_digit());
        let mut first = self.text.get(self.at - 1).copied();
        if first == Some(b'-') {
            first = self.get();
            if !is_digit(first) {
                return self.bad("invalid number; expected digit after '-'");
            }
        }
        let mut next = if first == Some(b'0') { self.get() } else { self.digits() };
        let mut float = false;
        if next == Some(b'.') {
            float = true;
            if !is_digit(self.get()) {
                return self.bad("invalid number; expected digit after '.'");
            }
            next = self.digits();
        }
        if matches!(next, Some(b'e' | b'E')) {
            float = true;
            let sign = self.get();
            if matches!(sign, Some(b'+' | b'-')) {
                if !is_digit(self.get()) {
                    return self.bad("invalid number; expected digit after exponent sign");
                }
            } else if !is_digit(sign) {
                return self.bad("invalid number; expected '+', '-', or digit after exponent");
            }
            self.digits();
        }
        self.unget();
        let text = std::str::from_utf8(&self.text[self.token_start..self.at]).unwrap_or_default();
        if !float {
            if let Ok(n) = text.parse::<i64>() {
                return Token::Number(Number::Int(n));
            }
            if let Ok(n) = text.parse::<u64>() {
                return Token::Number(Number::Unsigned(n));
            }
        }
        Token::Number(Number::Float(text.parse::<f64>().unwrap_or(f64::INFINITY).to_bits()))
    }

    fn string(&mut self) -> Token {
        self.token_start = self.at - 1;
        self.string.clear();
        loop {
            let Some(byte) = self.get() else {
                return self.bad("invalid string: missing closing quote");
            };
            match byte {
                b'"' => return Token::Str,
                b'\\' => {
                    if let Err(error) = self.escape() {
                        return self.bad(error);
                    }
                }
                0..=0x1f => return self.bad(CONTROL[byte as usize]),
                0x20..=0x7f => self.string.push(byte),
                _ => {
                    self.string.push(byte);
                    if !self.continuation(byte) {
                        return self.bad("invalid string: ill-formed UTF-8 byte");
                    }
                }
            }
        }
    }

    /// The bytes that follow the first byte of a character.
    fn continuation(&mut self, first: u8) -> bool {
        const ANY: (u8, u8) = (0x80, 0xbf);
        let ranges: &[(u8, u8)] = match first {
            0xc2..=0xdf => &[ANY],
            0xe0 => &[(0xa0, 0xbf), ANY],
            0xed => &[(0x80, 0x9f), ANY],
            0xe1..=0xef => &[ANY, ANY],
            0xf0 => &[(0x90, 0xbf), ANY, ANY],
            0xf1..=0xf3 => &[ANY, ANY, ANY],
            0xf4 => &[(0x80, 0x8f), ANY, ANY],
            _ => return false,
        };
        for (low, high) in ranges {
            match self.get() {
                Some(c) if (*low..=*high).contains(&c) => self.string.push(c),
                _ => return false,
            }
        }
        true
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        let plain = match self.get() {
            Some(c @ (b'"' | b'\\' | b'/')) => c,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let c = self.code_point()?;
                self.string.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err("invalid string: forbidden character after backslash"),
        };
        self.string.push(plain);
        Ok(())
    }

    fn code_point(&mut self) -> Result<char, &'static str> {
        const LONE_HIGH: &str = "invalid string: surrogate U+D800..U+DBFF must be followed by U+DC00..U+DFFF";
        let first = self.hex4()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first)
                .ok_or("invalid string: surrogate U+DC00..U+DFFF must follow U+D800..U+DBFF");
        }
        if self.get() != Some(b'\\') || self.get() != Some(b'u') {
            return Err(LONE_HIGH);
        }
        let second = self.hex4()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(LONE_HIGH);
        }
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(LONE_HIGH)
    }

    fn hex4(&mut self) -> Result<u32, &'static str> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.get().and_then(|c| (c as char).to_digit(16));
            code = code * 16 + digit.ok_or("invalid string: '\\u' must be followed by 4 hex digits")?;
        }
        Ok(code)
    }
}

macro_rules! control {
    ($($code:literal $name:literal $($short:literal)?;)*) => {
        [$(concat!("invalid string: control character U+", $code, " (", $name, ") must be escaped to \\u", $code $(, " or ", $short)?)),*]
    };
}

/// What is wrong with each control character in a string.
static CONTROL: [&str; 32] = control! {
    "0000" "NUL"; "0001" "SOH"; "0002" "STX"; "0003" "ETX"; "0004" "EOT"; "0005" "ENQ"; "0006" "ACK"; "0007" "BEL";
    "0008" "BS" "\\b"; "0009" "HT" "\\t"; "000A" "LF" "\\n"; "000B" "VT"; "000C" "FF" "\\f"; "000D" "CR" "\\r";
    "000E" "SO"; "000F" "SI"; "0010" "DLE"; "0011" "DC1"; "0012" "DC2"; "0013" "DC3"; "0014" "DC4"; "0015" "NAK";
    "0016" "SYN"; "0017" "ETB"; "0018" "CAN"; "0019" "EM"; "001A" "SUB"; "001B" "ESC"; "001C" "FS"; "001D" "GS";
    "001E" "RS"; "001F" "US";
};

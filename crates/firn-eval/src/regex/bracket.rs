//! Bracket expressions: `[a-z]`, `[^[:space:]_]`, `[[=a=][.hyphen.]]`.

use super::RegexError;
use super::program::ByteSet;

const UNFINISHED: RegexError = RegexError::Invalid("unexpected end inside a bracket expression");
const BAD_RANGE: RegexError = RegexError::Invalid("invalid range in a bracket expression");

/// POSIX names of the ASCII characters that are not their own name, in order of code.
const NAMES: &[(&str, u8)] = &[
    ("NUL", 0x00),
    ("SOH", 0x01),
    ("STX", 0x02),
    ("ETX", 0x03),
    ("EOT", 0x04),
    ("ENQ", 0x05),
    ("ACK", 0x06),
    ("alert", 0x07),
    ("backspace", 0x08),
    ("tab", 0x09),
    ("newline", 0x0a),
    ("vertical-tab", 0x0b),
    ("form-feed", 0x0c),
    ("carriage-return", 0x0d),
    ("SO", 0x0e),
    ("SI", 0x0f),
    ("DLE", 0x10),
    ("DC1", 0x11),
    ("DC2", 0x12),
    ("DC3", 0x13),
    ("DC4", 0x14),
    ("NAK", 0x15),
    ("SYN", 0x16),
    ("ETB", 0x17),
    ("CAN", 0x18),
    ("EM", 0x19),
    ("SUB", 0x1a),
    ("ESC", 0x1b),
    ("IS4", 0x1c),
    ("IS3", 0x1d),
    ("IS2", 0x1e),
    ("IS1", 0x1f),
    ("space", 0x20),
    ("exclamation-mark", 0x21),
    ("quotation-mark", 0x22),
    ("number-sign", 0x23),
    ("dollar-sign", 0x24),
    ("percent-sign", 0x25),
    ("ampersand", 0x26),
    ("apostrophe", 0x27),
    ("left-parenthesis", 0x28),
    ("right-parenthesis", 0x29),
    ("asterisk", 0x2a),
    ("plus-sign", 0x2b),
    ("comma", 0x2c),
    ("hyphen", 0x2d),
    ("period", 0x2e),
    ("slash", 0x2f),
    ("zero", 0x30),
    ("one", 0x31),
    ("two", 0x32),
    ("three", 0x33),
    ("four", 0x34),
    ("five", 0x35),
    ("six", 0x36),
    ("seven", 0x37),
    ("eight", 0x38),
    ("nine", 0x39),
    ("colon", 0x3a),
    ("semicolon", 0x3b),
    ("less-than-sign", 0x3c),
    ("equals-sign", 0x3d),
    ("greater-than-sign", 0x3e),
    ("question-mark", 0x3f),
    ("commercial-at", 0x40),
    ("left-square-bracket", 0x5b),
    ("backslash", 0x5c),
    ("right-square-bracket", 0x5d),
    ("circumflex", 0x5e),
    ("underscore", 0x5f),
    ("grave-accent", 0x60),
    ("left-curly-bracket", 0x7b),
    ("vertical-line", 0x7c),
    ("right-curly-bracket", 0x7d),
    ("tilde", 0x7e),
    ("DEL", 0x7f),
];

fn collating_element(name: &[u8]) -> Result<u8, RegexError> {
    if let [letter] = name {
        if letter.is_ascii_alphabetic() {
            return Ok(*letter);
        }
    }
    let found = NAMES.iter().find(|(known, _)| known.as_bytes() == name);
    found.map(|(_, byte)| *byte).ok_or(RegexError::Invalid("invalid collating element"))
}

fn class(name: &[u8]) -> Result<fn(u8) -> bool, RegexError> {
    let name = name.to_ascii_lowercase();
    Ok(match name.as_slice() {
        b"alnum" => |byte| byte.is_ascii_alphanumeric(),
        b"alpha" => |byte| byte.is_ascii_alphabetic(),
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => |byte| byte.is_ascii_control(),
        b"d" | b"digit" => |byte| byte.is_ascii_digit(),
        b"graph" => |byte| byte.is_ascii_graphic(),
        b"lower" => |byte| byte.is_ascii_lowercase(),
        b"print" => |byte| byte.is_ascii_graphic() || byte == b' ',
        b"punct" => |byte| byte.is_ascii_punctuation(),
        b"s" | b"space" => |byte| matches!(byte, b' ' | 0x09..=0x0d),
        b"upper" => |byte| byte.is_ascii_uppercase(),
        b"w" => |byte| byte.is_ascii_alphanumeric() || byte == b'_',
        b"xdigit" => |byte| byte.is_ascii_hexdigit(),
        _ => return Err(RegexError::Invalid("invalid character class")),
    })
}

/// What the parser saw last, which a dash may extend to a range.
enum Last {
    Nothing,
    Byte(u8),
    Class,
}

enum Token<'p> {
    Byte(u8),
    Dash,
    Collating(&'p [u8]),
    Equivalence(&'p [u8]),
    Class(&'p [u8]),
    End,
}

struct Scanner<'p> {
    pattern: &'p [u8],
    at: usize,
    at_start: bool,
}

impl<'p> Scanner<'p> {
    fn next(&mut self) -> Result<Token<'p>, RegexError> {
        let byte = *self.pattern.get(self.at).ok_or(UNFINISHED)?;
        self.at += 1;
        let at_start = std::mem::replace(&mut self.at_start, false);
        match byte {
            b'-' => Ok(Token::Dash),
            b'[' => {
                let kind = *self.pattern.get(self.at).ok_or(UNFINISHED)?;
                let token: fn(&'p [u8]) -> Token<'p> = match kind {
                    b'.' => Token::Collating,
                    b':' => Token::Class,
                    b'=' => Token::Equivalence,
                    _ => return Ok(Token::Byte(byte)),
                };
                self.at += 1;
                let rest = self.pattern.get(self.at..).unwrap_or_default();
                let length = rest.iter().position(|byte| *byte == kind);
                let length = length.filter(|length| rest.get(length + 1) == Some(&b']'));
                let length =
                    length.ok_or(RegexError::Invalid("unfinished class inside a bracket expression"))?;
                self.at += length + 2;
                Ok(token(&rest[..length]))
            }
            b']' if !at_start => Ok(Token::End),
            _ => Ok(Token::Byte(byte)),
        }
    }
}

/// Parses what follows `[` or `[^` (`inverted`) at `*at`, which is moved behind the closing bracket.
pub fn parse(pattern: &[u8], at: &mut usize, inverted: bool) -> Result<ByteSet, RegexError> {
    let mut scanner = Scanner { pattern, at: *at, at_start: true };
    let mut set = ByteSet::EMPTY;
    let mut last = Last::Nothing;
    let mut first = true;
    loop {
        match scanner.next()? {
            Token::End => break,
            Token::Byte(byte) => push(&mut set, &mut last, byte),
            Token::Dash if std::mem::replace(&mut first, false) => last = Last::Byte(b'-'),
            Token::Collating(name) => push(&mut set, &mut last, collating_element(name)?),
            Token::Equivalence(name) => {
                push_class(&mut set, &mut last);
                let primary = collating_element(name)?.to_ascii_lowercase();
                insert_all(&mut set, |byte| byte.to_ascii_lowercase() == primary);
            }
            Token::Class(name) => {
                push_class(&mut set, &mut last);
                insert_all(&mut set, class(name)?);
            }
            Token::Dash => match (scanner.next()?, &last) {
                (Token::End, _) => {
                    push(&mut set, &mut last, b'-');
                    break;
                }
                (Token::Byte(to), Last::Byte(from)) => {
                    insert_range(&mut set, *from, to)?;
                    last = Last::Nothing;
                }
                (Token::Dash, Last::Byte(from)) => {
                    insert_range(&mut set, *from, b'-')?;
                    last = Last::Nothing;
                }
                _ => return Err(BAD_RANGE),
            },
        }
        first = false;
    }
    if let Last::Byte(byte) = last {
        set.insert(byte);
    }
    if inverted {
        set.invert();
    }
    *at = scanner.at;
    Ok(set)
}

fn push(set: &mut ByteSet, last: &mut Last, byte: u8) {
    if let Last::Byte(before) = std::mem::replace(last, Last::Byte(byte)) {
        set.insert(before);
    }
}

fn push_class(set: &mut ByteSet, last: &mut Last) {
    if let Last::Byte(before) = std::mem::replace(last, Last::Class) {
        set.insert(before);
    }
}

fn insert_all(set: &mut ByteSet, is_member: impl Fn(u8) -> bool) {
    for byte in (0..=255u8).filter(|byte| is_member(*byte)) {
        set.insert(byte);
    }
}

/// Bytes compare as signed characters do: those above 127 come before all others.
fn insert_range(set: &mut ByteSet, from: u8, to: u8) -> Result<(), RegexError> {
    let (from, to) = (from as i8, to as i8);
    if from > to {
        return Err(BAD_RANGE);
    }
    insert_all(set, |byte| (from..=to).contains(&(byte as i8)));
    Ok(())
}

//! Tokens, cut from the text on demand. Strings and paths are cut by the parser through the `*_part` methods,
//! because what follows `${` is an expression again.

use std::cell::Cell;

/// Kinds of token: those below [`Tok::End`] are the byte itself. One number, because a kind of two parts is slower to move
/// than a token is to find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tok(pub(crate) u8);

#[expect(non_upper_case_globals, reason = "they are read like the variants of an enum")]
impl Tok {
    /// A byte that is no part of the language.
    pub(crate) const Invalid: Tok = Tok(0x7f);
    pub(crate) const End: Tok = Tok(128);
    pub(crate) const Id: Tok = Tok(129);
    pub(crate) const Int: Tok = Tok(130);
    pub(crate) const Float: Tok = Tok(131);
    /// The first run of a path; the rest is cut by [`Lexer::path_run`].
    pub(crate) const Path: Tok = Tok(132);
    pub(crate) const HomePath: Tok = Tok(133);
    pub(crate) const SearchPath: Tok = Tok(134);
    pub(crate) const Uri: Tok = Tok(135);
    pub(crate) const If: Tok = Tok(136);
    pub(crate) const Then: Tok = Tok(137);
    pub(crate) const Else: Tok = Tok(138);
    pub(crate) const Assert: Tok = Tok(139);
    pub(crate) const With: Tok = Tok(140);
    pub(crate) const Let: Tok = Tok(141);
    pub(crate) const In: Tok = Tok(142);
    pub(crate) const Rec: Tok = Tok(143);
    pub(crate) const Inherit: Tok = Tok(144);
    pub(crate) const OrKw: Tok = Tok(145);
    pub(crate) const Eq: Tok = Tok(146);
    pub(crate) const Neq: Tok = Tok(147);
    pub(crate) const LessEq: Tok = Tok(148);
    pub(crate) const GreaterEq: Tok = Tok(149);
    pub(crate) const And: Tok = Tok(150);
    pub(crate) const Or: Tok = Tok(151);
    pub(crate) const Impl: Tok = Tok(152);
    pub(crate) const Update: Tok = Tok(153);
    pub(crate) const Concat: Tok = Tok(154);
    pub(crate) const PipeFrom: Tok = Tok(155);
    pub(crate) const PipeInto: Tok = Tok(156);
    pub(crate) const DollarCurly: Tok = Tok(157);
    pub(crate) const Quote: Tok = Tok(158);
    pub(crate) const IndentOpen: Tok = Tok(159);
    pub(crate) const Ellipsis: Tok = Tok(160);
}

impl Tok {
    /// As the reference names it after "unexpected" and "expecting".
    pub(crate) fn describe(self) -> String {
        match self {
            Tok::End => "end of file".into(),
            Tok::Id => "identifier".into(),
            Tok::Int => "integer".into(),
            Tok::Float => "floating-point literal".into(),
            Tok::Path => "path".into(),
            Tok::HomePath => "'~/…' path".into(),
            Tok::SearchPath => "'<…>' path".into(),
            Tok::Uri => "URI".into(),
            Tok::If => "'if'".into(),
            Tok::Then => "'then'".into(),
            Tok::Else => "'else'".into(),
            Tok::Assert => "'assert'".into(),
            Tok::With => "'with'".into(),
            Tok::Let => "'let'".into(),
            Tok::In => "'in'".into(),
            Tok::Rec => "'rec'".into(),
            Tok::Inherit => "'inherit'".into(),
            Tok::OrKw => "'or'".into(),
            Tok::Eq => "'=='".into(),
            Tok::Neq => "'!='".into(),
            Tok::LessEq => "'<='".into(),
            Tok::GreaterEq => "'>='".into(),
            Tok::And => "'&&'".into(),
            Tok::Or => "'||'".into(),
            Tok::Impl => "'->'".into(),
            Tok::Update => "'//'".into(),
            Tok::Concat => "'++'".into(),
            Tok::PipeFrom => "'<|'".into(),
            Tok::PipeInto => "'|>'".into(),
            Tok::DollarCurly => "'${'".into(),
            Tok::Quote => "'\"'".into(),
            Tok::IndentOpen => "start of an indented string".into(),
            Tok::Ellipsis => "'...'".into(),
            Tok(b) if b.is_ascii_graphic() || b == b' ' => format!("'{}'", b as char),
            _ => "invalid token".into(),
        }
    }
}

/// A token's kind and place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Tok,
    // Texts of more than 4 GiB are not parsed.
    start: u32,
    end: u32,
}

impl Token {
    #[inline(always)]
    pub(crate) fn new(kind: Tok, start: usize, end: usize) -> Token {
        Token { kind, start: start as u32, end: end as u32 }
    }

    #[inline(always)]
    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    #[inline(always)]
    pub(crate) fn end(self) -> usize {
        self.end as usize
    }
}

const ID_START: u8 = 1;
const ID_CHAR: u8 = 2;
const PATH_CHAR: u8 = 4;
const SCHEME_CHAR: u8 = 8;
const URI_CHAR: u8 = 16;
const SPACE: u8 = 32;

static CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 256 {
        let c = i as u8;
        let alnum = c.is_ascii_alphanumeric();
        let mut class = 0;
        if c.is_ascii_alphabetic() || c == b'_' {
            class |= ID_START;
        }
        if alnum || c == b'_' || c == b'\'' || c == b'-' {
            class |= ID_CHAR;
        }
        if alnum || matches!(c, b'.' | b'_' | b'-' | b'+') {
            class |= PATH_CHAR;
        }
        if alnum || matches!(c, b'+' | b'-' | b'.') {
            class |= SCHEME_CHAR;
        }
        if alnum
            || matches!(
                c,
                b'%' | b'/'
                    | b'?'
                    | b':'
                    | b'@'
                    | b'&'
                    | b'='
                    | b'+'
                    | b'$'
                    | b','
                    | b'-'
                    | b'_'
                    | b'.'
                    | b'!'
                    | b'~'
                    | b'*'
                    | b'\''
            )
        {
            class |= URI_CHAR;
        }
        if matches!(c, b' ' | b'\t' | b'\r' | b'\n') {
            class |= SPACE;
        }
        table[i] = class;
        i += 1;
    }
    table
};

fn is(c: u8, class: u8) -> bool {
    CLASS[c as usize] & class != 0
}

/// Whether the text is an identifier or a keyword.
pub(crate) fn is_word(text: &[u8]) -> bool {
    text.first().is_some_and(|first| is(*first, ID_START)) && text.iter().all(|c| is(*c, ID_CHAR))
}

pub(crate) struct Lexer<'a> {
    pub(crate) text: &'a [u8],
    /// Where the next token is looked for.
    pub(crate) at: usize,
    /// The runs of path and of scheme characters looked at last: each token of `a.b.c…` would look at all of
    /// the rest again.
    path_seen: Cell<(usize, usize)>,
    scheme_seen: Cell<(usize, usize)>,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Lexer { text, at: 0, path_seen: Cell::new((0, 0)), scheme_seen: Cell::new((0, 0)) }
    }

    #[inline]
    pub(crate) fn byte(&self, i: usize) -> u8 {
        self.text.get(i).copied().unwrap_or(0)
    }

    fn run(&self, mut i: usize, class: u8) -> usize {
        while i < self.text.len() && is(self.text[i], class) {
            i += 1;
        }
        i
    }

    /// [`Lexer::run`], where `seen` remembers the last one.
    fn run_once(&self, from: usize, class: u8, seen: &Cell<(usize, usize)>) -> usize {
        let (start, end) = seen.get();
        if (start..end).contains(&from) {
            return end;
        }
        let end = self.run(from, class);
        seen.set((from, end));
        end
    }

    /// Skips white space and comments.
    pub(crate) fn skip_blank(&mut self) {
        loop {
            self.at = self.run(self.at, SPACE);
            match self.byte(self.at) {
                b'#' => {
                    let rest = &self.text[self.at..];
                    self.at += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                }
                b'/' if self.byte(self.at + 1) == b'*' => {
                    match memchr::memmem::find(&self.text[self.at + 2..], b"*/") {
                        Some(n) => self.at += n + 4,
                        None => return,
                    }
                }
                _ => return,
            }
        }
    }

    /// The first byte after white space and comments, without moving.
    pub(crate) fn peek_byte(&mut self) -> u8 {
        let at = self.at;
        self.skip_blank();
        let byte = self.byte(self.at);
        self.at = at;
        byte
    }

    pub(crate) fn next(&mut self) -> Token {
        self.skip_blank();
        let start = self.at;
        if start >= self.text.len() {
            return Token::new(Tok::End, self.text.len(), self.text.len());
        }
        let c = self.text[start];
        let (kind, end) = if is(c, ID_START) { self.word(start) } else { self.other(start, c) };
        self.at = end;
        Token::new(kind, start, end)
    }

    fn word(&self, start: usize) -> (Tok, usize) {
        let id_end = self.run(start, ID_CHAR);
        match self.byte(id_end) {
            b'.' | b'+' | b'/' | b':' => {
                let mut best = (None, id_end);
                if let Some(end) = self.path_end(start) {
                    if end > best.1 {
                        best = (Some(Tok::Path), end);
                    }
                }
                if let Some(end) = self.uri_end(start) {
                    if end > best.1 {
                        best = (Some(Tok::Uri), end);
                    }
                }
                if let Some(kind) = best.0 {
                    return (kind, best.1);
                }
            }
            _ => {}
        }
        (keyword(&self.text[start..id_end]), id_end)
    }

    /// The end of the longest path token at `start`; `${` may follow a trailing slash.
    pub(crate) fn path_end(&self, start: usize) -> Option<usize> {
        let mut i = self.run_once(start, PATH_CHAR, &self.path_seen);
        let mut matched = None;
        while self.byte(i) == b'/' {
            let end = self.run(i + 1, PATH_CHAR);
            if end == i + 1 {
                if matched.is_some() {
                    return Some(i + 1);
                }
                break;
            }
            matched = Some(end);
            i = end;
        }
        if matched.is_none() && self.byte(i) == b'/' && self.text[i + 1..].starts_with(b"${") {
            return Some(i + 1);
        }
        matched
    }

    fn uri_end(&self, start: usize) -> Option<usize> {
        if !self.text[start].is_ascii_alphabetic() {
            return None;
        }
        let colon = self.run_once(start + 1, SCHEME_CHAR, &self.scheme_seen);
        if self.byte(colon) != b':' {
            return None;
        }
        let end = self.run(colon + 1, URI_CHAR);
        (end > colon + 1).then_some(end)
    }

    fn number(&self, start: usize) -> (Tok, usize) {
        let mut digits = start;
        while self.byte(digits).is_ascii_digit() {
            digits += 1;
        }
        let mut end = digits;
        let mut kind = Tok::Int;
        let leading_ok = digits == start || (self.text[start] != b'0') || (digits == start + 1);
        if self.byte(digits) == b'.' && leading_ok {
            let mut fraction = digits + 1;
            while self.byte(fraction).is_ascii_digit() {
                fraction += 1;
            }
            let has_fraction = fraction > digits + 1;
            let nonzero_lead = digits > start && self.text[start] != b'0';
            if has_fraction || nonzero_lead {
                kind = Tok::Float;
                end = fraction;
                if matches!(self.byte(end), b'e' | b'E') {
                    let mut exponent = end + 1;
                    if matches!(self.byte(exponent), b'+' | b'-') {
                        exponent += 1;
                    }
                    let first = exponent;
                    while self.byte(exponent).is_ascii_digit() {
                        exponent += 1;
                    }
                    if exponent > first {
                        end = exponent;
                    }
                }
            }
        }
        if let Some(path) = self.path_end(start) {
            if path > end {
                return (Tok::Path, path);
            }
        }
        (kind, end)
    }

    fn other(&self, start: usize, c: u8) -> (Tok, usize) {
        let second = self.byte(start + 1);
        let two = |kind| (kind, start + 2);
        match c {
            b'0'..=b'9' => self.number(start),
            b'.' => {
                if let Some(end) = self.path_end(start) {
                    return (Tok::Path, end);
                }
                if second == b'.' && self.byte(start + 2) == b'.' {
                    return (Tok::Ellipsis, start + 3);
                }
                if second.is_ascii_digit() {
                    return self.number(start);
                }
                (Tok(c), start + 1)
            }
            b'+' | b'-' => {
                if let Some(end) = self.path_end(start) {
                    return (Tok::Path, end);
                }
                match (c, second) {
                    (b'+', b'+') => two(Tok::Concat),
                    (b'-', b'>') => two(Tok::Impl),
                    _ => (Tok(c), start + 1),
                }
            }
            b'/' => {
                if let Some(end) = self.path_end(start) {
                    return (Tok::Path, end);
                }
                if second == b'/' { two(Tok::Update) } else { (Tok(c), start + 1) }
            }
            b'~' => {
                if second == b'/' {
                    let mut end = self.run(start + 2, PATH_CHAR);
                    if end > start + 2 {
                        while self.byte(end) == b'/' {
                            let next = self.run(end + 1, PATH_CHAR);
                            if next == end + 1 {
                                return (Tok::HomePath, end + 1);
                            }
                            end = next;
                        }
                        return (Tok::HomePath, end);
                    }
                    if self.text[start + 2..].starts_with(b"${") {
                        return (Tok::HomePath, start + 2);
                    }
                }
                (Tok(c), start + 1)
            }
            b'<' => {
                let mut i = self.run(start + 1, PATH_CHAR);
                if i > start + 1 {
                    loop {
                        match self.byte(i) {
                            b'>' => return (Tok::SearchPath, i + 1),
                            b'/' => {
                                let next = self.run(i + 1, PATH_CHAR);
                                if next == i + 1 {
                                    break;
                                }
                                i = next;
                            }
                            _ => break,
                        }
                    }
                }
                match second {
                    b'=' => two(Tok::LessEq),
                    b'|' => two(Tok::PipeFrom),
                    _ => (Tok(c), start + 1),
                }
            }
            b'=' if second == b'=' => two(Tok::Eq),
            b'!' if second == b'=' => two(Tok::Neq),
            b'>' if second == b'=' => two(Tok::GreaterEq),
            b'&' if second == b'&' => two(Tok::And),
            b'|' if second == b'|' => two(Tok::Or),
            b'|' if second == b'>' => two(Tok::PipeInto),
            b'$' if second == b'{' => two(Tok::DollarCurly),
            b'"' => (Tok::Quote, start + 1),
            b'\'' if second == b'\'' => {
                // Spaces and the line break right after the opening quotes are not part of the string.
                let mut end = start + 2;
                while self.byte(end) == b' ' {
                    end += 1;
                }
                if self.byte(end) == b'\n' { (Tok::IndentOpen, end + 1) } else { two(Tok::IndentOpen) }
            }
            _ => (Tok(c.min(Tok::Invalid.0)), start + 1),
        }
    }

    /// Consumes path characters and slashes after the first run of a path.
    pub(crate) fn path_run(&mut self) -> (usize, usize) {
        let start = self.at;
        while self.at < self.text.len() && (is(self.text[self.at], PATH_CHAR) || self.text[self.at] == b'/') {
            self.at += 1;
        }
        (start, self.at)
    }
}

fn keyword(word: &[u8]) -> Tok {
    match word {
        b"if" => Tok::If,
        b"then" => Tok::Then,
        b"else" => Tok::Else,
        b"assert" => Tok::Assert,
        b"with" => Tok::With,
        b"let" => Tok::Let,
        b"in" => Tok::In,
        b"rec" => Tok::Rec,
        b"inherit" => Tok::Inherit,
        b"or" => Tok::OrKw,
        _ => Tok::Id,
    }
}

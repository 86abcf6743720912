//! Strings, indented strings and paths: what stands between `${` and `}` is parsed as an expression again.

use super::{PResult, Parser, SyntaxError};
use crate::ast::*;
use crate::indent::Piece;
use crate::lexer::{Tok, Token};

impl<'a> Parser<'a> {
    /// The text of a `"` string that is written as it is meant; the opening quote is the current token. Leaves the lexer
    /// after the closing quote, or where it was if the string is not of that kind.
    pub(super) fn plain_string(&mut self) -> Option<&'a [u8]> {
        let rest = &self.lexer.text[self.lexer.at..];
        let end = rest.iter().position(|c| matches!(c, b'"' | b'$' | b'\\' | b'\r' | 0))?;
        if rest[end] != b'"' {
            return None;
        }
        self.lexer.at += end + 1;
        Some(&rest[..end])
    }
}

impl Parser<'_> {
    pub(super) fn interpolation(
        &mut self,
        kind: InterpKind,
        parts: Vec<(u32, StringPart)>,
        pos: usize,
    ) -> NodeId {
        let positions: Vec<Offset> = parts.iter().map(|(pos, _)| *pos).collect();
        let nodes: Vec<NodeId> = parts
            .into_iter()
            .map(|(pos, part)| match part {
                StringPart::Text(text) => {
                    let text = self.add_text(&text);
                    self.add(Node::Str(text), pos as usize)
                }
                StringPart::Expr(node) => node,
            })
            .collect();
        let parts = self.add_list(&nodes);
        self.ast.tables.list_positions[parts.start as usize..].copy_from_slice(&positions);
        self.add(Node::Interp { kind, parts }, pos)
    }

    /// After `${`: the expression and its closing brace; leaves the lexer right after the brace.
    pub(super) fn antiquotation(&mut self) -> PResult<NodeId> {
        self.advance()?;
        let node = self.expr()?;
        if !self.at(b'}') {
            return Err(self.unexpected(&["'}'"]));
        }
        self.lexer.at = self.tok.end();
        Ok(node)
    }

    /// A run of text, as the reference's lexer cuts it, holds a null byte.
    fn nul_error(&self, at: usize, indented: bool) -> SyntaxError {
        let run = match indented {
            true => indented_run(&self.lexer.text[at..]),
            false => string_run(&self.lexer.text[at..]),
        };
        self.error_at(at, crate::nul_message(&run))
    }

    /// The parts of a `"` string; the opening quote is the current token. Leaves the lexer after the closing quote.
    pub(super) fn string_parts(&mut self) -> PResult<Vec<(u32, StringPart)>> {
        let mut parts = Vec::new();
        let mut text: Vec<u8> = Vec::new();
        let mut start = self.lexer.at;
        loop {
            let rest = &self.lexer.text[self.lexer.at..];
            let plain =
                rest.iter().position(|c| matches!(c, b'"' | b'$' | b'\\' | b'\r' | 0)).unwrap_or(rest.len());
            text.extend_from_slice(&rest[..plain]);
            self.lexer.at += plain;
            let at = self.lexer.at;
            if at >= self.lexer.text.len() {
                self.tok = Token::new(Tok::End, at, at);
                return Err(self.unexpected(&["'\"'"]));
            }
            match self.lexer.text[at] {
                b'"' => {
                    self.lexer.at += 1;
                    if !text.is_empty() {
                        parts.push((start as u32, StringPart::Text(text)));
                    }
                    return Ok(parts);
                }
                b'\\' => {
                    let Some(&escaped) = self.lexer.text.get(at + 1) else {
                        self.lexer.at += 1;
                        continue;
                    };
                    if escaped == 0 {
                        return Err(self.nul_error(start, false));
                    }
                    text.push(unescape(escaped));
                    self.lexer.at += 2;
                }
                b'\r' => {
                    text.push(b'\n');
                    self.lexer.at += if self.lexer.byte(at + 1) == b'\n' { 2 } else { 1 };
                }
                b'$' => match self.lexer.byte(at + 1) {
                    b'{' => {
                        if !text.is_empty() {
                            parts.push((start as u32, StringPart::Text(std::mem::take(&mut text))));
                        }
                        self.lexer.at += 2;
                        let node = self.antiquotation()?;
                        parts.push((at as u32, StringPart::Expr(node)));
                        start = self.lexer.at;
                    }
                    // `$$` is text, so that `$${` does not interpolate.
                    b'$' => {
                        text.extend_from_slice(b"$$");
                        self.lexer.at += 2;
                    }
                    _ => {
                        text.push(b'$');
                        self.lexer.at += 1;
                    }
                },
                _ => return Err(self.nul_error(start, false)),
            }
        }
    }

    /// The parts of an indented string, as the reference's lexer cuts them: escapes do not count as indentation.
    pub(super) fn indented_parts(&mut self) -> PResult<Vec<(u32, Piece<NodeId>)>> {
        let mut parts = Vec::new();
        let mut text: Vec<u8> = Vec::new();
        let mut start = self.lexer.at;
        let flush = |parts: &mut Vec<_>, text: &mut Vec<u8>, start: usize| {
            if !text.is_empty() {
                parts.push((start as u32, Piece::Text { text: std::mem::take(text), raw: true }));
            }
        };
        loop {
            let rest = &self.lexer.text[self.lexer.at..];
            let plain = memchr::memchr3(b'\'', b'$', 0, rest).unwrap_or(rest.len());
            text.extend_from_slice(&rest[..plain]);
            self.lexer.at += plain;
            let at = self.lexer.at;
            if at >= self.lexer.text.len() {
                self.tok = Token::new(Tok::End, at, at);
                return Err(self.unexpected(&["end of an indented string"]));
            }
            let (second, third) = (self.lexer.byte(at + 1), self.lexer.byte(at + 2));
            match (self.lexer.text[at], second) {
                (b'\'', b'\'') => {
                    let escaped: &[u8] = match third {
                        b'$' => b"$",
                        b'\'' => b"''",
                        b'\\' => {
                            let Some(&c) = self.lexer.text.get(at + 3) else {
                                self.lexer.at += 2;
                                continue;
                            };
                            if c == 0 {
                                return Err(self.error_at(at, crate::nul_message(&[0])));
                            }
                            flush(&mut parts, &mut text, start);
                            parts.push((at as u32, Piece::Text { text: vec![unescape(c)], raw: false }));
                            self.lexer.at += 4;
                            start = self.lexer.at;
                            continue;
                        }
                        _ => {
                            self.lexer.at += 2;
                            flush(&mut parts, &mut text, start);
                            return Ok(parts);
                        }
                    };
                    flush(&mut parts, &mut text, start);
                    parts.push((at as u32, Piece::Text { text: escaped.to_vec(), raw: false }));
                    self.lexer.at += 3;
                    start = self.lexer.at;
                }
                (b'\'', b'$') => {
                    // The reference's lexer ends its run of text here, and the quote becomes escaped text.
                    flush(&mut parts, &mut text, start);
                    parts.push((at as u32, Piece::Text { text: b"'".to_vec(), raw: false }));
                    self.lexer.at += 1;
                    start = self.lexer.at;
                }
                (b'\'', _) => {
                    // A quote and the byte after it are text.
                    text.push(b'\'');
                    self.lexer.at += 1;
                    if at + 1 < self.lexer.text.len() && second != 0 {
                        text.push(second);
                        self.lexer.at += 1;
                    }
                }
                (b'$', b'{') => {
                    flush(&mut parts, &mut text, start);
                    self.lexer.at += 2;
                    let node = self.antiquotation()?;
                    parts.push((at as u32, Piece::Expr(node)));
                    start = self.lexer.at;
                }
                (b'$', b'\'') => {
                    flush(&mut parts, &mut text, start);
                    parts.push((at as u32, Piece::Text { text: b"$".to_vec(), raw: false }));
                    self.lexer.at += 1;
                    start = self.lexer.at;
                }
                (b'$', c) => {
                    text.push(b'$');
                    self.lexer.at += 1;
                    if at + 1 < self.lexer.text.len() && c != 0 {
                        text.push(c);
                        self.lexer.at += 1;
                    }
                }
                _ => return Err(self.nul_error(start, true)),
            }
        }
    }

    fn lint_path(&mut self, tok: Token) -> PResult<()> {
        let literal = self.text_of(tok);
        let lints = self.options.lints;
        let shown = || String::from_utf8_lossy(literal);
        let (name, level, from) = match literal.first() {
            Some(b'/') => ("lint-absolute-path-literals", lints.absolute_path_literals, "absolute"),
            Some(b'~') => ("lint-absolute-path-literals", lints.absolute_path_literals, "home"),
            Some(b'.') => return Ok(()),
            _ => ("lint-short-path-literals", lints.short_path_literals, "relative"),
        };
        self.lint(level, name, tok.start(), |_| match from {
            "relative" => format!(
                "relative path literal '{0}' should be prefixed with '.' for clarity: './{0}'",
                shown()
            ),
            _ => format!(
                "{from} path literals are not portable. Consider replacing path literal '{}' by a string, relative path, or parameter",
                shown()
            ),
        })
    }

    pub(super) fn path(&mut self, tok: Token) -> PResult<NodeId> {
        let home = tok.kind == Tok::HomePath;
        self.lint_path(tok)?;
        self.lexer.at = tok.end();
        // Slashes and path characters that the first token could not take (`a//b`) still belong to it.
        let (_, mut end) = self.lexer.path_run();
        let mut parts: Vec<(u32, StringPart)> = Vec::new();
        let mut literal = self.lexer.text[tok.start()..tok.end()].to_vec();
        if end > tok.end() {
            if !self.lexer.text[end..].starts_with(b"${") {
                return Err(
                    self.error_at(tok.start(), "syntax error, unexpected end of path, expecting '${'")
                );
            }
            literal.extend_from_slice(&self.lexer.text[tok.end()..end]);
        }
        while self.lexer.text[self.lexer.at..].starts_with(b"${") {
            let at = self.lexer.at;
            self.lexer.at += 2;
            let node = self.antiquotation()?;
            parts.push((at as u32, StringPart::Expr(node)));
            let (start, stop) = self.lexer.path_run();
            end = stop;
            if stop > start {
                parts.push((start as u32, StringPart::Text(self.lexer.text[start..stop].to_vec())));
            }
        }
        if end > 0 && self.lexer.at == end && self.lexer.text[end - 1] == b'/' {
            // At the end of the text the reference names the last part of the path.
            let last = parts.last().map_or(tok.start(), |(pos, _)| *pos as usize);
            let at = if end == self.lexer.text.len() { last } else { end };
            return Err(self.error_at(at, "path has a trailing slash"));
        }
        let span = self.add_text(&literal);
        let first = self.add(if home { Node::HomePath(span) } else { Node::Path(span) }, tok.start());
        self.advance()?;
        if parts.is_empty() {
            return Ok(first);
        }
        parts.insert(0, (tok.start() as u32, StringPart::Expr(first)));
        Ok(self.interpolation(InterpKind::Path, parts, tok.start()))
    }
}

/// A part of a string or path.
pub(super) enum StringPart {
    Text(Vec<u8>),
    Expr(NodeId),
}

/// The unescaped text of a `"` string up to its end or the next `${`.
fn string_run(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut i = 0;
    while let Some(&c) = text.get(i) {
        match (c, text.get(i + 1)) {
            (b'"', _) | (b'$', Some(b'{')) => break,
            (b'$', Some(b'$')) => {
                out.extend_from_slice(b"$$");
                i += 1;
            }
            (b'\\', Some(escaped)) => {
                out.push(unescape(*escaped));
                i += 1;
            }
            (b'\r', next) => {
                out.push(b'\n');
                i += usize::from(next == Some(&b'\n'));
            }
            _ => out.push(c),
        }
        i += 1;
    }
    out
}

/// The text of an indented string up to the next escape, `${` or its end.
fn indented_run(text: &[u8]) -> Vec<u8> {
    let mut i = 0;
    while let Some(c) = text.get(i) {
        let two = match (c, text.get(i + 1)) {
            (b'$', Some(b'{' | b'\'') | None) | (b'\'', Some(b'\'' | b'$') | None) => break,
            (b'$' | b'\'', Some(_)) => 2,
            _ => 1,
        };
        i += two;
    }
    text[..i].to_vec()
}

fn unescape(c: u8) -> u8 {
    match c {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}

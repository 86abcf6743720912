//! What a syntax error says: which token was not expected, and which were.
//!
//! The parser only finds that something is wrong. The reference's parser is generated, and the tokens that its
//! messages list are those of the state that its tables are in, so the text is run through tables of the same kind.

mod grammar;
mod table;

use crate::lexer::{Lexer, Tok, Token};
use grammar::TOKENS;
use std::sync::OnceLock;
use table::{Action, Table};

/// Messages list no tokens when more than this many were possible.
const MAX_EXPECTED: usize = 4;

/// The message for the first syntax error of a text, and its offset.
#[cold]
pub(crate) fn explain(text: &[u8]) -> Option<(String, usize)> {
    static TABLE: OnceLock<Table> = OnceLock::new();
    let table = TABLE.get_or_init(Table::build);
    let mut tokens = Tokens { lexer: Lexer::new(text), modes: Vec::new(), last: 0, path_at_end: None };
    let mut stack = vec![0usize];
    loop {
        let (token, at) = match tokens.next() {
            Ok(token) => token,
            Err(error) => return Some(error),
        };
        loop {
            let state = &table.states[*stack.last()?];
            let rule = match state.actions.get(&token) {
                Some(Action::Shift(to)) => {
                    stack.push(*to);
                    break;
                }
                Some(Action::Accept) => return None,
                Some(Action::Reduce(rule)) => *rule,
                Some(Action::Error) => return Some((message(state, token), at)),
                None => match state.default {
                    Some(rule) => rule,
                    None => return Some((message(state, token), at)),
                },
            };
            let rule = &table.rules[rule];
            stack.truncate(stack.len() - rule.right.len());
            let goto = table.states[*stack.last()?].gotos.get(&rule.left)?;
            stack.push(*goto);
        }
    }
}

fn message(state: &table::State, token: usize) -> String {
    let mut out = format!("syntax error, unexpected {}", TOKENS[token].1);
    let expected: Vec<&str> =
        state.actions.iter().filter(|(_, a)| **a != Action::Error).map(|(t, _)| TOKENS[*t].1).collect();
    if expected.len() <= MAX_EXPECTED {
        for (i, name) in expected.iter().enumerate() {
            out.push_str(if i == 0 { ", expecting " } else { " or " });
            out.push_str(name);
        }
    }
    out
}

/// How text is cut where a token ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Code,
    Str,
    Indented,
    Path,
}

/// The tokens of the generated lexer: the parser cuts strings and paths by itself and never sees them as tokens.
struct Tokens<'a> {
    lexer: Lexer<'a>,
    modes: Vec<Mode>,
    /// Where the last token started.
    last: usize,
    /// Where the last part of a path started that the text ends with: errors at the end are told there.
    path_at_end: Option<usize>,
}

impl Tokens<'_> {
    /// A token's number and place, or what the lexer itself finds wrong, and where.
    fn next(&mut self) -> Result<(usize, usize), (String, usize)> {
        let at = self.lexer.at;
        let name = match self.modes.last() {
            None | Some(Mode::Code) => return self.code(),
            Some(Mode::Str) => self.string(),
            Some(Mode::Indented) => self.indented(),
            Some(Mode::Path) => self.path()?,
        };
        let at = if name == "$end" { self.lexer.text.len() } else { at };
        self.last = at;
        Ok((number(name), at))
    }

    fn code(&mut self) -> Result<(usize, usize), (String, usize)> {
        let mut token = self.lexer.next();
        if let (Tok::End, Some(at)) = (token.kind, self.path_at_end) {
            token = Token::new(token.kind, at, token.end());
        }
        match token.kind {
            Tok(b'{') | Tok::DollarCurly => self.modes.push(Mode::Code),
            Tok(b'}') => {
                self.modes.pop();
            }
            Tok::Quote => self.modes.push(Mode::Str),
            Tok::IndentOpen => self.modes.push(Mode::Indented),
            Tok::Path | Tok::HomePath => self.modes.push(Mode::Path),
            _ => {}
        }
        self.last = token.start();
        let written = || String::from_utf8_lossy(&self.lexer.text[token.start()..token.end()]).into_owned();
        match token.kind {
            Tok::Int if written().parse::<i64>().is_err() => {
                Err((format!("invalid integer '{}'", written()), token.start()))
            }
            Tok::Float if crate::parser::float(&written()).is_none() => {
                Err((format!("invalid float '{}'", written()), token.start()))
            }
            _ => Ok((number(&name_of(token)), token.start())),
        }
    }

    fn rest(&self) -> &[u8] {
        &self.lexer.text[self.lexer.at..]
    }

    fn take(&mut self, count: usize, name: &'static str) -> &'static str {
        self.lexer.at += count;
        name
    }

    fn string(&mut self) -> &'static str {
        let rest = self.rest();
        let mut len = 0;
        loop {
            let two = match (rest.get(len), rest.get(len + 1)) {
                (None, _) | (Some(b'$' | b'\\'), None) | (Some(b'"'), _) | (Some(b'$'), Some(b'{')) => break,
                // A dollar before the closing quote is text; before a backslash it goes with what that escapes.
                (Some(b'$'), Some(b'"')) => 1,
                (Some(b'$'), Some(b'\\')) if len + 2 >= rest.len() => break,
                (Some(b'$'), Some(b'\\')) => 3,
                (Some(b'$' | b'\\'), Some(_)) => 2,
                _ => 1,
            };
            len += two;
        }
        if len > 0 {
            return self.take(len, "STR");
        }
        match rest.first() {
            Some(b'"') => {
                self.modes.pop();
                self.take(1, "\"")
            }
            Some(b'$') if rest.get(1) == Some(&b'{') => {
                self.modes.push(Mode::Code);
                self.take(2, "${")
            }
            _ => "$end",
        }
    }

    fn indented(&mut self) -> &'static str {
        let rest = self.rest();
        match rest {
            [] => "$end",
            [b'\'', b'\'', b'$' | b'\'', ..] => self.take(3, "INDSTR"),
            [b'\'', b'\'', b'\\', _, ..] => self.take(4, "INDSTR"),
            [b'\'', b'\'', ..] => {
                self.modes.pop();
                self.take(2, "INDCLOSE")
            }
            [b'$', b'{', ..] => {
                self.modes.push(Mode::Code);
                self.take(2, "${")
            }
            _ => {
                let mut len = 0;
                while let Some(c) = rest.get(len) {
                    len += match (c, rest.get(len + 1)) {
                        (b'$', Some(b'{' | b'\'') | None) | (b'\'', Some(b'\'' | b'$') | None) => break,
                        (b'$' | b'\'', Some(_)) => 2,
                        _ => 1,
                    };
                }
                self.take(len.max(1), "INDSTR")
            }
        }
    }

    fn path(&mut self) -> Result<&'static str, (String, usize)> {
        if self.rest().starts_with(b"${") {
            self.modes.push(Mode::Code);
            return Ok(self.take(2, "${"));
        }
        let before = self.lexer.at.checked_sub(1).map(|i| self.lexer.text[i]);
        let (start, end) = self.lexer.path_run();
        if end > start {
            // Repeated slashes are cut one by one.
            let plain = self.lexer.text[start..end].iter().position(|c| *c == b'/').unwrap_or(end - start);
            self.lexer.at = self.lexer.path_end(start).unwrap_or((start + plain + 1).min(end));
            return Ok("STR");
        }
        if before == Some(b'/') {
            let at = if start == self.lexer.text.len() { self.last } else { start };
            return Err(("path has a trailing slash".into(), at));
        }
        if start == self.lexer.text.len() {
            self.path_at_end = Some(self.last);
        }
        self.modes.pop();
        Ok("PATHEND")
    }
}

fn number(name: &str) -> usize {
    TOKENS.iter().position(|(n, _)| *n == name).unwrap_or(1)
}

fn name_of(token: Token) -> String {
    let name = match token.kind {
        Tok::End | Tok(0) => "$end",
        Tok::Id => "ID",
        Tok::Int => "INT",
        Tok::Float => "FLOAT",
        Tok::Path => "PATH",
        Tok::HomePath => "HPATH",
        Tok::SearchPath => "SPATH",
        Tok::Uri => "URI",
        Tok::IndentOpen => "INDOPEN",
        other => return other.describe().trim_matches('\'').to_owned(),
    };
    name.to_owned()
}

//! Documentation of values: what builtins are for, and comments of the form `/** … */` before functions and
//! attributes (RFC 145).

use crate::builtins::docs;
use crate::error::{EvalResult, TraceKind};
use crate::source::{Pos, offset_and_dir};
use crate::value::{Closure, Fun, Kind, Value};
use crate::vm::Vm;
use firn_syntax::sym;

impl Vm {
    /// What is written about a value, as Markdown; nothing if it is neither a function nor callable. Sets that can be
    /// called are called with themselves, and the result is looked at.
    pub fn documentation(&mut self, value: Value) -> EvalResult<Option<String>> {
        let value = self.force(value)?;
        match value.kind() {
            Kind::Fun(Fun::PrimOp(op)) => Ok(docs::find(op.name).map(builtin)),
            Kind::Fun(Fun::Closure(closure)) => Ok(Some(self.function(closure))),
            Kind::Attrs(attrs) => {
                let Some(functor) = attrs.find(sym!("__functor")) else { return Ok(None) };
                let inner = match self.call(functor, &[value], Pos::NONE) {
                    Ok(inner) => self.nested(Pos::NONE, |vm| vm.documentation(inner)),
                    Err(error) => Err(error),
                };
                let text = "while partially calling '__functor' to retrieve documentation";
                inner.map_err(|error| error.trace(Pos::NONE, TraceKind::Text(text.into())))
            }
            _ => Ok(None),
        }
    }

    fn function(&self, closure: Closure) -> String {
        let (name, pos, _) = closure.next();
        let place = pos.place(&**self.host());
        let mut out = "Function ".to_owned();
        if let Some(name) = name {
            out += &format!("`{name}`\\\n");
            if place.is_some() {
                out += "  … ";
            }
        }
        if let Some(place) = place {
            out += &format!("defined at {}", place.display());
        }
        if let Some(comment) = self.doc_comment(pos).filter(|comment| !comment.is_empty()) {
            out += "\n\n";
            out += &comment;
        }
        out
    }

    /// The comment about what stands at a position: a function (also one that is the body of functions, or the value
    /// of an attribute), or the name of an attribute. Without indentation.
    pub fn doc_comment(&self, pos: Pos) -> Option<String> {
        let (offset, _) = offset_and_dir(pos)?;
        let text = pos.text(&**self.host())?;
        comment_before(text.get(..offset as usize)?)
    }
}

fn builtin(doc: &docs::BuiltinDoc) -> String {
    let mut out = String::new();
    if !doc.args.is_empty() {
        let args: Vec<String> = doc.args.iter().map(|arg| format!("*{arg}*")).collect();
        out += &format!("**Synopsis:** `builtins.{}` {}\n\n", doc.name, args.join(" "));
    }
    out + doc.text
}

/// The nearest comment that belongs to what follows `text`, going outwards through functions and bindings.
fn comment_before(text: &[u8]) -> Option<String> {
    let mut text = text.trim_ascii_end();
    loop {
        if let Some(inner) = text.strip_suffix(b"*/") {
            let start = inner.windows(3).rposition(|part| part == b"/**")?;
            // A comment of the usual kind that only looks like the end of one.
            if inner[start..].windows(2).any(|part| part == b"*/") {
                return None;
            }
            return Some(without_indentation(&inner[start + 3..]));
        }
        text = match text.last()? {
            b':' => before_pattern(text[..text.len() - 1].trim_ascii_end())?,
            b'=' => before_name(text[..text.len() - 1].trim_ascii_end())?,
            _ => return None,
        }
        .trim_ascii_end();
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'\'')
}

fn before_word(text: &[u8]) -> Option<&[u8]> {
    let start = text.iter().rposition(|byte| !is_word(*byte)).map_or(0, |at| at + 1);
    (start < text.len()).then(|| &text[..start])
}

/// What stands before the arguments of a function: `x`, `{ … }`, `x@{ … }` or `{ … }@x`.
fn before_pattern(text: &[u8]) -> Option<&[u8]> {
    let before = before_one_pattern(text)?;
    match before.trim_ascii_end().strip_suffix(b"@") {
        Some(rest) => before_one_pattern(rest.trim_ascii_end()),
        None => Some(before),
    }
}

fn before_one_pattern(text: &[u8]) -> Option<&[u8]> {
    if !text.ends_with(b"}") {
        return before_word(text);
    }
    let mut depth = 0;
    for (at, byte) in text.iter().enumerate().rev() {
        match byte {
            b'}' => depth += 1,
            b'{' => {
                depth -= 1;
                if depth == 0 {
                    return Some(&text[..at]);
                }
            }
            _ => {}
        }
    }
    None
}

/// What stands before the name of an attribute, such as `a.b."c"`.
fn before_name(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text.strip_suffix(b"\"") {
            Some(inner) => &inner[..inner.iter().rposition(|byte| *byte == b'"')?],
            None => before_word(text)?,
        };
        match text.strip_suffix(b".") {
            Some(rest) => text = rest,
            None => return Some(text),
        }
    }
}

/// The text of a comment without the indentation that its lines have in common.
fn without_indentation(text: &[u8]) -> String {
    if text.is_empty() {
        return String::new();
    }
    // What opens the comment takes part with its width.
    let text = format!("   {}", String::from_utf8_lossy(text));
    let blank = |line: &str| line.trim().is_empty();
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let common = text.lines().filter(|line| !blank(line)).map(indent).min().unwrap_or(0);
    text.lines().map(|line| line.get(common..).unwrap_or_default().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let text = &text[..text.find('|').unwrap_or(text.len())];
        let found = comment_before(text.as_bytes()).map(|comment| comment.trim().to_owned());
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn comments() {
        check("/** a */ |x: x", Some("a"));
        check("{ /** a */ f = |x: x", Some("a"));
        check("{ /** a */ f = x: |y: x", Some("a"));
        check("{ /** a */ f.g.\"h i\" = { x, y ? { } }@z: |y: x", Some("a"));
        check("{ /** a */ f = /** b */ x: a@{ ... }: |y: x", Some("b"));
        check("{ /** a */ |f = 1", Some("a"));
        check("{ /* a */ f = |x: x", None);
        check("{ /** a */ b = 1; f = |x: x", None);
        check("/** a */ (|x: x)", None);
        check("/* /** a */ b */ |x: x", None);
        check("|x: x", None);
        check("{ = |x: x", None);
    }

    #[test]
    fn indentation() {
        let check = |text: &str, expected: &str| assert_eq!(without_indentation(text.as_bytes()), expected);
        check("", "");
        check("\n    one\n      two\n\n    three\n  ", "\none\n  two\n\nthree\n\n");
        check(" one ", "one \n");
    }
}

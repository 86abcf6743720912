//! The language in colours, as far as its words say what they are.

const KEYWORD: &str = "\x1b[1;34m";
const TEXT: &str = "\x1b[35m";
const NUMBER: &str = "\x1b[36m";
const COMMENT: &str = "\x1b[2m";
const COMMAND: &str = "\x1b[1;32m";
const NORMAL: &str = "\x1b[0m";

const KEYWORDS: [&str; 9] = ["if", "then", "else", "assert", "with", "let", "in", "rec", "inherit"];

/// `line` with colours; without them it is the same.
pub fn highlight(line: &str) -> String {
    let mut out = String::with_capacity(line.len() * 2);
    let mut rest = line;
    if line.trim_start().starts_with(':') {
        let end = line
            .find(':')
            .and_then(|start| line[start..].find(char::is_whitespace).map(|length| start + length));
        let (command, arg) = line.split_at(end.unwrap_or(line.len()));
        paint(&mut out, COMMAND, command);
        rest = arg;
    }
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => text_length(rest),
            '\'' if rest.starts_with("''") => rest[2..].find("''").map_or(rest.len(), |end| end + 4),
            c if c.is_ascii_digit() => word_length(rest, |c| c.is_ascii_digit() || c == '.'),
            c if c.is_alphabetic() || c == '_' => {
                word_length(rest, |c| c.is_alphanumeric() || matches!(c, '_' | '-' | '\''))
            }
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        match first {
            '#' => paint(&mut out, COMMENT, token),
            '/' if token.starts_with("/*") => paint(&mut out, COMMENT, token),
            '"' => paint(&mut out, TEXT, token),
            '\'' if token.starts_with("''") => paint(&mut out, TEXT, token),
            c if c.is_ascii_digit() => paint(&mut out, NUMBER, token),
            _ if KEYWORDS.contains(&token) => paint(&mut out, KEYWORD, token),
            _ => out.push_str(token),
        }
        rest = after;
    }
    out
}

fn paint(out: &mut String, colour: &str, token: &str) {
    out.push_str(colour);
    out.push_str(token);
    out.push_str(NORMAL);
}

fn word_length(text: &str, is_part: impl Fn(char) -> bool) -> usize {
    text.find(|c: char| !is_part(c)).unwrap_or(text.len())
}

/// A string with its quotes, as far as it goes.
fn text_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let found = highlight(line);
        let marks =
            [(KEYWORD, "K<"), (TEXT, "T<"), (NUMBER, "N<"), (COMMENT, "C<"), (COMMAND, "!<"), (NORMAL, ">")];
        let shown = marks.iter().fold(found.clone(), |text, (code, mark)| text.replace(code, mark));
        assert_eq!(shown, expected);
        let plain = marks.iter().fold(found, |text, (code, _)| text.replace(code, ""));
        assert_eq!(plain, line);
    }

    #[test]
    fn tokens() {
        check("let x = 1; in x", "K<let> x = N<1>; K<in> x");
        check(r#"inner "a\"b" ''c''"#, r#"inner T<"a\"b"> T<''c''>"#);
        check("1.5 # x", "N<1.5> C<# x>");
        check("/* a */ x", "C</* a */> x");
        check("\"open", "T<\"open>");
        check(":b let", "!<:b> K<let>");
        check("ä-'", "ä-'");
        check("''open", "T<''open>");
    }
}

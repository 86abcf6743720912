//! `nix` as the interpreter of scripts: lines `#! nix ARGUMENTS…` below the first are the command line.

use crate::error::{CliError, CliResult};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

/// So much of a script is looked at: what comes later is no command line any more.
const MOST: u64 = 1024 * 1024;

/// A script's command line.
pub struct Script {
    pub args: Vec<OsString>,
    /// The folder of the script, which relative references start from.
    pub dir: PathBuf,
}

/// The command line of the script that `args` begin with; nothing if they do not begin with one.
pub fn of(args: &[OsString]) -> CliResult<Option<Script>> {
    let Some((first, rest)) = args.split_first() else { return Ok(None) };
    let path = Path::new(first);
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut text));
    if read.is_err() || !text.starts_with(b"#!") {
        return Ok(None);
    }
    let words = words(&content(&String::from_utf8_lossy(&text)))?;
    let mut all: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    all.push(first.clone());
    all.extend(rest.iter().cloned());
    let dir = std::path::absolute(path).map_err(CliError::io("resolving", path))?;
    Ok(Some(Script { args: all, dir: dir.parent().unwrap_or(Path::new("/")).to_owned() }))
}

/// What stands behind `#! nix` in the comments at the start of a script.
fn content(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines().skip(1) {
        if !line.starts_with(['#', '/', '\\', '%', '@', '*', '-', '(']) {
            break;
        }
        let Some(rest) = line.strip_prefix("#!").map(str::trim_start) else { continue };
        match rest.strip_prefix("nix") {
            Some("") => out.push('\n'),
            // Blanks further on count: they may be part of quoted text.
            Some(rest) if rest.starts_with([' ', ':']) => {
                out.push_str(rest.strip_prefix(": ").unwrap_or(&rest[1..]));
                out.push('\n');
            }
            _ => {}
        }
    }
    out
}

fn fail<T>(message: impl Into<String>) -> CliResult<T> {
    Err(CliError::failed(message))
}

/// The words of a command line. Text between double backticks is one word; a blank before its end does not count.
fn words(text: &str) -> CliResult<Vec<String>> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => {
                if !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
                rest = &rest[1..];
            }
            '`' => {
                let Some(quoted) = rest.strip_prefix("``") else {
                    return fail("single backtick is not a supported syntax in the nix shebang.");
                };
                let (quoted, behind) = quoted_word(quoted)?;
                out.push(std::mem::take(&mut word) + &quoted);
                rest = behind;
            }
            '$' | '*' | '~' | '<' | '>' | '|' | ';' | '(' | ')' | '[' | ']' | '{' | '}' | '\'' | '"'
            | '\\' => {
                return fail(format!(
                    "unsupported unquoted character in nix shebang: {c}. Use double backticks to escape?"
                ));
            }
            '#' if word.is_empty() => {
                return fail(
                    "unquoted nix shebang argument cannot start with #. Use double backticks to escape?",
                );
            }
            c => {
                word.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    if !word.is_empty() {
        out.push(word);
    }
    Ok(out)
}

/// A word that began with two backticks, and what is behind it. Three or more backticks stand for one less.
fn quoted_word(text: &str) -> CliResult<(String, &str)> {
    let mut rest = text;
    let mut word = String::new();
    loop {
        let Some(c) = rest.chars().next() else {
            return fail("unterminated quoted string in nix shebang");
        };
        let is_end = |text: &str| text.starts_with("``") && !text.starts_with("```");
        if c == ' ' && is_end(&rest[1..]) {
            return Ok((word, &rest[3..]));
        }
        if is_end(rest) {
            return Ok((word, &rest[2..]));
        }
        if rest.starts_with("```") {
            let count = rest.bytes().take_while(|byte| *byte == b'`').count();
            word.push_str(&rest[1..count]);
            rest = &rest[count..];
            continue;
        }
        word.push(c);
        rest = &rest[c.len_utf8()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[&str], &str>) {
        match (words(text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{text}: {error}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn command_lines() {
        check("shell a#b\n--command bash\n", Ok(&["shell", "a#b", "--command", "bash"]));
        check("", Ok(&[]));
        check("`` a b ``", Ok(&[" a b"]));
        check("``a``", Ok(&["a"]));
        check("x `` a ```` b ``", Ok(&["x", " a ``` b"]));
        check("``a\n  b``", Ok(&["a\n  b"]));
        check("`` ``", Ok(&[""]));
        check("a*", Err("unsupported unquoted character in nix shebang: *"));
        check("#a", Err("cannot start with #"));
        check("`a`", Err("single backtick"));
        check("``a", Err("unterminated"));
    }

    #[test]
    fn comments() {
        let text = "#! /usr/bin/env nix\n#! nix shell\n# other\n// other\n#!nix -c x\n\n#! nix late\n";
        assert_eq!(content(text), "shell\n-c x\n");
    }
}

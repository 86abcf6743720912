//! Help as text for a terminal.

use super::flags::{COMMON, Flag, Group};
use super::groups_of;
use std::fmt::Write;

/// Where the descriptions of flags begin.
pub const COLUMN: usize = 32;
/// How wide lines may be.
pub const WIDTH: usize = 100;

/// What commands with a common first word are for.
const TOPICS: [(&str, &str); 3] = [
    ("flake", "manage flakes and their lock files"),
    ("formatter", "build or run the formatter that the flake names"),
    ("registry", "manage the names that stand for flakes"),
];

/// What the commands that begin with `word` are for, where that is not clear.
pub fn topic(word: &str) -> Option<&'static str> {
    TOPICS.iter().find(|(name, _)| *name == word).map(|(_, text)| *text)
}

/// A row for the help of `nix`: words, arguments, what it does.
pub type Row<'a> = (&'a [&'static str], &'a str, &'a str);

/// The help for the commands that begin with `words`: an overview of several, or all about one.
pub fn help(rows: &[Row<'_>], words: &[String]) -> String {
    let chosen: Vec<&Row<'_>> = rows
        .iter()
        .filter(|(path, ..)| path.len() >= words.len() && words.iter().eq(&path[..words.len()]))
        .collect();
    match &chosen[..] {
        [(path, usage, summary)] if path.len() == words.len() => one(path, usage, summary),
        rows => overview(rows, words),
    }
}

fn overview(rows: &[&Row<'_>], words: &[String]) -> String {
    let prefix: String = words.iter().map(|word| format!("{word} ")).collect();
    let topic = match words {
        [word] => topic(word).map_or(String::new(), |text| format!("nix {word}: {text}.\n\n")),
        _ => String::new(),
    };
    let mut out = format!("Usage: nix {prefix}[OPTIONS] COMMAND [ARGUMENTS]\n\n{topic}Commands:\n");
    for (path, _, summary) in rows {
        let _ = writeln!(out, "  {:<36}{summary}", format!("nix {}", path.join(" ")));
    }
    out.push('\n');
    group(&mut out, &COMMON);
    out.push_str("'nix help COMMAND' tells more about a command.\n");
    out
}

fn one(path: &[&'static str], usage: &str, summary: &str) -> String {
    let mut out = format!("Usage: nix {} [OPTIONS] {usage}\n\n{}.\n\n", path.join(" "), capital(summary));
    for flags in groups_of(path).unwrap_or_default() {
        group(&mut out, flags);
    }
    group(&mut out, &COMMON);
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + chars.as_str())
}

fn group(out: &mut String, group: &Group) {
    let _ = writeln!(out, "{}:", group.title);
    for flag in group.flags {
        let head = format!("  {}", head(flag));
        if head.len() + 2 > COLUMN {
            let _ = writeln!(out, "{head}");
        } else {
            let _ = write!(out, "{head:<COLUMN$}");
        }
        let indented = head.len() + 2 > COLUMN;
        for (number, line) in wrap(flag.text, WIDTH - COLUMN).iter().enumerate() {
            let indent = if number > 0 || indented { COLUMN } else { 0 };
            let _ = writeln!(out, "{:indent$}{line}", "");
        }
    }
    out.push('\n');
}

/// A flag's names and arguments.
pub fn head(flag: &Flag) -> String {
    let mut head = flag.names.join(", ");
    for arg in flag.args {
        head.push(' ');
        head.push_str(arg);
    }
    head
}

pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut();
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// What is said after the help of an older program where there is no `man`.
pub fn note_without_man(program: &str) -> Option<String> {
    if crate::exec::find(std::path::Path::new("man")).is_some() {
        return None;
    }
    Some(format!(
        "The 'man' command was not found, but it is needed for '{program}' and some other 'nix-*' commands' help \
         text. Perhaps you could install the 'man' command?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("aaaaaa b", 3), ["aaaaaa", "b"]);
    }

    #[test]
    fn flags_in_columns() {
        let rows: &[Row<'_>] = &[(&["build"], "INSTALLABLE", "build it"), (&["store", "gc"], "", "collect")];
        let text = help(rows, &["build".to_owned()]);
        assert!(
            text.starts_with("Usage: nix build [OPTIONS] INSTALLABLE\n\nBuild it.\n\nOptions:\n"),
            "{text}"
        );
        assert!(
            text.contains("\n  -o, --out-link LINK           Name of the links to the results;"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(help(rows, &[]).contains("  nix store gc                        collect\n"));
        assert!(help(rows, &["store".to_owned()]).starts_with("Usage: nix store [OPTIONS] COMMAND"));
    }
}

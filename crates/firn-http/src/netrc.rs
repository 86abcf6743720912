//! `netrc` files: user names and passwords by host.

use std::path::Path;

/// A login for one host, or for all others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// `None` for `default`.
    host: Option<String>,
    login: Option<String>,
    password: Option<String>,
}

/// The entries of a file, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Netrc {
    entries: Vec<Entry>,
}

impl Netrc {
    /// Reads a file. One that is not there, or cannot be read, has no entries.
    pub fn read(path: &Path) -> Netrc {
        std::fs::read_to_string(path).map(|text| Netrc::parse(&text)).unwrap_or_default()
    }

    pub fn parse(text: &str) -> Netrc {
        let mut entries: Vec<Entry> = Vec::new();
        let mut in_macro = false;
        for line in text.lines() {
            // A macro ends at an empty line.
            if in_macro {
                in_macro = !line.trim().is_empty();
                continue;
            }
            let mut words = words(line).into_iter();
            while let Some(word) = words.next() {
                let entry = |host| Entry { host, login: None, password: None };
                match word.as_str() {
                    "machine" => entries.push(entry(Some(words.next().unwrap_or_default()))),
                    "default" => entries.push(entry(None)),
                    "login" => {
                        let value = words.next();
                        entries.last_mut().into_iter().for_each(|e| e.login.clone_from(&value));
                    }
                    "password" => {
                        let value = words.next();
                        entries.last_mut().into_iter().for_each(|e| e.password.clone_from(&value));
                    }
                    "account" => drop(words.next()),
                    "macdef" => {
                        in_macro = true;
                        break;
                    }
                    comment if comment.starts_with('#') => break,
                    _ => {}
                }
            }
        }
        Netrc { entries }
    }

    /// The login for a host; `user` chooses among several.
    pub fn find(&self, host: &str, user: Option<&str>) -> Option<(&str, &str)> {
        let fits = |entry: &&Entry| {
            entry.host.as_deref().is_none_or(|h| h.eq_ignore_ascii_case(host))
                && user.is_none_or(|user| entry.login.as_deref() == Some(user))
        };
        let entry = self.entries.iter().find(fits)?;
        Some((entry.login.as_deref()?, entry.password.as_deref().unwrap_or_default()))
    }
}

/// Words, with `"…"` and backslashes in them as curl reads them.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = chars.peek().copied() else { return words };
        let mut word = String::new();
        if first == '"' {
            chars.next();
            while let Some(c) = chars.next() {
                match c {
                    '"' => break,
                    '\\' => match chars.next() {
                        Some('n') => word.push('\n'),
                        Some('r') => word.push('\r'),
                        Some('t') => word.push('\t'),
                        Some(other) => word.push(other),
                        None => {}
                    },
                    other => word.push(other),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, expected: Option<(&str, &str)>) {
        assert_eq!(Netrc::parse(text).find(host, None), expected);
    }

    #[test]
    fn finds() {
        check("machine a login u password p", "a", Some(("u", "p")));
        check("machine a login u password p", "b", None);
        check("machine a\n  login u\n  password \"p q\\\"\"\n", "A", Some(("u", "p q\"")));
        check("machine a login u password p\ndefault login d password e", "b", Some(("d", "e")));
        check("macdef init\nmachine a login x\n\nmachine a login u password p", "a", Some(("u", "p")));
        check("# machine a login no\nmachine a login u", "a", Some(("u", "")));
        check("machine", "a", None);
        check("login u password p", "a", None);
    }
}

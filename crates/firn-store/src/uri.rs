//! Store URIs: `auto`, `daemon`, `local`, a path, or `scheme://authority?parameter=value&…`.

use crate::error::{StoreError, StoreResult};
use std::collections::BTreeMap;

/// Which store is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// The local store where this process can write it, else the daemon.
    Auto,
    Daemon,
    Local,
    /// What stands before and after `://`.
    Specified {
        scheme: String,
        /// Of `local` and `unix` a path, decoded; of others as it was written.
        authority: String,
    },
}

/// A parsed store URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUri {
    pub kind: StoreKind,
    pub params: BTreeMap<String, String>,
}

impl StoreUri {
    /// Parses a URI. A text with a slash and no `://` is the root directory of a local store; `current_dir` makes
    /// it absolute.
    pub fn parse(text: &str, current_dir: &str) -> StoreResult<StoreUri> {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let params = parse_query(query).ok_or_else(|| bad(text))?;
        let specified =
            |scheme: &str, authority: String| StoreKind::Specified { scheme: scheme.to_owned(), authority };
        let plain = params.is_empty();
        let kind = match base {
            "" | "auto" => StoreKind::Auto,
            "daemon" if plain => StoreKind::Daemon,
            "daemon" => specified("unix", String::new()),
            "local" if plain => StoreKind::Local,
            "local" => specified("local", String::new()),
            _ => match base.split_once("://") {
                Some((scheme, authority)) if is_scheme(scheme) => {
                    specified(scheme, decoded(scheme, authority).ok_or_else(|| bad(text))?)
                }
                Some(_) => return Err(bad(text)),
                None if base.starts_with('/') => specified("local", base.to_owned()),
                // `scheme:/path` is a URL as well.
                None if base.split_once(":/").is_some_and(|(scheme, _)| is_scheme(scheme)) => {
                    let (scheme, rest) = base.split_once(':').ok_or_else(|| bad(text))?;
                    specified(scheme, decoded(scheme, rest).ok_or_else(|| bad(text))?)
                }
                None if base.contains('/') => specified("local", normalise(&format!("{current_dir}/{base}"))),
                // `scheme:rest`, the older form.
                None => match base.split_once(':') {
                    Some((scheme, rest)) if is_scheme(scheme) => specified(scheme, rest.to_owned()),
                    _ => return Err(bad(text)),
                },
            },
        };
        Ok(StoreUri { kind, params })
    }

    /// The URI as text; without parameters if `params` are of no interest.
    pub fn render(&self) -> String {
        let mut out = match &self.kind {
            StoreKind::Auto => "auto".to_owned(),
            StoreKind::Daemon => "daemon".to_owned(),
            StoreKind::Local => "local".to_owned(),
            StoreKind::Specified { scheme, authority } if is_path(scheme) => {
                format!("{scheme}://{}", percent_encode(authority))
            }
            StoreKind::Specified { scheme, authority } => format!("{scheme}://{authority}"),
        };
        for (i, (key, value)) in self.params.iter().enumerate() {
            out.push(if i == 0 { '?' } else { '&' });
            out += &percent_encode(key);
            out.push('=');
            out += &percent_encode(value);
        }
        out
    }
}

/// Parses `a=b&c=d` with percent encoding; `None` if it is malformed.
pub fn parse_query(query: &str) -> Option<BTreeMap<String, String>> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=')?;
            Some((percent_decode(key)?, percent_decode(value)?))
        })
        .collect()
}

/// Whether a URI with that scheme has a path of this machine after it. Others are handed on as URLs.
fn is_path(scheme: &str) -> bool {
    matches!(scheme, "local" | "unix")
}

/// What stands after a scheme, decoded where it is a path; `None` if that is malformed.
fn decoded(scheme: &str, rest: &str) -> Option<String> {
    if is_path(scheme) { percent_decode(rest) } else { Some(rest.to_owned()) }
}

fn bad(text: &str) -> StoreError {
    StoreError::Other(format!("Cannot parse Nix store '{text}'"))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn normalise(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                out.push((digit()? * 16 + digit()?) as u8);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b'@' => out.push(b as char),
            _ if b.is_ascii_alphanumeric() => out.push(b as char),
            _ => out += &format!("%{b:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = StoreUri::parse(text, "/home/u").map_or_else(|e| e.to_string(), |uri| uri.render());
        assert_eq!(got, expected);
    }

    #[test]
    fn parses() {
        check("", "auto");
        check("daemon", "daemon");
        check("local?root=/tmp/a%20b", "local://?root=/tmp/a%20b");
        check("/tmp/root", "local:///tmp/root");
        check("./x/../y", "local:///home/u/y");
        check("ssh-ng://user@host?compress=true", "ssh-ng://user@host?compress=true");
        check("file:///tmp/cache", "file:///tmp/cache");
        check("file:/tmp/cache", "file:///tmp/cache");
        check("./a:/b", "local:///home/u/a:/b");
        check("dummy:", "dummy://");
        check("local:///tmp/a%2Bb%20c", "local:///tmp/a%2Bb%20c");
        check("local:/tmp/a%2bb", "local:///tmp/a%2Bb");
        check("/tmp/a%2Bb", "local:///tmp/a%252Bb");
        check("https://cache/a%2Bb", "https://cache/a%2Bb");
        check("local:///tmp/%zz", "Cannot parse Nix store 'local:///tmp/%zz'");
        let uri = StoreUri::parse("unix:///run/%2Bs", "/").expect("a URI");
        assert_eq!(uri.kind, StoreKind::Specified { scheme: "unix".into(), authority: "/run/+s".into() });
        check("nonsense", "Cannot parse Nix store 'nonsense'");
        check("local?root=%zz", "Cannot parse Nix store 'local?root=%zz'");
    }
}

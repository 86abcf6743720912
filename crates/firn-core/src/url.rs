//! URLs as RFC 3986 has them, with the liberties that Nix takes. Text of the parts is bytes, percent-decoded.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// A URL taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub scheme: String,
    pub authority: Option<Authority>,
    /// Segments between slashes; an absolute path starts with an empty one.
    pub path: Vec<Vec<u8>>,
    pub query: BTreeMap<Vec<u8>, Vec<u8>>,
    pub fragment: Vec<u8>,
}

/// User, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Authority {
    pub host: Vec<u8>,
    pub host_kind: HostKind,
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub port: Option<u16>,
}

/// How the host is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostKind {
    #[default]
    Name,
    Ipv4,
    /// In brackets.
    Ip,
}

/// Why text is no URL. `message` is the whole text for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(pub String);

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn is_unreserved(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"-._~".contains(&c)
}

fn is_sub_delimiter(c: u8) -> bool {
    b"!$&'()*+,;=".contains(&c)
}

/// Whether `text` consists of what `allowed` takes and of percent-encoded bytes.
fn is_encoded(text: &[u8], allowed: impl Fn(u8) -> bool) -> bool {
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'%', [a, b, tail @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => tail,
            (b'%', _) => return false,
            (c, tail) if allowed(*c) => tail,
            _ => return false,
        };
    }
    true
}

fn is_pchar(c: u8) -> bool {
    is_unreserved(c) || is_sub_delimiter(c) || c == b':' || c == b'@'
}

/// Appends `text` to `out`, percent-encoding what is neither unreserved nor in `keep`.
pub fn percent_encode(out: &mut String, text: &[u8], keep: &[u8]) {
    for &c in text {
        if is_unreserved(c) || keep.contains(&c) {
            out.push(char::from(c));
        } else {
            let _ = write!(out, "%{c:02X}");
        }
    }
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).unwrap_or(0) as u8
}

/// Text without percent-encoding.
pub fn percent_decode(text: &[u8]) -> Result<Vec<u8>, BadUrl> {
    if !is_encoded(text, |_| true) {
        return Err(BadUrl(format!("invalid URI parameter '{}': incomplete percent-encoding", lossy(text))));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [a, b, tail @ ..]) => {
                out.push(hex(*a) * 16 + hex(*b));
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    Ok(out)
}

/// Percent-encodes the characters that may stand unescaped in queries and fragments, against the standard.
fn fix(text: &[u8], extra: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &c in text {
        if extra.contains(&c) {
            out.extend_from_slice(format!("%{c:02X}").as_bytes());
        } else {
            out.push(c);
        }
    }
    out
}

fn cut(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|c| *c == at) {
        Some(n) => (&text[..n], Some(&text[n + 1..])),
        None => (text, None),
    }
}

/// Names and values of a query. Of several with one name the first counts; names without a value are told of.
pub fn decode_query(query: &[u8], warnings: &mut Vec<String>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, BadUrl> {
    let query = fix(query, b" \"");
    let mut out = BTreeMap::new();
    if query.is_empty() {
        return Ok(out);
    }
    let allowed = |c: u8| is_pchar(c) || b"/?[]".contains(&c);
    if !is_encoded(&query, allowed) {
        return Err(BadUrl(format!("invalid URI query '{}': leftover", lossy(&query))));
    }
    for pair in query.split(|c| *c == b'&') {
        match cut(pair, b'=') {
            (name, Some(value)) => {
                out.entry(percent_decode(name)?).or_insert(percent_decode(value)?);
            }
            (name, None) => warnings
                .push(format!("dubious URI query '{}' is missing equal sign '=', ignoring", lossy(name))),
        }
    }
    Ok(out)
}

impl Authority {
    fn parse(text: &[u8]) -> Result<Authority, BadUrl> {
        let bad = |why: &str| BadUrl(format!("invalid URL authority: '{}': {why}", lossy(text)));
        let mut out = Authority::default();
        let mut rest = text;
        if let Some(at) = text.iter().position(|c| *c == b'@') {
            let user = &text[..at];
            if !is_encoded(user, |c| is_unreserved(c) || is_sub_delimiter(c) || c == b':') {
                return Err(bad("mismatch"));
            }
            let (name, password) = cut(user, b':');
            out.user = Some(percent_decode(name)?);
            out.password = password.map(percent_decode).transpose()?;
            rest = &text[at + 1..];
        }
        let port;
        if rest.first() == Some(&b'[') {
            let Some(end) = rest.iter().position(|c| *c == b']') else { return Err(bad("mismatch")) };
            out.host = percent_decode(&rest[1..end])?;
            out.host_kind = HostKind::Ip;
            let address = String::from_utf8_lossy(&out.host);
            let plain = address.split('%').next().unwrap_or_default();
            let future = plain.starts_with(['v', 'V']) && plain.contains('.');
            if !future && plain.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(bad("mismatch"));
            }
            port = match &rest[end + 1..] {
                [] => None,
                [b':', port @ ..] => Some(port),
                _ => return Err(bad("leftover")),
            };
        } else {
            let (host, after) = cut(rest, b':');
            if !is_encoded(host, |c| is_unreserved(c) || is_sub_delimiter(c)) {
                return Err(bad("leftover"));
            }
            out.host = percent_decode(host)?;
            if String::from_utf8_lossy(&out.host).parse::<std::net::Ipv4Addr>().is_ok() {
                out.host_kind = HostKind::Ipv4;
            }
            port = after;
        }
        if let Some(port) = port.filter(|port| !port.is_empty()) {
            let text = lossy(port);
            if !port.iter().all(u8::is_ascii_digit) {
                return Err(bad("leftover"));
            }
            out.port = Some(text.parse().map_err(|_| BadUrl(format!("port '{text}' is invalid")))?);
        }
        Ok(out)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        if let Some(user) = &self.user {
            percent_encode(&mut out, user, b"");
            if let Some(password) = &self.password {
                out.push(':');
                percent_encode(&mut out, password, b"");
            }
            out.push('@');
        }
        match self.host_kind {
            HostKind::Name => percent_encode(&mut out, &self.host, b""),
            HostKind::Ipv4 => out.push_str(&String::from_utf8_lossy(&self.host)),
            HostKind::Ip => {
                out.push('[');
                percent_encode(&mut out, &self.host, b":");
                out.push(']');
            }
        }
        if let Some(port) = self.port {
            let _ = write!(out, ":{port}");
        }
        f.write_str(&out)
    }
}

/// `application+transport`, of which the first may be missing.
pub fn split_scheme(scheme: &str) -> (Option<&str>, &str) {
    match scheme.split_once('+') {
        Some((application, transport)) => (Some(application), transport),
        None => (None, scheme),
    }
}

impl Url {
    /// Parses a URL in which queries may hold spaces and quotes unescaped, and fragments `^` too.
    pub fn parse_lenient(text: &[u8], warnings: &mut Vec<String>) -> Result<Url, BadUrl> {
        let (start, fragment) = cut(text, b'#');
        let (start, query) = cut(start, b'?');
        let mut fixed = start.to_vec();
        if let Some(query) = query {
            fixed.push(b'?');
            fixed.extend(fix(query, b" \""));
        }
        if let Some(fragment) = fragment {
            fixed.push(b'#');
            fixed.extend(fix(fragment, b" \"^"));
        }
        Url::parse(&fixed, warnings)
    }

    /// Parses a URL. `warnings` gets what is bearable.
    pub fn parse(text: &[u8], warnings: &mut Vec<String>) -> Result<Url, BadUrl> {
        let bad = |why: &str| BadUrl(format!("'{}' is not a valid URL: {why}", lossy(text)));
        let no_scheme = || BadUrl(format!("'{}' doesn't have a scheme", lossy(text)));
        let (start, fragment) = cut(text, b'#');
        let (start, query) = cut(start, b'?');
        let (scheme, Some(rest)) = cut(start, b':') else { return Err(no_scheme()) };
        let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
            && scheme.iter().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(c));
        if !is_scheme {
            return Err(if scheme.contains(&b'/') { no_scheme() } else { bad("leftover") });
        }
        let scheme = lossy(scheme);
        let (authority, path) = match rest.strip_prefix(b"//") {
            Some(rest) => {
                let end = rest.iter().position(|c| *c == b'/').unwrap_or(rest.len());
                (Some(Authority::parse(&rest[..end])?), &rest[end..])
            }
            None => (None, rest),
        };
        if !is_encoded(path, |c| is_pchar(c) || c == b'/')
            || !is_encoded(query.unwrap_or_default(), |c| is_pchar(c) || b"/?[]".contains(&c))
            || !is_encoded(fragment.unwrap_or_default(), |c| is_pchar(c) || b"/?#".contains(&c))
        {
            return Err(bad("leftover"));
        }
        let is_file = split_scheme(&scheme).1 == "file";
        if let Some(authority) = authority.as_ref().filter(|a| is_file && !a.host.is_empty()) {
            return Err(BadUrl(format!(
                "file:// URL '{}' has unexpected authority '{authority}'",
                lossy(text)
            )));
        }
        let path: &[u8] = if is_file && path.is_empty() { b"/" } else { path };
        Ok(Url {
            scheme,
            authority,
            path: path.split(|c| *c == b'/').map(percent_decode).collect::<Result<_, _>>()?,
            query: decode_query(query.unwrap_or_default(), warnings)?,
            fragment: percent_decode(fragment.unwrap_or_default())?,
        })
    }

    /// The path as one of the file system.
    pub fn file_path(&self) -> Result<Vec<u8>, BadUrl> {
        for part in &self.path {
            if part.contains(&b'/') {
                let part = lossy(part);
                return Err(BadUrl(format!(
                    "URL path component '{part}' contains '/', which is not allowed in file names"
                )));
            }
            if part.contains(&0) {
                let part = lossy(part).replace('\0', "␀");
                return Err(BadUrl(format!(
                    "URL path component '{part}' contains NUL byte which is not allowed"
                )));
            }
        }
        let mut out = Vec::new();
        for (i, part) in self.path.iter().enumerate() {
            // An empty part at the start is the root.
            if if i == 0 { part.is_empty() } else { out.last() != Some(&b'/') } {
                out.push(b'/');
            }
            out.extend_from_slice(part);
        }
        Ok(out)
    }
}

/// The segments of a path of the file system.
pub fn path_segments(path: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    if path.first() == Some(&b'/') {
        out.push(Vec::new());
    }
    out.extend(path.split(|c| *c == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec));
    if path.is_empty() || path.ends_with(b"/") {
        out.push(Vec::new());
    }
    out
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = format!("{}:", self.scheme);
        if let Some(authority) = &self.authority {
            let _ = write!(out, "//{authority}");
        }
        for (i, part) in self.path.iter().enumerate() {
            if i > 0 {
                out.push('/');
            }
            percent_encode(&mut out, part, b":@");
        }
        for (i, (name, value)) in self.query.iter().enumerate() {
            out.push(if i == 0 { '?' } else { '&' });
            percent_encode(&mut out, name, b":@/?");
            out.push('=');
            percent_encode(&mut out, value, b":@/?");
        }
        if !self.fragment.is_empty() {
            out.push('#');
            percent_encode(&mut out, &self.fragment, b"");
        }
        f.write_str(&out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = match Url::parse_lenient(text.as_bytes(), &mut Vec::new()) {
            Ok(url) => url.to_string(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn parses_and_prints() {
        check("https://e.org", "https://e.org");
        check("https://e.org/", "https://e.org/");
        check("https://u:p@e.org:80/a//b?y=2&x=1#f%20g", "https://u:p@e.org:80/a//b?x=1&y=2#f%20g");
        check("http://[::1]:8080/x", "http://[::1]:8080/x");
        check("http://127.0.0.1/", "http://127.0.0.1/");
        check("a:b/c%2fd", "a:b/c%2Fd");
        check("git+ssh://git@e.org/x.git?ref=a b", "git+ssh://git@e.org/x.git?ref=a%20b");
        check("file:", "file:/");
        check("file://host/x", "error: file:// URL 'file://host/x' has unexpected authority 'host'");
        check("x/y:z", "error: 'x/y:z' doesn't have a scheme");
        check("https://e.org/a b", "error: 'https://e.org/a b' is not a valid URL: leftover");
        check("https://e.org/%zz", "error: 'https://e.org/%zz' is not a valid URL: leftover");
        check("https://e.org:99999/", "error: port '99999' is invalid");
        check("https://e.org/?x&y=1", "https://e.org/?y=1");
    }

    #[test]
    fn paths() {
        for (text, expected) in [
            ("path:/a/b", "/a/b"),
            ("path:a/b", "a/b"),
            ("path:/a//b/", "/a/b/"),
            ("path:./x", "./x"),
            ("path:", "/"),
        ] {
            let url = Url::parse(text.as_bytes(), &mut Vec::new()).expect("a URL");
            assert_eq!(lossy(&url.file_path().expect("a path")), expected, "{text}");
        }
        assert!(Url::parse(b"path:/a%2fb", &mut Vec::new()).expect("a URL").file_path().is_err());
    }
}

//! Flake references: `github:owner/repo/ref`, `git+https://…`, `path:…`, `nixpkgs`, as text and as attributes.
//!
//! What a reference means is found out elsewhere; this is only its form.

mod inputs;
mod names;
mod public_keys;
mod schemes;

pub use names::{is_commit, is_flake_id, is_legal_ref_name};
pub use public_keys::{PublicKey, public_keys};
pub use schemes::{Input, Scheme};

use crate::url::{BadUrl, Url, decode_query, path_segments, percent_decode};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attr {
    Int(u64),
    Str(Vec<u8>),
    Bool(bool),
}

impl Attr {
    pub fn str(text: impl Into<Vec<u8>>) -> Attr {
        Attr::Str(text.into())
    }
}

pub type Attrs = BTreeMap<String, Attr>;

/// What is wrong with a reference. `message` is the whole text for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FlakeRefError {
    pub message: String,
    /// It is no URL of any kind, so that it may be something else.
    bad_url: bool,
}

pub type FlakeRefResult<T> = Result<T, FlakeRefError>;

impl FlakeRefError {
    /// Whether it is no reference of any kind, so that it may be something else.
    pub fn is_bad_url(&self) -> bool {
        self.bad_url
    }

    pub(crate) fn new(message: impl Into<String>) -> FlakeRefError {
        FlakeRefError { message: message.into(), bad_url: false }
    }

    fn bad_url(message: impl Into<String>) -> FlakeRefError {
        FlakeRefError { message: message.into(), bad_url: true }
    }
}

impl From<BadUrl> for FlakeRefError {
    fn from(error: BadUrl) -> FlakeRefError {
        FlakeRefError::bad_url(error.0)
    }
}

/// What parsing depends on, and where it puts what is bearable.
pub struct ParseContext<'a> {
    /// Whether an experimental feature is on.
    pub has_feature: &'a dyn Fn(&str) -> bool,
    pub warnings: Vec<String>,
}

impl ParseContext<'_> {
    /// Fails unless the experimental feature is on.
    pub fn require(&self, feature: &str) -> FlakeRefResult<()> {
        match (self.has_feature)(feature) {
            true => Ok(()),
            false => Err(FlakeRefError::new(format!(
                "experimental Nix feature '{feature}' is disabled; add '--extra-experimental-features {feature}' to enable it"
            ))),
        }
    }
}

/// What kind of reference is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Something with files in it is wanted, so that URLs of downloads are archives.
    pub tree: bool,
    /// Paths may be relative, to a place that is known later.
    pub relative: bool,
}

impl Default for Form {
    fn default() -> Form {
        Form { tree: true, relative: false }
    }
}

/// A reference: an input, and a folder in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlakeRef {
    pub input: Input,
    pub subdir: Vec<u8>,
}

impl FlakeRef {
    /// Parses a reference that must not depend on the current folder.
    pub fn parse(text: &[u8], context: &mut ParseContext<'_>) -> FlakeRefResult<FlakeRef> {
        let (reference, fragment) = FlakeRef::parse_with_fragment(text, context)?;
        if fragment.is_empty() {
            return Ok(reference);
        }
        Err(FlakeRefError::new(format!(
            "unexpected fragment '{}' in flake reference '{}'",
            lossy(&fragment),
            lossy(text)
        )))
    }

    /// Parses a reference and what comes after `#`.
    pub fn parse_with_fragment(
        text: &[u8],
        context: &mut ParseContext<'_>,
    ) -> FlakeRefResult<(FlakeRef, Vec<u8>)> {
        FlakeRef::parse_as(text, &Form::default(), context)
    }

    /// The same for what an input of a flake may be.
    pub fn parse_as(
        text: &[u8],
        form: &Form,
        context: &mut ParseContext<'_>,
    ) -> FlakeRefResult<(FlakeRef, Vec<u8>)> {
        if let Some(found) = FlakeRef::parse_id(text, context)? {
            return Ok(found);
        }
        let parsed = Url::parse_lenient(text, &mut context.warnings).map_err(FlakeRefError::from);
        match parsed.and_then(|url| from_url(url, form, context)) {
            Err(error) if error.bad_url => {}
            result => return result,
        }
        from_url(path_url(text, form, context)?, form, context)
    }

    /// `id`, `id/ref`, `id/ref/commit`, with what comes after `#`; nothing if it is none of these.
    pub fn parse_id(
        text: &[u8],
        context: &mut ParseContext<'_>,
    ) -> FlakeRefResult<Option<(FlakeRef, Vec<u8>)>> {
        let Some((path, fragment)) = flake_id(text) else { return Ok(None) };
        let path = path.split(|c| *c == b'/').map(<[u8]>::to_vec).collect();
        let url = Url {
            scheme: "flake".to_owned(),
            authority: None,
            path,
            query: BTreeMap::new(),
            fragment: Vec::new(),
        };
        let input = Input::from_url(&url, true, context)?;
        Ok(Some((FlakeRef { input, subdir: Vec::new() }, percent_decode(fragment)?)))
    }

    /// What a URL names, and what comes after `#`.
    pub fn from_url(
        url: Url,
        form: &Form,
        context: &mut ParseContext<'_>,
    ) -> FlakeRefResult<(FlakeRef, Vec<u8>)> {
        from_url(url, form, context)
    }

    pub fn from_attrs(mut attrs: Attrs, context: &mut ParseContext<'_>) -> FlakeRefResult<FlakeRef> {
        let subdir = schemes::optional_str(&attrs, "dir")?.unwrap_or_default().to_vec();
        attrs.remove("dir");
        Ok(FlakeRef { input: Input::from_attrs(attrs, context)?, subdir })
    }

    pub fn to_attrs(&self) -> Attrs {
        let mut attrs = self.input.attrs.clone();
        if !self.subdir.is_empty() {
            attrs.entry("dir".to_owned()).or_insert(Attr::Str(self.subdir.clone()));
        }
        attrs
    }

    /// The reference as a URL.
    pub fn to_url(&self) -> FlakeRefResult<String> {
        let mut url = self.input.to_url()?;
        if !self.subdir.is_empty() {
            url.query.entry(b"dir".to_vec()).or_insert(self.subdir.clone());
        }
        Ok(url.to_string())
    }
}

fn from_url(
    mut url: Url,
    form: &Form,
    context: &mut ParseContext<'_>,
) -> FlakeRefResult<(FlakeRef, Vec<u8>)> {
    let subdir = url.query.remove(&b"dir"[..]).unwrap_or_default();
    let fragment = std::mem::take(&mut url.fragment);
    Ok((FlakeRef { input: Input::from_url(&url, form.tree, context)?, subdir }, fragment))
}

/// `id`, `id/ref`, `id/ref/commit`, each perhaps with `#fragment`: what is before and after the `#`.
fn flake_id(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|c| *c == b'#');
    let (start, fragment) = match end {
        Some(n) => (&text[..n], &text[n + 1..]),
        None => (text, &b""[..]),
    };
    let (id, rest) = match start.iter().position(|c| *c == b'/') {
        Some(n) => (&start[..n], Some(&start[n + 1..])),
        None => (start, None),
    };
    let is_rest = rest.is_none_or(|rest| is_commit(rest) || names::is_ref_like(rest));
    (is_flake_id(id) && is_rest && names::is_fragment(fragment)).then_some((start, fragment))
}

/// An absolute path, perhaps with a query and a fragment, as a `path:` URL.
fn path_url(text: &[u8], form: &Form, context: &mut ParseContext<'_>) -> FlakeRefResult<Url> {
    let split = |text: &'_ [u8], at: u8| text.iter().position(|c| *c == at);
    let (start, fragment) = match split(text, b'#') {
        Some(n) => (&text[..n], &text[n + 1..]),
        None => (text, &b""[..]),
    };
    if fragment.iter().any(|c| matches!(c, b'\n' | b'\r')) {
        return Err(FlakeRefError::new(format!("invalid flakeref '{}'", lossy(text))));
    }
    let (path, query) = match split(start, b'?') {
        Some(n) => (&start[..n], &start[n + 1..]),
        None => (start, &b""[..]),
    };
    let query = decode_query(query, &mut context.warnings)?;
    let fragment = percent_decode(fragment)?;
    let absolute = path.first() == Some(&b'/');
    if !absolute && !form.relative {
        return Err(FlakeRefError::bad_url(format!(
            "flake reference '{}' is not an absolute path",
            lossy(text)
        )));
    }
    let (scheme, authority) = ("path".to_owned(), absolute.then(crate::url::Authority::default));
    Ok(Url { scheme, authority, path: path_segments(path), query, fragment })
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Attributes as JSON, as messages show them.
pub fn json(attrs: &Attrs) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in attrs.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        json_string(&mut out, name);
        out.push(':');
        match value {
            Attr::Int(n) => {
                let _ = write!(out, "{n}");
            }
            Attr::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Attr::Str(text) => json_string(&mut out, &lossy(text)),
        }
    }
    out.push('}');
    out
}

fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;

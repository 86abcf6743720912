//! Access control of pure and restricted evaluation: a host in front of the host that lets only allowed paths through.
//!
//! Allowed are the entries of the search path, store paths that this evaluation made, and what lies below them.
//! Directories above them exist, but show nothing else. Symlinks are followed here, step by step, so that none leads
//! out of what is allowed; where one that may not be looked at leads to is never told.

use firn_core::flake_ref::{Attrs as InputAttrs, FlakeRef, Input};
use firn_core::{Hash, StoreDir, StorePath};
use firn_derivation::Derivation;
use firn_eval::{
    ClosureRequest, ContextElem, CopySource, ErrorKind, EvalError, EvalHost, FetchRequest, FileKind,
    FileStamp, FlakeSources, HostError, HostResult, ParsedFiles, canonical_path,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What may be read from the start.
pub struct Access {
    /// Absolute paths.
    pub paths: Vec<Vec<u8>>,
    /// Prefixes of what may be fetched; `None` where fetching is not restricted.
    pub uris: Option<Vec<String>>,
    /// Pure rather than restricted: messages name the way out.
    pub pure: bool,
}

/// An [`EvalHost`] that forbids everything but what is allowed.
pub struct AccessHost {
    inner: Arc<dyn EvalHost>,
    allowed: Mutex<BTreeSet<Vec<u8>>>,
    uris: Option<Vec<String>>,
    pure: bool,
}

const MOST_SYMLINKS: usize = 1024;

impl AccessHost {
    pub fn new(inner: Arc<dyn EvalHost>, access: Access) -> HostResult<AccessHost> {
        let host = AccessHost { inner, allowed: Mutex::default(), uris: access.uris, pure: access.pure };
        for path in &access.paths {
            let path = canonical_path(path);
            // A store path as an entry of the search path brings what it refers to.
            if let Ok((store_path, _)) = host.inner.store_dir().split(&String::from_utf8_lossy(&path)) {
                if host.inner.is_valid(&store_path)? {
                    host.allow_closure(&store_path)?;
                }
            }
            host.allowed.lock().insert(path);
        }
        Ok(host)
    }

    fn allow(&self, path: &StorePath) {
        self.allowed.lock().insert(self.inner.store_dir().display(path).into_bytes());
    }

    fn allow_closure(&self, path: &StorePath) -> HostResult<()> {
        for path in self.inner.closure(path)? {
            self.allow(&path);
        }
        Ok(())
    }

    /// Whether a path lies in something allowed.
    fn is_inside(&self, path: &[u8]) -> bool {
        let allowed = self.allowed.lock();
        let mut path = path;
        loop {
            if allowed.contains(path) {
                return true;
            }
            path = match path.iter().rposition(|c| *c == b'/') {
                Some(0) if path.len() > 1 => b"/",
                Some(n) if n > 0 => &path[..n],
                _ => return false,
            };
        }
    }

    /// Whether a path lies in something allowed or leads to it.
    fn is_allowed(&self, path: &[u8]) -> bool {
        if self.is_inside(path) {
            return true;
        }
        let below = if path == b"/" { path.to_vec() } else { [path, b"/"].concat() };
        let allowed = self.allowed.lock();
        allowed.range(below.clone()..).next().is_some_and(|first| first.starts_with(&below))
    }

    fn check(&self, path: &[u8]) -> HostResult<()> {
        if self.is_allowed(path) {
            return Ok(());
        }
        let how = match self.pure {
            true => "in pure evaluation mode (use '--impure' to override)",
            false => "in restricted mode",
        };
        let shown = String::from_utf8_lossy(path);
        Err(HostError::restricted(format!("access to absolute path '{shown}' is forbidden {how}")))
    }

    /// A path without symlinks, but for the last component where `last` is not set. What may not be looked at stays
    /// as it is.
    fn resolve(&self, path: &[u8], last: bool) -> HostResult<Vec<u8>> {
        let mut resolved: Vec<u8> = Vec::with_capacity(path.len());
        let mut todo: Vec<Vec<u8>> = path.rsplit(|c| *c == b'/').map(<[u8]>::to_vec).collect();
        let mut followed = 0;
        while let Some(part) = todo.pop() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    let end = resolved.iter().rposition(|c| *c == b'/').unwrap_or(0);
                    resolved.truncate(end);
                    continue;
                }
                _ => {}
            }
            let end = resolved.len();
            resolved.push(b'/');
            resolved.extend_from_slice(&part);
            let is_last = todo.iter().all(|part| matches!(&part[..], b"" | b"."));
            if (is_last && !last) || !self.is_allowed(&resolved) {
                continue;
            }
            if self.inner.file_kind(&resolved)? != Some(FileKind::Symlink) {
                continue;
            }
            followed += 1;
            if followed > MOST_SYMLINKS {
                let shown = String::from_utf8_lossy(path);
                return Err(HostError::new(format!(
                    "too many symbolic links encountered while traversing the path '{shown}'"
                )));
            }
            let target = self.inner.read_link(&resolved)?;
            resolved.truncate(if target.first() == Some(&b'/') { 0 } else { end });
            todo.extend(target.rsplit(|c| *c == b'/').map(<[u8]>::to_vec));
        }
        if resolved.is_empty() {
            resolved.push(b'/');
        }
        Ok(resolved)
    }

    /// The place to read, if that is allowed.
    fn readable(&self, path: &[u8], follow: bool) -> HostResult<Vec<u8>> {
        let resolved = self.resolve(path, follow)?;
        self.check(&resolved)?;
        Ok(resolved)
    }
}

/// A host failure as an evaluation error.
fn eval_error(error: HostError) -> EvalError {
    let kind = match error.restricted {
        true => ErrorKind::Restricted,
        false => ErrorKind::Host { exit: error.exit },
    };
    EvalError::new(kind, error.message)
}

/// Whether `uri` is a prefix of the list, or lies below one, or has a scheme that is allowed as a whole (`github:`).
fn is_allowed_uri(uri: &str, prefixes: &[String]) -> bool {
    prefixes.iter().any(|prefix| {
        let Some(rest) = uri.strip_prefix(prefix.as_str()) else { return false };
        rest.is_empty()
            || (!prefix.is_empty() && (prefix.ends_with('/') || rest.starts_with('/') || is_scheme(prefix)))
    })
}

fn is_scheme(prefix: &str) -> bool {
    let Some(name) = prefix.strip_suffix(':') else { return false };
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// The path of a `file:` URL.
fn file_path(uri: &str) -> Option<Vec<u8>> {
    let rest = uri.strip_prefix("file:")?;
    let path = match rest.strip_prefix("//") {
        Some(rest) => &rest[rest.find('/')?..],
        None => rest,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        out.push((digit(bytes.next())? * 16 + digit(bytes.next())?) as u8);
    }
    out.starts_with(b"/").then_some(out)
}

impl EvalHost for AccessHost {
    fn file_stamp(&self, path: &[u8]) -> Option<FileStamp> {
        self.inner.file_stamp(&self.readable(path, true).ok()?)
    }

    fn parsed_files(&self) -> Option<&dyn ParsedFiles> {
        self.inner.parsed_files()
    }

    fn store_dir(&self) -> &StoreDir {
        self.inner.store_dir()
    }

    fn read_file(&self, path: &[u8]) -> HostResult<Vec<u8>> {
        self.inner.read_file(&self.readable(path, true)?)
    }

    fn file_kind(&self, path: &[u8]) -> HostResult<Option<FileKind>> {
        let resolved = self.resolve(path, false)?;
        if self.is_allowed(&resolved) { self.inner.file_kind(&resolved) } else { Ok(None) }
    }

    fn read_dir(&self, path: &[u8]) -> HostResult<BTreeMap<Vec<u8>, FileKind>> {
        let resolved = self.readable(path, true)?;
        let mut entries = self.inner.read_dir(&resolved)?;
        if !self.is_inside(&resolved) {
            let base = if resolved == b"/" { b"".as_slice() } else { &resolved };
            entries.retain(|name, _| self.is_allowed(&[base, b"/", name].concat()));
        }
        Ok(entries)
    }

    fn read_link(&self, path: &[u8]) -> HostResult<Vec<u8>> {
        self.inner.read_link(&self.readable(path, false)?)
    }

    fn env_var(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn current_time(&self) -> i64 {
        self.inner.current_time()
    }

    fn copy_to_store(&self, mut source: CopySource<'_>) -> Result<StorePath, EvalError> {
        let path = self.readable(source.path, false).map_err(eval_error)?;
        let mut filter = source.filter.take();
        let has_filter = filter.is_some();
        let root = source.path.to_vec();
        // Of a directory above what is allowed only that is copied.
        let outside = !self.is_inside(&path);
        let mut seen = |file: &[u8], kind: FileKind| -> Result<bool, EvalError> {
            if outside && !self.is_allowed(file) {
                return Ok(false);
            }
            let Some(filter) = &mut filter else { return Ok(true) };
            match file.strip_prefix(&path[..]) {
                Some(rest) => filter(&[&root[..], rest].concat(), kind),
                None => filter(file, kind),
            }
        };
        let filtered = outside || has_filter;
        let allowed =
            CopySource { path: &path, filter: if filtered { Some(&mut seen) } else { None }, ..source };
        let copied = self.inner.copy_to_store(allowed)?;
        self.allow(&copied);
        Ok(copied)
    }

    fn add_text(
        &self,
        name: &str,
        contents: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> HostResult<StorePath> {
        let path = self.inner.add_text(name, contents, references)?;
        self.allow(&path);
        Ok(path)
    }

    fn write_derivation(
        &self,
        path: &StorePath,
        aterm: Vec<u8>,
        aterm_hash: Hash,
        references: BTreeSet<StorePath>,
    ) -> HostResult<()> {
        self.inner.write_derivation(path, aterm, aterm_hash, references)
    }

    fn read_derivation(&self, path: &StorePath) -> HostResult<Derivation> {
        self.inner.read_derivation(path)
    }

    fn closure(&self, path: &StorePath) -> HostResult<BTreeSet<StorePath>> {
        self.inner.closure(path)
    }

    fn references(&self, path: &StorePath) -> HostResult<BTreeSet<StorePath>> {
        self.inner.references(path)
    }

    fn ensure_path(&self, path: &StorePath) -> HostResult<()> {
        self.inner.ensure_path(path)
    }

    fn is_valid(&self, path: &StorePath) -> HostResult<bool> {
        self.inner.is_valid(path)
    }

    fn realise(&self, context: &[ContextElem]) -> HostResult<Vec<(String, String)>> {
        let rewrites = self.inner.realise(context)?;
        for (_, output) in &rewrites {
            if let Ok(path) = self.store_dir().parse(output) {
                self.allow_closure(&path)?;
            }
        }
        Ok(rewrites)
    }

    fn fetch(&self, request: &FetchRequest) -> HostResult<StorePath> {
        self.check_uri(&request.url)?;
        let path = self.inner.fetch(request)?;
        self.allow(&path);
        Ok(path)
    }

    fn fetch_tree(&self, input: &Input) -> HostResult<(StorePath, InputAttrs)> {
        let (path, attrs) = self.inner.fetch_tree(input)?;
        self.allow(&path);
        Ok((path, attrs))
    }

    fn look_up_input(&self, input: &Input) -> HostResult<Input> {
        self.inner.look_up_input(input)
    }

    fn fetch_locked(&self, input: &Input) -> HostResult<(StorePath, InputAttrs)> {
        let (path, attrs) = self.inner.fetch_locked(input)?;
        self.allow(&path);
        Ok((path, attrs))
    }

    fn lock_flake(&self, reference: &FlakeRef, pure: bool) -> Result<FlakeSources, EvalError> {
        self.inner.lock_flake(reference, pure)
    }

    fn allow_path(&self, path: &StorePath) {
        self.allow(path);
    }

    fn fetch_closure(&self, request: &ClosureRequest) -> HostResult<StorePath> {
        let path = self.inner.fetch_closure(request)?;
        self.allow_closure(&path)?;
        Ok(path)
    }

    fn check_access(&self, path: &[u8]) -> HostResult<()> {
        self.check(&self.resolve(path, true)?)?;
        self.inner.check_access(path)
    }

    fn shown_path(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.inner.shown_path(path)
    }

    fn check_uri(&self, uri: &str) -> HostResult<()> {
        let Some(uris) = &self.uris else { return Ok(()) };
        if is_allowed_uri(uri, uris) {
            return Ok(());
        }
        let file = if uri.starts_with('/') { Some(uri.as_bytes().to_vec()) } else { file_path(uri) };
        match file {
            Some(path) => self.check(&canonical_path(&path)),
            None => {
                Err(HostError::restricted(format!("access to URI '{uri}' is forbidden in restricted mode")))
            }
        }
    }

    fn warn(&self, message: &str) {
        self.inner.warn(message);
    }

    fn warn_from_expression(&self, message: &[u8]) {
        self.inner.warn_from_expression(message);
    }

    fn tells_of_files(&self) -> bool {
        self.inner.tells_of_files()
    }

    fn evaluating_file(&self, path: &[u8]) {
        self.inner.evaluating_file(path);
    }

    fn copied_path(&self, path: &[u8], copy: &StorePath) {
        self.inner.copied_path(path, copy);
    }

    fn instantiated(&self, path: &StorePath) {
        self.inner.instantiated(path);
    }

    fn trace(&self, message: &str) {
        self.inner.trace(message);
    }

    fn real_path(&self, path: &[u8]) -> Vec<u8> {
        self.inner.real_path(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uri: &str, prefix: &str, expected: bool) {
        assert_eq!(is_allowed_uri(uri, &[prefix.to_owned()]), expected, "{uri} under {prefix}");
    }

    #[test]
    fn uris_below_a_prefix() {
        check("https://e.org/a", "https://e.org/a", true);
        check("https://e.org/a/b", "https://e.org/a", true);
        check("https://e.org/ab", "https://e.org/a", false);
        check("https://e.org/ab", "https://e.org/", true);
        check("https://e.or", "https://e.org", false);
        check("github:a/b", "github:", true);
        check("githubx:a/b", "github", false);
        check("https://a/b:c", "https://a/b:", false);
        check("anything", "", false);
        check("", "", true);
    }

    #[test]
    fn paths_of_file_urls() {
        assert_eq!(file_path("file:///a%20b/c?x=1").as_deref(), Some(&b"/a b/c"[..]));
        assert_eq!(file_path("file://host/a").as_deref(), Some(&b"/a"[..]));
        assert_eq!(file_path("file:/a").as_deref(), Some(&b"/a"[..]));
        assert_eq!(file_path("file:///a%zz"), None);
        assert_eq!(file_path("https://e.org/a"), None);
    }
}

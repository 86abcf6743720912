//! Store paths and the store directory they live in.
//!
//! Source: the manual's "Store Path" chapter and its "Complete Store Path Calculation" protocol page.

use crate::base::{self, nix32_encode};
use crate::content_address::{CaMethod, ContentAddress};
use crate::hash::{Hash, HashAlgo, HashFormat};
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Characters in the hash part of a store path.
pub const HASH_PART_LEN: usize = 32;
/// Greatest length of the name part.
pub const MAX_NAME_LEN: usize = 211;
/// File name ending of derivations.
pub const DRV_EXTENSION: &str = ".drv";

/// Why a text is not a store path.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum StorePathError {
    #[error("'{0}' is too short to be a valid store path")]
    TooShort(String),
    #[error("path '{0}' is not a valid store path: no dash follows its hash part")]
    NoDash(String),
    #[error("store path '{path}' contains illegal base-32 character '{c}'")]
    HashCharacter { path: String, c: char },
    #[error("path '{path}' is not a valid store path: {source}")]
    BadName { path: String, source: NameError },
    #[error("path '{path}' is not in the Nix store")]
    NotInStore { path: String },
    #[error("path '{path}' is not a store path")]
    NotTopLevel { path: String },
}

/// Why a text cannot be the name part of a store path.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum NameError {
    #[error("name must not be empty")]
    Empty,
    #[error("name '{name}' must be no longer than {MAX_NAME_LEN} characters")]
    TooLong { name: String },
    #[error("name '{0}' is not valid")]
    Dots(String),
    #[error("name '{name}' is not valid: first dash-separated component must not be '{component}'")]
    DotComponent { name: String, component: &'static str },
    #[error("name '{name}' contains illegal character '{c}'")]
    Character { name: String, c: char },
}

/// Checks a name part by the reference's rules.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Err(NameError::Empty);
    }
    if bytes.len() > MAX_NAME_LEN {
        return Err(NameError::TooLong { name: name.to_owned() });
    }
    if bytes[0] == b'.' {
        if name == "." || name == ".." {
            return Err(NameError::Dots(name.to_owned()));
        }
        for component in [".", ".."] {
            if bytes.len() > component.len() && name.starts_with(component) && bytes[component.len()] == b'-'
            {
                return Err(NameError::DotComponent { name: name.to_owned(), component });
            }
        }
    }
    let allowed = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.' | b'_' | b'?' | b'=');
    match bytes.iter().position(|c| !allowed(c)).and_then(|at| name.get(at..)?.chars().next()) {
        Some(c) => Err(NameError::Character { name: name.to_owned(), c }),
        None => Ok(()),
    }
}

/// A store path without its store directory: `<hash>-<name>`. Ordered by that text, as the reference orders
/// path sets. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Arc<str>);

impl StorePath {
    /// Parses `<hash>-<name>`.
    pub fn from_base_name(base: &str) -> Result<StorePath, StorePathError> {
        if base.len() < HASH_PART_LEN + 1 || !base.is_char_boundary(HASH_PART_LEN) {
            return Err(StorePathError::TooShort(base.to_owned()));
        }
        let bytes = base.as_bytes();
        if let Some(c) = bytes[..HASH_PART_LEN].iter().find(|c| !base::is_nix32_char(**c)) {
            return Err(StorePathError::HashCharacter { path: base.to_owned(), c: *c as char });
        }
        if bytes[HASH_PART_LEN] != b'-' {
            return Err(StorePathError::NoDash(base.to_owned()));
        }
        check_name(&base[HASH_PART_LEN + 1..])
            .map_err(|source| StorePathError::BadName { path: base.to_owned(), source })?;
        Ok(StorePath(base.into()))
    }

    /// A path of which only the hash part is known; its name is [`StorePath::UNKNOWN_NAME`].
    pub fn of_hash_part(hash_part: &str) -> Result<StorePath, StorePathError> {
        StorePath::from_base_name(&format!("{hash_part}-{}", StorePath::UNKNOWN_NAME))
    }

    /// The name that stands for one that is not known.
    pub const UNKNOWN_NAME: &str = "x";

    /// A path from the 20 bytes of its hash part and its name.
    pub fn new(hash: [u8; 20], name: &str) -> Result<StorePath, NameError> {
        check_name(name)?;
        let mut base = nix32_encode(&hash);
        base.reserve(1 + name.len());
        base.push('-');
        base.push_str(name);
        Ok(StorePath(base.into()))
    }

    /// `<hash>-<name>`.
    pub fn base_name(&self) -> &str {
        &self.0
    }

    /// The 32 characters of the hash part.
    pub fn hash_part(&self) -> &str {
        &self.0[..HASH_PART_LEN]
    }

    /// The name part.
    pub fn name(&self) -> &str {
        &self.0[HASH_PART_LEN + 1..]
    }

    /// Whether the name ends in `.drv`.
    pub fn is_derivation(&self) -> bool {
        self.name().ends_with(DRV_EXTENSION)
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for StorePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The logical store directory, `/nix/store` unless set otherwise: it is part of what every store path hash
/// is computed from. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct StoreDir(Arc<str>);

impl Default for StoreDir {
    fn default() -> Self {
        StoreDir("/nix/store".into())
    }
}

/// What a store object refers to, for the path computation of content-addressed objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Other store paths, sorted.
    pub others: std::collections::BTreeSet<StorePath>,
    /// Whether the object refers to itself.
    pub self_reference: bool,
}

impl StoreDir {
    /// An absolute directory; a trailing slash is dropped.
    pub fn new(dir: &str) -> StoreDir {
        let trimmed = dir.trim_end_matches('/');
        StoreDir(if trimmed.is_empty() { "/" } else { trimmed }.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full path text.
    pub fn display(&self, path: &StorePath) -> String {
        let mut out = String::with_capacity(self.0.len() + 1 + path.0.len());
        out.push_str(&self.0);
        out.push('/');
        out.push_str(&path.0);
        out
    }

    /// Parses the full path of a store object (not of a file below one).
    pub fn parse(&self, path: &str) -> Result<StorePath, StorePathError> {
        let rest = self.strip(path).ok_or_else(|| StorePathError::NotInStore { path: path.to_owned() })?;
        if rest.contains('/') {
            return Err(StorePathError::NotTopLevel { path: path.to_owned() });
        }
        StorePath::from_base_name(rest)
    }

    /// Splits a path at or below a store object into the object and the rest (empty or starting with `/`).
    pub fn split<'a>(&self, path: &'a str) -> Result<(StorePath, &'a str), StorePathError> {
        let rest = self.strip(path).ok_or_else(|| StorePathError::NotInStore { path: path.to_owned() })?;
        let end = rest.find('/').unwrap_or(rest.len());
        Ok((StorePath::from_base_name(&rest[..end])?, &rest[end..]))
    }

    /// Whether the text is a path below the store directory.
    pub fn contains(&self, path: &str) -> bool {
        self.strip(path).is_some()
    }

    fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.0)?.strip_prefix('/').filter(|rest| !rest.is_empty())
    }

    /// The store path for `type:sha256:digest:store-dir:name`.
    pub fn make_path(&self, kind: &str, hash: &Hash, name: &str) -> Result<StorePath, NameError> {
        let text = format!("{kind}:{}:{}:{name}", hash.to_prefixed(HashFormat::Base16), self.0);
        StorePath::new(Hash::of(HashAlgo::Sha256, text.as_bytes()).compress::<20>(), name)
    }

    /// The path of a derivation's input-addressed output: `output:<id>`.
    pub fn make_output_path(&self, id: &str, hash: &Hash, drv_name: &str) -> Result<StorePath, NameError> {
        self.make_path(&format!("output:{id}"), hash, &output_path_name(drv_name, id))
    }

    /// The path of a `text`-hashed object (`builtins.toFile`, derivations).
    pub fn make_text_path(
        &self,
        name: &str,
        hash: &Hash,
        references: &std::collections::BTreeSet<StorePath>,
    ) -> Result<StorePath, NameError> {
        self.make_path(&self.kind("text", references, false), hash, name)
    }

    /// The path of an object content-addressed with `method`.
    pub fn make_fixed_output_path(
        &self,
        ca: &ContentAddress,
        name: &str,
        references: &References,
    ) -> Result<StorePath, NameError> {
        match ca.method {
            CaMethod::Text => self.make_text_path(name, &ca.hash, &references.others),
            CaMethod::NixArchive if ca.hash.algo() == HashAlgo::Sha256 => self.make_path(
                &self.kind("source", &references.others, references.self_reference),
                &ca.hash,
                name,
            ),
            method => {
                let text =
                    format!("fixed:out:{}{}:", method.prefix(), ca.hash.to_prefixed(HashFormat::Base16));
                self.make_path("output:out", &Hash::of(HashAlgo::Sha256, text.as_bytes()), name)
            }
        }
    }

    fn kind(&self, base: &str, references: &std::collections::BTreeSet<StorePath>, own: bool) -> String {
        let mut kind = String::with_capacity(base.len() + references.len() * (self.0.len() + 64) + 8);
        kind.push_str(base);
        for path in references {
            kind.extend([":", &self.0, "/", &path.0]);
        }
        if own {
            kind.push_str(":self");
        }
        kind
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name part of an output: the derivation's name, with `-<output>` unless the output is `out`.
pub fn output_path_name(drv_name: &str, output: &str) -> String {
    if output == "out" { drv_name.to_owned() } else { format!("{drv_name}-{output}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        let dir = StoreDir::default();
        let text = "/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-foo-1.0";
        let path = dir.parse(text).unwrap();
        assert_eq!((path.name(), path.hash_part()), ("foo-1.0", "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q"));
        assert_eq!(dir.display(&path), text);
        assert_eq!(dir.split(&format!("{text}/bin/x")).unwrap(), (path, "/bin/x"));
    }

    #[test]
    fn refuses() {
        let dir = StoreDir::default();
        assert!(matches!(dir.parse("/nix/stor/x"), Err(StorePathError::NotInStore { .. })));
        assert!(matches!(dir.parse("/nix/store/x"), Err(StorePathError::TooShort(_))));
        assert!(matches!(
            dir.parse("/nix/store/e1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-foo"),
            Err(StorePathError::HashCharacter { c: 'e', .. })
        ));
        assert!(check_name(".-x").is_err() && check_name("..-x").is_err() && check_name(".").is_err());
        assert!(check_name(".x").is_ok() && check_name("..x").is_ok());
        assert!(check_name(&"x".repeat(212)).is_err() && check_name("a b").is_err());
    }

    #[test]
    fn text_path_of_the_manual() {
        // `builtins.toFile "builder.sh" ""` as the reference prints it.
        let path = StoreDir::default()
            .make_text_path("x", &Hash::of(HashAlgo::Sha256, b""), &Default::default())
            .unwrap();
        assert_eq!(path.name(), "x");
    }
}

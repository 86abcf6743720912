//! Content addresses: how an object's store path follows from its content.

use crate::hash::{Hash, HashAlgo, HashError, HashFormat};
use std::fmt;
use thiserror::Error;

/// How content is turned into bytes that are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CaMethod {
    /// The bytes of a file, references allowed (`builtins.toFile`, derivations).
    Text,
    /// The bytes of a file.
    Flat,
    /// The NAR serialisation.
    NixArchive,
    /// Git's object hash (experimental feature `git-hashing`).
    Git,
}

impl CaMethod {
    /// The prefix in `outputHashAlgo` and in rendered content addresses: nothing, `r:`, `git:` or `text:`.
    pub const fn prefix(self) -> &'static str {
        match self {
            CaMethod::Text => "text:",
            CaMethod::Flat => "",
            CaMethod::NixArchive => "r:",
            CaMethod::Git => "git:",
        }
    }

    /// The name in `outputHashMode`, JSON and options: `text`, `flat`, `nar`, `git`.
    pub const fn name(self) -> &'static str {
        match self {
            CaMethod::Text => "text",
            CaMethod::Flat => "flat",
            CaMethod::NixArchive => "nar",
            CaMethod::Git => "git",
        }
    }

    /// Parses a name; `recursive` is the older name of `nar`.
    pub fn parse_opt(name: &str) -> Option<CaMethod> {
        Some(match name {
            "text" => CaMethod::Text,
            "flat" => CaMethod::Flat,
            "nar" | "recursive" => CaMethod::NixArchive,
            "git" => CaMethod::Git,
            _ => return None,
        })
    }

    /// Splits the prefix off `r:sha256`-like text.
    pub fn split_prefix(text: &str) -> (CaMethod, &str) {
        if let Some(rest) = text.strip_prefix("r:") {
            (CaMethod::NixArchive, rest)
        } else if let Some(rest) = text.strip_prefix("git:") {
            (CaMethod::Git, rest)
        } else if let Some(rest) = text.strip_prefix("text:") {
            (CaMethod::Text, rest)
        } else {
            (CaMethod::Flat, text)
        }
    }
}

/// A method and the hash it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentAddress {
    pub method: CaMethod,
    pub hash: Hash,
}

/// Why a text is not a content address.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum CaParseError {
    #[error("not a content address because it is not in the form '<prefix>:<rest>': {0}")]
    NoPrefix(String),
    #[error("content address prefix '{0}' is unrecognized. Recognized prefixes are 'text' or 'fixed'")]
    UnknownPrefix(String),
    #[error("text content address hash should use sha256, but instead uses {0}")]
    TextAlgo(HashAlgo),
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl ContentAddress {
    /// Parses `text:sha256:…` or `fixed:[r:|git:]<algo>:…`.
    pub fn parse(text: &str) -> Result<ContentAddress, CaParseError> {
        let (prefix, rest) = text.split_once(':').ok_or_else(|| CaParseError::NoPrefix(text.to_owned()))?;
        match prefix {
            "text" => {
                let hash = Hash::parse_any_prefixed(rest)?;
                if hash.algo() != HashAlgo::Sha256 {
                    return Err(CaParseError::TextAlgo(hash.algo()));
                }
                Ok(ContentAddress { method: CaMethod::Text, hash })
            }
            "fixed" => {
                let (method, rest) = CaMethod::split_prefix(rest);
                Ok(ContentAddress { method, hash: Hash::parse_any_prefixed(rest)? })
            }
            other => Err(CaParseError::UnknownPrefix(other.to_owned())),
        }
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = self.hash.to_prefixed(HashFormat::Nix32);
        match self.method {
            CaMethod::Text => write!(f, "text:{hash}"),
            method => write!(f, "fixed:{}{hash}", method.prefix()),
        }
    }
}

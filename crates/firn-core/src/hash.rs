//! Cryptographic hashes and the texts that stand for them.

use crate::base::{self, DecodeError};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The hash algorithms that Nix knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgo {
    Md5,
    Sha1,
    Sha256,
    Sha512,
    /// Behind the experimental feature `blake3-hashes`; the caller checks the feature.
    Blake3,
}

impl HashAlgo {
    /// The name used in every format: `md5`, `sha1`, `sha256`, `sha512`, `blake3`.
    pub const fn name(self) -> &'static str {
        match self {
            HashAlgo::Md5 => "md5",
            HashAlgo::Sha1 => "sha1",
            HashAlgo::Sha256 => "sha256",
            HashAlgo::Sha512 => "sha512",
            HashAlgo::Blake3 => "blake3",
        }
    }

    /// Digest size in bytes.
    pub const fn size(self) -> usize {
        match self {
            HashAlgo::Md5 => 16,
            HashAlgo::Sha1 => 20,
            HashAlgo::Sha256 | HashAlgo::Blake3 => 32,
            HashAlgo::Sha512 => 64,
        }
    }

    /// The algorithm of that name, if there is one.
    pub fn parse_opt(name: &str) -> Option<HashAlgo> {
        Some(match name {
            "md5" => HashAlgo::Md5,
            "sha1" => HashAlgo::Sha1,
            "sha256" => HashAlgo::Sha256,
            "sha512" => HashAlgo::Sha512,
            "blake3" => HashAlgo::Blake3,
            _ => return None,
        })
    }
}

impl fmt::Display for HashAlgo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HashAlgo {
    type Err = HashError;
    fn from_str(s: &str) -> Result<Self, HashError> {
        HashAlgo::parse_opt(s).ok_or_else(|| HashError::UnknownAlgo(s.to_owned()))
    }
}

/// How a hash is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashFormat {
    Base16,
    Nix32,
    Base64,
    /// `<algo>-<base 64>`, the web's Subresource Integrity form.
    Sri,
}

impl HashFormat {
    /// Parses `base16`, `nix32`, `base32` (the older name), `base64` or `sri`.
    pub fn parse_opt(name: &str) -> Option<HashFormat> {
        Some(match name {
            "base16" => HashFormat::Base16,
            "nix32" | "base32" => HashFormat::Nix32,
            "base64" => HashFormat::Base64,
            "sri" => HashFormat::Sri,
            _ => return None,
        })
    }
}

/// Why a text is not a hash.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum HashError {
    #[error("unknown hash algorithm '{0}', expect 'blake3', 'md5', 'sha1', 'sha256', or 'sha512'")]
    UnknownAlgo(String),
    #[error("hash '{hash}' should have type '{expected}'")]
    AlgoMismatch { hash: String, expected: HashAlgo },
    #[error("hash '{0}' does not include a type, nor is the type otherwise known from context")]
    NoAlgo(String),
    #[error("hash '{0}' is not SRI")]
    NotSri(String),
    #[error("hash '{hash}' has wrong length for hash algorithm '{algo}'")]
    WrongLength { hash: String, algo: HashAlgo },
    #[error("invalid {kind} hash '{hash}'")]
    Invalid { kind: &'static str, hash: String },
    #[error("while decoding hash '{hash}': {source}")]
    Decode { hash: String, source: DecodeError },
}

/// A digest with its algorithm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash {
    algo: HashAlgo,
    bytes: [u8; 64],
}

impl Hash {
    /// A hash from its digest; `None` when the length is not the algorithm's.
    pub fn from_bytes(algo: HashAlgo, digest: &[u8]) -> Option<Hash> {
        if digest.len() != algo.size() {
            return None;
        }
        let mut bytes = [0; 64];
        bytes[..digest.len()].copy_from_slice(digest);
        Some(Hash { algo, bytes })
    }

    /// The hash of `data`.
    pub fn of(algo: HashAlgo, data: &[u8]) -> Hash {
        let mut hasher = Hasher::new(algo);
        hasher.update(data);
        hasher.finish()
    }

    /// The all-zero SHA-256, which the reference uses as "not known yet".
    pub const fn dummy() -> Hash {
        Hash { algo: HashAlgo::Sha256, bytes: [0; 64] }
    }

    pub const fn algo(&self) -> HashAlgo {
        self.algo
    }

    /// The digest, `algo().size()` bytes.
    pub fn digest(&self) -> &[u8] {
        &self.bytes[..self.algo.size()]
    }

    /// The digest folded by XOR to `N` bytes, as store paths have it.
    pub fn compress<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        for (i, b) in self.digest().iter().enumerate() {
            out[i % N] ^= b;
        }
        out
    }

    /// The digest as text, without the algorithm (but SRI always names it).
    pub fn to_base(&self, format: HashFormat) -> String {
        match format {
            HashFormat::Base16 => base::base16_encode(self.digest()),
            HashFormat::Nix32 => base::nix32_encode(self.digest()),
            HashFormat::Base64 => base::base64_encode(self.digest()),
            HashFormat::Sri => self.to_sri(),
        }
    }

    /// `<algo>:<digest>` in the given format (SRI: `<algo>-<digest>`).
    pub fn to_prefixed(&self, format: HashFormat) -> String {
        match format {
            HashFormat::Sri => self.to_sri(),
            other => format!("{}:{}", self.algo, self.to_base(other)),
        }
    }

    /// `<algo>-<base 64>`.
    pub fn to_sri(&self) -> String {
        format!("{}-{}", self.algo, base::base64_encode(self.digest()))
    }

    /// Parses `algo:digest` or `algo-base64`; the algorithm must be named.
    pub fn parse_any_prefixed(text: &str) -> Result<Hash, HashError> {
        Hash::parse_any(text, None)
    }

    /// Parses every form the reference accepts. `algo` is the algorithm known from context; where the text
    /// names one too, they must agree.
    pub fn parse_any(text: &str, algo: Option<HashAlgo>) -> Result<Hash, HashError> {
        let (named, rest, sri) = match text.split_once(':') {
            Some((name, rest)) => (Some(name.parse::<HashAlgo>()?), rest, false),
            None => match text.split_once('-') {
                Some((name, rest)) => (Some(name.parse::<HashAlgo>()?), rest, true),
                None => (None, text, false),
            },
        };
        let algo = match (named, algo) {
            (Some(n), Some(a)) if n != a => {
                return Err(HashError::AlgoMismatch { hash: text.to_owned(), expected: a });
            }
            (Some(n), _) => n,
            (None, Some(a)) => a,
            (None, None) => return Err(HashError::NoAlgo(rest.to_owned())),
        };
        Hash::parse_digest(rest, algo, sri)
    }

    /// Parses `<algo>-<base 64>` only.
    pub fn parse_sri(text: &str) -> Result<Hash, HashError> {
        let (name, rest) = text.split_once('-').ok_or_else(|| HashError::NotSri(text.to_owned()))?;
        Hash::parse_digest(rest, name.parse()?, true)
    }

    /// Parses `<digest>` without an algorithm's name, in the format its length tells.
    pub fn parse_non_sri_unprefixed(text: &str, algo: HashAlgo) -> Result<Hash, HashError> {
        Hash::parse_digest(text, algo, false)
    }

    fn parse_digest(rest: &str, algo: HashAlgo, sri: bool) -> Result<Hash, HashError> {
        let size = algo.size();
        let fail = |source| HashError::Decode { hash: rest.to_owned(), source };
        let (kind, digest) = if !sri && rest.len() == size * 2 {
            ("base-16", base::base16_decode(rest.as_bytes()).map_err(fail)?)
        } else if !sri && rest.len() == base::nix32_len(size) {
            ("base-32", base::nix32_decode(rest.as_bytes()).map_err(fail)?)
        } else if sri || rest.len() == size.div_ceil(3) * 4 {
            let kind = if sri { "SRI" } else { "base-64" };
            (kind, base::base64_decode(rest.as_bytes()).map_err(fail)?)
        } else {
            return Err(HashError::WrongLength { hash: rest.to_owned(), algo });
        };
        Hash::from_bytes(algo, &digest).ok_or_else(|| HashError::Invalid { kind, hash: rest.to_owned() })
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_prefixed(HashFormat::Nix32))
    }
}

/// An incremental hash computation.
#[derive(Clone)]
pub struct Hasher {
    state: State,
}

#[derive(Clone)]
enum State {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    pub fn new(algo: HashAlgo) -> Hasher {
        use md5::Digest;
        let state = match algo {
            HashAlgo::Md5 => State::Md5(md5::Md5::new()),
            HashAlgo::Sha1 => State::Sha1(sha1::Sha1::new()),
            HashAlgo::Sha256 => State::Sha256(sha2::Sha256::new()),
            HashAlgo::Sha512 => State::Sha512(sha2::Sha512::new()),
            HashAlgo::Blake3 => State::Blake3(Box::new(blake3::Hasher::new())),
        };
        Hasher { state }
    }

    pub fn update(&mut self, data: &[u8]) {
        use md5::Digest;
        match &mut self.state {
            State::Md5(h) => h.update(data),
            State::Sha1(h) => h.update(data),
            State::Sha256(h) => h.update(data),
            State::Sha512(h) => h.update(data),
            State::Blake3(h) => {
                h.update(data);
            }
        }
    }

    pub fn finish(self) -> Hash {
        use md5::Digest;
        let make = |algo, digest: &[u8]| {
            let mut bytes = [0; 64];
            bytes[..digest.len()].copy_from_slice(digest);
            Hash { algo, bytes }
        };
        match self.state {
            State::Md5(h) => make(HashAlgo::Md5, &h.finalize()),
            State::Sha1(h) => make(HashAlgo::Sha1, &h.finalize()),
            State::Sha256(h) => make(HashAlgo::Sha256, &h.finalize()),
            State::Sha512(h) => make(HashAlgo::Sha512, &h.finalize()),
            State::Blake3(h) => make(HashAlgo::Blake3, h.finalize().as_bytes()),
        }
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.update(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(algo: HashAlgo, data: &str, base16: &str) {
        let hash = Hash::of(algo, data.as_bytes());
        assert_eq!(hash.to_base(HashFormat::Base16), base16);
        for format in [HashFormat::Base16, HashFormat::Nix32, HashFormat::Base64, HashFormat::Sri] {
            assert_eq!(Hash::parse_any_prefixed(&hash.to_prefixed(format)).unwrap(), hash);
            assert_eq!(Hash::parse_any(&hash.to_base(format), Some(algo)).unwrap(), hash);
        }
    }

    #[test]
    fn known_digests() {
        check(HashAlgo::Md5, "abc", "900150983cd24fb0d6963f7d28e17f72");
        check(HashAlgo::Sha1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
        check(HashAlgo::Sha256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        check(
            HashAlgo::Sha512,
            "abc",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        );
        check(HashAlgo::Blake3, "abc", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
    }

    #[test]
    fn refuses() {
        assert!(matches!(Hash::parse_any("abc", None), Err(HashError::NoAlgo(_))));
        assert!(matches!(Hash::parse_any("abc", Some(HashAlgo::Md5)), Err(HashError::WrongLength { .. })));
        assert!(matches!(Hash::parse_any("foo:abc", None), Err(HashError::UnknownAlgo(_))));
        assert!(matches!(
            Hash::parse_any("sha256:abc", Some(HashAlgo::Md5)),
            Err(HashError::AlgoMismatch { .. })
        ));
        assert!(matches!(Hash::parse_sri("sha256-abcd"), Err(HashError::Invalid { kind: "SRI", .. })));
    }
}

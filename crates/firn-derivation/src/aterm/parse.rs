//! ATerm to derivation. Foreign bytes: bounded depth, nothing trusted, errors say what and where.

use crate::{Derivation, DerivationOutput, InputNode};
use firn_core::hash::HashError;
use firn_core::store_path::{NameError, check_name, output_path_name};
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, StoreDir, StorePath, StorePathError};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// How deep dynamic derivations may nest.
const MAX_DEPTH: usize = 64;

/// Why bytes are not a derivation.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{problem}, at byte {offset}")]
pub struct ParseError {
    pub problem: Problem,
    /// Bytes from the start.
    pub offset: usize,
}

/// What is wrong with the bytes.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum Problem {
    #[error("derivation does not start with 'Derive' or 'DrvWithVersion'")]
    Start,
    #[error("unknown derivation ATerm format version '{0}'")]
    Version(String),
    #[error("expected string '{0}'")]
    Expected(&'static str),
    #[error("unterminated string in derivation")]
    Unterminated,
    #[error("bad path '{0}' in derivation")]
    BadPath(String),
    #[error("invalid inputDrvs entry in derivation")]
    InputDrvs,
    #[error("input derivations nest deeper than {MAX_DEPTH} levels")]
    Depth,
    #[error("{0} derivation output should not specify output path")]
    NeedlessPath(&'static str),
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("bytes after the end of the derivation")]
    Trailing,
    #[error(transparent)]
    Path(#[from] StorePathError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl Derivation {
    /// Parses the bytes of a `.drv` file. `name` is the path's name without `.drv`.
    ///
    /// Whether output paths and hashes are those that follow from the rest is not checked here
    /// ([`Derivation::check_invariants`]).
    pub fn parse_aterm(name: &str, bytes: &[u8], dir: &StoreDir) -> Result<Derivation, ParseError> {
        Parser { bytes, at: 0, dir, dynamic: false }.derivation(name)
    }
}

type Parsed<T> = Result<T, ParseError>;

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    dir: &'a StoreDir,
    dynamic: bool,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, problem: Problem) -> Parsed<T> {
        Err(ParseError { problem, offset: self.at })
    }

    /// Gives an error of another kind the offset `at`.
    fn located<T, E: Into<Problem>>(at: usize, result: Result<T, E>) -> Parsed<T> {
        result.map_err(|e| ParseError { problem: e.into(), offset: at })
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn expect(&mut self, text: &'static str) -> Parsed<()> {
        if !self.rest().starts_with(text.as_bytes()) {
            return self.fail(Problem::Expected(text));
        }
        self.at += text.len();
        Ok(())
    }

    fn derivation(mut self, name: &str) -> Parsed<Derivation> {
        if self.rest().starts_with(b"Derive(") {
            self.at += b"Derive(".len();
        } else if self.rest().starts_with(b"DrvWithVersion(") {
            self.at += b"DrvWithVersion(".len();
            let version = self.string()?;
            if &*version != b"xp-dyn-drv" {
                return self.fail(Problem::Version(lossy(&version)));
            }
            self.dynamic = true;
            self.expect(",")?;
        } else {
            return self.fail(Problem::Start);
        }
        let mut drv = Derivation::new(name);
        self.list(|p| {
            p.expect("(")?;
            let at = p.at;
            let id = p.text("output name")?;
            let output = p.output()?;
            if let DerivationOutput::CaFixed(_) = output {
                // Its path follows from the name, which a path must therefore be able to have.
                Self::located(at, check_name(&output_path_name(name, &id)))?;
            }
            // Of several outputs with one name the first counts, as in the reference.
            drv.outputs.entry(id).or_insert(output);
            Ok(())
        })?;
        self.expect(",")?;
        self.list(|p| {
            p.expect("(")?;
            let path = p.path()?;
            p.expect(",")?;
            let node = p.node(0)?;
            drv.input_drvs.insert(path, node);
            p.expect(")")
        })?;
        self.expect(",")?;
        self.list(|p| {
            drv.input_srcs.insert(p.path()?);
            Ok(())
        })?;
        self.expect(",")?;
        drv.platform = self.string()?.into_owned();
        self.expect(",")?;
        drv.builder = self.string()?.into_owned();
        self.expect(",")?;
        self.list(|p| {
            drv.args.push(p.string()?.into_owned());
            Ok(())
        })?;
        self.expect(",")?;
        self.list(|p| {
            p.expect("(")?;
            let name = p.string()?.into_owned();
            p.expect(",")?;
            let value = p.string()?.into_owned();
            drv.env.insert(name, value);
            p.expect(")")
        })?;
        self.expect(")")?;
        if !self.rest().is_empty() {
            return self.fail(Problem::Trailing);
        }
        Ok(drv)
    }

    /// `[` items `]`.
    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        self.expect("[")?;
        let mut first = true;
        loop {
            if self.rest().first() == Some(&b']') {
                self.at += 1;
                return Ok(());
            }
            if !first {
                self.expect(",")?;
            }
            first = false;
            item(self)?;
        }
    }

    /// A quoted string, unescaped.
    fn string(&mut self) -> Parsed<Cow<'a, [u8]>> {
        self.expect("\"")?;
        let rest = self.rest();
        let mut owned: Option<Vec<u8>> = None;
        let mut from = 0;
        loop {
            let Some(found) = memchr::memchr2(b'"', b'\\', &rest[from..]) else {
                return self.fail(Problem::Unterminated);
            };
            let at = from + found;
            if rest[at] == b'"' {
                self.at += at + 1;
                let tail = &rest[from..at];
                return Ok(match owned {
                    None => Cow::Borrowed(tail),
                    Some(mut text) => {
                        text.extend_from_slice(tail);
                        Cow::Owned(text)
                    }
                });
            }
            let Some(escaped) = rest.get(at + 1) else {
                return self.fail(Problem::Unterminated);
            };
            let text = owned.get_or_insert_with(Vec::new);
            text.extend_from_slice(&rest[from..at]);
            text.push(match escaped {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => *other,
            });
            from = at + 2;
        }
    }

    fn text(&mut self, what: &'static str) -> Parsed<String> {
        let at = self.at;
        let bytes = self.string()?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(ParseError { problem: Problem::NotUtf8(what), offset: at }),
        }
    }

    fn path(&mut self) -> Parsed<StorePath> {
        let at = self.at;
        let text = self.text("path")?;
        if !text.starts_with('/') {
            return Err(ParseError { problem: Problem::BadPath(text), offset: at });
        }
        Self::located(at, self.dir.parse(&text))
    }

    fn output(&mut self) -> Parsed<DerivationOutput> {
        self.expect(",")?;
        let at = self.at;
        let path = self.text("path")?;
        self.expect(",")?;
        let method_algo = self.text("hash algorithm")?;
        self.expect(",")?;
        let hash = self.text("hash")?;
        self.expect(")")?;
        output_from_fields(self.dir, &path, &method_algo, &hash)
            .map_err(|problem| ParseError { problem, offset: at })
    }

    fn names(&mut self) -> Parsed<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        self.list(|p| {
            names.insert(p.text("output name")?);
            Ok(())
        })?;
        Ok(names)
    }

    fn node(&mut self, depth: usize) -> Parsed<InputNode> {
        if depth > MAX_DEPTH {
            return self.fail(Problem::Depth);
        }
        match self.rest().first() {
            Some(b'(') if self.dynamic => {
                self.at += 1;
                let outputs = self.names()?;
                self.expect(",")?;
                let mut dynamic = BTreeMap::new();
                self.list(|p| {
                    p.expect("(")?;
                    let name = p.text("output name")?;
                    p.expect(",")?;
                    let child = p.node(depth + 1)?;
                    dynamic.insert(name, child);
                    p.expect(")")
                })?;
                self.expect(")")?;
                Ok(InputNode { outputs, dynamic })
            }
            Some(b'[') => Ok(InputNode { outputs: self.names()?, dynamic: BTreeMap::new() }),
            _ if self.dynamic => self.fail(Problem::InputDrvs),
            _ => self.fail(Problem::Expected("[")),
        }
    }
}

/// An output from the three texts that describe it in ATerm and on the wire.
pub(crate) fn output_from_fields(
    dir: &StoreDir,
    path: &str,
    method_algo: &str,
    hash: &str,
) -> Result<DerivationOutput, Problem> {
    let absolute =
        |path: &str| if path.starts_with('/') { Ok(()) } else { Err(Problem::BadPath(path.to_owned())) };
    if method_algo.is_empty() {
        if path.is_empty() {
            return Ok(DerivationOutput::Deferred);
        }
        absolute(path)?;
        return Ok(DerivationOutput::InputAddressed(dir.parse(path)?));
    }
    let (method, algo) = CaMethod::split_prefix(method_algo);
    let algo: HashAlgo = algo.parse()?;
    match hash {
        "impure" if path.is_empty() => Ok(DerivationOutput::Impure { method, algo }),
        "impure" => Err(Problem::NeedlessPath("impure")),
        "" if path.is_empty() => Ok(DerivationOutput::CaFloating { method, algo }),
        "" => Err(Problem::NeedlessPath("content-addressing")),
        hash => {
            absolute(path)?;
            let hash = Hash::parse_non_sri_unprefixed(hash, algo)?;
            Ok(DerivationOutput::CaFixed(ContentAddress { method, hash }))
        }
    }
}

impl DerivationOutput {
    /// An output from the three texts that describe it in ATerm and in the worker protocol: path, method with
    /// algorithm (`r:sha256`), and digest.
    pub fn from_fields(
        dir: &StoreDir,
        path: &str,
        method_algo: &str,
        hash: &str,
    ) -> Result<DerivationOutput, Problem> {
        output_from_fields(dir, path, method_algo, hash)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let error = Derivation::parse_aterm("x", text.as_bytes(), &StoreDir::default()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn errors_say_what_and_where() {
        check_error("", "derivation does not start with 'Derive' or 'DrvWithVersion', at byte 0");
        check_error("Derive([", "expected string '(', at byte 8");
        check_error("Derive([(\"out", "unterminated string in derivation, at byte 10");
        check_error("Derive([(\"out\\", "unterminated string in derivation, at byte 10");
        check_error("Derive([(\"out\",\"x\",\"\",\"\")]", "bad path 'x' in derivation, at byte 15");
        check_error("DrvWithVersion(\"2\",[])", "unknown derivation ATerm format version '2', at byte 18");
        check_error("Derive([],[],[],\"\",\"\",[],[])x", "bytes after the end of the derivation, at byte 28");
        check_error("Derive([],[],[\"/x\"],", "path '/x' is not in the Nix store, at byte 14");
        // Found by fuzzing: such an output has no path, so that it could not be written again.
        let fixed = format!("Derive([(\"n!\",\"/x\",\"sha256\",\"{}\")],", "0".repeat(64));
        check_error(&fixed, "name 'x-n!' contains illegal character '!', at byte 9");
    }

    #[test]
    fn depth_is_bounded() {
        let mut text = String::from(
            "DrvWithVersion(\"xp-dyn-drv\",[],[(\"/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-a.drv\",",
        );
        text.push_str(&"([],[(\"out\",".repeat(100_000));
        let error = Derivation::parse_aterm("x", text.as_bytes(), &StoreDir::default()).unwrap_err();
        assert_eq!(error.problem, Problem::Depth);
    }
}

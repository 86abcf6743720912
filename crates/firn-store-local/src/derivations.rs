//! Derivations as store objects: reading them, and what the database keeps of them.

use crate::store::LocalStore;
use firn_core::{StoreDir, StorePath};
use firn_derivation::Derivation;
use firn_derivation::modulo::{HashModuloError, Mask};
use firn_store::{StoreError, StoreResult};
use std::collections::BTreeMap;

impl LocalStore {
    /// Reads and parses a derivation that must be valid.
    pub fn read_derivation_blocking(&self, path: &StorePath) -> StoreResult<Derivation> {
        if !self.is_valid(path)? {
            return Err(StoreError::InvalidPath { path: self.display(path) });
        }
        self.parse_derivation_file(path)
    }

    /// As above, without asking whether it is valid (yet).
    pub(crate) fn parse_derivation_file(&self, path: &StorePath) -> StoreResult<Derivation> {
        let real = self.real(path);
        let bytes = std::fs::read(&real).map_err(StoreError::io("reading", real))?;
        parse(self.dir(), path, &bytes)
    }

    /// Checks that the output paths of a derivation follow from the rest of it: nobody may claim a path that his
    /// derivation does not have.
    pub(crate) fn check_derivation(&self, path: &StorePath, derivation: &Derivation) -> StoreResult<()> {
        let mut memo = self.inner.drv_hashes.lock();
        let masked = derivation.hash_modulo(self.dir(), Mask::Outputs, |input| {
            memo.compute(self.dir(), input, |p| self.parse_derivation_file(p).map_err(ModuloError::Store))
        });
        let bad = |text: String| {
            StoreError::Other(format!("derivation '{}' is not valid: {text}", self.display(path)))
        };
        let masked = masked.map_err(|e| match e {
            ModuloError::Store(e) => e,
            ModuloError::Hash(e) => bad(e.to_string()),
        })?;
        derivation.check_invariants(self.dir(), &masked).map_err(|e| bad(e.to_string()))
    }
}

enum ModuloError {
    Store(StoreError),
    Hash(HashModuloError),
}

impl From<HashModuloError> for ModuloError {
    fn from(e: HashModuloError) -> Self {
        ModuloError::Hash(e)
    }
}

/// Parses the bytes of the derivation at `path`.
pub(crate) fn parse(dir: &StoreDir, path: &StorePath, bytes: &[u8]) -> StoreResult<Derivation> {
    let Some(name) = Derivation::name_from_path(path) else {
        return Err(StoreError::Other(format!("path '{}' is not a derivation", dir.display(path))));
    };
    Derivation::parse_aterm(name, bytes, dir)
        .map_err(|e| StoreError::Corrupt(format!("error parsing derivation '{}': {e}", dir.display(path))))
}

/// The outputs whose paths are known, by a full parse.
pub(crate) fn known_outputs(
    dir: &StoreDir,
    derivation: &Derivation,
) -> StoreResult<BTreeMap<String, StorePath>> {
    let outputs = derivation.output_paths(dir)?;
    Ok(outputs.into_iter().filter_map(|(name, path)| Some((name, path?))).collect())
}

/// The outputs as the text of a derivation that we wrote ourselves states them, read off its head without parsing
/// the rest. `None` where that is not as plain as expected.
pub(crate) fn stated_outputs(dir: &StoreDir, bytes: &[u8]) -> Option<BTreeMap<String, StorePath>> {
    let mut rest = bytes.strip_prefix(b"Derive([")?;
    let mut outputs = BTreeMap::new();
    loop {
        rest = rest.strip_prefix(b"(")?;
        let mut fields = [""; 4];
        for (i, field) in fields.iter_mut().enumerate() {
            if i > 0 {
                rest = rest.strip_prefix(b",")?;
            }
            rest = rest.strip_prefix(b"\"")?;
            let end = memchr::memchr2(b'"', b'\\', rest)?;
            if rest[end] == b'\\' {
                return None;
            }
            *field = std::str::from_utf8(&rest[..end]).ok()?;
            rest = &rest[end + 1..];
        }
        if !fields[1].is_empty() {
            outputs.insert(fields[0].to_owned(), dir.parse(fields[1]).ok()?);
        }
        rest = rest.strip_prefix(b")")?;
        match rest.first()? {
            b',' => rest = &rest[1..],
            b']' => return Some(outputs),
            _ => return None,
        }
    }
}

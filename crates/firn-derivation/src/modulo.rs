//! The hash of a derivation modulo fixed-output derivations: what input-addressed output paths are made from.
//!
//! How a fixed output is fetched must not change the paths of what depends on it. So the hash of a fixed-output
//! derivation covers its content's hash only, and the hash of any other derivation is taken over its text with
//! every input derivation's path replaced by that input's hash.

use crate::aterm::{Inputs, fixed_output_path, method_algo_and_digest};
use crate::{Derivation, DerivationOutput, DerivationType, TypeError};
use firn_core::store_path::NameError;
use firn_core::{Hash, HashAlgo, StoreDir, StorePath};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// The hash of a derivation modulo fixed outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrvHashModulo {
    /// A fixed-output derivation: the hash of each output.
    Fixed(BTreeMap<String, Hash>),
    /// The same for every output.
    Regular(Hash),
    /// As [`DrvHashModulo::Regular`], but outputs' paths cannot be made from it, because the derivation depends
    /// on outputs whose paths follow from their contents.
    Deferred(Hash),
}

impl DrvHashModulo {
    /// The hash of one output.
    pub fn output(&self, name: &str) -> Option<&Hash> {
        match self {
            DrvHashModulo::Fixed(hashes) => hashes.get(name),
            DrvHashModulo::Regular(hash) | DrvHashModulo::Deferred(hash) => Some(hash),
        }
    }

    /// Whether paths of outputs cannot be known before inputs are built.
    pub fn is_deferred(&self) -> bool {
        matches!(self, DrvHashModulo::Deferred(_))
    }
}

/// Whether what the hash is about to decide is left out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// The whole text: the hash that stands for this derivation in others.
    Nothing,
    /// Without output paths: the hash that output paths are made from.
    Outputs,
}

/// Why a hash modulo cannot be computed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum HashModuloError {
    #[error("derivation '{drv}': {source}")]
    NamedType { drv: String, source: TypeError },
    #[error(transparent)]
    Type(TypeError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("no hash for output '{output}' of derivation '{drv}'")]
    NoOutput { output: String, drv: String },
}

impl Derivation {
    /// The hash modulo. `lookup` gives the unmasked hash of an input derivation; callers memoise it
    /// ([`ModuloMemo`]).
    pub fn hash_modulo<E: From<HashModuloError>>(
        &self,
        dir: &StoreDir,
        mask: Mask,
        mut lookup: impl FnMut(&StorePath) -> Result<DrvHashModulo, E>,
    ) -> Result<DrvHashModulo, E> {
        let kind = self.derivation_type().map_err(HashModuloError::Type)?;
        if kind.is_fixed() {
            return Ok(self.hash_fixed(dir)?);
        }
        let inputs = self.input_hashes(kind, &mut lookup)?;
        let text = self.write_aterm(dir, mask == Mask::Outputs, &Inputs::Hashes(&inputs.hashes));
        let hash = Hash::of(HashAlgo::Sha256, &text);
        Ok(if inputs.deferred { DrvHashModulo::Deferred(hash) } else { DrvHashModulo::Regular(hash) })
    }

    /// Hashes of the input derivations of one whose output is not fixed.
    pub(crate) fn input_hashes<E: From<HashModuloError>>(
        &self,
        kind: DerivationType,
        lookup: &mut impl FnMut(&StorePath) -> Result<DrvHashModulo, E>,
    ) -> Result<InputHashes<'_>, E> {
        let mut deferred = matches!(kind, DerivationType::CaFloating | DerivationType::Impure);
        let mut hashes: BTreeMap<[u8; 32], BTreeSet<&str>> = BTreeMap::new();
        for (path, node) in &self.input_drvs {
            let input = lookup(path)?;
            deferred |= input.is_deferred();
            for output in &node.outputs {
                let digest = input.output(output).and_then(|hash| hash.digest().try_into().ok());
                let Some(digest) = digest else {
                    let error =
                        HashModuloError::NoOutput { output: output.clone(), drv: path.name().to_owned() };
                    return Err(error.into());
                };
                hashes.entry(digest).or_default().insert(output);
            }
        }
        Ok(InputHashes { hashes, deferred })
    }

    pub(crate) fn hash_fixed(&self, dir: &StoreDir) -> Result<DrvHashModulo, HashModuloError> {
        let mut hashes = BTreeMap::new();
        for (name, output) in &self.outputs {
            if let DerivationOutput::CaFixed(ca) = output {
                let path = fixed_output_path(dir, &self.name, name, ca)?;
                let text = format!("fixed:out:{}:{}", method_algo_and_digest(ca), dir.display(&path));
                hashes.insert(name.clone(), Hash::of(HashAlgo::Sha256, text.as_bytes()));
            }
        }
        Ok(DrvHashModulo::Fixed(hashes))
    }
}

/// What stands for the input derivations of one in its hash.
pub(crate) struct InputHashes<'a> {
    pub(crate) hashes: BTreeMap<[u8; 32], BTreeSet<&'a str>>,
    /// One of them is [`DrvHashModulo::Deferred`], or the derivation's own hash is.
    pub(crate) deferred: bool,
}

/// Unmasked hashes of derivations by path.
#[derive(Debug, Default, Clone)]
pub struct ModuloMemo {
    known: FxHashMap<StorePath, DrvHashModulo>,
}

impl ModuloMemo {
    pub fn get(&self, drv: &StorePath) -> Option<&DrvHashModulo> {
        self.known.get(drv)
    }

    pub fn insert(&mut self, drv: StorePath, hash: DrvHashModulo) {
        self.known.insert(drv, hash);
    }

    /// The unmasked hash of the derivation at `path`, computing and keeping those of all derivations it depends
    /// on. `read` gives a derivation; the depth of the graph is bounded by memory only, not by the stack.
    pub fn compute<E: From<HashModuloError>>(
        &mut self,
        dir: &StoreDir,
        path: &StorePath,
        mut read: impl FnMut(&StorePath) -> Result<Derivation, E>,
    ) -> Result<DrvHashModulo, E> {
        if let Some(known) = self.known.get(path) {
            return Ok(known.clone());
        }
        let mut stack = vec![(path.clone(), read(path)?)];
        while let Some((_, drv)) = stack.last() {
            let fixed = drv.derivation_type().is_ok_and(DerivationType::is_fixed);
            let missing = if fixed {
                None
            } else {
                drv.input_drvs.keys().find(|input| !self.known.contains_key(*input)).cloned()
            };
            if let Some(input) = missing {
                // A derivation cannot be its own input: its path is a hash of its inputs' paths.
                let drv = read(&input)?;
                stack.push((input, drv));
                continue;
            }
            let Some((path, drv)) = stack.pop() else { break };
            let hash = drv.hash_modulo(dir, Mask::Nothing, |input| self.lookup::<E>(input))?;
            self.known.insert(path, hash);
        }
        self.lookup(path)
    }

    fn lookup<E: From<HashModuloError>>(&self, path: &StorePath) -> Result<DrvHashModulo, E> {
        self.known.get(path).cloned().ok_or_else(|| {
            HashModuloError::NoOutput { output: "*".to_owned(), drv: path.name().to_owned() }.into()
        })
    }
}

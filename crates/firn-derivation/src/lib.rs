//! Derivations: the type, its ATerm and JSON forms, the hash modulo fixed-output derivations, output paths, and
//! typed access to everything in a derivation that steers a build.
//!
//! Invariant: no evaluator, no store, no I/O.

use firn_core::{CaMethod, ContentAddress, HashAlgo, StorePath};
use std::collections::{BTreeMap, BTreeSet};

/// One output of a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DerivationOutput {
    /// The path is computed from the derivation.
    InputAddressed(StorePath),
    /// Fixed output: the content is known beforehand.
    CaFixed(ContentAddress),
    /// The path follows from the content (`__contentAddressed`).
    CaFloating { method: CaMethod, algo: HashAlgo },
    /// Input-addressed, but depends on floating outputs: the path is known after resolution.
    Deferred,
    /// `__impure`.
    Impure { method: CaMethod, algo: HashAlgo },
}

/// Which outputs of an input derivation are needed; children are for dynamic derivations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputNode {
    pub outputs: BTreeSet<String>,
    pub dynamic: BTreeMap<String, InputNode>,
}

/// A derivation. Bytes that users write (builder, args, env) are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derivation {
    /// Without `.drv`.
    pub name: String,
    pub outputs: BTreeMap<String, DerivationOutput>,
    pub input_srcs: BTreeSet<StorePath>,
    pub input_drvs: BTreeMap<StorePath, InputNode>,
    pub platform: Vec<u8>,
    pub builder: Vec<u8>,
    pub args: Vec<Vec<u8>>,
    pub env: BTreeMap<Vec<u8>, Vec<u8>>,
}

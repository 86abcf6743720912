//! Derivations: the type, its ATerm and JSON forms, the hash modulo fixed-output derivations, output paths, and
//! typed access to everything in a derivation that steers a build.
//!
//! Invariants:
//! - no evaluator, no store, no I/O;
//! - what users write (builder, arguments, environment) stays bytes on the whole way through;
//! - structured attributes are kept as they are written, in the environment variable [`STRUCTURED_ATTRS_ENV`], so
//!   that a derivation read and written again has the same bytes.

pub mod aterm;
pub mod difference;
pub mod json;
pub mod modulo;
pub mod options;
pub mod outputs;
pub mod placeholder;
pub mod resolve;
pub mod seal;

pub use aterm::ParseError;
pub use modulo::{DrvHashModulo, HashModuloError};
pub use options::{DerivationOptions, OptionsError, OutputChecks, Ref, StructuredAttrs};
pub use outputs::{DerivationType, TypeError};
pub use placeholder::{DownstreamPlaceholder, output_placeholder};

use firn_core::{CaMethod, ContentAddress, HashAlgo, StorePath};
use std::collections::{BTreeMap, BTreeSet};

/// The environment variable that holds structured attributes, as JSON text.
pub const STRUCTURED_ATTRS_ENV: &[u8] = b"__json";

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

impl InputNode {
    /// Plain outputs, no dynamic ones.
    pub fn of<I: IntoIterator<Item = S>, S: Into<String>>(outputs: I) -> InputNode {
        InputNode { outputs: outputs.into_iter().map(Into::into).collect(), dynamic: BTreeMap::new() }
    }
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

impl Derivation {
    /// A derivation without outputs, inputs, arguments and environment.
    pub fn new(name: impl Into<String>) -> Derivation {
        Derivation {
            name: name.into(),
            outputs: BTreeMap::new(),
            input_srcs: BTreeSet::new(),
            input_drvs: BTreeMap::new(),
            platform: Vec::new(),
            builder: Vec::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
        }
    }

    /// The name of the derivation at `path`: the path's name without `.drv`; `None` for other paths.
    pub fn name_from_path(path: &StorePath) -> Option<&str> {
        path.name().strip_suffix(firn_core::store_path::DRV_EXTENSION)
    }

    /// Whether the builder is one of the program's own (`builtin:…`).
    pub fn is_builtin(&self) -> bool {
        self.builder.starts_with(b"builtin:")
    }

    /// Whether some input is an output of a derivation that is itself an output.
    pub fn has_dynamic_inputs(&self) -> bool {
        self.input_drvs.values().any(|node| !node.dynamic.is_empty())
    }
}

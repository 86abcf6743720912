//! Which paths the outputs of content-addressed derivations have.

use crate::store_path::StorePath;
use std::collections::{BTreeMap, BTreeSet};

/// The output that a content-addressed derivation's output id (`sha256:…!out`) stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realisation {
    pub id: String,
    pub out_path: StorePath,
    pub signatures: BTreeSet<String>,
    pub dependent_realisations: BTreeMap<String, StorePath>,
}

impl Realisation {
    /// An output whose path is known without further facts.
    pub fn new(id: String, out_path: StorePath) -> Realisation {
        Realisation { id, out_path, signatures: BTreeSet::new(), dependent_realisations: BTreeMap::new() }
    }

    /// The name of the output in the id.
    pub fn output_name(&self) -> &str {
        self.id.split_once('!').map_or("", |(_, name)| name)
    }
}

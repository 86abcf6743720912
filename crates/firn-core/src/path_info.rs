//! What a store knows of a valid path.

use crate::content_address::{CaMethod, ContentAddress};
use crate::hash::{Hash, HashAlgo, HashFormat};
use crate::store_path::{NameError, References, StoreDir, StorePath};
use std::collections::BTreeSet;

/// Metadata of a valid store object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidPathInfo {
    pub path: StorePath,
    /// The derivation that made it, where known.
    pub deriver: Option<StorePath>,
    /// SHA-256 of the NAR serialisation.
    pub nar_hash: Hash,
    /// Length of the NAR serialisation in bytes; 0 where unknown.
    pub nar_size: u64,
    /// Store paths it refers to, itself included where it does.
    pub references: BTreeSet<StorePath>,
    /// Seconds since the epoch.
    pub registration_time: i64,
    /// Built here, so trusted without a signature.
    pub ultimate: bool,
    /// `key-name:base64` signatures.
    pub signatures: BTreeSet<String>,
    pub ca: Option<ContentAddress>,
}

impl ValidPathInfo {
    /// Info with only the required facts.
    pub fn new(path: StorePath, nar_hash: Hash, nar_size: u64) -> ValidPathInfo {
        ValidPathInfo {
            path,
            deriver: None,
            nar_hash,
            nar_size,
            references: BTreeSet::new(),
            registration_time: 0,
            ultimate: false,
            signatures: BTreeSet::new(),
            ca: None,
        }
    }

    /// What the path refers to, itself told apart, as content addressing has it.
    pub fn references_for_ca(&self) -> References {
        let mut references = References { others: self.references.clone(), self_reference: false };
        references.self_reference = references.others.remove(&self.path);
        references
    }

    /// The path that the content address gives in a store with that directory; `None` without one.
    pub fn path_of_ca(&self, dir: &StoreDir) -> Option<Result<StorePath, NameError>> {
        let ca = self.ca.as_ref()?;
        Some(dir.make_fixed_output_path(ca, self.path.name(), &self.references_for_ca()))
    }

    /// Whether the path follows from a content address, so that it proves what it says itself.
    pub fn is_content_addressed(&self, dir: &StoreDir) -> bool {
        let Some(ca) = &self.ca else { return false };
        // Only these addresses say what the path refers to.
        let covers_references = match ca.method {
            CaMethod::Text => !self.references.contains(&self.path),
            CaMethod::NixArchive if ca.hash.algo() == HashAlgo::Sha256 => true,
            _ => self.references.is_empty(),
        };
        if !covers_references {
            return false;
        }
        matches!(self.path_of_ca(dir), Some(Ok(path)) if path == self.path)
    }

    /// The text that signatures sign: `1;<path>;<nar hash>;<nar size>;<references>`.
    pub fn fingerprint(&self, dir: &StoreDir) -> String {
        let references: Vec<String> = self.references.iter().map(|p| dir.display(p)).collect();
        format!(
            "1;{};{};{};{}",
            dir.display(&self.path),
            self.nar_hash.to_prefixed(HashFormat::Nix32),
            self.nar_size,
            references.join(",")
        )
    }
}

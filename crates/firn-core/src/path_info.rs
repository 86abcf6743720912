//! What a store knows of a valid path.

use crate::content_address::ContentAddress;
use crate::hash::{Hash, HashFormat};
use crate::store_path::{StoreDir, StorePath};
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

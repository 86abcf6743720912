//! Plain data of the Nix world: hashes, store paths, content addresses, derived paths, path info, realisations
//! and signatures.
//!
//! Invariant: this crate does no I/O of any kind and knows no other firn crate.

pub mod base;
pub mod content_address;
pub mod date;
pub mod derived_path;
pub mod flake_ref;
pub mod hash;
pub mod narinfo;
pub mod path_info;
pub mod raw_text;
pub mod signature;
pub mod store_path;
pub mod units;
pub mod url;

pub use content_address::{CaMethod, ContentAddress};
pub use derived_path::{DerivedPath, OutputsSpec, SingleDerivedPath};
pub use hash::{Hash, HashAlgo, HashFormat, Hasher};
pub use narinfo::NarInfo;
pub use path_info::ValidPathInfo;
pub use store_path::{StoreDir, StorePath, StorePathError};

/// The version of the reference implementation whose behaviour firn equals; `builtins.nixVersion`
/// reports it because package sets compute derivations from it.
pub const REFERENCE_VERSION: &str = "2.34.8";

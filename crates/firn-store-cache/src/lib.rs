//! Binary caches as stores: over HTTP(S), in a directory, and in S3.
//!
//! Invariants:
//! - what a cache says is not believed here: hashes are checked by whoever takes a path in, signatures by
//!   [`firn_store::TrustPolicy`];
//! - a `.narinfo` file is written after everything that it speaks of, so that a path is valid only when it is whole;
//! - archives stream: through memory goes a bounded part of them, and what is uploaded waits on disk;
//! - the SQLite database here is the cache of `.narinfo` files, never the store's.

mod add;
pub mod config;
mod debug_info;
mod disk_cache;
mod fetch;
mod files;
mod http_files;
pub mod listing;
mod local_files;
mod nar_cache;
pub mod open;
mod s3_files;
pub mod serve;
pub mod store;

pub use config::{CacheConfig, CacheKind};
pub use disk_cache::{DiskCache, DiskCacheConfig};
pub use open::{CacheEnvironment, open};
pub use store::CacheStore;

//! The local store: SQLite database, objects on disk, locks, temporary roots, garbage collection, verification.
//!
//! It shares its folders with the reference implementation at any time: the same schema, the same lock files and
//! protocols, the same files for roots. Everything here blocks; the asynchronous traits are thin wrappers.
//!
//! Invariants:
//! - one function ([`LocalStore::register_valid_paths`]) makes paths valid, in one transaction, after their bytes and
//!   metadata are complete;
//! - a path is written only under its path lock, and only after it is a temporary root;
//! - nothing is opened or created before it is needed: a query opens the database and no more.

mod add;
mod auto_gc;
mod build_target;
mod bulk;
mod canonicalise;
mod config;
mod cramped;
mod db;
mod derivations;
mod durable;
mod gc;
mod health;
mod import;
mod import_many;
mod ingest;
mod layout;
mod logs;
mod lower;
mod optimise;
mod overlay;
mod parallel;
mod query;
mod realisations;
mod rebuild;
mod register;
mod remove;
mod roots;
mod runtime_roots;
mod schema;
mod staging;
mod store;
mod store_impl;
mod stream;
mod temp_roots;
mod text_batch;
mod verify;

pub use add::Ingestion;
pub use canonicalise::{CanonicaliseOptions, InodesSeen, canonicalise_metadata};
pub use config::LocalStoreConfig;
pub use health::DatabaseHealth;
pub use lower::LowerConfig;
pub use optimise::OptimiseStats;
pub use overlay::OverlayConfig;
pub use rebuild::RebuildReport;
pub use remove::remove_tree;
pub use roots::Roots;
pub use store::LocalStore;
pub use verify::{Repair, VerifyOptions};

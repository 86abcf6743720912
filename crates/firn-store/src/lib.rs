//! Store traits: what a store can do, apart from how any one store does it.
//!
//! Invariants:
//! - this crate knows no concrete store, no SQLite, no HTTP and no evaluator;
//! - a store path is valid only when its content and metadata are complete: no method of any trait makes a
//!   half-written path visible;
//! - every set that a method returns is ordered, so that output is deterministic.

pub mod activity;
pub mod ansi;
pub mod build_target;
pub mod closure;
pub mod copy;
pub mod error;
pub mod export;
pub mod locks;
pub mod memory;
pub mod nar_stream;
pub mod outputs;
pub mod readdress;
mod realisation;
pub mod restricted;
pub mod source;
pub mod supply;
pub mod traits;
pub mod trust;
pub mod uri;
pub mod validity;
mod weight;

pub use build_target::{BuildTarget, OutputTree};
pub use closure::{ClosureOptions, compute_fs_closure, topo_sort_paths};
pub use copy::{CopyOptions, copy_paths, copy_realisations};
pub use error::{StoreError, StoreResult};
pub use memory::MemoryStore;
pub use nar_stream::{NarStream, read_failed, regular_file_of_archive};
pub use restricted::{RestrictedStore, Scope};
pub use supply::{NarSupply, NarToAdd, NarsInMemory};
pub use traits::{
    AddSource, BuildMode, BuildResult, BuildStatus, BuildStore, CpuTimes, GcAction, GcOptions, GcResults,
    GcStore, HeldNar, LocalFsStore, LogStore, Missing, NarSink, NarSource, Realisation, Store,
    SubstitutablePathInfo, SubstituterProperties, TextToAdd, Trust,
};
pub use trust::TrustPolicy;
pub use uri::{StoreKind, StoreUri};
pub use weight::{Weight, Weights, weigh};

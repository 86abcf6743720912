//! Locks between processes, as the reference takes them: on the store's own lock files, beside store paths, and
//! beside profiles.

pub mod flock;
mod paths;

pub use paths::PathLocks;

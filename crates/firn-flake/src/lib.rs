//! Flakes: what their references mean, their lock files, and how those are brought up to date.
//!
//! Invariants:
//! - nothing is evaluated and nothing is fetched here: a [`FlakeHost`] does both, and says what a `flake.nix` asks for;
//! - lock files are foreign text: how deep and how large they may be is bounded, and what is wrong in one is an error;
//! - a lock file is written as a whole or not at all, by the host.

mod config;
mod fingerprint;
mod host;
mod input_path;
mod lock_file;
mod locking;
mod name;
mod reference;

pub use config::{ConfigValue, Decision, TrustedSettings, needs_trust};
pub use fingerprint::fingerprint;
pub use host::{Failure, FetchedTree, FlakeHost, Registries};
pub use input_path::{BadInputPath, InputPath};
pub use lock_file::{Edge, LockFile, LockFileError, Locked, Node, NodeId, ReadRules};
pub use locking::{
    Flake, FlakeSpec, InputSpec, IsFlake, LockFlags, LockSettings, LockedFlake, get_flake, lock_flake,
};
pub use name::name_of_url;
pub use reference::{ParsedArgument, ReferenceError, parse_argument};

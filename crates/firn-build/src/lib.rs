//! Builds derivations on this machine: the builder's environment and sandbox, its log, and what becomes of its outputs.
//!
//! Invariants:
//! - stores are known by their traits only;
//! - an output is looked at only after every process of its build is dead, and reached only through a directory
//!   descriptor that was opened before the builder ran;
//! - outputs become valid in one transaction, after all checks.
//!
//! One build runs in one thread of its own ([`LocalExecutor`]); everything below it blocks.

pub mod builtins;
mod cgroup;
mod checks;
pub mod config;
mod environment;
mod executor;
mod external;
mod hooks;
mod job;
mod log;
mod nested;
mod outputs;
mod place;
mod random;
mod sandbox;
mod structured;
mod text;
mod trees;

pub use cgroup::make_room_for_builds;
pub use config::{BuildConfig, ExternalBuilder, SandboxMode, SandboxPath};
pub use executor::LocalExecutor;
pub use hooks::post_build as run_post_build_hook;
pub use nested::NestedServer;
pub use structured::shell as structured_shell;

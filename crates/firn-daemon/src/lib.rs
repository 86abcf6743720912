//! The servers: a daemon's socket, one connection in the worker protocol, and `nix-store --serve`.
//!
//! A daemon is one supervising process that accepts and decides who may do what, and one process for each connection
//! (`firn __daemon-worker`), so that whatever happens to one connection is told to its client and hurts no other.
//!
//! Invariants:
//! - this crate knows no concrete store, no scheduler and no evaluator: a [`Host`] opens them, under the settings of
//!   the connection;
//! - what an untrusted client may not do is refused here, before any store is asked;
//! - memory does not grow with what passes: archives are streams, strings have budgets.

mod auth;
mod connection;
mod error;
mod host;
mod input;
mod ops;
mod options;
mod output;
mod output_ids;
mod serve;
mod status;
mod supervisor;
mod tunnel;

pub use auth::{Peer, Policy, Verdict};
pub use connection::{ConnectionConfig, Farewell, serve_connection};
pub use host::{Host, Stores};
pub use input::{Input, open_input};
pub use options::apply_options;
pub use output::Output;
pub use serve::serve_store;
pub use status::Status;
pub use supervisor::{Supervisor, SupervisorError, WorkerCommand, bind_socket, inherited_sockets};

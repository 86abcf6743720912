//! Stores behind a connection: a daemon's socket, `ssh-ng` (the worker protocol through ssh) and `ssh` (the serve
//! protocol).
//!
//! Invariants:
//! - opening a store makes no connection; the first operation does;
//! - a connection whose stream may be out of step is closed, never used again;
//! - what the other side said of a failure is the error, also where writing to it failed first;
//! - temporary roots live as long as the store: they are told again to a new connection that replaces a lost one.

mod addition;
mod connect;
mod connection;
mod convert;
mod error;
mod eval_store;
mod logs;
mod pool;
mod serve;
mod ssh;
mod ssh_master;
mod store;
mod upload;

pub use connect::{Connector, Transport, UnixConnector};
pub use connection::Handshake;
pub use eval_store::BuildFromOtherStore;
pub use serve::{ServeConfig, ServeStore};
pub use ssh::{LineSink, SshCommand, SshConnector, SshTarget};
pub use ssh_master::MasterSlot;
pub use store::{LocalPart, RemoteConfig, RemoteStore, RootKeeping};

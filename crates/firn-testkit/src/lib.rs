//! What tests need and nothing that is shipped uses: a private store with its own settings and home, and the
//! programs to run on it.
//!
//! Programs come from the folder that `FIRN_BIN` names (`tests/run` builds them and sets it); without it they are
//! built on first use. Functions here panic: a test that cannot be set up has failed.

pub mod conformance;
mod daemon;
mod programs;
mod sandbox;
pub mod servers;
mod terminal;
mod users;
mod world;

pub use daemon::{Make, Server, has_reference, has_sshd};
pub use programs::program_dir;
pub use sandbox::can_sandbox;
pub use terminal::Terminal;
pub use users::BUILD_USERS;
pub use world::{Run, World};

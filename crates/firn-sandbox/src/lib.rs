//! Runs one [`SandboxSpec`]: a builder, isolated as the specification says.
//!
//! A build starts by executing this very program again (`/proc/self/exe __build-init`), which becomes a
//! single-threaded init: it reads the specification, prepares the new root, clones the builder's process into its
//! namespaces, waits for it and leaves nothing of it alive. See [`init`] for what happens where.
//!
//! Invariants:
//! - this crate knows no derivation, no store and no async runtime;
//! - a process with threads never runs Rust code between fork and exec: the caller's side only spawns a program;
//! - when [`Sandbox::wait`] returns, no process of the build is alive (with a build user: none of that user; with
//!   neither PID namespace nor build user: no descendant of the init);
//! - when the caller dies, so does the build: the init holds one end of a socket whose other end only the caller has.

pub mod init;
mod leave;
pub mod report;
pub mod spawn;
pub mod spec;
pub mod store_view;
pub mod subordinate;
pub mod users;

pub use init::{BuiltinCall, BuiltinRunner, run_init_if_requested};
pub use leave::leave;
pub use report::{CpuTimes, ExitStatus, SandboxError};
pub use spawn::{Event, Mounter, Sandbox, Spawner};
pub use spec::{BuildUser, Bytes, File, Isolation, Mount, Program, SandboxSpec, Symlink};
pub use store_view::{StoreView, run_in_store_if_requested};
pub use subordinate::{Lent, write_id_maps_if_requested};

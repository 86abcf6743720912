//! Builds on other machines: which machines there are, how their slots are shared with other processes, and an
//! `Executor` in front of the local one that sends builds there; the build hook's protocol from both sides.
//!
//! Invariants:
//! - a slot is held by a lock on a file in `current-load`, as the reference does it, so that all processes of this
//!   machine together never use more than a machine offers;
//! - outputs are locked here for as long as they are built elsewhere;
//! - a machine that cannot be reached, or whose connection breaks, is left aside for a while, and what it was doing is
//!   done elsewhere; a build that fails there has failed.

mod dispatch;
mod foreign;
mod hook;
mod log;
mod machines;
mod pick;
mod transfer;

pub use dispatch::{
    AfterBuild, Dispatch, DispatchConfig, LineSink, MachineOpener, OpenMachine, RemoteExecutor,
};
pub use foreign::{HookExecutor, HookState};
pub use hook::{Hook, HookRequest, serve_hook};
pub use machines::{Machine, MachineError, parse_machines};
pub use pick::{Demand, Pick, Slot, current_load, pick};

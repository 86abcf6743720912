//! A file system in memory that forgets, in a power cut, what was not synced; that fails when it is told to; and that
//! can be looked at and copied between mounts.
//!
//! [`disk`] is the model: what is there, and what would be there after a power cut. [`mount`] shows it through FUSE.

pub mod disk;
pub mod faults;
pub mod mount;

pub use disk::{Cut, Disk};
pub use faults::{Fault, Plan};
pub use mount::{Mounted, can_mount};

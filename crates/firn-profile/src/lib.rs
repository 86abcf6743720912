//! Profiles: a link to a user environment, and the generations that it can go back to.
//!
//! A profile `P` is a symlink to `P-<number>-link`, which is a symlink to a store path and a root. Switching replaces
//! the first link in one step, so a profile is always one generation or another; whoever changes it holds `P.lock`.
//!
//! Invariants: no evaluator; changes are planned ([`Generations::to_delete`]) before anything is touched.

pub mod dirs;
pub mod element;
pub mod environment;
pub mod error;
pub mod generations;
pub mod manifest;
pub mod selection;

pub use element::{Element, Meta};
pub use error::{ProfileError, ProfileResult};
pub use generations::{Generation, Generations, Switched};
pub use selection::Selection;

//! The goal graph: what has to be built or substituted, in which order, how many at once, and what a failure means
//! for the rest.
//!
//! Invariants:
//! - no derivation is built twice in one run, however many requests lead to it;
//! - a derivation is handed to the [`Executor`] only when all its inputs are valid;
//! - no sandbox, no SQLite, no concrete store: builds happen behind [`Executor`], substitution behind
//!   [`Substituter`].

mod dynamic;
pub mod executor;
mod goals;
pub mod missing;
mod progress;
mod ready;
mod realise;
mod repair;
mod run;
pub mod scheduler;
mod single;
pub mod slots;
pub mod status;
pub mod substitute;

pub use executor::{
    BuildFailure, BuildObserver, BuildRequest, BuildSuccess, Executor, Substituted, Substituter,
};
pub use scheduler::{Scheduler, SchedulerConfig};
pub use slots::{Place, Slot, Slots};
pub use status::ExitFlags;
pub use substitute::{StoreSubstituter, SubstitutionConfig};

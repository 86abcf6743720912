//! Values as the evaluator holds them: one tagged machine word each.
//!
//! This module is the only one of the crate with `unsafe`. Its invariants:
//! - every pointer in a [`Value`] comes from [`heap`], whose objects never move and live as long as the stack of an
//!   evaluating thread or another reachable object refers to them;
//! - an object's kind never changes, a thunk's state apart, and that only goes suspended → claimed → done | failed;
//! - lengths are stored in the objects, and every access through a handle is checked against them.
//!
//! Handles ([`Attrs`], [`List`], [`Env`], …) are therefore freely copied and safe to use from any evaluating thread, as
//! long as they are not put where the collector does not look (see [`heap`]).

#![expect(unsafe_code, reason = "values are words that point into the evaluator's own heap")]

mod attrs;
mod compared;
mod env;
mod grown;
mod heap;
mod layers;
mod names;
mod objects;
mod positions;
pub mod queue;
mod thunk;
mod word;

pub use attrs::{Attrs, PlaceCache};
pub use compared::Compared;
pub use env::{CallFrame, Env, FrameSize, ScopeCache};
pub(crate) use heap::blocking;
pub use heap::{
    OutOfMemory, code_bytes, evaluating_thread, has_room, memory_limit, note_code, set_collector_limits,
    usage,
};
pub use objects::{Closure, FewValues, Fun, List, ListBuilder, NixStr, PartialApp, ValueVec};
pub use positions::{FixedPositions, Positions, UpdateCache};
pub use queue::Ahead;
pub use thunk::waiting::{self, Waited};
pub use thunk::{Native, Owner, Suspended, Thunk, ThunkState};
pub use word::{Kind, Value};

#[cfg(test)]
mod tests;

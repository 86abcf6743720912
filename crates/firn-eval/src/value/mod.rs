//! Values as the evaluator holds them: one tagged machine word each.
//!
//! This module is the only one of the crate with `unsafe`. Its invariants:
//! - every pointer in a [`Value`] comes from [`heap`], whose memory lives as long as the process and never moves;
//! - an object's kind never changes, a thunk's state apart, and that only goes suspended → claimed → done | failed;
//! - lengths are stored in the objects, and every access through a handle is checked against them.
//!
//! Handles ([`Attrs`], [`List`], [`Env`], …) are therefore freely copied and safe to use from any thread.

#![expect(unsafe_code, reason = "values are words that point into the evaluator's own heap")]

mod env;
mod heap;
mod objects;
mod thunk;
mod word;

pub use env::Env;
pub use heap::allocated_bytes;
pub use objects::{Attrs, Closure, Fun, List, ListBuilder, NixStr, PartialApp, PlaceCache, ValueVec};
pub use thunk::{Native, Suspended, Thunk, ThunkState};
pub use word::{Kind, Value};

#[cfg(test)]
mod tests;

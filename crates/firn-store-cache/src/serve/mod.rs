//! A store served as a binary cache over HTTP.
//!
//! Invariants:
//! - the store is only read; there are no requests that change anything;
//! - what one client can cost is bounded: connections, archives at once, the size of heads, and how long a client may
//!   stand still; memory does not grow with the size of what is served;
//! - an archive that cannot be read to its end is never sent as if it were whole.

mod answer;
mod body;
mod metrics;
mod range;
mod server;

pub use server::{ServeConfig, Server};

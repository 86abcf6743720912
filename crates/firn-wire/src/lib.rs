//! The worker protocol (daemons, `ssh-ng`) and the serve protocol (`nix-store --serve`): their words and messages as
//! plain data, in every version from the oldest to the newest that is still spoken.
//!
//! Invariants:
//! - no sockets, no store: what is read comes from any `AsyncRead`, what is written is bytes in memory;
//! - foreign bytes are bounded: each request has a budget ([`WireReader::start_message`]) that strings and counts are
//!   charged to before memory is taken for them, and a length that lies costs no more than what was really sent;
//! - encoding cannot fail.
//!
//! Numbers are 64 bits, little endian; strings are a length, the bytes, and zeros up to a multiple of eight.
//!
//! Source: the reference's manual ("Nix Daemon Protocol"), and what its versions 2.8 and 2.34 send.

pub mod error;
pub mod framed;
pub mod read;
pub mod serve;
pub mod values;
pub mod worker;
pub mod write;

pub use error::{WireError, WireResult};
pub use framed::{FramedReader, frame, frame_end};
pub use read::WireReader;
pub use write::Message;

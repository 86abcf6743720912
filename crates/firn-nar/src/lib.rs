//! The Nix ARchive format: reading, writing, listing, dumping from and restoring to disk, and the two stream
//! filters that work on its bytes (finding references, rewriting hashes).
//!
//! Invariants:
//! - every parser here is iterative and bounded in memory, whatever the input says;
//! - only [`fs`] touches the disk, and it never follows a symlink below the path it was given;
//! - no store, no async runtime.
//!
//! Source: the manual's protocol page "Nix Archive (NAR) format".

pub mod boundary;
pub mod error;
pub mod fs;
pub mod git;
pub mod hashing;
pub mod listing;
pub mod reader;
pub mod references;
pub mod rewrite;
pub mod writer;

pub use boundary::NarBoundary;
pub use error::{NarError, NarResult};
pub use hashing::{HashReader, HashSink};
pub use reader::{Event, NarReader, Node};
pub use references::RefScanner;
pub use rewrite::{ModuloHasher, Rewriter};
pub use writer::NarWriter;

/// The string that every archive starts with.
pub const MAGIC: &[u8] = b"nix-archive-1";

/// Directories may nest this deep, counting the root; the reference refuses more, both ways.
pub const MAX_DEPTH: usize = 64;

/// Greatest length of a file name in bytes, whatever the host allows.
pub const MAX_NAME: usize = 255;

/// Greatest length of a symlink's target in bytes.
pub const MAX_TARGET: usize = 4095;

/// What the case hack appends (with a number) to names that collide when case is folded.
pub const CASE_HACK_SUFFIX: &[u8] = b"~nix~case~hack~";

/// Bytes of zero padding after a string of `len` bytes.
pub const fn padding(len: u64) -> usize {
    ((8 - len % 8) % 8) as usize
}

/// Length in bytes of the archive of one regular file of `size` bytes.
pub const fn file_archive_len(size: u64, executable: bool) -> u64 {
    // Strings are a length word and padded bytes: magic 24; `(` 16, `type` 16, `regular` 16, `contents` 16, `)` 16;
    // `executable` 24 and its empty value 8; the contents' own length word 8.
    24 + 16 * 5 + 8 + (if executable { 32 } else { 0 }) + size + padding(size) as u64
}

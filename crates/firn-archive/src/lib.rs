//! Compression by name, and unpacking of archives onto the disk.
//!
//! Invariants:
//! - every decoder works in bounded memory, whatever its input says; how much may come out is for the caller to bound;
//! - unpacking never leaves the directory it was given, by no name and no symlink;
//! - programs are run for the methods that only exist as programs, and only where they are named, never because of
//!   what an archive begins with;
//! - no store, no network, no async runtime: what blocks is run where blocking is allowed.

mod bzip;
pub mod decode;
pub mod encode;
pub mod error;
mod foreign;
mod lzip;
mod lzw;
pub mod method;
mod tar_headers;
mod tar_sparse;
mod tree;
pub mod unpack;

pub use bzip::BzipWriter;
pub use decode::{decoder, decoder_of_any, inflater};
pub use encode::{Encoder, EncoderOptions, encoder};
pub use error::{ArchiveError, ArchiveResult};
pub use method::Method;
pub use unpack::unpack;

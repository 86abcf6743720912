//! The error of this crate.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

pub type ArchiveResult<T> = Result<T, ArchiveError>;

/// Why something could not be compressed or unpacked.
#[derive(Debug, Error)]
pub enum ArchiveError {
    #[error("unknown compression method '{0}'")]
    UnknownMethod(String),
    /// An archive that a program would have to be run on.
    #[error("archives that are compressed by '{0}' are not unpacked; compress it another way")]
    Foreign(&'static str),
    /// The program that does a method could not be started.
    #[error("cannot run program '{name}', which does this compression: {source}")]
    Program { name: &'static str, source: io::Error },
    #[error("compression level {level} is not one of method '{method}'")]
    Level { method: &'static str, level: i32 },
    /// The archive says something that cannot be; the text says what and in which member.
    #[error("{0}")]
    Malformed(String),
    #[error("reading archive: {0}")]
    Read(#[source] io::Error),
    #[error("{operation} '{}': {source}", path.display())]
    Disk { operation: &'static str, path: PathBuf, source: io::Error },
}

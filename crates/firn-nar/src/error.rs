//! Errors of this crate.

use std::path::{Path, PathBuf};
use thiserror::Error;

/// The result of archive operations.
pub type NarResult<T> = Result<T, NarError>;

/// Why reading, writing, dumping or restoring an archive failed.
#[derive(Debug, Error)]
pub enum NarError {
    /// The input breaks the format; the text says how.
    #[error("bad archive: {0}")]
    Bad(String),
    /// The input ended inside the archive.
    #[error("unexpected end-of-file")]
    UnexpectedEof,
    #[error("reading a NAR: {}", os_text(.0))]
    Read(std::io::Error),
    #[error("writing a NAR: {}", os_text(.0))]
    Write(std::io::Error),
    /// A system call on a file failed.
    #[error("{operation} '{}': {}", path.display(), os_text(source))]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    /// A device, socket or FIFO.
    #[error("file '{}' has an unsupported type", .0.display())]
    UnsupportedType(PathBuf),
    #[error("path '{}' exceeds maximum NAR directory depth of {}", .0.display(), crate::MAX_DEPTH)]
    TooDeep(PathBuf),
    /// The place to restore a directory to is taken by a directory.
    #[error("path '{}' already exists", .0.display())]
    AlreadyExists(PathBuf),
    /// Undoing the case hack gives two files one name.
    #[error("file name collision between '{}' and '{}'", .0.display(), .1.display())]
    CaseHackCollision(PathBuf, PathBuf),
    /// The file became shorter while it was read.
    #[error("file '{}' changed while it was read: {missing} bytes are missing", path.display())]
    Shrunk { path: PathBuf, missing: u64 },
    /// What a filter callback returned; shown as it is.
    #[error("{0}")]
    Filter(Box<dyn std::error::Error + Send + Sync>),
}

impl NarError {
    /// An I/O error that names the operation and the path.
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> NarError {
        let path = path.to_owned();
        move |source| NarError::Io { operation, path, source: source.into() }
    }

    /// An error of the reading side; the end of the input is its own variant.
    pub fn read(source: std::io::Error) -> NarError {
        match source.kind() {
            std::io::ErrorKind::UnexpectedEof => NarError::UnexpectedEof,
            _ => NarError::Read(source),
        }
    }

    /// A break of the format.
    pub(crate) fn bad(text: impl Into<String>) -> NarError {
        NarError::Bad(text.into())
    }

    /// The operating system's error number, where there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            NarError::Read(e) | NarError::Write(e) | NarError::Io { source: e, .. } => e.raw_os_error(),
            _ => None,
        }
    }
}

/// An operating system error in its own words, without the number that Rust adds.
fn os_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

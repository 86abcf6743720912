//! The error of store operations.

use firn_core::store_path::{NameError, StorePathError};
use std::path::PathBuf;
use thiserror::Error;

pub type StoreResult<T> = Result<T, StoreError>;

/// Why a store operation failed. Messages are the reference's where a script could look at them.
#[derive(Debug, Error)]
pub enum StoreError {
    /// `path` is the full path text.
    #[error("path '{path}' is not valid")]
    InvalidPath { path: String },
    #[error("{operation} '{}': {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("hash mismatch importing path '{path}';\n  specified: {expected}\n  got:       {got}")]
    HashMismatch { path: String, expected: String, got: String },
    #[error("size mismatch importing path '{path}';\n  specified: {expected}\n  got:       {got}")]
    SizeMismatch { path: String, expected: u64, got: u64 },
    #[error("cannot add path '{path}' because it lacks a signature by a trusted key")]
    Untrusted { path: String },
    #[error("cannot register realisation '{id}' because it lacks a signature by a trusted key")]
    UntrustedRealisation { id: String },
    #[error("operation '{operation}' is not supported by store '{store}'")]
    Unsupported { operation: &'static str, store: String },
    #[error("{0}")]
    Path(#[from] StorePathError),
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("database '{}': {message}", path.display())]
    Database { path: PathBuf, message: String },
    #[error("{0}")]
    Nar(#[source] firn_nar::NarError),
    /// A substituter has the facts of a path and not (any more) its archive; the text says which file is missing.
    #[error("{0}")]
    SubstituteGone(String),
    /// The store failed a short while ago and is not asked again yet.
    #[error("substituter '{uri}' is disabled: {reason}")]
    SubstituterDisabled { uri: String, reason: String },
    /// Something the store holds is not what it should be; the text names what and where.
    #[error("{0}")]
    Corrupt(String),
    /// The request cannot be met; the text is the whole message.
    #[error("{0}")]
    Other(String),
    /// A build failed in the way that `status` says; the exit code of the program follows from it.
    #[error("{message}")]
    Build { status: u32, message: String },
    /// The connection to a remote store broke; what was asked for may be done on another one. The text is the whole
    /// message.
    #[error("{0}")]
    ConnectionLost(String),
    #[error("interrupted by the user")]
    Interrupted,
}

impl From<firn_nar::NarError> for StoreError {
    fn from(error: firn_nar::NarError) -> StoreError {
        match error {
            firn_nar::NarError::Io { operation, path, source } => StoreError::Io { operation, path, source },
            other => StoreError::Nar(other),
        }
    }
}

impl StoreError {
    /// An I/O error with what was being done to which path.
    pub fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.into();
        move |source| StoreError::Io { operation, path, source }
    }
}

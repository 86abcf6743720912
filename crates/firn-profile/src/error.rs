//! The errors of profile operations, in the reference's words.

use firn_store::StoreError;
use std::path::PathBuf;
use thiserror::Error;

pub type ProfileResult<T> = Result<T, ProfileError>;

/// Why an operation on a profile failed.
#[derive(Debug, Error)]
pub enum ProfileError {
    #[error("{operation} \"{}\": {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("profile version {0} does not exist")]
    NoSuchVersion(u64),
    #[error("no profile version older than the current ({0}) exists")]
    NoOlderVersion(u64),
    #[error("cannot delete current version of profile \"{}\"", .0.display())]
    CurrentVersion(PathBuf),
    #[error("Must keep at least one generation, otherwise the current one would be deleted")]
    KeepsNone,
    #[error("invalid number of generations '{0}'")]
    BadCount(String),
    #[error("invalid number of generations to keep '{0}'")]
    BadKeep(String),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// A profile's manifest that cannot be read.
    #[error("profile manifest \"{place}\"{what}")]
    BadManifest { place: String, what: String },
    #[error("the manifest of the user environment cannot hold {0}")]
    Manifest(String),
}

impl ProfileError {
    /// An I/O error with what was being done to which path.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

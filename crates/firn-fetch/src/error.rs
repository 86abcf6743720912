//! The error of fetching.

use firn_archive::ArchiveError;
use firn_core::HashFormat;
use firn_http::HttpError;
use firn_http::client::DownloadError;
use firn_store::StoreError;
use std::path::PathBuf;
use thiserror::Error;

pub type FetchResult<T> = Result<T, FetchError>;

/// Why something could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("unpacking '{url}': {source}")]
    Unpack { url: String, source: ArchiveError },
    #[error("{operation} '{}': {}", path.display(), reason(source))]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("fetcher cache '{}': {message}", path.display())]
    Cache { path: PathBuf, message: String },
    /// The hashes are what was expected and what came.
    #[error(
        "hash mismatch in file downloaded from '{url}':\n  specified: {}\n  got:       {}",
        hashes[0].to_prefixed(HashFormat::Nix32),
        hashes[1].to_prefixed(HashFormat::Nix32)
    )]
    HashMismatch { url: String, hashes: Box<[firn_core::Hash; 2]> },
    /// The hashes are what was expected and what came.
    #[error(
        "NAR hash mismatch in input '{input}', expected '{}' but got '{}'",
        hashes[0].to_sri(),
        hashes[1].to_sri()
    )]
    NarMismatch { input: String, hashes: Box<[firn_core::Hash; 2]> },
    /// The text is the whole message.
    #[error("{0}")]
    Other(String),
}

/// What went wrong, without the system's number for it.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

impl FetchError {
    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> FetchError {
        let path = path.into();
        move |source| FetchError::Io { operation, path, source }
    }

    /// The exit status that a program ends with.
    pub fn exit_status(&self) -> u8 {
        match self {
            FetchError::HashMismatch { .. } | FetchError::NarMismatch { .. } => 102,
            _ => 1,
        }
    }
}

impl From<DownloadError> for FetchError {
    fn from(error: DownloadError) -> FetchError {
        match error {
            DownloadError::Http(error) => FetchError::Http(error),
            DownloadError::Sink(source) => {
                FetchError::Io { operation: "writing", path: "a temporary file".into(), source }
            }
        }
    }
}

//! The error of this crate, classified as the reference classifies.

use std::fmt;

pub type HttpResult<T> = Result<T, HttpError>;

/// What a failure means for who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The file is certainly not there.
    NotFound,
    /// The server wants (other) credentials.
    Forbidden,
    /// Trying again is of no use.
    Misc,
    /// It might work later; all attempts are used up.
    Transient,
}

/// Why a transfer failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpError {
    pub kind: ErrorKind,
    /// `unable to download '…': …`, without the server's own words.
    pub message: String,
    /// The start of the body that came with the status.
    pub response: Option<String>,
    /// The status, if there was one.
    pub status: Option<u16>,
}

impl HttpError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> HttpError {
        HttpError { kind, message: message.into(), response: None, status: None }
    }

    /// Whether the file is missing as binary caches tell it: S3 says "forbidden" of files that are not there.
    pub fn is_missing_in_cache(&self) -> bool {
        matches!(self.kind, ErrorKind::NotFound | ErrorKind::Forbidden)
            && !matches!(self.status, Some(401 | 407))
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.response.as_deref().map(str::trim_end) {
            Some(body) if !body.is_empty() && (body.len() < 1024 || body.contains("<html>")) => {
                write!(f, "\n\nresponse body:\n\n{body}")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for HttpError {}

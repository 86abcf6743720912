//! What can be wrong with what the other side sends.

use firn_core::content_address::CaParseError;
use firn_core::hash::HashError;
use firn_core::store_path::StorePathError;
use std::io;
use thiserror::Error;

pub type WireResult<T> = Result<T, WireError>;

#[derive(Debug, Error)]
pub enum WireError {
    /// The stream ended between two words or within one.
    #[error("unexpected end-of-file")]
    Eof,
    #[error("{0}")]
    Io(#[source] io::Error),
    #[error("string is too long")]
    TooLong,
    /// More than the budget of a request.
    #[error("the message is too large")]
    Budget,
    #[error("non-zero padding")]
    Padding,
    /// `value` is out of the range of `what`.
    #[error("{what} has the value {value}, which is out of range")]
    Range { what: &'static str, value: u64 },
    #[error("{what} is not valid UTF-8")]
    Utf8 { what: &'static str },
    #[error(transparent)]
    Path(#[from] StorePathError),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    ContentAddress(#[from] CaParseError),
    /// The whole message.
    #[error("{0}")]
    Invalid(String),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> WireError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => WireError::Eof,
            _ => WireError::Io(error),
        }
    }
}

impl WireError {
    /// Whether the other side is gone.
    pub fn is_disconnect(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match self {
            WireError::Eof => true,
            WireError::Io(e) => matches!(e.kind(), BrokenPipe | ConnectionReset | ConnectionAborted),
            _ => false,
        }
    }
}

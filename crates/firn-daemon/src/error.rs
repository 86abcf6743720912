//! Why an operation ends without a result.

use firn_store::StoreError;
use firn_wire::WireError;
use std::io;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum OpError {
    /// The operation failed; the client is told, and may go on.
    #[error("{0}")]
    Store(StoreError),
    /// What the client sends makes no sense, or it is gone: the connection ends.
    #[error("{0}")]
    Wire(WireError),
}

impl From<StoreError> for OpError {
    fn from(error: StoreError) -> OpError {
        OpError::Store(error)
    }
}

impl From<WireError> for OpError {
    fn from(error: WireError) -> OpError {
        OpError::Wire(error)
    }
}

impl From<io::Error> for OpError {
    fn from(error: io::Error) -> OpError {
        OpError::Wire(error.into())
    }
}

impl From<firn_core::store_path::NameError> for OpError {
    fn from(error: firn_core::store_path::NameError) -> OpError {
        OpError::Store(error.into())
    }
}

/// A refusal, in the words given.
pub(crate) fn refuse(message: impl Into<String>) -> OpError {
    OpError::Store(StoreError::Other(message.into()))
}

pub(crate) type OpResult<T> = Result<T, OpError>;

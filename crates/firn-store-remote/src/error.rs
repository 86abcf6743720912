//! Failures of an exchange, and the store errors that they become.

use firn_core::raw_text;
use firn_store::StoreError;
use firn_wire::WireError;
use firn_wire::worker::RemoteError;
use std::io;
use thiserror::Error;

/// Why an exchange failed, and with it whether its connection can be used again.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The other side refused; the connection is in step.
    #[error("{}", text_of(.0))]
    Remote(RemoteError),
    /// The stream is not what it should be, or is gone.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Something here failed in the middle of the exchange.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Wire(error.into())
    }
}

pub(crate) type Outcome<T> = Result<T, Failure>;

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        match failure {
            Failure::Store(error) => error,
            Failure::Remote(error) if error.status > 1 => {
                StoreError::Build { status: error.status, message: text_of(&error) }
            }
            Failure::Remote(error) => StoreError::Other(text_of(&error)),
            Failure::Wire(error) if error.is_disconnect() => {
                StoreError::ConnectionLost("Nix daemon disconnected unexpectedly (maybe it crashed?)".into())
            }
            Failure::Wire(error) => StoreError::Other(error.to_string()),
        }
    }
}

/// The message, below the lines that say what was being done.
fn text_of(error: &RemoteError) -> String {
    let message = raw_text::keep(&error.message);
    let mut text = String::new();
    for trace in &error.traces {
        text += &format!("\n… {}\n", String::from_utf8_lossy(trace));
    }
    match text.is_empty() {
        true => message.into_owned(),
        false => format!("{text}\n\x1b[31;1merror:\x1b[0m {message}"),
    }
}

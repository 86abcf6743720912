//! Errors as they go to the client, and what older clients send.

use crate::error::OpResult;
use crate::input::Input;
use crate::output::Output;
use firn_store::StoreError;
use tokio::io::{AsyncWriteExt, DuplexStream};

/// The message. Operating system errors come without their numbers.
pub(crate) fn error_text(error: &StoreError) -> String {
    match error {
        StoreError::Io { operation, path, source } => {
            let text = source.to_string();
            let text = text.rfind(" (os error ").map_or(text.as_str(), |at| &text[..at]);
            format!("{operation} '{}': {text}", path.display())
        }
        other => other.to_string(),
    }
}

/// How much an older client is asked for at once.
const PIECE: u64 = 64 * 1024;

/// Asks the client for data until nobody reads it any more.
pub(crate) async fn pump(input: &mut Input, output: &Output, mut to: DuplexStream) -> OpResult<()> {
    loop {
        output.ask(PIECE)?;
        input.start_message(2 * PIECE as usize);
        let piece = input.bytes().await?;
        if piece.is_empty() || to.write_all(&piece).await.is_err() {
            return Ok(());
        }
    }
}

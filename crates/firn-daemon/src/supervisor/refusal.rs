//! Telling somebody why there is no connection.

use firn_wire::worker::handshake::features;
use firn_wire::worker::{
    ClientGreeting, Protocol, RemoteError, ServerInfo, StderrMessage, Version, read_client_greeting,
    server_greeting,
};
use firn_wire::{Message, WireError, WireReader};
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// Greets as far as is needed for the client to hear the message.
pub(super) async fn refuse(stream: StdStream, message: &str) {
    let Ok(stream) = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream)) else { return };
    // Whoever is too slow hears nothing.
    let _ = tokio::time::timeout(Duration::from_secs(5), tell(stream, message)).await;
}

async fn tell(mut stream: UnixStream, message: &str) -> Result<(), WireError> {
    let (input, mut output) = stream.split();
    let mut input = WireReader::new(input);
    read_client_greeting(&mut input).await?;
    output.write_all(&server_greeting(Version::LATEST).0).await?;
    let version = ClientGreeting::read(&mut input).await?.version;
    Protocol::read_features(&mut input, version).await?;
    if version.has(38) {
        output.write_all(&features().0).await?;
    }
    // Obsolete; read, since a client must have said all before the connection ends.
    if input.bool().await? {
        input.u64().await?;
    }
    input.u64().await?;
    let mut answer = Message::new();
    let info =
        ServerInfo { program_version: Some(firn_core::REFERENCE_VERSION.into()), trusted: Some(false) };
    answer.0.extend(info.write(version).0);
    StderrMessage::Error(RemoteError::new(message, 1)).write(&mut answer, version);
    output.write_all(&answer.0).await?;
    output.shutdown().await?;
    Ok(())
}

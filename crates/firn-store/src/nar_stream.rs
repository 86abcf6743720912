//! One archive out of a stream that goes on behind it.

use firn_nar::NarBoundary;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

/// Reads up to the last byte of the archive that `input` is at, and nothing beyond.
pub struct NarStream<R> {
    input: R,
    boundary: NarBoundary,
}

impl<R: AsyncBufRead + Unpin> NarStream<R> {
    pub fn new(input: R) -> NarStream<R> {
        NarStream { input, boundary: NarBoundary::default() }
    }

    /// Whether all of the archive was read.
    pub fn is_done(&self) -> bool {
        self.boundary.is_done()
    }

    /// The stream, at the place that it is at.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Passes over what is left of the archive.
    pub async fn drain(&mut self) -> io::Result<()> {
        tokio::io::copy(self, &mut tokio::io::sink()).await.map(drop)
    }
}

impl<R: AsyncBufRead + Unpin> AsyncRead for NarStream<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.boundary.is_done() || out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let bytes = ready!(Pin::new(&mut this.input).poll_fill_buf(cx))?;
        if bytes.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let bytes = &bytes[..bytes.len().min(out.remaining())];
        let n = this
            .boundary
            .feed(bytes)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
        out.put_slice(&bytes[..n]);
        Pin::new(&mut this.input).consume(n);
        Poll::Ready(Ok(()))
    }
}

/// What went wrong while an archive or a file was read from somewhere else.
pub fn read_failed(error: io::Error) -> firn_nar::NarError {
    firn_nar::NarError::read(error)
}

/// The contents of the regular file that an archive in memory is.
pub fn regular_file_of_archive(archive: &[u8]) -> crate::StoreResult<Vec<u8>> {
    let mut reader = firn_nar::NarReader::new(archive);
    match reader.next_event()? {
        Some(firn_nar::Event::Node { node: firn_nar::Node::Regular { .. }, .. }) => {}
        _ => return Err(crate::StoreError::Other("the archive is not that of a regular file".into())),
    }
    let mut contents = Vec::new();
    reader.copy_contents(|piece| {
        contents.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(contents)
}

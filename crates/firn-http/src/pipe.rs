//! Bytes from an asynchronous task to a blocking thread and back, in pieces that are moved and not copied, with a bound
//! on how many are under way.

use bytes::Bytes;
use std::io::{self, BufRead, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// Size of the pieces that writers make, in bytes.
pub const PIECE: usize = 256 * 1024;

/// A blocking reader of pieces. An early end is told by the sender with an error.
pub struct PipeReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    done: bool,
}

/// The sending end, for tasks.
pub type PipeSender = mpsc::Sender<io::Result<Bytes>>;

/// A pipe with at most about `bytes` under way (where pieces are of [`PIECE`] size).
pub fn pipe(bytes: usize) -> (PipeSender, PipeReader) {
    let (sender, receiver) = mpsc::channel((bytes / PIECE).clamp(2, 64));
    (sender, PipeReader { receiver, piece: Bytes::new(), done: false })
}

impl PipeReader {
    /// The piece that [`BufRead::fill_buf`] showed, without a copy.
    pub fn take_piece(&mut self) -> Bytes {
        std::mem::take(&mut self.piece)
    }

    /// The next piece, for readers that are polled.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> std::task::Poll<Option<io::Result<Bytes>>> {
        if !self.piece.is_empty() {
            return Poll::Ready(Some(Ok(self.take_piece())));
        }
        self.receiver.poll_recv(cx)
    }

    /// The next piece, on a task. `None` at the end.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if !self.piece.is_empty() {
            return Some(Ok(std::mem::take(&mut self.piece)));
        }
        self.receiver.recv().await
    }
}

impl BufRead for PipeReader {
    /// Blocks; not to be called on a task.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.done {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => self.done = true,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, n: usize) {
        let n = n.min(self.piece.len());
        drop(self.piece.split_to(n));
    }
}

impl Read for PipeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(out.len());
        out[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// A blocking writer that collects pieces and sends them. What is left is sent by [`PipeWriter::finish`]; dropping it
/// without that loses the rest, as a failure should.
pub struct PipeWriter {
    sender: PipeSender,
    buffer: Vec<u8>,
}

impl PipeWriter {
    pub fn new(sender: PipeSender) -> PipeWriter {
        PipeWriter { sender, buffer: Vec::new() }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Sends what is left.
    pub fn finish(mut self) -> io::Result<()> {
        self.send()
    }

    /// Lets the reader fail with `error`.
    pub fn fail(self, error: io::Error) {
        let _ = self.sender.blocking_send(Err(error));
    }
}

impl Write for PipeWriter {
    /// Blocks; not to be called on a task.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(PIECE);
        }
        let n = data.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&data[..n]);
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe as an asynchronous writer.
pub struct PieceSink {
    sender: PollSender<io::Result<Bytes>>,
}

impl PieceSink {
    pub fn new(sender: PipeSender) -> PieceSink {
        PieceSink { sender: PollSender::new(sender) }
    }

    /// Lets the reader fail with `error`.
    pub async fn fail(self, error: io::Error) {
        if let Some(sender) = self.sender.get_ref() {
            let _ = sender.send(Err(error)).await;
        }
    }
}

impl AsyncWrite for PieceSink {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        std::task::ready!(self.sender.poll_reserve(cx)).map_err(gone)?;
        let n = data.len().min(PIECE);
        self.sender.send_item(Ok(Bytes::copy_from_slice(&data[..n]))).map_err(gone)?;
        Poll::Ready(Ok(n))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

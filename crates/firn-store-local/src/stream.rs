//! Bytes from one thread or task to another, in pieces, with a bound on how many are under way.

use std::io::{self, Read, Write};
use tokio::sync::mpsc;

/// Pieces under way at most.
const DEPTH: usize = 4;

/// Piece size in bytes.
pub(crate) const PIECE: usize = 256 * 1024;

/// Writes pieces; an error stands for the other side having gone.
pub(crate) struct ChannelWriter(pub(crate) mpsc::Sender<Vec<u8>>);

/// Reads them; the end of the stream is the writer's end.
pub(crate) struct ChannelReader {
    receiver: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    start: usize,
}

pub(crate) fn channel() -> (ChannelWriter, ChannelReader) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    (ChannelWriter(sender), ChannelReader { receiver, piece: Vec::new(), start: 0 })
}

impl Write for ChannelWriter {
    /// Blocks; not to be called on an asynchronous task.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(buf.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for ChannelReader {
    /// Blocks; not to be called on an asynchronous task.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.piece.len() {
            match self.receiver.blocking_recv() {
                Some(piece) => (self.piece, self.start) = (piece, 0),
                None => return Ok(0),
            }
        }
        let n = out.len().min(self.piece.len() - self.start);
        out[..n].copy_from_slice(&self.piece[self.start..self.start + n]);
        self.start += n;
        Ok(n)
    }
}

impl ChannelReader {
    /// The next piece, on an asynchronous task.
    pub(crate) async fn next_piece(&mut self) -> Option<Vec<u8>> {
        self.receiver.recv().await
    }
}

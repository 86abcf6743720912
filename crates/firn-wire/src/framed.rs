//! Data of unknown length: frames, each a length and that many bytes without padding, up to a frame of length 0.

use crate::read::WireReader;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, ReadBuf};

/// The head of a frame of `len` bytes.
pub fn frame(len: usize) -> [u8; 8] {
    (len as u64).to_le_bytes()
}

/// What ends the data.
pub fn frame_end() -> [u8; 8] {
    [0; 8]
}

/// The data in frames.
pub struct FramedReader<'a, R> {
    input: &'a mut WireReader<R>,
    /// Bytes that are left of the frame.
    left: u64,
    /// Bytes of the next frame's head that are here.
    head: [u8; 8],
    head_len: usize,
    done: bool,
}

impl<'a, R: AsyncRead + Unpin> FramedReader<'a, R> {
    pub fn new(input: &'a mut WireReader<R>) -> FramedReader<'a, R> {
        FramedReader { input, left: 0, head: [0; 8], head_len: 0, done: false }
    }

    /// Passes over what is left, so that the next message can be read.
    pub async fn drain(&mut self) -> io::Result<u64> {
        tokio::io::copy(self, &mut tokio::io::sink()).await
    }

    /// Everything, if it is no more than `max` bytes.
    pub async fn read_all(&mut self, max: u64) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        (&mut *self).take(max + 1).read_to_end(&mut data).await?;
        if data.len() as u64 > max {
            self.drain().await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {max} bytes")));
        }
        Ok(data)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for FramedReader<'_, R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.left == 0 {
            if this.done || out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            while this.head_len < 8 {
                let bytes = ready!(Pin::new(&mut *this.input).poll_fill_buf(cx))?;
                if bytes.is_empty() {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                let n = bytes.len().min(8 - this.head_len);
                this.head[this.head_len..this.head_len + n].copy_from_slice(&bytes[..n]);
                Pin::new(&mut *this.input).consume(n);
                this.head_len += n;
            }
            this.head_len = 0;
            this.left = u64::from_le_bytes(this.head);
            this.done = this.left == 0;
        }
        let bytes = ready!(Pin::new(&mut *this.input).poll_fill_buf(cx))?;
        if bytes.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let n = bytes.len().min(out.remaining()).min(usize::try_from(this.left).unwrap_or(usize::MAX));
        out.put_slice(&bytes[..n]);
        Pin::new(&mut *this.input).consume(n);
        this.left -= n as u64;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let bytes = b"\x02\0\0\0\0\0\0\0ab\x01\0\0\0\0\0\0\0c\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0";
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut reader = WireReader::new(&bytes[..]);
            assert_eq!(FramedReader::new(&mut reader).read_all(3).await.unwrap(), b"abc");
            assert_eq!(reader.u64().await.unwrap(), 7);
            let mut reader = WireReader::new(&bytes[..]);
            assert!(FramedReader::new(&mut reader).read_all(2).await.is_err());
            assert_eq!(reader.u64().await.unwrap(), 7);
            let mut reader = WireReader::new(&bytes[..20]);
            assert!(FramedReader::new(&mut reader).drain().await.is_err());
        });
    }
}

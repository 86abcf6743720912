//! Words and strings from a stream.

use crate::error::{WireError, WireResult};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, ReadBuf};

/// Bytes of the stream held in memory.
const BUFFER: usize = 64 * 1024;

/// Memory that the strings of one message may take where nobody says otherwise, in bytes.
pub const DEFAULT_BUDGET: usize = 256 * 1024 * 1024;

/// What an element of a list is charged besides its text.
const ELEMENT: usize = 64;

/// Buffers `R` and reads the protocols' words from it. As `AsyncRead` and `AsyncBufRead` it gives the bytes that
/// follow.
pub struct WireReader<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    budget: usize,
}

impl<R: AsyncRead + Unpin> WireReader<R> {
    pub fn new(inner: R) -> WireReader<R> {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        WireReader { inner, buffer, start: 0, end: 0, budget: DEFAULT_BUDGET }
    }

    /// Whether there are bytes at hand, so that reading need not wait.
    pub fn has_data(&self) -> bool {
        self.start < self.end
    }

    /// Up to now unread bytes at hand.
    pub fn at_hand(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// A new message starts: its strings may take `budget` bytes of memory in all.
    pub fn start_message(&mut self, budget: usize) {
        self.budget = budget;
    }

    fn charge(&mut self, bytes: usize) -> WireResult<()> {
        self.budget = self.budget.checked_sub(bytes).ok_or(WireError::Budget)?;
        Ok(())
    }

    pub async fn u64(&mut self) -> WireResult<u64> {
        if self.end - self.start >= 8 {
            let mut word = [0; 8];
            word.copy_from_slice(&self.buffer[self.start..self.start + 8]);
            self.start += 8;
            return Ok(u64::from_le_bytes(word));
        }
        Ok(self.read_u64_le().await?)
    }

    /// A word, or `None` if the stream ends before its first byte.
    pub async fn u64_or_end(&mut self) -> WireResult<Option<u64>> {
        if !self.has_data() && !self.fill().await? {
            return Ok(None);
        }
        self.u64().await.map(Some)
    }

    /// Reads more where nothing is at hand. False at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_fill_buf(cx).map_ok(|bytes| !bytes.is_empty()))
            .await
    }

    /// A number that must fit in `T`.
    pub async fn number<T: TryFrom<u64>>(&mut self, what: &'static str) -> WireResult<T> {
        let value = self.u64().await?;
        T::try_from(value).map_err(|_| WireError::Range { what, value })
    }

    /// Seconds and the like: what is negative was sent as its two's complement.
    pub async fn i64(&mut self) -> WireResult<i64> {
        Ok(self.u64().await?.cast_signed())
    }

    /// Everything but 0 is true.
    pub async fn bool(&mut self) -> WireResult<bool> {
        Ok(self.u64().await? != 0)
    }

    /// How many elements follow, each of which is charged to the budget.
    pub async fn count(&mut self) -> WireResult<usize> {
        let count: usize = self.number("a count").await?;
        self.charge(count.checked_mul(ELEMENT).ok_or(WireError::Budget)?)?;
        Ok(count)
    }

    pub async fn bytes(&mut self) -> WireResult<Vec<u8>> {
        let len = usize::try_from(self.u64().await?).map_err(|_| WireError::TooLong)?;
        if len > self.budget {
            return Err(WireError::TooLong);
        }
        self.charge(len)?;
        // Memory is taken as bytes come, so that a length that lies costs nothing.
        let mut bytes = Vec::with_capacity(len.min(BUFFER));
        while bytes.len() < len {
            if !self.has_data() && !self.fill().await? {
                return Err(WireError::Eof);
            }
            let n = (len - bytes.len()).min(self.end - self.start);
            bytes.extend_from_slice(&self.buffer[self.start..self.start + n]);
            self.start += n;
        }
        self.padding(len).await?;
        Ok(bytes)
    }

    /// The zeros behind a string of `len` bytes.
    pub async fn padding(&mut self, len: usize) -> WireResult<()> {
        let padding = (8 - len % 8) % 8;
        if padding > 0 {
            let mut zeros = [0; 8];
            self.read_exact(&mut zeros[..padding]).await?;
            if zeros != [0; 8] {
                return Err(WireError::Padding);
            }
        }
        Ok(())
    }

    /// A string that must be UTF-8; `what` names it in the error.
    pub async fn text(&mut self, what: &'static str) -> WireResult<String> {
        String::from_utf8(self.bytes().await?).map_err(|_| WireError::Utf8 { what })
    }

    pub async fn texts<C: Default + Extend<String>>(&mut self, what: &'static str) -> WireResult<C> {
        let count = self.count().await?;
        let mut texts = C::default();
        for _ in 0..count {
            texts.extend([self.text(what).await?]);
        }
        Ok(texts)
    }
}

impl<R: AsyncRead + Unpin> AsyncBufRead for WireReader<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.start == this.end {
            let mut buf = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buf))?;
            (this.start, this.end) = (0, buf.filled().len());
        }
        Poll::Ready(Ok(&this.buffer[this.start..this.end]))
    }

    fn consume(mut self: Pin<&mut Self>, n: usize) {
        self.start = (self.start + n).min(self.end);
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for WireReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = ready!(self.as_mut().poll_fill_buf(cx))?;
        let n = bytes.len().min(out.remaining());
        out.put_slice(&bytes[..n]);
        self.consume(n);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn strings(bytes: &[u8], budget: usize) -> WireResult<Vec<String>> {
        let mut reader = WireReader::new(bytes);
        reader.start_message(budget);
        reader.texts("a test").await
    }

    #[track_caller]
    fn check(bytes: &[u8], budget: usize, expected: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let shown = match runtime.block_on(strings(bytes, budget)) {
            Ok(texts) => texts.join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn strings_are_bounded() {
        let list = b"\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0abc\0\0\0\0\0\x08\0\0\0\0\0\0\0abcdefgh";
        check(list, 1 << 20, "abc abcdefgh");
        check(&list[..30], 1 << 20, "unexpected end-of-file");
        check(list, 100, "the message is too large");
        check(list, 130, "string is too long");
        check(b"\x01\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 1 << 20, "string is too long");
        check(b"\xff\xff\xff\xff\xff\xff\xff\x7f", 1 << 20, "the message is too large");
        check(b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0a\x01\0\0\0\0\0\0", 1 << 20, "non-zero padding");
        check(
            b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\xff\0\0\0\0\0\0\0",
            1 << 20,
            "a test is not valid UTF-8",
        );
    }
}

//! A sink and a reader that hash and count what passes.

use firn_core::{Hash, HashAlgo, Hasher};
use std::io::{BufRead, Read, Write};

/// Hashes what is written to it.
pub struct HashSink {
    hasher: Hasher,
    length: u64,
}

impl HashSink {
    pub fn new(algo: HashAlgo) -> HashSink {
        HashSink { hasher: Hasher::new(algo), length: 0 }
    }

    pub fn update(&mut self, data: &[u8]) {
        self.hasher.update(data);
        self.length += data.len() as u64;
    }

    /// The hash and the number of bytes.
    pub fn finish(self) -> (Hash, u64) {
        (self.hasher.finish(), self.length)
    }
}

impl Write for HashSink {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.update(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Buffers `R` and hashes exactly the bytes that its user consumed, in pieces as large as the buffer.
pub struct HashReader<R> {
    input: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Everything before this index is hashed.
    hashed: usize,
    sink: HashSink,
}

impl<R: Read> HashReader<R> {
    pub fn new(input: R, algo: HashAlgo) -> HashReader<R> {
        let buffer = vec![0; 256 * 1024].into_boxed_slice();
        HashReader { input, buffer, start: 0, end: 0, hashed: 0, sink: HashSink::new(algo) }
    }

    /// The hash and number of the bytes consumed.
    pub fn finish(mut self) -> (Hash, u64) {
        self.hash_consumed();
        self.sink.finish()
    }

    fn hash_consumed(&mut self) {
        self.sink.update(&self.buffer[self.hashed..self.start]);
        self.hashed = self.start;
    }
}

impl<R: Read> Read for HashReader<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(out.len());
        out[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl<R: Read> BufRead for HashReader<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.start == self.end {
            self.hash_consumed();
            (self.start, self.end, self.hashed) = (0, 0, 0);
            self.end = loop {
                match self.input.read(&mut self.buffer) {
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }
}

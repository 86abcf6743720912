//! A sink and a reader that hash and count what passes.

use firn_core::{Hash, HashAlgo, Hasher};
use std::io::{BufRead, Read, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How much is hashed before a second thread pays.
const ALONE: u64 = 1 << 20;
/// How much is handed over at once, and how many such pieces are under way.
const PIECE: usize = 256 * 1024;
const PIECES: usize = 4;

/// Hashes what is written to it. After the first mebibyte that happens on a thread of its own, where there are cores
/// for it.
pub struct HashSink {
    engine: Engine,
    length: u64,
}

enum Engine {
    Here(Box<Hasher>),
    There(Worker),
}

struct Worker {
    full: SyncSender<Vec<u8>>,
    /// Pieces come back to be filled again.
    empty: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    thread: JoinHandle<Hasher>,
}

impl Worker {
    fn start(mut hasher: Hasher) -> Worker {
        let (full, work) = sync_channel::<Vec<u8>>(PIECES);
        let (back, empty) = sync_channel(PIECES + 2);
        let thread = std::thread::spawn(move || {
            for mut piece in work {
                hasher.update(&piece);
                piece.clear();
                // Nobody may want it any more.
                let _ = back.try_send(piece);
            }
            hasher
        });
        Worker { full, empty, piece: Vec::with_capacity(PIECE), thread }
    }

    fn update(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let n = data.len().min(PIECE - self.piece.len());
            self.piece.extend_from_slice(&data[..n]);
            data = &data[n..];
            if self.piece.len() == PIECE {
                self.hand_over();
            }
        }
    }

    fn hand_over(&mut self) {
        let next = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        // The other side ends only when this one does.
        let _ = self.full.send(std::mem::replace(&mut self.piece, next));
    }

    fn finish(mut self) -> Hasher {
        self.hand_over();
        drop(self.full);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn has_cores() -> bool {
    static CORES: OnceLock<bool> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().is_ok_and(|n| n.get() > 1))
}

impl HashSink {
    pub fn new(algo: HashAlgo) -> HashSink {
        HashSink { engine: Engine::Here(Box::new(Hasher::new(algo))), length: 0 }
    }

    pub fn update(&mut self, data: &[u8]) {
        self.length += data.len() as u64;
        match &mut self.engine {
            Engine::Here(hasher) if self.length <= ALONE || !has_cores() => hasher.update(data),
            Engine::Here(hasher) => {
                let mut worker = Worker::start((**hasher).clone());
                worker.update(data);
                self.engine = Engine::There(worker);
            }
            Engine::There(worker) => worker.update(data),
        }
    }

    /// The hash and the number of bytes.
    pub fn finish(self) -> (Hash, u64) {
        let hasher = match self.engine {
            Engine::Here(hasher) => *hasher,
            Engine::There(worker) => worker.finish(),
        };
        (hasher.finish(), self.length)
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

    /// What is read from.
    pub fn input_mut(&mut self) -> &mut R {
        &mut self.input
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(len: usize, piece: usize) {
        let data: Vec<u8> = (0..len).map(|n| (n * 7 % 251) as u8).collect();
        let mut sink = HashSink::new(HashAlgo::Sha256);
        data.chunks(piece).for_each(|piece| sink.update(piece));
        assert_eq!(sink.finish(), (Hash::of(HashAlgo::Sha256, &data), len as u64));
    }

    #[test]
    fn hashes_on_one_thread_or_two() {
        check(0, 1);
        check(1000, 7);
        check(1 << 20, 1 << 16);
        check((1 << 20) + 1, 1 << 20);
        check(5 << 20, 100_001);
        check(5 << 20, 5 << 20);
    }
}

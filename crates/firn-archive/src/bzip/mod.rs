//! Writing bzip2 in a third of the time that bzip2's own library takes.
//!
//! Logs of builds have to be bzip2 for Nix to read them, and its library sorts a block by comparing: slowly, and slower
//! the more lines repeat. Here blocks are sorted by inducing (libsais), in linear time whatever they hold. The rest of
//! the format is as its library writes it: runs, the transform of Burrows and Wheeler, move-to-front, Huffman codes.

mod bits;
mod codes;
mod runs;
mod sort;
mod symbols;

use bits::Bits;
use runs::Runs;
use sort::Sorter;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::thread::{Builder, JoinHandle};

/// The most that a block holds for each step of the level, in bytes.
const BLOCK_STEP: usize = 100_000;
/// What its library leaves free at the end of a block; some decoders count on it.
const SLACK: usize = 19;

/// Blocks that are compressed at once at most, each by a thread of its own.
const MAX_THREADS: usize = 4;

/// Compresses what is written to it. Without [`BzipWriter::finish`] the end is missing.
///
/// Up to 900,000 bytes are held back. Whole blocks are compressed by other threads, as many as there are processors and
/// four at most, so that whoever writes need not wait; each takes nine times the size of its block. What is short needs
/// little, and no thread.
pub struct BzipWriter<W: Write> {
    out: W,
    level: u8,
    runs: Runs,
    threads: usize,
    /// Blocks that are being compressed, in order.
    under_way: VecDeque<JoinHandle<io::Result<Block>>>,
    /// What is used again for the next block.
    spare: Vec<Block>,
    bits: Bits,
    /// The checksum of all blocks so far.
    checksum: u32,
    begun: bool,
}

/// A block, with what it takes to compress it.
#[derive(Default)]
struct Block {
    data: Vec<u8>,
    crc: u32,
    sorter: Sorter,
    symbols: symbols::Symbols,
    bits: Bits,
}

impl Block {
    fn compress(mut self) -> io::Result<Block> {
        let (sorted, origin) = self.sorter.transform(&self.data)?;
        let used = symbols::used(sorted);
        symbols::move_to_front(sorted, &used, &mut self.symbols);
        let bits = &mut self.bits;
        for (count, value) in
            [(24, 0x0031_4159), (24, 0x0026_5359), (32, self.crc.into()), (1, 0), (24, origin.into())]
        {
            bits.put(count, value);
        }
        symbols::put_used(&used, bits);
        codes::put_symbols(self.symbols.all(), bits);
        Ok(self)
    }
}

impl<W: Write> BzipWriter<W> {
    /// A compressor with blocks of `level` times 100,000 bytes; `level` is brought into 1 to 9.
    pub fn new(out: W, level: u8) -> Self {
        let level = level.clamp(1, 9);
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        BzipWriter {
            out,
            level,
            runs: Runs::new(usize::from(level) * BLOCK_STEP - SLACK),
            threads: processors.min(MAX_THREADS),
            under_way: VecDeque::new(),
            spare: Vec::new(),
            bits: Bits::default(),
            checksum: 0,
            begun: false,
        }
    }

    /// Writes the end, and gives back where it all went.
    pub fn finish(mut self) -> io::Result<W> {
        self.runs.end();
        let last = self.take_block();
        while let Some(block) = self.under_way.pop_front() {
            self.pass_on(join(block)?)?;
        }
        if !last.data.is_empty() {
            self.pass_on(last.compress()?)?;
        }
        self.begin();
        for (count, value) in [(24, 0x0017_7245), (24, 0x0038_5090), (32, self.checksum.into())] {
            self.bits.put(count, value);
        }
        self.bits.pad();
        self.out.write_all(self.bits.whole())?;
        Ok(self.out)
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            for byte in [b'B', b'Z', b'h', b'0' + self.level] {
                self.bits.put(8, byte.into());
            }
        }
    }

    /// The block that was gathered; another one begins.
    fn take_block(&mut self) -> Block {
        let mut block = self.spare.pop().unwrap_or_default();
        block.crc = self.runs.next_block(&mut block.data);
        block
    }

    /// Has a full block compressed.
    fn write_block(&mut self) -> io::Result<()> {
        let block = self.take_block();
        while self.under_way.len() >= self.threads
            && let Some(first) = self.under_way.pop_front()
        {
            self.pass_on(join(first)?)?;
        }
        if self.threads < 2 {
            return self.pass_on(block.compress()?);
        }
        let thread = Builder::new().name("bzip2".into()).spawn(move || block.compress())?;
        self.under_way.push_back(thread);
        Ok(())
    }

    /// Writes a compressed block.
    fn pass_on(&mut self, mut block: Block) -> io::Result<()> {
        self.begin();
        self.checksum = self.checksum.rotate_left(1) ^ block.crc;
        self.bits.append(&mut block.bits);
        self.spare.push(block);
        self.out.write_all(self.bits.whole())?;
        self.bits.forget_whole();
        Ok(())
    }
}

fn join(thread: JoinHandle<io::Result<Block>>) -> io::Result<Block> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that compressed a block broke down")))
}

impl<W: Write> Write for BzipWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut rest = data;
        while !rest.is_empty() {
            rest = self.runs.take(rest);
            if self.runs.is_full() {
                self.write_block()?;
            }
        }
        Ok(data.len())
    }

    /// Flushes what is below; a block that has begun waits until it is full.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn compressed(pieces: &[&[u8]], level: u8) -> Vec<u8> {
        let mut writer = BzipWriter::new(Vec::new(), level);
        for piece in pieces {
            writer.write_all(piece).unwrap();
        }
        writer.finish().unwrap()
    }

    #[track_caller]
    fn check(data: &[u8], level: u8) {
        let mut back = Vec::new();
        let packed = compressed(&[data], level);
        bzip2::bufread::BzDecoder::new(packed.as_slice()).read_to_end(&mut back).unwrap();
        assert!(back == data, "{} bytes differ at level {level}", data.len());
    }

    #[test]
    fn nothing_is_as_its_library_writes_it() {
        assert_eq!(compressed(&[], 9), b"BZh9\x17\x72\x45\x38\x50\x90\0\0\0\0");
    }

    #[test]
    fn small() {
        for text in [
            "a",
            "aa",
            "aaa",
            "aaaa",
            "aaaaa",
            "ab",
            "abab",
            "banana",
            "\0",
            "\0\0\0\0\0",
            "line\nline\nline\n",
        ] {
            check(text.as_bytes(), 1);
        }
    }

    #[test]
    fn runs_of_all_lengths() {
        for length in (1..=12).chain(250..=270).chain(505..=520) {
            let run = vec![b'x'; length];
            check(&run, 1);
            check(&[b"y".as_slice(), &run, b"yz", &run].concat(), 1);
        }
    }

    #[test]
    fn blocks() {
        let same = b"the same line over and over\n".repeat(20_000);
        let numbers: Vec<u8> = (0..60_000).flat_map(|n: u32| format!("{n}\n").into_bytes()).collect();
        let all: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for data in [&same, &numbers, &all, &vec![0; 1_000_000], &vec![7; BLOCK_STEP - SLACK]] {
            check(data, 1);
            check(data, 9);
        }
        for length in BLOCK_STEP - 30..BLOCK_STEP {
            check(&all[..length], 1);
        }
    }

    /// Where writes end makes no difference.
    #[test]
    fn pieces() {
        let data = [b"aaab".repeat(300), vec![b'a'; 700], b"xaaaa".repeat(50)].concat();
        let whole = compressed(&[&data], 9);
        for size in 1..40 {
            let pieces: Vec<&[u8]> = data.chunks(size).collect();
            assert_eq!(compressed(&pieces, 9), whole, "{size}");
        }
    }

    proptest! {
        #[test]
        fn anything(data in proptest::collection::vec(0..4_u8, 0..3000), factor in 1..90_u8) {
            check(&data, 1);
            check(&data.iter().map(|b| b.wrapping_mul(factor)).collect::<Vec<_>>(), 1);
        }

        #[test]
        fn repeated(unit in proptest::collection::vec(0..3_u8, 1..20), times in 1..40_usize) {
            check(&unit.repeat(times), 1);
        }
    }
}

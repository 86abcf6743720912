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
use std::io::{self, Write};

/// The most that a block holds for each step of the level, in bytes.
const BLOCK_STEP: usize = 100_000;
/// What its library leaves free at the end of a block; some decoders count on it.
const SLACK: usize = 19;

/// Compresses what is written to it. Without [`BzipWriter::finish`] the end is missing.
///
/// Up to 900,000 bytes are held back and, while a block is compressed, seven times as much is used; what is short needs
/// little.
pub struct BzipWriter<W: Write> {
    out: W,
    level: u8,
    runs: Runs,
    sorter: Sorter,
    symbols: Vec<u16>,
    bits: Bits,
    /// The checksum of all blocks so far.
    checksum: u32,
    begun: bool,
}

impl<W: Write> BzipWriter<W> {
    /// A compressor with blocks of `level` times 100,000 bytes; `level` is brought into 1 to 9.
    pub fn new(out: W, level: u8) -> Self {
        let level = level.clamp(1, 9);
        BzipWriter {
            out,
            level,
            runs: Runs::new(usize::from(level) * BLOCK_STEP - SLACK),
            sorter: Sorter::default(),
            symbols: Vec::new(),
            bits: Bits::default(),
            checksum: 0,
            begun: false,
        }
    }

    /// Writes the end, and gives back where it all went.
    pub fn finish(mut self) -> io::Result<W> {
        self.runs.end();
        self.write_block()?;
        self.begin();
        for (count, value) in [(24, 0x0017_7245), (24, 0x0038_5090), (32, self.checksum)] {
            self.bits.put(count, value);
        }
        self.bits.pad();
        self.pass_on()?;
        Ok(self.out)
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            for byte in [b'B', b'Z', b'h', b'0' + self.level] {
                self.bits.put(8, byte.into());
            }
        }
    }

    /// Writes the block that was gathered, if there is anything in it.
    fn write_block(&mut self) -> io::Result<()> {
        if self.runs.block().is_empty() {
            return Ok(());
        }
        self.begin();
        let crc = self.runs.checksum();
        self.checksum = self.checksum.rotate_left(1) ^ crc;
        let (sorted, origin) = self.sorter.transform(self.runs.block())?;
        let used = symbols::used(sorted);
        let frequencies = symbols::move_to_front(sorted, &used, &mut self.symbols);
        let bits = &mut self.bits;
        for (count, value) in [(24, 0x0031_4159), (24, 0x0026_5359), (32, crc), (1, 0), (24, origin)] {
            bits.put(count, value);
        }
        symbols::put_used(&used, bits);
        codes::put_symbols(&self.symbols, &frequencies, bits);
        self.runs.next_block();
        self.pass_on()
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.out.write_all(self.bits.whole())?;
        self.bits.forget_whole();
        Ok(())
    }
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

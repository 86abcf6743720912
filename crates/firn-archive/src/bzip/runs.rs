//! Gathering a block: four equal bytes are followed by the number of those that come after them.

use crc32fast::Hasher;

/// The longest run that is written as one.
const LONGEST: usize = 255;
/// The room that a run takes at most.
const RUN_ROOM: usize = 5;

/// A block that is being filled.
pub(super) struct Runs {
    block: Vec<u8>,
    capacity: usize,
    /// A run that may go on: its byte and length so far, up to [`LONGEST`]; it is not in the block yet.
    byte: u8,
    length: usize,
    /// Of the block's bytes as they came, each mirrored: bzip2 counts bits from the other end than this crate.
    hasher: Hasher,
}

impl Runs {
    pub fn new(capacity: usize) -> Self {
        Runs { block: Vec::new(), capacity, byte: 0, length: 0, hasher: Hasher::new() }
    }

    /// Whether another run might not fit.
    pub fn is_full(&self) -> bool {
        self.block.len() + RUN_ROOM > self.capacity
    }

    /// Takes bytes until there are none or the block is full; gives back the others.
    pub fn take<'d>(&mut self, mut data: &'d [u8]) -> &'d [u8] {
        while let Some((&first, rest)) = data.split_first() {
            if self.is_full() {
                break;
            }
            if self.length > 0 && first == self.byte && self.length < LONGEST {
                self.length += 1;
                data = rest;
                continue;
            }
            self.end();
            let room = self.capacity.saturating_sub(self.block.len() + RUN_ROOM);
            let (plain, others) = data.split_at(before_runs(&data[..data.len().min(room)]));
            self.block.extend_from_slice(plain);
            self.count(plain);
            data = others;
            if let Some((&next, rest)) = data.split_first() {
                (self.byte, self.length) = (next, 1);
                data = rest;
            }
        }
        data
    }

    /// Ends a run that would go on.
    pub fn end(&mut self) {
        if self.length == 0 {
            return;
        }
        let run = [self.byte; LONGEST];
        self.block.extend_from_slice(&run[..self.length.min(4)]);
        if let Some(more) = self.length.checked_sub(4) {
            self.block.push(more as u8);
        }
        self.count(&run[..self.length]);
        self.length = 0;
    }

    fn count(&mut self, data: &[u8]) {
        let mut mirrored = [0; 1024];
        for part in data.chunks(mirrored.len()) {
            for (to, from) in mirrored.iter_mut().zip(part) {
                *to = from.reverse_bits();
            }
            self.hasher.update(&mirrored[..part.len()]);
        }
    }

    /// Puts the block into `block`, whose place is used for the next one, and gives its checksum. A run that goes on
    /// belongs to the next.
    pub fn next_block(&mut self, block: &mut Vec<u8>) -> u32 {
        block.clear();
        std::mem::swap(block, &mut self.block);
        std::mem::take(&mut self.hasher).finalize().reverse_bits()
    }
}

/// How many bytes come before the first four that are equal, or before the last three, which may begin a run.
fn before_runs(data: &[u8]) -> usize {
    const STEP: usize = 32;
    let mut at = 0;
    while let Some(window) = data.get(at..at + STEP + 3) {
        // Without branches, so that the compiler looks at all places at once.
        let mut found = false;
        for i in 0..STEP {
            found |= (window[i] == window[i + 1])
                & (window[i + 1] == window[i + 2])
                & (window[i + 2] == window[i + 3]);
        }
        if found {
            break;
        }
        at += STEP;
    }
    let rest = &data[at..];
    let here = rest.windows(4).position(|w| w[0] == w[1] && w[1] == w[2] && w[2] == w[3]);
    at + here.unwrap_or(rest.len().saturating_sub(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: usize) {
        assert_eq!(before_runs(text.as_bytes()), expected);
    }

    #[test]
    fn places_of_runs() {
        check("", 0);
        check("aaa", 0);
        check("aaaa", 0);
        check("abcdef", 3);
        check("xaaaa", 1);
        check(&("ab".repeat(40) + "cccc"), 80);
        check(&"aab".repeat(40), 117);
    }

    #[test]
    fn checksums() {
        let mut runs = Runs::new(1000);
        assert!(runs.take(b"123456789").is_empty());
        runs.end();
        let mut block = Vec::new();
        // The check value of CRC-32/BZIP2.
        assert_eq!(runs.next_block(&mut block), 0xfc89_1918);
        assert_eq!(block, b"123456789");
    }
}

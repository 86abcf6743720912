//! Finding what is reachable.

use super::space::{self, BLOCK_BYTES, LARGE, REST, Region, SMALL};
use super::{Class, SIZES};
use std::sync::atomic::Ordering;

/// Addresses are in the lower 48 bits of a word; tags and counts in the others.
const ADDRESS: u64 = (1 << 48) - 8;

/// For each size 2³² divided by it, rounded up: exact for offsets within a block.
static RECIPROCALS: [u64; SIZES.len()] = {
    let mut table = [0; SIZES.len()];
    let mut i = 0;
    while i < SIZES.len() {
        table[i] = (1u64 << 32).div_ceil(SIZES[i] as u64 * 8);
        i += 1;
    }
    table
};

/// Objects that were reached and have not been looked into.
pub(super) struct Marker {
    region: &'static Region,
    used: usize,
    pending: Vec<(usize, usize)>,
}

impl Marker {
    pub(super) fn new() -> Marker {
        Marker {
            region: space::region(),
            used: space::USED.load(Ordering::Acquire) * BLOCK_BYTES,
            pending: Vec::with_capacity(4096),
        }
    }

    /// Looks at the words from `start` up to `end`, and at all that is reachable from them.
    ///
    /// # Safety
    /// The range must be readable, and nobody may be writing to it or to the heap.
    pub(super) unsafe fn range(&mut self, start: usize, end: usize) {
        let mut at = start.next_multiple_of(8);
        while at + 8 <= end {
            // SAFETY: the caller vouches for the range.
            self.word(unsafe { (at as *const u64).read() });
            at += 8;
        }
        self.drain();
    }

    /// Marks the object that a word may refer to.
    #[inline]
    pub(super) fn word(&mut self, word: u64) {
        let offset = ((word & ADDRESS) as usize).wrapping_sub(self.region.base);
        if offset >= self.used {
            return;
        }
        let mut index = offset / BLOCK_BYTES;
        let mut block = self.region.block(index);
        let mut state = block.state.load(Ordering::Relaxed);
        if state == REST {
            index -= block.span.load(Ordering::Relaxed) as usize;
            block = self.region.block(index);
            state = block.state.load(Ordering::Relaxed);
        }
        let kind = block.kind.load(Ordering::Relaxed) as usize;
        let (slot, bytes) = match state {
            SMALL => {
                let size = SIZES[kind / 2] as usize * 8;
                let slot = (((offset % BLOCK_BYTES) as u64 * RECIPROCALS[kind / 2]) >> 32) as usize;
                if slot * size + size > BLOCK_BYTES {
                    return;
                }
                (slot, size)
            }
            LARGE => (0, block.span.load(Ordering::Relaxed) as usize * BLOCK_BYTES),
            _ => return,
        };
        let mark = &block.marks[slot / 64];
        let bits = mark.load(Ordering::Relaxed);
        let bit = 1 << (slot % 64);
        if bits & bit != 0 {
            return;
        }
        mark.store(bits | bit, Ordering::Relaxed);
        let class = if state == SMALL { kind % 2 } else { kind };
        if class == Class::Traced as usize {
            let start =
                self.region.base + index * BLOCK_BYTES + if state == SMALL { slot * bytes } else { 0 };
            self.pending.push((start, bytes));
        }
    }

    pub(super) fn drain(&mut self) {
        while let Some((start, bytes)) = self.pending.pop() {
            for at in (start..start + bytes).step_by(8) {
                // SAFETY: the object lies in a block in use, and the threads that could write to it are stopped.
                self.word(unsafe { (at as *const u64).read() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reciprocals_divide() {
        for (size, reciprocal) in SIZES.iter().zip(RECIPROCALS) {
            let size = u64::from(*size) * 8;
            for offset in 0..BLOCK_BYTES as u64 {
                assert_eq!((offset * reciprocal) >> 32, offset / size);
            }
        }
    }
}

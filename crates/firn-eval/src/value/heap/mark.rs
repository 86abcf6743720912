//! Finding what is reachable.

use super::space::{self, BLOCK_BYTES, LARGE, REST, Region, SMALL};
use super::team::Team;
use super::{Class, SIZES};
use std::sync::atomic::{AtomicU64, Ordering};

/// Addresses are in the lower 48 bits of a word; tags and counts in the others.
const ADDRESS: u64 = (1 << 48) - 8;

/// What is known of objects of a kind: their size in bytes, and 2³² divided by it, rounded up, which is exact for offsets
/// within a block.
#[derive(Clone, Copy)]
struct Size {
    bytes: u32,
    reciprocal: u32,
}

/// Numbers of kinds, up to a power of two: those that there are not have the largest size.
const KINDS: usize = (2 * SIZES.len()).next_power_of_two();

static BY_KIND: [Size; KINDS] = {
    let mut table = [Size { bytes: BLOCK_BYTES as u32, reciprocal: 1 << 16 }; KINDS];
    let mut kind = 0;
    while kind < 2 * SIZES.len() {
        let bytes = SIZES[kind / 2] as u64 * 8;
        table[kind] = Size { bytes: bytes as u32, reciprocal: (1u64 << 32).div_ceil(bytes) as u32 };
        kind += 1;
    }
    table
};

/// An object that was reached and has not been looked into: address and bytes.
pub(super) type Pending = (usize, usize);

/// One of the threads that mark, perhaps the only one.
pub(super) struct Marker<'t> {
    region: Region,
    used: usize,
    pending: Vec<Pending>,
    /// The others, where there are any.
    team: Option<&'t Team>,
}

impl<'t> Marker<'t> {
    pub(super) fn new(team: Option<&'t Team>) -> Marker<'t> {
        Marker {
            region: *space::region(),
            used: space::USED.load(Ordering::Acquire) * BLOCK_BYTES,
            pending: Vec::with_capacity(4096),
            team,
        }
    }

    /// Looks at the words from `start` up to `end`.
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
    }

    /// Marks the object that a word may refer to.
    pub(super) fn word(&mut self, word: u64) {
        let offset = self.offset_of(word);
        if offset < self.used {
            let mut last = NOWHERE;
            self.reached::<true>(offset, &mut last);
        }
    }

    /// Where in the heap a word may refer to.
    #[inline(always)]
    fn offset_of(&self, word: u64) -> usize {
        ((word & ADDRESS) as usize).wrapping_sub(self.region.base)
    }

    /// Marks the object at, or around, a place of the heap in use, unless that is the last one.
    #[inline(always)]
    fn reached<const TEAM: bool>(&mut self, offset: usize, last: &mut usize) {
        let index = offset / BLOCK_BYTES;
        // SAFETY: what is in use is within the region.
        let block = unsafe { self.region.block_unchecked(index) };
        if block.state.load(Ordering::Relaxed) != SMALL {
            return self.reached_large(index);
        }
        if offset == *last {
            return;
        }
        *last = offset;
        let kind = block.kind.load(Ordering::Relaxed) as usize;
        let Size { bytes, reciprocal } = BY_KIND[kind % KINDS];
        let slot = (((offset % BLOCK_BYTES) as u64 * u64::from(reciprocal)) >> 32) as usize;
        let start = slot * bytes as usize;
        let mark = &block.marks[slot / 64 % block.marks.len()];
        if start + bytes as usize > BLOCK_BYTES || !is_first::<TEAM>(mark, 1 << (slot % 64)) {
            return;
        }
        if kind % 2 == Class::Traced as usize {
            self.pending.push((self.region.base + index * BLOCK_BYTES + start, bytes as usize));
        }
    }

    #[cold]
    #[inline(never)]
    fn reached_large(&mut self, mut index: usize) {
        let mut block = self.region.block(index);
        if block.state.load(Ordering::Relaxed) == REST {
            index -= block.span.load(Ordering::Relaxed) as usize;
            block = self.region.block(index);
        }
        if block.state.load(Ordering::Relaxed) != LARGE || !is_first::<true>(&block.marks[0], 1) {
            return;
        }
        if block.kind.load(Ordering::Relaxed) as usize == Class::Traced as usize {
            let bytes = block.span.load(Ordering::Relaxed) as usize * BLOCK_BYTES;
            self.pending.push((self.region.base + index * BLOCK_BYTES, bytes));
        }
    }

    /// Marks all that is reachable from what was reached; with a team, until all of it are done.
    pub(super) fn drain(&mut self) {
        let Some(team) = self.team else { return self.drain_own::<false>() };
        loop {
            self.drain_own::<true>();
            if !team.wait_for_work(&mut self.pending) {
                return;
            }
        }
    }

    fn drain_own<const TEAM: bool>(&mut self) {
        // Objects wait here while the processor fetches them: most are in no cache.
        let mut fetched = [(0, 0); FETCH_AHEAD];
        let (mut first, mut count) = (0, 0);
        // What lies side by side often refers to the same: elements that are to be computed to a function, attributes to
        // the frame of their set.
        let mut last = NOWHERE;
        loop {
            while count < FETCH_AHEAD {
                let Some(object) = self.pending.pop() else { break };
                prefetch(object.0);
                fetched[(first + count) % FETCH_AHEAD] = object;
                count += 1;
            }
            if count == 0 {
                return;
            }
            let (start, mut bytes) = fetched[first];
            first = (first + 1) % FETCH_AHEAD;
            count -= 1;
            if bytes > PIECE {
                // The rest waits below what this piece leads to: what waits stays little, however long a list is.
                self.pending.push((start + PIECE, bytes - PIECE));
                bytes = PIECE;
            }
            for at in (start..start + bytes).step_by(8) {
                // SAFETY: the object lies in a block in use, and the threads that could write to it are stopped.
                let offset = self.offset_of(unsafe { (at as *const u64).read() });
                if offset < self.used {
                    self.reached::<TEAM>(offset, &mut last);
                }
            }
            if let (true, Some(team)) = (TEAM, self.team) {
                team.share(&mut self.pending);
            }
        }
    }
}

/// Sets a bit; whether it was not set before. In a team others may set bits of the same word.
#[inline(always)]
fn is_first<const TEAM: bool>(mark: &AtomicU64, bit: u64) -> bool {
    let bits = mark.load(Ordering::Relaxed);
    if bits & bit != 0 {
        return false;
    }
    if TEAM {
        return mark.fetch_or(bit, Ordering::Relaxed) & bit == 0;
    }
    mark.store(bits | bit, Ordering::Relaxed);
    true
}

/// No place of the heap.
const NOWHERE: usize = usize::MAX;

/// Bytes of an object that are looked through at a time.
const PIECE: usize = 2048;

/// How many objects are fetched before the first of them is looked into.
const FETCH_AHEAD: usize = 16;

#[inline(always)]
fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: fetching into the cache has no effect that could be seen.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reciprocals_divide() {
        for Size { bytes, reciprocal } in BY_KIND {
            for offset in 0..BLOCK_BYTES as u64 {
                assert_eq!((offset * u64::from(reciprocal)) >> 32, offset / u64::from(bytes));
            }
        }
    }
}

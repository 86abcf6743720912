//! Address space, blocks, and what is known of each block.

use super::huge::{self, HUGE_BYTES, HugePages};
use super::world::Limits;
use super::{Class, SIZES};
use parking_lot::Mutex;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// What large objects are counted in.
const PAGE_BYTES: usize = 4 << 10;
/// The smallest object has two words.
const MARK_WORDS: usize = BLOCK_BYTES / 16 / 64;
/// What the reserved space is aligned to.
const ALIGNMENT: usize = HUGE_BYTES;
/// Where not even that much can be reserved there is no evaluation.
const LEAST_BYTES: usize = 16 << 20;
/// By how much the part of it that is in use grows at least.
const STEP_BLOCKS: usize = HUGE_BYTES / BLOCK_BYTES;
const FOR_SMALL: usize = 0;
const FOR_LARGE: usize = 1;

/// What a block is used for.
pub(super) const FREE: u8 = 0;
pub(super) const SMALL: u8 = 1;
/// The first block of a large object, and the others of one.
pub(super) const LARGE: u8 = 2;
pub(super) const REST: u8 = 3;

/// What is known of a block.
pub(super) struct Block {
    pub(super) state: AtomicU8,
    /// Twice the size class plus the class, for small objects; the class, for a large one.
    pub(super) kind: AtomicU8,
    /// For the first block of a large object how many blocks it has; for the others how far the first one is.
    pub(super) span: AtomicU32,
    /// Pages of a large object: the rest of its last block is never touched.
    pages: AtomicU32,
    /// A bit for each object: reached by the collector.
    pub(super) marks: [AtomicU64; MARK_WORDS],
}

/// The reserved address space and, beside it, an entry for each of its blocks.
#[derive(Clone, Copy)]
pub(super) struct Region {
    pub(super) base: usize,
    pub(super) bytes: usize,
    blocks: usize,
}

static REGION: OnceLock<Region> = OnceLock::new();

/// Blocks that are in use, were, or will be next.
pub(super) static USED: AtomicUsize = AtomicUsize::new(0);

/// Blocks that nobody has used: the next one, and the end.
struct Fresh {
    next: usize,
    end: usize,
}

struct Space {
    /// Runs of free blocks below [`USED`]: first block and length.
    runs: Vec<(u32, u32)>,
    /// For small objects and for large ones.
    fresh: [Fresh; 2],
    huge: HugePages,
    /// From this block on small objects have blocks that the kernel has given no memory yet.
    missing: usize,
    /// Blocks of each kind with free objects, found by the last collection.
    partial: Vec<Vec<u32>>,
    /// Bytes taken since the last collection.
    taken: usize,
    /// Bytes in use after the last collection.
    live: usize,
    collections: u32,
}

static SPACE: Mutex<Space> = Mutex::new(Space {
    runs: Vec::new(),
    fresh: [const { Fresh { next: 0, end: 0 } }; 2],
    huge: HugePages::new(),
    missing: usize::MAX,
    partial: Vec::new(),
    taken: 0,
    live: 0,
    collections: 0,
});

/// What the heap holds.
pub struct Usage {
    /// Bytes of all blocks that are or were in use.
    pub bytes: u64,
    pub collections: u32,
}

pub fn usage() -> Usage {
    Usage {
        bytes: (USED.load(Ordering::Relaxed) * BLOCK_BYTES) as u64,
        collections: SPACE.lock().collections,
    }
}

/// How much address space or data this process may have, if that is limited.
pub fn memory_limit() -> Option<usize> {
    use rustix::process::{Resource, getrlimit};
    let limits = [Resource::As, Resource::Data].map(|resource| getrlimit(resource).current);
    let least = limits.into_iter().flatten().min()?;
    usize::try_from(least).ok()
}

fn reserve(bytes: usize) -> Option<usize> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh private mapping at an address of the kernel's choice touches nothing that exists.
    unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, access, MapFlags::PRIVATE | MapFlags::NORESERVE) }
        .ok()
        .map(|address| address as usize)
}

#[inline(always)]
pub(super) fn region() -> &'static Region {
    REGION.get_or_init(|| {
        // Address space costs nothing, but may be limited. Then half of it is left to everything else.
        let mut bytes = 64 << 30;
        while memory_limit().is_some_and(|limit| bytes > limit / 2 && bytes > LEAST_BYTES) {
            bytes /= 2;
        }
        loop {
            if let Some(memory) = reserve(bytes + ALIGNMENT) {
                if let Some(blocks) = reserve(bytes / BLOCK_BYTES * size_of::<Block>()) {
                    return Region { base: memory.next_multiple_of(ALIGNMENT), bytes, blocks };
                }
                // SAFETY: the mapping was made just now, and nobody knows of it.
                let _ = unsafe { rustix::mm::munmap(memory as *mut std::ffi::c_void, bytes + ALIGNMENT) };
            }
            if bytes <= LEAST_BYTES {
                out_of_memory(bytes);
            }
            bytes /= 2;
        }
    })
}

impl Region {
    #[inline]
    pub(super) fn block(&self, index: usize) -> &'static Block {
        assert!(index < self.bytes / BLOCK_BYTES, "block out of range");
        // SAFETY: the index is in range.
        unsafe { self.block_unchecked(index) }
    }

    /// # Safety
    /// The region must have that block.
    #[inline(always)]
    pub(super) unsafe fn block_unchecked(&self, index: usize) -> &'static Block {
        // SAFETY: the table has an entry for each block; zeroes are a free block, and all fields are atomic.
        unsafe { &*(self.blocks as *const Block).add(index) }
    }

    fn address(&self, index: usize) -> usize {
        self.base + index * BLOCK_BYTES
    }
}

/// Memory for a thread's small objects.
pub(super) enum Taken {
    /// From here to there, never used or free as a whole.
    Fresh(usize, usize),
    /// A block that has free objects.
    Partial(usize),
}

pub(super) fn take_block(kind: usize) -> Taken {
    let region = region();
    let mut space = SPACE.lock();
    if let Some(index) = space.partial.get_mut(kind).and_then(Vec::pop) {
        return Taken::Partial(index as usize);
    }
    let index = take_blocks(&mut space, FOR_SMALL, 1, BLOCK_BYTES);
    let missing = index >= space.missing;
    drop(space);
    if missing {
        huge::populate(region.address(index), BLOCK_BYTES);
    }
    let block = region.block(index);
    block.kind.store(kind as u8, Ordering::Relaxed);
    block.state.store(SMALL, Ordering::Release);
    let start = region.address(index);
    let size = SIZES[kind / 2] as usize * 8;
    Taken::Fresh(start, start + BLOCK_BYTES / size * size)
}

/// No address, and as a value nothing that is ever stored.
pub(super) const POISON: u64 = 0x7777_7777_7777_7777;

/// Objects of a block that lie side by side and that the last collection did not reach.
pub(super) struct FreeRun {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Number of the object after them.
    pub(super) next: usize,
}

/// The first free objects of a block from the object of that number on.
pub(super) fn free_run(index: usize, from: usize) -> Option<FreeRun> {
    let region = region();
    let block = region.block(index);
    let size = SIZES[block.kind.load(Ordering::Relaxed) as usize / 2] as usize * 8;
    let objects = BLOCK_BYTES / size;
    let first = block.find(from, objects, false);
    if first == objects {
        return None;
    }
    let next = block.find(first, objects, true);
    let address = region.address(index);
    let (start, end) = (address + first * size, address + next * size);
    if cfg!(debug_assertions) {
        // What is used after it was freed fails early.
        // SAFETY: nothing refers to the objects, which lie in a block that no other thread allocates from.
        unsafe { std::slice::from_raw_parts_mut(start as *mut u64, (end - start) / 8) }.fill(POISON);
    }
    Some(FreeRun { start, end, next })
}

impl Block {
    /// Number of the first object from that one on, of so many, that is marked, or that is not; or how many there are.
    fn find(&self, from: usize, objects: usize, marked: bool) -> usize {
        let flip = if marked { 0 } else { u64::MAX };
        let mut skip = from % 64;
        for (word, marks) in self.marks.iter().enumerate().take(objects.div_ceil(64)).skip(from / 64) {
            let bits = (marks.load(Ordering::Relaxed) ^ flip) >> skip;
            if bits != 0 {
                return (word * 64 + skip + bits.trailing_zeros() as usize).min(objects);
            }
            skip = 0;
        }
        objects
    }
}

pub(super) fn take_large(class: Class, words: usize) -> NonNull<u64> {
    let region = region();
    let count = (words * 8).div_ceil(BLOCK_BYTES);
    let pages = (words * 8).div_ceil(PAGE_BYTES);
    let first = take_blocks(&mut SPACE.lock(), FOR_LARGE, count, pages * PAGE_BYTES);
    for i in 1..count {
        let rest = region.block(first + i);
        rest.span.store(i as u32, Ordering::Relaxed);
        rest.state.store(REST, Ordering::Release);
    }
    let block = region.block(first);
    block.kind.store(class as u8, Ordering::Relaxed);
    block.span.store(count as u32, Ordering::Relaxed);
    block.pages.store(pages as u32, Ordering::Relaxed);
    block.state.store(LARGE, Ordering::Release);
    match NonNull::new(region.address(first) as *mut u64) {
        Some(object) => object,
        None => out_of_memory(words * 8),
    }
}

/// Index of the first of `count` blocks that nobody uses.
fn take_blocks(space: &mut Space, purpose: usize, count: usize, bytes: usize) -> usize {
    space.taken += bytes;
    if let Some(place) = space.runs.iter().rposition(|(_, len)| *len as usize >= count) {
        let (first, len) = &mut space.runs[place];
        *len -= count as u32;
        let index = (*first + *len) as usize;
        if *len == 0 {
            space.runs.swap_remove(place);
        }
        return index;
    }
    if space.fresh[purpose].end - space.fresh[purpose].next < count {
        grow(space, purpose, count);
    }
    let fresh = &mut space.fresh[purpose];
    fresh.next += count;
    fresh.next - count
}

/// Takes address space for so many blocks.
fn grow(space: &mut Space, purpose: usize, count: usize) {
    let region = region();
    let first = USED.load(Ordering::Relaxed);
    let more = count.next_multiple_of(STEP_BLOCKS);
    if (first + more) * BLOCK_BYTES > region.bytes {
        out_of_memory(count * BLOCK_BYTES);
    }
    USED.store(first + more, Ordering::Release);
    let fresh = &mut space.fresh[purpose];
    if fresh.end == first {
        fresh.end += more;
    } else {
        // What is left of the last step waits for the next collection.
        *fresh = Fresh { next: first, end: first + more };
    }
    // The last pages of large objects are not touched.
    if purpose == FOR_SMALL && first >= huge::WHOLE_FROM {
        let there = first >= huge::FROM_BLOCK && space.huge.prepare(region.address(first));
        space.missing = if there { usize::MAX } else { first };
    }
}

/// Whether so much has been taken that collecting is worth its time.
pub(super) fn is_due(more: usize, limits: &Limits) -> bool {
    let space = SPACE.lock();
    let left = (space.collections > 0).then_some(space.live);
    space.taken.saturating_add(more) > limits.allowed(left)
}

pub(super) fn clear_marks() {
    let region = region();
    for index in 0..USED.load(Ordering::Acquire) {
        let block = region.block(index);
        let words = match block.state.load(Ordering::Relaxed) {
            SMALL => MARK_WORDS,
            LARGE => 1,
            _ => 0,
        };
        for mark in &block.marks[..words] {
            mark.store(0, Ordering::Relaxed);
        }
    }
}

/// Finds the blocks and objects that the collector did not reach.
pub(super) fn free_unmarked() {
    let region = region();
    let mut space = SPACE.lock();
    let mut partial = vec![Vec::new(); 2 * SIZES.len()];
    let mut runs: Vec<(u32, u32)> = Vec::new();
    let mut live = 0;
    let mut index = 0;
    let used = USED.load(Ordering::Acquire);
    while index < used {
        let block = region.block(index);
        let state = block.state.load(Ordering::Relaxed);
        let mut span = 1;
        let alive = match state {
            SMALL => {
                let kind = block.kind.load(Ordering::Relaxed) as usize;
                let size = SIZES[kind / 2] as usize * 8;
                let marked: u32 = block.marks.iter().map(|m| m.load(Ordering::Relaxed).count_ones()).sum();
                live += marked as usize * size;
                if marked > 0 && (marked as usize) < BLOCK_BYTES / size {
                    partial[kind].push(index as u32);
                }
                marked > 0
            }
            LARGE => {
                span = block.span.load(Ordering::Relaxed) as usize;
                let alive = block.marks[0].load(Ordering::Relaxed) != 0;
                live += if alive { block.pages.load(Ordering::Relaxed) as usize * PAGE_BYTES } else { 0 };
                alive
            }
            _ => false,
        };
        if !alive {
            for i in index..index + span {
                region.block(i).state.store(FREE, Ordering::Relaxed);
            }
            match runs.last_mut() {
                Some((first, len)) if (*first + *len) as usize == index => *len += span as u32,
                _ => runs.push((index as u32, span as u32)),
            }
        }
        index += span;
    }
    // Taken from the end: low addresses first.
    runs.reverse();
    partial.iter_mut().for_each(|list: &mut Vec<u32>| list.reverse());
    space.runs = runs;
    space.fresh = [const { Fresh { next: 0, end: 0 } }; 2];
    space.partial = partial;
    space.live = live;
    space.taken = 0;
    space.collections += 1;
}

/// What a panic says when the heap's address space is used up.
#[derive(Debug, Clone, Copy)]
pub struct OutOfMemory {
    /// What was asked for last.
    pub bytes: usize,
}

#[cold]
pub(super) fn out_of_memory(bytes: usize) -> ! {
    std::panic::panic_any(OutOfMemory { bytes })
}

/// Whether so many more words fit into the heap's address space.
pub fn has_room(words: usize) -> bool {
    let used = USED.load(Ordering::Relaxed) * BLOCK_BYTES;
    words.checked_mul(8).is_some_and(|bytes| bytes < region().bytes.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_and_unmarked_objects_are_found() {
        let marks = [const { AtomicU64::new(0) }; MARK_WORDS];
        let block = Block {
            state: AtomicU8::new(SMALL),
            kind: AtomicU8::new(0),
            span: AtomicU32::new(0),
            pages: AtomicU32::new(0),
            marks,
        };
        let marked = [0, 1, 63, 64, 130];
        for object in marked {
            block.marks[object / 64].fetch_or(1 << (object % 64), Ordering::Relaxed);
        }
        for objects in [131, 132, 140, 192, 4096] {
            for from in 0..=objects {
                let next =
                    |wanted: bool| (from..objects).find(|o| marked.contains(o) == wanted).unwrap_or(objects);
                assert_eq!(block.find(from, objects, true), next(true), "from {from} of {objects}");
                assert_eq!(block.find(from, objects, false), next(false), "from {from} of {objects}");
            }
        }
    }
}

//! The heap: memory for objects, cut from blocks by class and size, and given back by a collector.
//!
//! Objects have no headers: the block that an address lies in tells the object's extent and class. The collector
//! is a conservative one: whatever looks like the address of an object, or of a place inside it, keeps it. It
//! looks at the stacks and registers of the evaluating threads, at what was given to [`keep`], and at everything
//! that is reachable from there; it does not look at the program's other memory. Values therefore live on the
//! stack, in other values and in `ValueVec`, and never in a `Vec` or a map of their own.

mod huge;
mod mark;
mod space;
mod team;
mod world;

use space::BLOCK_BYTES;
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

pub use space::{OutOfMemory, has_room, memory_limit, usage};
pub(crate) use world::blocking;
pub(super) use world::{LAST_EPOCH, epoch, identity, keep};
pub use world::{code_bytes, evaluating_thread, note_code, set_collector_limits};

/// Whether objects of a block hold values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Words that may be values or pointers.
    Traced = 0,
    /// Bytes that are never looked into.
    Opaque = 1,
}

/// Sizes of small objects in words. Others are rounded up to the next one.
const SIZES: [u16; 40] = [
    2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96,
    112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 768, 1024,
];
/// Larger objects have blocks of their own.
const LARGEST_SMALL: usize = 1024;

const fn size_classes() -> [u8; LARGEST_SMALL + 1] {
    let mut table = [0; LARGEST_SMALL + 1];
    let (mut words, mut class) = (0, 0);
    while words <= LARGEST_SMALL {
        if words > SIZES[class] as usize {
            class += 1;
        }
        table[words] = class as u8;
        words += 1;
    }
    table
}

/// The size class for each number of words.
static SIZE_CLASS: [u8; LARGEST_SMALL + 1] = size_classes();

/// A thread's free objects and unused memory, by class and size.
struct Local {
    /// Heads of lists of free objects, whose first word holds the next one's address, inverted: a stale reference to a
    /// free object must not lead the collector to others.
    free: [Cell<*mut u64>; 2 * SIZES.len()],
    /// What is left of the blocks that were fresh, or of free objects side by side: next address and end.
    fresh: [Cell<(usize, usize)>; 2 * SIZES.len()],
    /// Blocks with more free objects: their numbers, and from which object on.
    partial: [Cell<(usize, usize)>; 2 * SIZES.len()],
}

/// In [`Local::partial`]: no block.
const NONE: (usize, usize) = (0, usize::MAX);

thread_local! {
    static LOCAL: Local = const {
        Local {
            free: [const { Cell::new(std::ptr::null_mut()) }; 2 * SIZES.len()],
            fresh: [const { Cell::new((0, 0)) }; 2 * SIZES.len()],
            partial: [const { Cell::new(NONE) }; 2 * SIZES.len()],
        }
    };
}

/// Memory for `words` words, aligned to 8 bytes, with arbitrary contents.
#[inline(always)]
pub(super) fn alloc(class: Class, words: usize) -> NonNull<u64> {
    if words > LARGEST_SMALL {
        return large(class, words);
    }
    let of_size = SIZE_CLASS[words] as usize;
    // SAFETY: `SIZE_CLASS` holds no other number than those of the sizes.
    let bytes = unsafe { *SIZES.get_unchecked(of_size) } * 8;
    alloc_kind(Kind { number: (of_size * 2 + class as usize) as u16, bytes })
}

/// A kind of objects, found once for all objects of some piece of code.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    number: u16,
    bytes: u16,
}

impl Kind {
    /// That of objects of so many words, if they are small.
    pub(super) fn of(class: Class, words: usize) -> Option<Kind> {
        let of_size = *SIZE_CLASS.get(words)? as u16;
        Some(Kind { number: of_size * 2 + class as u16, bytes: SIZES[of_size as usize] * 8 })
    }
}

/// As [`alloc`], for a kind that is known.
#[inline(always)]
pub(super) fn alloc_kind(kind: Kind) -> NonNull<u64> {
    let (number, bytes) = (kind.number as usize, kind.bytes as usize);
    let local = LOCAL.with(|local| local as *const Local);
    // SAFETY: this thread's own, which lives as long as the thread; nothing is kept of it. The tables have an entry for
    // each kind.
    let (cell, fresh) = unsafe {
        let local = &*local;
        (local.free.get_unchecked(number), local.fresh.get_unchecked(number))
    };
    if let Some(object) = NonNull::new(cell.get()) {
        // SAFETY: a free object's first word is the inverted address of the next one.
        cell.set(!unsafe { object.read() } as *mut u64);
        return object;
    }
    let (start, end) = fresh.get();
    let next = start + bytes;
    if next > end {
        return refill(number);
    }
    fresh.set((next, end));
    // SAFETY: without a block both are 0, and objects have a size.
    unsafe { NonNull::new_unchecked(start as *mut u64) }
}

/// Writes the same to so many words. One after the other: objects are short, and the compiler would make vectors of them,
/// which take longer to set up.
///
/// # Safety
/// The words must be fresh ones of an object.
#[inline(always)]
pub(super) unsafe fn fill(start: NonNull<u64>, count: usize, word: u64) {
    for i in 0..count {
        // SAFETY: the caller vouches for the words.
        unsafe { AtomicU64::from_ptr(start.add(i).as_ptr()).store(word, Ordering::Relaxed) };
    }
}

/// Gives back an object of so many words that nothing refers to any more, for the next one of its size.
///
/// # Safety
/// The object must have come from [`alloc`] with the same arguments, and nobody may use it after this.
#[inline(always)]
pub(super) unsafe fn free(class: Class, words: usize, object: NonNull<u64>) {
    if words > LARGEST_SMALL {
        return;
    }
    let kind = SIZE_CLASS[words] as usize * 2 + class as usize;
    LOCAL.with(|local| {
        // SAFETY: there is an entry for each kind.
        let cell = unsafe { local.free.get_unchecked(kind) };
        // SAFETY: the object is nobody's, and has at least two words.
        unsafe {
            if cfg!(debug_assertions) {
                // What is used after it was freed fails early.
                std::slice::from_raw_parts_mut(object.as_ptr(), words).fill(space::POISON);
            }
            object.write(!(cell.get() as u64));
        }
        cell.set(object.as_ptr());
    });
}

#[cold]
#[inline(never)]
fn large(class: Class, words: usize) -> NonNull<u64> {
    world::before_block(words * 8);
    space::take_large(class, words)
}

/// Finds memory for objects of one kind, and gives the first of them.
#[cold]
#[inline(never)]
fn refill(kind: usize) -> NonNull<u64> {
    let size = SIZES[kind / 2] as usize * 8;
    let (start, end) = LOCAL.with(|local| local.free_objects(kind)).unwrap_or_else(|| take(kind));
    LOCAL.with(|local| local.fresh[kind].set((start + size, end)));
    match NonNull::new(start as *mut u64) {
        Some(object) => object,
        None => space::out_of_memory(size),
    }
}

/// Takes a block for objects of one kind, and gives where the first free ones begin and end.
fn take(kind: usize) -> (usize, usize) {
    loop {
        world::before_block(BLOCK_BYTES);
        match space::take_block(kind) {
            space::Taken::Fresh(start, end) => return (start, end),
            space::Taken::Partial(index) => {
                let found = LOCAL.with(|local| {
                    local.partial[kind].set((index, 0));
                    local.free_objects(kind)
                });
                if let Some(found) = found {
                    return found;
                }
            }
        }
    }
}

impl Local {
    /// Where the next free objects of the block begin and end that this thread has objects of the kind from.
    fn free_objects(&self, kind: usize) -> Option<(usize, usize)> {
        let (index, from) = self.partial[kind].get();
        if (index, from) == NONE {
            return None;
        }
        let run = space::free_run(index, from);
        self.partial[kind].set(run.as_ref().map_or(NONE, |run| (index, run.next)));
        run.map(|run| (run.start, run.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_hold_what_was_asked_for() {
        for (words, class) in SIZE_CLASS.iter().enumerate() {
            let class = *class as usize;
            assert!(SIZES[class] as usize >= words && (class == 0 || (SIZES[class - 1] as usize) < words));
        }
    }
}

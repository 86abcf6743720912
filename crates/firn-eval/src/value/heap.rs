//! The heap: memory for objects, cut from large blocks by kind.
//!
//! Objects have no headers. Blocks are kept apart by [`Class`], so that a collector can find the extent and the
//! kind of what a word points to from the block alone.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether objects of a block hold values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Words that may be values or pointers.
    Traced = 0,
    /// Bytes that are never looked into.
    Opaque = 1,
}

const BLOCK_WORDS: usize = 32 * 1024;
/// Larger objects get memory of their own.
const LARGE_WORDS: usize = BLOCK_WORDS / 8;

#[derive(Clone, Copy)]
struct Bump {
    next: *mut u64,
    left: usize,
}

thread_local! {
    static BUMP: [Cell<Bump>; 2] = const {
        [const { Cell::new(Bump { next: std::ptr::null_mut(), left: 0 }) }; 2]
    };
}

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

/// Bytes that the heap has taken from the system.
pub fn allocated_bytes() -> u64 {
    ALLOCATED.load(Ordering::Relaxed)
}

/// Memory for `words` words, aligned to 8 bytes, uninitialised. Never freed.
#[inline]
pub(super) fn alloc(class: Class, words: usize) -> NonNull<u64> {
    let bumps = BUMP.with(|bumps| bumps as *const [Cell<Bump>; 2]);
    // SAFETY: this thread's own, which lives as long as the thread; nothing is kept of it.
    let cell = unsafe { &(&*bumps)[class as usize] };
    let bump = cell.get();
    if words <= bump.left {
        // SAFETY: `left` words from `next` on belong to this thread's block.
        cell.set(Bump { next: unsafe { bump.next.add(words) }, left: bump.left - words });
        // SAFETY: `next` is not null when anything is left.
        return unsafe { NonNull::new_unchecked(bump.next) };
    }
    alloc_slow(cell, words)
}

#[cold]
#[inline(never)]
fn alloc_slow(cell: &Cell<Bump>, words: usize) -> NonNull<u64> {
    if words > LARGE_WORDS {
        return system(words);
    }
    let block = system(BLOCK_WORDS);
    // SAFETY: the block has `BLOCK_WORDS` words and `words` is no more than an eighth of that.
    cell.set(Bump { next: unsafe { block.as_ptr().add(words) }, left: BLOCK_WORDS - words });
    block
}

/// Memory of the system's, in regions that grow with the heap, so that blocks cost no system call.
struct Regions {
    next: usize,
    left: usize,
    size: usize,
}

static REGIONS: parking_lot::Mutex<Regions> =
    parking_lot::Mutex::new(Regions { next: 0, left: 0, size: 1 << 20 });
const LARGEST_REGION: usize = 64 << 20;
/// Mappings of this size ask for huge pages: a page fault costs more than the memory at their edges.
const HUGE_FROM: usize = 4 << 20;

fn system(words: usize) -> NonNull<u64> {
    let bytes = words * 8;
    ALLOCATED.fetch_add(bytes as u64, Ordering::Relaxed);
    let mut regions = REGIONS.lock();
    if bytes > regions.left {
        if bytes > regions.size / 4 {
            drop(regions);
            return map(bytes);
        }
        let size = regions.size;
        regions.next = map(size).as_ptr() as usize;
        regions.left = size;
        regions.size = (size * 2).min(LARGEST_REGION);
    }
    let address = regions.next;
    regions.next += bytes;
    regions.left -= bytes;
    match NonNull::new(address as *mut u64) {
        Some(block) => block,
        None => out_of_memory(bytes),
    }
}

fn map(bytes: usize) -> NonNull<u64> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh private mapping at an address of the kernel's choice touches nothing that exists.
    match unsafe {
        mmap_anonymous(std::ptr::null_mut(), bytes, access, MapFlags::PRIVATE | MapFlags::NORESERVE)
    } {
        Ok(address) => {
            if bytes >= HUGE_FROM {
                // SAFETY: advice on a mapping that was just made.
                let _ = unsafe { rustix::mm::madvise(address, bytes, rustix::mm::Advice::LinuxHugepage) };
            }
            NonNull::new(address.cast::<u64>()).unwrap_or_else(|| out_of_memory(bytes))
        }
        Err(_) => out_of_memory(bytes),
    }
}

fn out_of_memory(bytes: usize) -> ! {
    match std::alloc::Layout::from_size_align(bytes, 8) {
        Ok(layout) => std::alloc::handle_alloc_error(layout),
        Err(_) => std::process::abort(),
    }
}

//! A table that only grows: entries never move, and reading takes no lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Chunk `n` holds `FIRST << n` entries.
const FIRST_BITS: u32 = 10;
const CHUNKS: usize = 22;

type Chunk<T> = OnceLock<Box<[OnceLock<T>]>>;

/// Numbers start at 0.
pub(crate) struct Table<T> {
    chunks: [Chunk<T>; CHUNKS],
    next: AtomicU32,
}

fn place(index: u32) -> (usize, usize) {
    let n = index as u64 + (1 << FIRST_BITS);
    let top = 63 - n.leading_zeros();
    ((top - FIRST_BITS) as usize, (n - (1 << top)) as usize)
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Table<T> {
        Table { chunks: [const { OnceLock::new() }; CHUNKS], next: AtomicU32::new(0) }
    }

    pub(crate) fn push(&self, value: T) -> u32 {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let (chunk, slot) = place(index);
        let chunk = self.chunks[chunk]
            .get_or_init(|| (0..(1usize << FIRST_BITS) << chunk).map(|_| OnceLock::new()).collect());
        let _ = chunk[slot].set(value);
        index
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (chunk, slot) = place(index);
        self.chunks.get(chunk)?.get()?.get(slot)?.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows() {
        let table = Table::new();
        let numbers: Vec<u32> = (0..5000).map(|i| table.push(i * 2)).collect();
        assert!(numbers.iter().enumerate().all(|(i, n)| table.get(*n) == Some(&(i * 2))));
        assert_eq!(table.get(6000), None);
    }
}

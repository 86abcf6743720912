//! Interned names. A [`Sym`] is a number; equal names have equal numbers for the life of the process.

use hashbrown::HashTable;
use parking_lot::Mutex;
use rustc_hash::FxHasher;
use std::cell::Cell;
use std::fmt;
use std::hash::Hasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// An interned name. Never zero, so that `Option<Sym>` has its size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sym(std::num::NonZeroU32);

const SHARDS: usize = 16;
/// Chunk `n` holds `FIRST << n` names, so a name's place never moves and reading takes no lock. The first is small, since
/// short runs have few names and memory that is touched costs them time.
const FIRST_BITS: u32 = 8;
const CHUNKS: usize = 24;

type Slot = OnceLock<&'static [u8]>;

struct Interner {
    /// Symbols' numbers and their names' hashes.
    shards: [Mutex<HashTable<(u32, u32)>>; SHARDS],
    chunks: [OnceLock<Box<[Slot]>>; CHUNKS],
    next: AtomicU32,
}

/// How many names each thread finds again without looking into the table that all share.
const RECENT: usize = 512;

/// The name's hash, and the symbol's number.
type Recent = [Cell<(u32, u32)>; RECENT];

thread_local! {
    static SEEN: Recent = const { [const { Cell::new((0, 0)) }; RECENT] };
}

static INTERNER: Interner = Interner {
    shards: [const { Mutex::new(HashTable::new()) }; SHARDS],
    chunks: [const { OnceLock::new() }; CHUNKS],
    next: AtomicU32::new(1),
};

fn place(index: u32) -> (usize, usize) {
    let n = index + (1 << FIRST_BITS);
    let top = 31 - n.leading_zeros();
    ((top - FIRST_BITS) as usize, (n - (1 << top)) as usize)
}

fn hash(name: &[u8]) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    (hasher.finish() >> 32) as u32
}

/// What the tables want, which look at the uppermost bits too: made of the hash that is kept, so that tables grow without
/// reading names again.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn shard(hash: u32) -> &'static Mutex<HashTable<(u32, u32)>> {
    &INTERNER.shards[hash as usize % SHARDS]
}

impl Sym {
    /// The symbol of a name.
    pub fn new(name: &[u8]) -> Sym {
        // Most names were seen a moment ago, and finding them here takes no lock.
        let hash = hash(name);
        let recent = |seen: &Recent| {
            let slot = &seen[hash as usize % RECENT];
            let (known, index) = slot.get();
            if known == hash && get(index) == name {
                if let Some(index) = std::num::NonZeroU32::new(index) {
                    return Sym(index);
                }
            }
            let sym = Sym::intern(name, || Box::leak(name.into()));
            slot.set((hash, sym.index()));
            sym
        };
        SEEN.with(recent)
    }

    /// As [`Sym::new`], without a copy of the name.
    pub fn from_static(name: &'static str) -> Sym {
        Sym::intern(name.as_bytes(), || name.as_bytes())
    }

    fn intern(name: &[u8], make: impl FnOnce() -> &'static [u8]) -> Sym {
        let hash = hash(name);
        let mut shard = shard(hash).lock();
        if let Some((index, _)) = shard.find(spread(hash), |(index, h)| *h == hash && get(*index) == name) {
            if let Some(index) = std::num::NonZeroU32::new(*index) {
                return Sym(index);
            }
        }
        let index = INTERNER.next.fetch_add(1, Ordering::Relaxed);
        let (chunk, slot) = place(index);
        let chunk = INTERNER.chunks[chunk]
            .get_or_init(|| (0..(1usize << FIRST_BITS) << chunk).map(|_| OnceLock::new()).collect());
        let _ = chunk[slot].set(make());
        shard.insert_unique(spread(hash), (index, hash), |(_, hash)| spread(*hash));
        std::num::NonZeroU32::new(index).map(Sym).unwrap_or(Sym(std::num::NonZeroU32::MIN))
    }

    /// The name.
    pub fn as_bytes(self) -> &'static [u8] {
        get(self.0.get())
    }

    /// The name as messages show it: quoted where it is no identifier.
    pub fn shown(self) -> Shown {
        Shown(self)
    }

    /// A small dense number.
    pub fn index(self) -> u32 {
        self.0.get()
    }

    /// The symbol with that number, which must have come from [`Sym::index`].
    pub fn from_index(index: u32) -> Option<Sym> {
        std::num::NonZeroU32::new(index).map(Sym)
    }
}

/// The symbol of a name that the program itself uses. Each place looks it up once.
#[macro_export]
macro_rules! sym {
    ($name:literal) => {{
        static KNOWN: $crate::symbol::KnownSym = $crate::symbol::KnownSym::new($name);
        KNOWN.get()
    }};
}

/// What [`sym!`](crate::sym) remembers.
pub struct KnownSym {
    name: &'static str,
    index: AtomicU32,
}

impl KnownSym {
    pub const fn new(name: &'static str) -> KnownSym {
        KnownSym { name, index: AtomicU32::new(0) }
    }

    #[inline(always)]
    pub fn get(&self) -> Sym {
        match Sym::from_index(self.index.load(Ordering::Relaxed)) {
            Some(sym) => sym,
            None => self.look_up(),
        }
    }

    #[cold]
    fn look_up(&self) -> Sym {
        let sym = Sym::from_static(self.name);
        self.index.store(sym.index(), Ordering::Relaxed);
        sym
    }
}

/// How many symbols there are.
pub fn count() -> usize {
    INTERNER.next.load(Ordering::Relaxed) as usize - 1
}

/// All names, in the order in which they were interned.
pub fn all() -> impl Iterator<Item = &'static [u8]> {
    (1..=count() as u32).map(get)
}

fn get(index: u32) -> &'static [u8] {
    let (chunk, slot) = place(index);
    INTERNER
        .chunks
        .get(chunk)
        .and_then(OnceLock::get)
        .and_then(|c| c.get(slot))
        .and_then(OnceLock::get)
        .copied()
        .unwrap_or_default()
}

/// A name for messages.
pub struct Shown(Sym);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        crate::show::write_name(&mut out, self.0.as_bytes());
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

impl fmt::Display for Sym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for Sym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interns() {
        let names: Vec<Vec<u8>> = (0..20_000).map(|i| format!("name-{i}").into_bytes()).collect();
        let syms: Vec<Sym> = names.iter().map(|n| Sym::new(n)).collect();
        for (name, sym) in names.iter().zip(&syms) {
            assert_eq!((sym.as_bytes(), Sym::new(name)), (&name[..], *sym));
        }
        assert_eq!(Sym::new(b"name-7"), syms[7]);
        let known = || sym!("name-7");
        assert_eq!([known(), known()], [syms[7]; 2]);
    }
}

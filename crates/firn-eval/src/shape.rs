//! Shapes: the keys of attribute sets, interned. Sets with the same keys share a shape,
//! so that equality of shapes is equality of addresses and look-ups can be cached by it.

use crate::table::Table;
use firn_syntax::{Sym, sym};
use hashbrown::HashTable;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHasher};
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::LocalKey;

/// The keys of a set, sorted by symbol.
pub struct Shape {
    /// Small and dense; never zero.
    pub id: u32,
    hash: u64,
    /// Places of [`Special`] names plus two; 1 where there is none, 0 where nobody has looked.
    special: [AtomicU32; 2],
    syms: Box<[Sym]>,
    order: OnceLock<Box<[u32]>>,
}

/// Names that the language itself looks for all the time.
#[derive(Clone, Copy)]
pub enum Special {
    Type = 0,
    OutPath = 1,
}

impl Special {
    pub fn sym(self) -> Sym {
        match self {
            Special::Type => sym!("type"),
            Special::OutPath => sym!("outPath"),
        }
    }
}

/// Up to this many keys are searched one by one.
const LINEAR: usize = 8;
/// How many look-ups in larger shapes are remembered, as a power of two.
const FOUND_BITS: u32 = 11;

/// For each place shape and name of a look-up, and the place that was found plus one, or 0.
type Found = [Cell<(u64, u32)>; 1 << FOUND_BITS];

thread_local! {
    /// Made by the thread's first look-up in a large shape: short runs have none, and the system clears what is thread
    /// local when a thread starts. It is never given back, as threads that evaluate last as long as the program.
    static FOUND: Cell<Option<&'static Found>> = const { Cell::new(None) };
}

/// Makes what a thread keeps at such a place. It is made in here, so that callers need no room for it on the stack.
#[cold]
#[inline(never)]
fn keep<T>(place: &'static LocalKey<Cell<Option<&'static T>>>, empty: impl FnOnce() -> T) -> &'static T {
    let kept: &'static T = Box::leak(Box::new(empty()));
    place.set(Some(kept));
    kept
}

const SHARDS: usize = 16;

static TABLE: [Mutex<HashTable<&'static Shape>>; SHARDS] = [const { Mutex::new(HashTable::new()) }; SHARDS];
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

fn hash(syms: &[Sym]) -> u64 {
    let mut hasher = FxHasher::default();
    syms.hash(&mut hasher);
    hasher.finish()
}

impl Shape {
    /// The shape with these keys, which must be sorted and unique.
    pub fn intern(syms: &[Sym]) -> &'static Shape {
        debug_assert!(syms.windows(2).all(|w| w[0] < w[1]));
        let hash = hash(syms);
        let mut table = TABLE[(hash >> 57) as usize % SHARDS].lock();
        if let Some(shape) = table.find(hash, |s| s.hash == hash && *s.syms == *syms) {
            return shape;
        }
        let shape: &'static Shape = Box::leak(Box::new(Shape {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            hash,
            special: [const { AtomicU32::new(0) }; 2],
            syms: syms.into(),
            order: OnceLock::new(),
        }));
        table.insert_unique(hash, shape, |s| s.hash);
        shape
    }

    pub fn empty() -> &'static Shape {
        static EMPTY: OnceLock<&'static Shape> = OnceLock::new();
        EMPTY.get_or_init(|| Shape::intern(&[]))
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.syms.len()
    }

    /// Keys in order of symbols.
    #[inline]
    pub fn syms(&self) -> &[Sym] {
        &self.syms
    }

    /// The place of a key.
    #[inline]
    pub fn find(&self, name: Sym) -> Option<usize> {
        let len = self.syms.len();
        if len <= LINEAR {
            return self.syms.iter().position(|s| *s == name);
        }
        let key = u64::from(self.id) << 32 | u64::from(name.index());
        let slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FOUND_BITS)) as usize;
        let cell =
            FOUND.get().unwrap_or_else(|| keep(&FOUND, || [const { Cell::new((0, 0)) }; _])).get(slot)?;
        let (known, place) = cell.get();
        if known == key {
            return place.checked_sub(1).map(|p| p as usize);
        }
        let place = self.syms.binary_search(&name).ok();
        cell.set((key, place.map_or(0, |p| p as u32 + 1)));
        place
    }

    /// As [`Shape::find`].
    #[inline]
    pub fn find_special(&self, name: Special) -> Option<usize> {
        match self.special[name as usize].load(Ordering::Relaxed) {
            0 => self.look_for(name),
            place => (place as usize).checked_sub(2),
        }
    }

    #[cold]
    fn look_for(&self, name: Special) -> Option<usize> {
        let place = self.find(name.sym());
        self.special[name as usize].store(place.map_or(1, |place| place as u32 + 2), Ordering::Relaxed);
        place
    }

    /// Places of the keys in lexicographic order of their names: the order that users see.
    pub fn order(&self) -> &[u32] {
        self.order.get_or_init(|| {
            let mut order: Vec<u32> = (0..self.syms.len() as u32).collect();
            order.sort_unstable_by_key(|i| self.syms[*i as usize].as_bytes());
            order.into()
        })
    }
}

/// How many shapes there are, and how many keys they have together.
pub(crate) fn totals() -> (u64, u64) {
    let shards = TABLE.iter().map(|shard| {
        let table = shard.lock();
        (table.len() as u64, table.iter().map(|s| s.len() as u64).sum::<u64>())
    });
    shards.fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
}

impl PartialEq for Shape {
    fn eq(&self, other: &Shape) -> bool {
        std::ptr::eq(self, other)
    }
}

/// How to make the values of `a // b`: for each key the place in `b` (with [`FROM_RIGHT`] set) or in `a`.
pub struct UpdatePlan {
    /// Numbers of the shapes that the plan is for.
    pub left: u32,
    pub right: u32,
    pub shape: &'static Shape,
    pub gather: Box<[u32]>,
}

pub const FROM_RIGHT: u32 = 1 << 31;

/// All plans, and the numbers of those for two shapes.
static PLANS: Table<UpdatePlan> = Table::new();
static PLAN_NUMBERS: [Mutex<Option<FxHashMap<(u32, u32), u32>>>; SHARDS] =
    [const { Mutex::new(None) }; SHARDS];

/// How many plans of other places a thread finds without asking the others, as a power of two.
const RECENT_BITS: u32 = 10;

type Recent = [Cell<Option<&'static UpdatePlan>>; 1 << RECENT_BITS];

thread_local! {
    /// As [`FOUND`].
    static RECENT: Cell<Option<&'static Recent>> = const { Cell::new(None) };
}

/// The plan for two shapes.
pub(crate) fn update_plan(a: &Shape, b: &Shape) -> &'static UpdatePlan {
    let key = u64::from(a.id) << 32 | u64::from(b.id);
    let slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - RECENT_BITS)) as usize;
    let cell = &RECENT.get().unwrap_or_else(|| keep(&RECENT, || [const { Cell::new(None) }; _]))[slot];
    match cell.get() {
        Some(plan) if (plan.left, plan.right) == (a.id, b.id) => plan,
        _ => {
            let Some(plan) = PLANS.get(shared_plan(a, b)) else {
                unreachable!("a plan is pushed before its number is known")
            };
            cell.set(Some(plan));
            plan
        }
    }
}

/// The number of the plan for two shapes, which is made if there is none.
#[cold]
#[inline(never)]
fn shared_plan(a: &Shape, b: &Shape) -> u32 {
    let mut numbers = PLAN_NUMBERS[a.id as usize % SHARDS].lock();
    *numbers.get_or_insert_default().entry((a.id, b.id)).or_insert_with(|| PLANS.push(plan_update(a, b)))
}

/// How many plans there are, and how many bytes they take.
pub(crate) fn plan_totals() -> (u64, u64) {
    let plans = (0..).map_while(|n| PLANS.get(n));
    plans.fold((0, 0), |(count, bytes), plan| (count + 1, bytes + plan.gather.len() as u64 * 4))
}

fn plan_update(a: &Shape, b: &Shape) -> UpdatePlan {
    let mut syms = Vec::with_capacity(a.len() + b.len());
    let mut gather = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    loop {
        let left = a.syms.get(i);
        let right = b.syms.get(j);
        let take_right = match (left, right) {
            (None, None) => break,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(l), Some(r)) => {
                if l == r {
                    i += 1;
                }
                l >= r
            }
        };
        if take_right {
            syms.push(b.syms[j]);
            gather.push(j as u32 | FROM_RIGHT);
            j += 1;
        } else {
            syms.push(a.syms[i]);
            gather.push(i as u32);
            i += 1;
        }
    }
    UpdatePlan { left: a.id, right: b.id, shape: Shape::intern(&syms), gather: gather.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(names: &[&str]) -> &'static Shape {
        let mut syms: Vec<Sym> = names.iter().map(|n| Sym::new(n.as_bytes())).collect();
        syms.sort();
        Shape::intern(&syms)
    }

    #[test]
    fn interned_and_found() {
        assert_eq!(shape(&["a", "b"]).id, shape(&["b", "a"]).id);
        let names: Vec<String> = (0..300).map(|i| format!("k{i}")).collect();
        let big = shape(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for name in &names {
            let place = big.find(Sym::new(name.as_bytes()));
            assert_eq!(place.map(|p| big.syms()[p].as_bytes()), Some(name.as_bytes()));
        }
        assert_eq!(big.find(Sym::new(b"absent")), None);
    }

    #[test]
    fn updates() {
        let plan = plan_update(shape(&["a", "b", "c"]), shape(&["b", "d"]));
        assert_eq!(plan.shape.id, shape(&["a", "b", "c", "d"]).id);
        assert_eq!(plan.gather.iter().filter(|g| **g & FROM_RIGHT != 0).count(), 2);
    }
}

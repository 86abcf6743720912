//! String contexts: which store objects a string refers to. Elements and sets of them are interned.

use firn_core::{SingleDerivedPath, StorePath};
use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHasher};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// One thing that a string refers to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ContextElem {
    /// A store path as it is.
    Opaque(StorePath),
    /// A derivation with everything it needs and makes (`drvPath`): `=path`.
    DrvDeep(StorePath),
    /// An output of a derivation: `!output!path`.
    Built { drv: Arc<SingleDerivedPath>, output: String },
}

/// An interned set of context elements.
#[derive(Clone, Copy)]
pub struct Context(Option<&'static Set>);

struct Set {
    number: u32,
    /// Sorted element numbers.
    ids: Box<[u32]>,
}

#[derive(Default)]
struct Elements {
    list: Vec<ContextElem>,
    numbers: FxHashMap<ContextElem, u32>,
}

static ELEMENTS: OnceLock<RwLock<Elements>> = OnceLock::new();
static SETS: Mutex<(HashTable<&'static Set>, Vec<&'static Set>)> = Mutex::new((HashTable::new(), Vec::new()));

fn elements() -> &'static RwLock<Elements> {
    ELEMENTS.get_or_init(Default::default)
}

fn number_of(elem: &ContextElem) -> u32 {
    if let Some(n) = elements().read().numbers.get(elem) {
        return *n;
    }
    let mut table = elements().write();
    let next = table.list.len() as u32;
    let number = *table.numbers.entry(elem.clone()).or_insert(next);
    if number == next {
        table.list.push(elem.clone());
    }
    number
}

fn hash(ids: &[u32]) -> u64 {
    let mut hasher = FxHasher::default();
    ids.hash(&mut hasher);
    hasher.finish()
}

fn intern(ids: &[u32]) -> Context {
    if ids.is_empty() {
        return Context::EMPTY;
    }
    let hash = hash(ids);
    let mut sets = SETS.lock();
    if let Some(set) = sets.0.find(hash, |s| *s.ids == *ids) {
        return Context(Some(set));
    }
    let number = sets.1.len() as u32 + 1;
    let set: &'static Set = Box::leak(Box::new(Set { number, ids: ids.into() }));
    sets.0.insert_unique(hash, set, |s| self::hash(&s.ids));
    sets.1.push(set);
    Context(Some(set))
}

thread_local! {
    static UNIONS: std::cell::RefCell<FxHashMap<(u32, u32), Context>> = std::cell::RefCell::default();
    static LOOKUP: std::cell::RefCell<Vec<&'static Set>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Context {
    pub const EMPTY: Context = Context(None);

    pub fn is_empty(self) -> bool {
        self.0.is_none()
    }

    pub fn single(elem: &ContextElem) -> Context {
        intern(&[number_of(elem)])
    }

    pub fn from_elems<'a>(elems: impl IntoIterator<Item = &'a ContextElem>) -> Context {
        let mut ids: Vec<u32> = elems.into_iter().map(number_of).collect();
        ids.sort_unstable();
        ids.dedup();
        intern(&ids)
    }

    pub fn union(self, other: Context) -> Context {
        let (Some(a), Some(b)) = (self.0, other.0) else {
            return if self.0.is_some() { self } else { other };
        };
        if std::ptr::eq(a, b) {
            return self;
        }
        let key = (a.number.min(b.number), a.number.max(b.number));
        if let Some(known) = UNIONS.with_borrow(|u| u.get(&key).copied()) {
            return known;
        }
        let mut ids = Vec::with_capacity(a.ids.len() + b.ids.len());
        ids.extend_from_slice(&a.ids);
        ids.extend_from_slice(&b.ids);
        ids.sort_unstable();
        ids.dedup();
        let union = intern(&ids);
        UNIONS.with_borrow_mut(|u| u.insert(key, union));
        union
    }

    /// The elements, in their order (not that of their making, which depends on evaluation).
    pub fn elems(self) -> Vec<ContextElem> {
        let Some(set) = self.0 else { return Vec::new() };
        let table = elements().read();
        let mut elems: Vec<ContextElem> = set.ids.iter().map(|id| table.list[*id as usize].clone()).collect();
        elems.sort();
        elems
    }

    /// A number that stands for the set; 0 is the empty one.
    pub(crate) fn number(self) -> u32 {
        self.0.map_or(0, |s| s.number)
    }

    /// The set with that number.
    pub(crate) fn from_number(number: u32) -> Context {
        if number == 0 {
            return Context::EMPTY;
        }
        LOOKUP.with_borrow_mut(|cache| {
            if cache.len() < number as usize {
                let sets = SETS.lock();
                let known = cache.len();
                cache.extend_from_slice(&sets.1[known..]);
            }
            Context(cache.get(number as usize - 1).copied())
        })
    }
}

/// How many sets of elements there are, and how many elements they hold together.
pub(crate) fn totals() -> (u64, u64) {
    let sets = SETS.lock();
    (sets.1.len() as u64, sets.1.iter().map(|s| s.ids.len() as u64).sum())
}

/// Collects the contexts of the parts of a text; only their union is interned.
#[derive(Default)]
pub struct ContextBuilder {
    /// The first that is not empty, and the others that are not the same as one before them.
    first: Option<Context>,
    more: Vec<Context>,
}

impl ContextBuilder {
    #[inline]
    pub fn add(&mut self, context: Context) {
        if context.is_empty() || self.first == Some(context) || self.more.last() == Some(&context) {
            return;
        }
        match self.first {
            None => self.first = Some(context),
            Some(_) => self.more.push(context),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The union of all that was added.
    #[inline]
    pub fn finish(&self) -> Context {
        match (self.first, self.more.as_slice()) {
            (None, _) => Context::EMPTY,
            (Some(only), []) => only,
            (Some(first), [second]) => first.union(*second),
            (Some(first), _) => self.union_of_many(first),
        }
    }

    #[cold]
    fn union_of_many(&self, first: Context) -> Context {
        let sets = std::iter::once(first).chain(self.more.iter().copied()).filter_map(|c| c.0);
        let mut ids: Vec<u32> = sets.flat_map(|set| set.ids.iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        intern(&ids)
    }
}

impl PartialEq for Context {
    fn eq(&self, other: &Context) -> bool {
        self.number() == other.number()
    }
}

//! Where the attributes of a set were written. Only errors, `unsafeGetAttrPos` and printing ask, so a set that was made
//! of others knows no more than from which ones.

use super::attrs::Attrs;
use super::heap::{self, Class};
use crate::shape::{FROM_RIGHT, Shape, UpdatePlan, update_plan};
use crate::source::Pos;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Positions of all attributes of a set, by their places in its shape.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Positions(u64);

/// Positions of the attributes of a set in the text, which live as long as the code.
#[repr(align(8))]
pub struct FixedPositions {
    pub attrs: &'static [Pos],
    /// The set itself.
    pub set: Pos,
}

const KIND: u64 = 7;
/// A [`FixedPositions`].
const FIXED: u64 = 1;
/// An object: an update plan and the positions of both of its sets.
const UPDATE: u64 = 2;
/// An object: the set's shape, and the shape and positions of the set that the attributes come from.
const BY_NAME: u64 = 3;
/// An object: how many (the lower half of a word) and where the set is (the upper), then the numbers of the positions.
const LIST: u64 = 4;
/// A [`FixedUpdate`].
const FIXED_UPDATE: u64 = 5;

/// What [`UPDATE`] says, for sets that stand in the text: made once and not for each result.
#[repr(C)]
struct FixedUpdate {
    plan: &'static UpdatePlan,
    a: u64,
    b: u64,
    /// How many of these lie between here and the text.
    depth: u32,
}

/// More are not worth it: who folds sets together would never come to an end.
const MOST_DEPTH: u32 = 3;
/// How many a piece of code makes. They are never given back.
const MOST_MADE: u32 = 8;

/// What a `//` in the code remembers of the last time: the plan for the shapes of its sets, and the positions that it came
/// to where these stand in the text.
pub struct UpdateCache {
    plan: AtomicPtr<UpdatePlan>,
    last: AtomicU64,
    made: AtomicU32,
}

impl UpdateCache {
    pub const fn new() -> UpdateCache {
        UpdateCache::with(0)
    }

    /// Of what is no `//` in the code.
    pub const fn none() -> UpdateCache {
        UpdateCache::with(MOST_MADE)
    }

    const fn with(made: u32) -> UpdateCache {
        UpdateCache {
            plan: AtomicPtr::new(std::ptr::null_mut()),
            last: AtomicU64::new(0),
            made: AtomicU32::new(made),
        }
    }

    /// The plan for two shapes.
    #[inline]
    pub(super) fn plan(&self, left: &Shape, right: &Shape) -> &'static UpdatePlan {
        // SAFETY: null, or what was a reference to a plan that lives for ever.
        match unsafe { self.plan.load(Ordering::Acquire).as_ref() } {
            Some(plan) if plan.left == left.id && plan.right == right.id => plan,
            _ => self.other_plan(left, right),
        }
    }

    #[inline(never)]
    fn other_plan(&self, left: &Shape, right: &Shape) -> &'static UpdatePlan {
        let plan = update_plan(left, right);
        self.plan.store(std::ptr::from_ref(plan).cast_mut(), Ordering::Release);
        plan
    }

    #[inline]
    fn find(&self, plan: &'static UpdatePlan, a: Positions, b: Positions) -> Option<Positions> {
        let address = self.last.load(Ordering::Acquire);
        // SAFETY: `make` stored the address of what lives for ever.
        let known = unsafe { (address as *const FixedUpdate).as_ref() }?;
        (std::ptr::eq(known.plan, plan) && known.a == a.0 && known.b == b.0)
            .then_some(Positions(address | FIXED_UPDATE))
    }

    #[cold]
    #[inline(never)]
    fn make(&self, plan: &'static UpdatePlan, a: Positions, b: Positions) -> Option<Positions> {
        let depth = a.depth()?.max(b.depth()?) + 1;
        if depth > MOST_DEPTH {
            // Sets are folded together here: nothing is made here any more.
            self.made.store(MOST_MADE, Ordering::Relaxed);
            return None;
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        let made = Box::leak(Box::new(FixedUpdate { plan, a: a.0, b: b.0, depth }));
        let address = std::ptr::from_mut(made) as u64;
        self.last.store(address, Ordering::Release);
        Some(Positions(address | FIXED_UPDATE))
    }
}

impl Positions {
    pub const NONE: Positions = Positions(0);

    pub fn fixed(positions: &'static FixedPositions) -> Positions {
        Positions(positions as *const FixedPositions as u64 | FIXED)
    }

    /// Those of a set that is made of its attributes, and its own.
    pub fn list(positions: &[Pos], set: Pos) -> Positions {
        let Ok(count) = u32::try_from(positions.len()) else { return Positions::NONE };
        if set.is_none() && positions.iter().all(|pos| pos.is_none()) {
            return Positions::NONE;
        }
        let object = heap::alloc(Class::Opaque, 1 + positions.len().div_ceil(2));
        // SAFETY: fresh words: one for the number and half a one for each position.
        unsafe {
            object.write(u64::from(set.number()) << 32 | u64::from(count));
            let numbers = object.add(1).as_ptr().cast::<u32>();
            for (i, pos) in positions.iter().enumerate() {
                numbers.add(i).write(pos.number());
            }
        }
        Positions(object.as_ptr() as u64 | LIST)
    }

    /// Those of `a // b`.
    #[inline]
    pub(super) fn update(
        plan: &'static UpdatePlan,
        a: Positions,
        b: Positions,
        cache: &UpdateCache,
    ) -> Positions {
        if a.0 | b.0 == 0 {
            return Positions::NONE;
        }
        if let Some(known) = cache.find(plan, a, b) {
            return known;
        }
        if cache.made.load(Ordering::Relaxed) < MOST_MADE {
            if let Some(made) = cache.make(plan, a, b) {
                return made;
            }
        }
        let object = heap::alloc(Class::Traced, 3);
        // SAFETY: three fresh words.
        unsafe {
            object.write(plan as *const UpdatePlan as u64);
            object.add(1).write(a.0);
            object.add(2).write(b.0);
        }
        Positions(object.as_ptr() as u64 | UPDATE)
    }

    /// How many [`FixedUpdate`] lie between here and the text; none when it goes by something else.
    fn depth(self) -> Option<u32> {
        match self.0 & KIND {
            0 | FIXED => Some(0),
            // SAFETY: the tag says what it is, and it lives for ever.
            FIXED_UPDATE => unsafe { ((self.0 & !KIND) as *const FixedUpdate).as_ref() }.map(|u| u.depth),
            _ => None,
        }
    }

    /// Those of a set of this shape whose attributes were taken from another one.
    pub fn by_name(shape: &'static Shape, from: Attrs) -> Positions {
        let positions = from.positions();
        if positions.0 == 0 {
            return Positions::NONE;
        }
        let object = heap::alloc(Class::Traced, 3);
        // SAFETY: three fresh words.
        unsafe {
            object.write(shape as *const Shape as u64);
            object.add(1).write(from.shape() as *const Shape as u64);
            object.add(2).write(positions.0);
        }
        Positions(object.as_ptr() as u64 | BY_NAME)
    }

    #[inline]
    pub(super) fn word(self) -> u64 {
        self.0
    }

    /// # Safety
    /// The word must have come from [`Positions::word`].
    #[inline]
    pub(super) unsafe fn from_word(word: u64) -> Positions {
        Positions(word)
    }

    /// Where the set was written, for those that stand in the text.
    pub fn set(self) -> Pos {
        let Some(object) = NonNull::new((self.0 & !KIND) as *mut u64) else { return Pos::NONE };
        match self.0 & KIND {
            // SAFETY: the tag says what it is, and code lives as long as the process.
            FIXED => unsafe { object.cast::<FixedPositions>().as_ref() }.set,
            // SAFETY: the tag says that `list` wrote this word.
            LIST => Pos::from_number((unsafe { object.read() } >> 32) as u32),
            _ => Pos::NONE,
        }
    }

    /// The position at a place of the shape.
    pub fn at(self, mut place: usize) -> Pos {
        let mut word = self.0;
        loop {
            let Some(object) = NonNull::new((word & !KIND) as *mut u64) else { return Pos::NONE };
            match word & KIND {
                FIXED => {
                    // SAFETY: the tag says what it is, and code lives as long as the process.
                    let fixed = unsafe { object.cast::<FixedPositions>().as_ref() };
                    return fixed.attrs.get(place).copied().unwrap_or(Pos::NONE);
                }
                UPDATE | FIXED_UPDATE => {
                    // SAFETY: the tag says that these are the three words that `update` wrote, or the first three of
                    // a `FixedUpdate`, which are the same; plans live for ever.
                    let (plan, a, b) = unsafe {
                        (&*(object.read() as *const UpdatePlan), object.add(1).read(), object.add(2).read())
                    };
                    let Some(from) = plan.gather.get(place) else { return Pos::NONE };
                    word = if from & FROM_RIGHT != 0 { b } else { a };
                    place = (from & !FROM_RIGHT) as usize;
                }
                BY_NAME => {
                    // SAFETY: the tag says that these are the three words that `by_name` wrote; shapes live for ever.
                    let (own, source) = unsafe {
                        (&*(object.read() as *const Shape), &*(object.add(1).read() as *const Shape))
                    };
                    let found = own.syms().get(place).and_then(|name| source.find(*name));
                    let Some(found) = found else { return Pos::NONE };
                    place = found;
                    // SAFETY: as above.
                    word = unsafe { object.add(2).read() };
                }
                _ => {
                    // SAFETY: the tag says that this is a number and so many positions.
                    unsafe {
                        if place >= object.read() as u32 as usize {
                            return Pos::NONE;
                        }
                        return Pos::from_number(object.add(1).as_ptr().cast::<u32>().add(place).read());
                    }
                }
            }
        }
    }
}

//! Attribute sets.

use super::heap::{self, Class};
use super::layers::{LAYERED, LEAST};
use super::positions::{Positions, UpdateCache};
use super::word::{ATTRS, Value};
use crate::shape::{FROM_RIGHT, Shape, Special, UpdatePlan};
use crate::source::Pos;
use firn_syntax::Sym;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a piece of code remembers of where it found an attribute: a shape's address and a place in it.
pub struct PlaceCache(AtomicU64);

impl PlaceCache {
    pub const fn new() -> PlaceCache {
        PlaceCache(AtomicU64::new(0))
    }
}

/// The place of what a shape does not have.
const ABSENT: usize = 0xffff;

/// The words of a set before its values: shape and positions.
pub(super) const HEAD: usize = 2;

/// An attribute set: its shape and one value for each of the shape's keys, or layers that amount to one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attrs(pub(super) NonNull<u64>);

// SAFETY: sets are never freed, and their values are read and written atomically.
unsafe impl Send for Attrs {}
// SAFETY: as above.
unsafe impl Sync for Attrs {}

/// The values of a set in the order of its shape.
#[derive(Clone, Copy)]
pub struct AttrValues(&'static [AtomicU64]);

impl AttrValues {
    #[inline]
    pub fn get(self, place: usize) -> Value {
        // SAFETY: sets hold words of values.
        unsafe { Value::from_word(self.0[place].load(Ordering::Acquire)) }
    }
}

impl Attrs {
    /// # Safety
    /// `object` must be a set of the heap.
    #[inline]
    pub(super) unsafe fn from_object(object: NonNull<u64>) -> Attrs {
        Attrs(object)
    }

    /// A set whose values are all [`Value::UNSET`], to be filled before anyone else sees it.
    #[inline]
    pub fn unfilled(shape: &'static Shape, positions: Positions) -> Attrs {
        let len = shape.len();
        let object = heap::alloc(Class::Traced, HEAD + len);
        // SAFETY: as many fresh words.
        unsafe {
            object.write(shape as *const Shape as u64);
            object.add(1).write(positions.word());
            heap::fill(object.add(HEAD), len, Value::UNSET.word());
        }
        Attrs(object)
    }

    /// A set of a shape, with what `value` gives for each place.
    #[inline(always)]
    pub fn filled(
        shape: &'static Shape,
        positions: Positions,
        mut value: impl FnMut(usize) -> Value,
    ) -> Attrs {
        let len = shape.len();
        let object = heap::alloc(Class::Traced, HEAD + len);
        // SAFETY: as many fresh words. Until all are written the collector alone looks at them, which takes any word.
        unsafe {
            object.write(shape as *const Shape as u64);
            object.add(1).write(positions.word());
            for i in 0..len {
                let value = value(i);
                heap::fill(object.add(HEAD + i), 1, value.word());
            }
        }
        Attrs(object)
    }

    #[inline]
    pub(super) fn head(self) -> &'static AtomicU64 {
        // SAFETY: sets have a first word and live for ever.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr()) }
    }

    #[inline]
    pub fn shape(self) -> &'static Shape {
        let mut head = self.head().load(Ordering::Relaxed);
        if head & LAYERED != 0 {
            head = self.flatten().head().load(Ordering::Relaxed);
        }
        // SAFETY: the first word of a flat set is its shape, which lives for ever.
        unsafe { &*(head as *const Shape) }
    }

    #[inline]
    pub fn len(self) -> usize {
        self.shape().len()
    }

    #[inline]
    fn slot(self, index: usize) -> &'static AtomicU64 {
        let flat = self.flat();
        assert!(index < flat.len(), "set index out of range");
        // SAFETY: in range, and sets live for ever.
        unsafe { AtomicU64::from_ptr(flat.0.as_ptr().add(HEAD + index)) }
    }

    #[inline]
    pub fn get(self, index: usize) -> Value {
        // SAFETY: slots hold words of values only.
        unsafe { Value::from_word(self.slot(index).load(Ordering::Acquire)) }
    }

    #[inline]
    pub fn set(self, index: usize, value: Value) {
        self.slot(index).store(value.word(), Ordering::Release);
    }

    #[inline]
    pub fn find(self, name: Sym) -> Option<Value> {
        if self.is_layered() {
            return self.find_in_layers(name).unwrap_or_else(|flat| flat.find(name));
        }
        self.shape().find(name).map(|i| self.get(i))
    }

    /// As [`Attrs::find`].
    #[inline]
    pub fn find_special(self, name: Special) -> Option<Value> {
        if self.is_layered() {
            return self.find(name.sym());
        }
        self.shape().find_special(name).map(|i| self.get(i))
    }

    /// As [`Attrs::find`], trying first where the name was the last time.
    #[inline]
    pub fn find_cached(self, name: Sym, cache: &PlaceCache) -> Option<Value> {
        match self.find_as_before(cache) {
            Some(found) => found,
            None => self.find_slowly(name, cache),
        }
    }

    /// What a cache's name is in the set, or that there is none, where it was looked for in a set of the same shape the last
    /// time.
    #[inline(always)]
    pub fn find_as_before(self, cache: &PlaceCache) -> Option<Option<Value>> {
        // The address of the shape, unless the set is layers; no cache holds an address like that.
        let shape = self.head().load(Ordering::Relaxed);
        let known = cache.0.load(Ordering::Relaxed);
        if known >> 16 != shape {
            return None;
        }
        let place = known as usize & ABSENT;
        if place == ABSENT {
            return Some(None);
        }
        // SAFETY: a cache holds places of the shape whose address it holds, and this is a set of that shape.
        unsafe {
            Some(Some(Value::from_word(
                AtomicU64::from_ptr(self.0.as_ptr().add(HEAD + place)).load(Ordering::Acquire),
            )))
        }
    }

    /// Where the attribute was written that [`Attrs::find_as_before`] finds.
    #[inline]
    pub fn position_as_before(self, cache: &PlaceCache) -> Option<Pos> {
        let known = cache.0.load(Ordering::Relaxed);
        let place = known as usize & ABSENT;
        // No cache holds an address like that of layers.
        (known >> 16 == self.head().load(Ordering::Relaxed) && place != ABSENT).then(|| {
            // SAFETY: the shape is that of a flat set, whose second word is what `Positions::word` gave.
            unsafe { Positions::from_word(self.0.add(1).read()) }.at(place)
        })
    }

    #[inline(never)]
    fn find_slowly(self, name: Sym, cache: &PlaceCache) -> Option<Value> {
        if self.is_layered() {
            return self.find_in_layers(name).unwrap_or_else(|flat| flat.find_cached(name, cache));
        }
        let shape = self.shape();
        let place = shape.find(name);
        let number = place.unwrap_or(ABSENT);
        if place.is_none() || number < ABSENT {
            cache.0.store((shape as *const Shape as u64) << 16 | number as u64, Ordering::Relaxed);
        }
        place.map(|p| self.get(p))
    }

    /// The shape, unless the set is layers.
    #[inline]
    fn flat_shape(self) -> Option<&'static Shape> {
        let head = self.head().load(Ordering::Relaxed);
        // SAFETY: the first word of a flat set is its shape, which lives for ever.
        (head & LAYERED == 0).then(|| unsafe { &*(head as *const Shape) })
    }

    /// `a // b`, where `cache` remembers the last time.
    #[inline]
    pub fn update(a: Attrs, b: Attrs, cache: &UpdateCache) -> Attrs {
        if let (Some(left), Some(right)) = (a.flat_shape(), b.flat_shape()) {
            if right.len() == 0 {
                return a;
            }
            if left.len() == 0 {
                return b;
            }
            if left.len() < LEAST {
                // SAFETY: flat sets, and the plan for their shapes.
                return unsafe { Attrs::gather(cache.plan(left, right), a, b, cache) };
            }
        }
        Attrs::update_layers(a, b, cache)
    }

    #[inline(never)]
    fn update_layers(a: Attrs, b: Attrs, cache: &UpdateCache) -> Attrs {
        if b.is_empty() {
            return a;
        }
        if let Some(layered) = a.with_layer(b) {
            return layered;
        }
        if a.is_empty() {
            return b;
        }
        Attrs::update_flat(a, b, cache)
    }

    /// [`Attrs::update`] for sets that are merged in any case.
    pub(super) fn update_flat(a: Attrs, b: Attrs, cache: &UpdateCache) -> Attrs {
        let (a, b) = (a.flat(), b.flat());
        // SAFETY: flat sets, and the plan for their shapes.
        unsafe { Attrs::gather(cache.plan(a.shape(), b.shape()), a, b, cache) }
    }

    /// The values of `a // b` as a plan says.
    ///
    /// # Safety
    /// Both must be flat, and the plan must be that for their shapes.
    #[inline(always)]
    unsafe fn gather(plan: &'static UpdatePlan, a: Attrs, b: Attrs, cache: &UpdateCache) -> Attrs {
        // SAFETY: the second word of a flat set is what `Positions::word` gave.
        let (left, right) = unsafe { (a.0.add(1).read(), b.0.add(1).read()) };
        // SAFETY: as above.
        let (left, right) = unsafe { (Positions::from_word(left), Positions::from_word(right)) };
        let positions = Positions::update(plan, left, right, cache);
        let object = heap::alloc(Class::Traced, HEAD + plan.gather.len());
        // SAFETY: as many fresh words, and a plan's places are of the two shapes it was made for.
        unsafe {
            object.write(plan.shape as *const Shape as u64);
            object.add(1).write(positions.word());
            for (i, from) in plan.gather.iter().enumerate() {
                let (set, place) = if from & FROM_RIGHT != 0 { (b, from & !FROM_RIGHT) } else { (a, *from) };
                let word =
                    AtomicU64::from_ptr(set.0.as_ptr().add(HEAD + place as usize)).load(Ordering::Acquire);
                object.add(HEAD + i).write(word);
            }
        }
        Attrs(object)
    }

    /// A set of a shape with the values at so many places of this one.
    pub fn gathered(self, shape: &'static Shape, positions: Positions, places: &[u32]) -> Attrs {
        let values = self.values();
        Attrs::filled(shape, positions, |i| values.get(places[i] as usize))
    }

    /// The values by their places, for whoever looks at many of them.
    #[inline]
    pub fn values(self) -> AttrValues {
        let flat = self.flat();
        // SAFETY: sets have that many values after the first words, and live for ever.
        AttrValues(unsafe { std::slice::from_raw_parts(flat.0.as_ptr().add(HEAD).cast(), flat.len()) })
    }

    /// Where the attributes were written.
    #[inline]
    pub fn positions(self) -> Positions {
        // SAFETY: the second word of a flat set is what `Positions::word` gave.
        unsafe { Positions::from_word(self.flat().0.add(1).read()) }
    }

    /// Where the attribute at that place of the shape was written.
    pub fn position(self, place: usize) -> Pos {
        self.positions().at(place)
    }

    /// Where an attribute was written.
    pub fn position_of(self, name: Sym) -> Pos {
        if !self.is_layered() && self.positions() == Positions::NONE {
            return Pos::NONE;
        }
        self.locate(name).map_or(Pos::NONE, |(layer, place)| layer.position(place))
    }

    #[inline]
    pub fn value(self) -> Value {
        // SAFETY: this is a set.
        unsafe { Value::from_object(self.0, ATTRS) }
    }
}

//! Where the attributes of a set were written. Only errors, `unsafeGetAttrPos` and printing ask, so a set that was made
//! of others knows no more than from which ones.

use super::attrs::Attrs;
use super::heap::{self, Class};
use crate::shape::{FROM_RIGHT, Shape, UpdatePlan};
use crate::source::Pos;
use std::ptr::NonNull;

/// Positions of all attributes of a set, by their places in its shape.
#[derive(Clone, Copy)]
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
/// An object: how many and the numbers of the positions.
const LIST: u64 = 4;

impl Positions {
    pub const NONE: Positions = Positions(0);

    pub fn fixed(positions: &'static FixedPositions) -> Positions {
        Positions(positions as *const FixedPositions as u64 | FIXED)
    }

    pub fn list(positions: &[Pos]) -> Positions {
        if positions.iter().all(|pos| pos.is_none()) {
            return Positions::NONE;
        }
        let object = heap::alloc(Class::Opaque, 1 + positions.len().div_ceil(2));
        // SAFETY: fresh words: one for the number and half a one for each position.
        unsafe {
            object.write(positions.len() as u64);
            let numbers = object.add(1).as_ptr().cast::<u32>();
            for (i, pos) in positions.iter().enumerate() {
                numbers.add(i).write(pos.number());
            }
        }
        Positions(object.as_ptr() as u64 | LIST)
    }

    /// Those of `a // b`.
    #[inline]
    pub(super) fn update(plan: &'static UpdatePlan, a: Positions, b: Positions) -> Positions {
        if a.0 | b.0 == 0 {
            return Positions::NONE;
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

    /// Where the set was written, for those that stand in the text as they are.
    pub fn set(self) -> Pos {
        match NonNull::new((self.0 & !KIND) as *mut u64) {
            // SAFETY: the tag says what it is, and code lives as long as the process.
            Some(object) if self.0 & KIND == FIXED => unsafe { object.cast::<FixedPositions>().as_ref() }.set,
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
                UPDATE => {
                    // SAFETY: the tag says that these are the three words that `update` wrote; plans live for ever.
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
                        if place as u64 >= object.read() {
                            return Pos::NONE;
                        }
                        return Pos::from_number(object.add(1).as_ptr().cast::<u32>().add(place).read());
                    }
                }
            }
        }
    }
}

//! The tagged word.

use super::attrs::Attrs;
use super::heap::{self, Class};
use super::objects::{Fun, List, NixPath, NixStr};
use super::thunk::Thunk;
use std::num::NonZeroU64;
use std::ptr::NonNull;

/// A value, or a thunk that stands for one. One word; equal words are the same object.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Value(NonZeroU64);

pub(super) const TAG_MASK: u64 = 7;
pub(super) const THUNK: u64 = 0;
pub(super) const INT: u64 = 1;
pub(super) const STR: u64 = 2;
pub(super) const ATTRS: u64 = 3;
pub(super) const LIST: u64 = 4;
pub(super) const FUN: u64 = 5;
/// Float, path, integer of more than 61 bits: told apart by the object's first word.
pub(super) const BOXED: u64 = 6;
pub(super) const IMMEDIATE: u64 = 7;

pub(super) const BOX_INT: u64 = 0;
pub(super) const BOX_FLOAT: u64 = 1;
pub(super) const BOX_PATH: u64 = 2;

/// What a word is.
#[derive(Clone, Copy)]
pub enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(NixStr),
    Path(NixPath),
    Attrs(Attrs),
    List(List),
    Fun(Fun),
    /// To be forced.
    Thunk(Thunk),
    /// A variable that is not bound yet.
    Unset,
}

const fn immediate(n: u64) -> Value {
    match NonZeroU64::new(n << 3 | IMMEDIATE) {
        Some(word) => Value(word),
        None => panic!("the tag is not zero"),
    }
}

impl Value {
    pub const NULL: Value = immediate(0);
    pub const TRUE: Value = immediate(1);
    pub const FALSE: Value = immediate(2);
    pub const EMPTY_LIST: Value = immediate(3);
    pub const UNSET: Value = immediate(4);

    /// # Safety
    /// `object` must be a heap object of the kind that `tag` names.
    #[inline]
    pub(super) unsafe fn from_object(object: NonNull<u64>, tag: u64) -> Value {
        // SAFETY: a non-null pointer with bits added is not zero.
        Value(unsafe { NonZeroU64::new_unchecked(object.as_ptr() as u64 | tag) })
    }

    /// # Safety
    /// `word` must have come from [`Value::word`].
    #[inline]
    pub(super) unsafe fn from_word(word: u64) -> Value {
        // SAFETY: no value's word is zero.
        Value(unsafe { NonZeroU64::new_unchecked(word) })
    }

    #[inline]
    pub(super) fn word(self) -> u64 {
        self.0.get()
    }

    #[inline]
    pub(super) fn tag(self) -> u64 {
        self.0.get() & TAG_MASK
    }

    /// # Safety
    /// The value must have an object: its tag is none of `INT` and `IMMEDIATE`.
    #[inline]
    pub(super) unsafe fn object(self) -> NonNull<u64> {
        // SAFETY: the caller vouches for a pointer under the tag.
        unsafe { NonNull::new_unchecked((self.0.get() & !TAG_MASK) as *mut u64) }
    }

    pub fn bool(b: bool) -> Value {
        if b { Value::TRUE } else { Value::FALSE }
    }

    #[inline]
    pub fn int(n: i64) -> Value {
        let word = ((n as u64) << 3) | INT;
        if (word as i64) >> 3 == n {
            // SAFETY: the tag is not zero.
            return unsafe { Value::from_word(word) };
        }
        boxed(BOX_INT, n as u64)
    }

    /// An integer that needs no box.
    #[inline(always)]
    pub fn as_small_int(self) -> Option<i64> {
        (self.tag() == INT).then_some(self.0.get() as i64 >> 3)
    }

    /// The sum of two integers that need no box, if it needs none either.
    #[inline(always)]
    pub fn plus_simply(self, other: Value) -> Option<Value> {
        if self.tag() != INT || other.tag() != INT {
            return None;
        }
        let (sum, left) = ((self.0.get() - INT) as i64).overflowing_add(other.0.get() as i64);
        // SAFETY: the tag of `other` is left, and it is not zero.
        (!left).then(|| unsafe { Value::from_word(sum as u64) })
    }

    /// Whether two evaluated values are equal, where the words tell: integers, booleans, null, and values of
    /// different types.
    #[inline(always)]
    pub fn equal_simply(self, other: Value) -> Option<bool> {
        let (a, b) = (self.tag(), other.tag());
        match a {
            INT | IMMEDIATE if a == b => Some(self == other),
            // The empty list is the only immediate that equals another kind of word, and that never does.
            STR | FUN | IMMEDIATE if a != b && b != BOXED => Some(false),
            ATTRS | LIST if b == IMMEDIATE => Some(false),
            _ => None,
        }
    }

    /// Keeps the value, and all that it refers to, for as long as the process lives: for values in maps, vectors and
    /// code, where the collector does not look.
    pub fn keep(self) -> Value {
        if !matches!(self.tag(), INT | IMMEDIATE) {
            heap::keep(self);
        }
        self
    }

    /// A number that no other list ever has, of those that last until the next collection, as long as these are counted.
    pub fn list_identity(self) -> Option<u64> {
        // SAFETY: the tag says that there is an object.
        (self.tag() == LIST && heap::epoch() < heap::LAST_EPOCH)
            .then(|| heap::identity(unsafe { self.object() }))
    }

    pub fn float(f: f64) -> Value {
        boxed(BOX_FLOAT, f.to_bits())
    }

    /// Whether this word has to be forced (or followed) to get at the value.
    #[inline]
    pub fn is_thunk(self) -> bool {
        self.tag() == THUNK
    }

    #[inline]
    pub fn is_unset(self) -> bool {
        self == Value::UNSET
    }

    /// What a value that was forced before became; one that was not stays as it is.
    pub fn evaluated(self) -> Value {
        self.as_thunk().and_then(|thunk| thunk.result()).unwrap_or(self)
    }

    /// Itself; or, where it was suspended, what it became, if that is a string or needs no object. These are equal to
    /// what they were by what they are; of other values it can show who else has the same one.
    #[inline]
    pub fn settled(self) -> Value {
        match self.as_thunk().and_then(|thunk| thunk.result()) {
            Some(value) if matches!(value.tag(), INT | IMMEDIATE | STR) => value,
            _ => self,
        }
    }

    #[inline]
    pub fn as_attrs(self) -> Option<Attrs> {
        // SAFETY: the tag says that the object is a set.
        (self.tag() == ATTRS).then(|| unsafe { Attrs::from_object(self.object()) })
    }

    #[inline]
    pub fn as_list(self) -> Option<List> {
        match self.tag() {
            // SAFETY: the tag says that the object is a list.
            LIST => Some(unsafe { List::from_object(self.object()) }),
            _ => (self == Value::EMPTY_LIST).then_some(List::EMPTY),
        }
    }

    #[inline]
    pub fn as_str(self) -> Option<NixStr> {
        // SAFETY: the tag says that the object is a string.
        (self.tag() == STR).then(|| unsafe { NixStr::from_object(self.object()) })
    }

    #[inline]
    pub fn as_fun(self) -> Option<Fun> {
        // SAFETY: the tag says that the object is a function.
        (self.tag() == FUN).then(|| unsafe { Fun::from_object(self.object()) })
    }

    #[inline]
    pub fn is_fun(self) -> bool {
        self.tag() == FUN
    }

    #[inline]
    pub fn as_int(self) -> Option<i64> {
        match self.kind() {
            Kind::Int(n) => Some(n),
            _ => None,
        }
    }

    /// The value itself, if it has been evaluated.
    #[inline]
    pub fn known(self) -> Option<Value> {
        match self.as_thunk() {
            None => Some(self),
            Some(thunk) => thunk.result(),
        }
    }

    #[inline]
    pub fn as_thunk(self) -> Option<Thunk> {
        // SAFETY: the tag says that the object is a thunk.
        (self.tag() == THUNK).then(|| unsafe { Thunk::from_object(self.object()) })
    }

    #[inline]
    pub fn kind(self) -> Kind {
        match self.tag() {
            // SAFETY: in each case the tag says what the object is.
            THUNK => Kind::Thunk(unsafe { Thunk::from_object(self.object()) }),
            INT => Kind::Int(self.0.get() as i64 >> 3),
            // SAFETY: as above.
            STR => Kind::Str(unsafe { NixStr::from_object(self.object()) }),
            // SAFETY: as above.
            ATTRS => Kind::Attrs(unsafe { Attrs::from_object(self.object()) }),
            // SAFETY: as above.
            LIST => Kind::List(unsafe { List::from_object(self.object()) }),
            // SAFETY: as above.
            FUN => Kind::Fun(unsafe { Fun::from_object(self.object()) }),
            BOXED => {
                // SAFETY: boxed objects have at least two words, the first being their kind.
                let (kind, payload) = unsafe {
                    let object = self.object();
                    (object.read(), object.add(1).read())
                };
                match kind {
                    BOX_INT => Kind::Int(payload as i64),
                    BOX_FLOAT => Kind::Float(f64::from_bits(payload)),
                    // SAFETY: the only other boxed kind is the path.
                    _ => Kind::Path(unsafe { NixPath::from_object(self.object()) }),
                }
            }
            _ => match self {
                Value::NULL => Kind::Null,
                Value::TRUE => Kind::Bool(true),
                Value::FALSE => Kind::Bool(false),
                Value::EMPTY_LIST => Kind::List(List::EMPTY),
                _ => Kind::Unset,
            },
        }
    }
}

fn boxed(kind: u64, payload: u64) -> Value {
    let object = heap::alloc(Class::Opaque, 2);
    // SAFETY: two fresh words.
    unsafe {
        object.write(kind);
        object.add(1).write(payload);
        Value::from_object(object, BOXED)
    }
}

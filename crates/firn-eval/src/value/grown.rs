//! Lists that grow at their end: `xs ++ [ x ]` without copying `xs` each time.
//!
//! The elements are in a buffer with room behind them. A list knows its buffer, and the buffer how much of it is in use:
//! the list that ends there may be continued in place, once; others that share its beginning do not see that.

use super::heap::{self, Class};
use super::objects::List;
use super::word::{LIST, Value};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// In the second word of a list, beside its length: the third word is the address of its buffer.
pub(super) const GROWN: u64 = 1 << 63;

/// The words of a buffer before its elements: how many are in use, and for how many there is room.
const HEAD: usize = 2;

/// Shorter lists are copied.
const LEAST: usize = 32;
/// Room behind a list when something is appended to it for the first time.
const FIRST_ROOM: usize = 8;

#[derive(Clone, Copy)]
struct Buffer(NonNull<u64>);

impl Buffer {
    fn new(capacity: usize, used: usize) -> Buffer {
        let object = heap::alloc(Class::Traced, HEAD + capacity);
        // SAFETY: as many fresh words.
        unsafe {
            object.write(used as u64);
            object.add(1).write(capacity as u64);
        }
        Buffer(object)
    }

    fn elements(self) -> NonNull<Value> {
        // SAFETY: the elements follow the head.
        unsafe { self.0.add(HEAD).cast::<Value>() }
    }

    fn capacity(self) -> usize {
        // SAFETY: the second word of a buffer never changes.
        unsafe { self.0.add(1).read() as usize }
    }

    /// Takes the room for `more` elements after the first `used` ones, unless somebody has it or there is not enough.
    fn take(self, used: usize, more: usize) -> bool {
        // SAFETY: the first word of a buffer is only changed here.
        let word = unsafe { AtomicU64::from_ptr(self.0.as_ptr()) };
        used + more <= self.capacity()
            && word
                .compare_exchange(used as u64, (used + more) as u64, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Writes elements into room that was taken, or that nobody else knows.
    fn write(self, at: usize, values: List) {
        assert!(at + values.len() <= self.capacity(), "no room in the buffer");
        for (i, value) in values.iter().enumerate() {
            // SAFETY: in range.
            unsafe { self.elements().add(at + i).write(value) };
        }
    }

    /// The first elements as a list.
    fn list(self, len: usize) -> Value {
        let object = heap::alloc(Class::Traced, 3);
        // SAFETY: three fresh words.
        unsafe {
            object.write(self.elements().as_ptr() as u64);
            object.add(1).write(len as u64 | GROWN);
            object.add(2).write(self.0.as_ptr() as u64);
            Value::from_object(object, LIST)
        }
    }
}

impl Value {
    /// `self ++ more`, where it is worth while to append to the memory of the first. Both must be evaluated.
    pub fn append(self, more: List) -> Option<Value> {
        let list = self.as_list()?;
        let (len, total) = (list.len(), list.len() + more.len());
        if len < LEAST || more.len() > len {
            return None;
        }
        let own = self.buffer();
        if let Some(buffer) = own {
            if buffer.take(len, more.len()) {
                buffer.write(len, more);
                return Some(buffer.list(total));
            }
        }
        let room = if own.is_some() { total / 2 } else { FIRST_ROOM };
        let buffer = Buffer::new(total + room, total);
        buffer.write(0, list);
        buffer.write(len, more);
        Some(buffer.list(total))
    }

    /// The buffer of a list that starts with it.
    fn buffer(self) -> Option<Buffer> {
        if self.tag() != LIST {
            return None;
        }
        // SAFETY: lists have two words, and the second one says whether there is a third.
        unsafe {
            let object = self.object();
            if object.add(1).read() & GROWN == 0 {
                return None;
            }
            NonNull::new(object.add(2).read() as *mut u64).map(Buffer)
        }
    }
}

//! Frames of variables.

use super::heap::{self, Class, Kind};
use super::word::Value;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// A frame: its parent and its slots. The first word holds the parent's address and, in its upper 16 bits, the
/// number of slots; when that number does not fit, these are 0 and the number follows in a word of its own. Addresses
/// are multiples of eight: the lowest bit says that a value or another frame refers to the frame, the next one that it
/// has the long form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Env(pub(super) NonNull<u64>);

// SAFETY: frames are never freed, and slots are read and written atomically.
unsafe impl Send for Env {}
// SAFETY: as above.
unsafe impl Sync for Env {}

const ADDRESS: u64 = (1 << 48) - 8;
const CAPTURED: u64 = 1;
const LONG: u64 = 2;
/// From this many slots on a frame has the long form.
const LARGE: usize = 1 << 16;

impl Env {
    /// A frame whose slots are all [`Value::UNSET`].
    #[inline]
    pub fn new(parent: Option<Env>, slots: usize) -> Env {
        if slots >= LARGE {
            return Env::new_large(parent, slots);
        }
        let object = heap::alloc(Class::Traced, slots + 1);
        let parent = parent.map_or(0, |p| p.captured());
        // SAFETY: `slots + 1` fresh words.
        unsafe {
            object.write((parent & ADDRESS) | ((slots as u64) << 48));
            heap::fill(object.add(1), slots, Value::UNSET.word());
        }
        Env(object)
    }

    #[cold]
    fn new_large(parent: Option<Env>, slots: usize) -> Env {
        let object = heap::alloc(Class::Traced, slots + 2);
        let parent = parent.map_or(0, |p| p.captured());
        // SAFETY: `slots + 2` fresh words.
        unsafe {
            object.write((parent & ADDRESS) | LONG);
            object.add(1).write(slots as u64);
            heap::fill(object.add(2), slots, Value::UNSET.word());
        }
        Env(object)
    }

    #[inline]
    fn header(self) -> u64 {
        // SAFETY: a frame's first word is its header, of which only the lowest bit ever changes.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr()).load(Ordering::Relaxed) }
    }

    /// The frame's address, for what is going to refer to it.
    #[inline]
    pub(super) fn captured(self) -> u64 {
        let header = self.header();
        if header & CAPTURED == 0 {
            // SAFETY: as above. A frame that other threads know has the bit already.
            unsafe { AtomicU64::from_ptr(self.0.as_ptr()).store(header | CAPTURED, Ordering::Relaxed) };
        }
        self.0.as_ptr() as u64
    }

    /// Keeps the frame from being given back by [`CallFrame::release`].
    pub fn capture(self) {
        self.captured();
    }

    /// A number that no other frame ever has, of those that last until the next collection.
    #[inline]
    fn identity(self) -> u64 {
        heap::identity(self.0)
    }

    /// Whether the frame lasts until the next collection, and whether one will be noticed: it is not given back by
    /// [`CallFrame::release`].
    fn lasts(self) -> bool {
        self.header() & CAPTURED != 0 && heap::epoch() < heap::LAST_EPOCH
    }

    #[inline]
    pub fn parent(self) -> Option<Env> {
        NonNull::new((self.header() & ADDRESS) as *mut u64).map(Env)
    }

    #[inline]
    fn slot(self, slot: usize) -> &'static AtomicU64 {
        let len = (self.header() >> 48) as usize;
        if slot >= len {
            return self.long_slot(slot);
        }
        // SAFETY: in range, and frames live for ever.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().add(slot + 1)) }
    }

    #[cold]
    fn long_slot(self, slot: usize) -> &'static AtomicU64 {
        assert!(self.header() & LONG != 0, "frame slot out of range");
        // SAFETY: frames of the long form hold their number of slots in the second word.
        let len = unsafe { self.0.add(1).read() } as usize;
        assert!(slot < len, "frame slot out of range");
        // SAFETY: in range, and frames live for ever.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().add(slot + 2)) }
    }

    #[inline]
    pub fn get(self, slot: u32) -> Value {
        // SAFETY: slots hold words of values only.
        unsafe { Value::from_word(self.slot(slot as usize).load(Ordering::Acquire)) }
    }

    #[inline]
    pub fn set(self, slot: u32, value: Value) {
        self.slot(slot as usize).store(value.word(), Ordering::Release);
    }

    /// Sets `count` slots from `first` on to what `value` gives for each, one after the other.
    #[inline(always)]
    pub fn set_each(self, first: u32, count: usize, mut value: impl FnMut(usize) -> Value) {
        let (first, header) = (first as usize, self.header());
        if header & LONG != 0 || first + count > (header >> 48) as usize {
            for i in 0..count {
                let value = value(i);
                self.long_slot(first + i).store(value.word(), Ordering::Release);
            }
            return;
        }
        for i in 0..count {
            let word = value(i).word();
            // SAFETY: in range, and frames live for ever.
            unsafe { AtomicU64::from_ptr(self.0.as_ptr().add(1 + first + i)) }.store(word, Ordering::Release);
        }
    }

    /// The frame `depth` levels out.
    #[inline]
    pub fn up(self, depth: u32) -> Env {
        let mut env = self;
        for _ in 0..depth {
            match env.parent() {
                Some(parent) => env = parent,
                None => unreachable_frame(),
            }
        }
        env
    }
}

/// What a name meant that was looked up through the frames from one on: these are the same as long as that one is.
pub struct ScopeCache {
    /// Odd while the others are written; another number each time.
    version: AtomicU64,
    /// [`Env::identity`] of whose look-up it was.
    key: AtomicU64,
    word: AtomicU64,
}

impl ScopeCache {
    pub const fn new() -> ScopeCache {
        ScopeCache { version: AtomicU64::new(0), key: AtomicU64::new(0), word: AtomicU64::new(0) }
    }

    #[inline]
    pub fn get(&self, frame: Env) -> Option<Value> {
        let identity = frame.identity();
        let version = self.version.load(Ordering::Acquire);
        let (key, word) = (self.key.load(Ordering::Relaxed), self.word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if key != identity || version & 1 != 0 || self.version.load(Ordering::Relaxed) != version {
            return None;
        }
        // SAFETY: `set` stored a value's word together with the key. The frame was one that lasts, so it is this one. It
        // refers to that value by what the name was found in, and neither was given back, as there was no collection since.
        Some(unsafe { Value::from_word(word) })
    }

    #[inline]
    pub fn set(&self, frame: Env, value: Value) {
        if !frame.lasts() {
            return;
        }
        let version = self.version.load(Ordering::Relaxed);
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        if version & 1 == 0 && self.version.compare_exchange(version, version + 1, success, failure).is_ok() {
            fence(Ordering::Release);
            self.key.store(frame.identity(), Ordering::Relaxed);
            self.word.store(value.word(), Ordering::Relaxed);
            self.version.store(version + 2, Ordering::Release);
        }
    }
}

/// How many slots the frames of a function have, and how they are made.
#[derive(Clone, Copy)]
pub struct FrameSize {
    slots: u32,
    /// None of many slots.
    kind: Option<Kind>,
}

impl FrameSize {
    pub fn new(slots: u32) -> FrameSize {
        FrameSize { slots, kind: Kind::of(Class::Traced, slots as usize + 1) }
    }

    #[inline]
    pub fn slots(self) -> usize {
        self.slots as usize
    }
}

/// The frame of a call, which whoever runs the call's body gives back when that has ended. Most frames are needed no
/// longer then, and the memory of the last one is still in the processor's caches for the next.
#[must_use]
pub struct CallFrame(Env);

impl CallFrame {
    /// A frame whose first slots hold the values of both slices; the others are [`Value::UNSET`].
    #[inline(always)]
    pub fn new(parent: Env, size: FrameSize, first: &[Value], then: &[Value]) -> CallFrame {
        CallFrame::filled(parent, size, first, then.len(), |i| then[i])
    }

    /// As [`CallFrame::new`], with what `value` gives for each of the `count` slots after the first ones. Only the collector
    /// looks at the frame before all are there.
    #[inline(always)]
    pub fn filled(
        parent: Env,
        size: FrameSize,
        first: &[Value],
        count: usize,
        mut value: impl FnMut(usize) -> Value,
    ) -> CallFrame {
        let slots = size.slots();
        assert!(first.len() + count <= slots, "more arguments than slots");
        let Some(kind) = size.kind else {
            let frame = CallFrame::new_large(parent, slots, first);
            frame.0.set_each(first.len() as u32, count, value);
            return frame;
        };
        let object = heap::alloc_kind(kind);
        // SAFETY: `slots + 1` fresh words, of which no more than `slots` are given. The collector takes any word.
        unsafe {
            object.write((parent.captured() & ADDRESS) | ((slots as u64) << 48));
            let at = object.add(1);
            for (i, value) in first.iter().enumerate() {
                heap::fill(at.add(i), 1, value.word());
            }
            let at = at.add(first.len());
            for i in 0..count {
                let value = value(i);
                heap::fill(at.add(i), 1, value.word());
            }
            heap::fill(at.add(count), slots - first.len() - count, Value::UNSET.word());
        }
        CallFrame(Env(object))
    }

    #[cold]
    fn new_large(parent: Env, slots: usize, first: &[Value]) -> CallFrame {
        let env = Env::new(Some(parent), slots);
        for (slot, value) in first.iter().enumerate() {
            env.set(slot as u32, *value);
        }
        CallFrame(env)
    }

    #[inline]
    pub fn env(&self) -> Env {
        self.0
    }

    /// Ends the frame, unless a value or another frame refers to it. Nothing that has [`CallFrame::env`] may go on.
    #[inline]
    pub fn release(self) {
        let header = self.0.header();
        let slots = (header >> 48) as usize;
        if header & (CAPTURED | LONG) == 0 {
            // SAFETY: `Env::new` made an object of so many words. Whatever keeps a frame says so by `captured`.
            unsafe { heap::free(Class::Traced, slots + 1, self.0.0) }
        }
    }
}

#[cold]
fn unreachable_frame() -> ! {
    panic!("resolution gave a variable more levels than there are frames")
}

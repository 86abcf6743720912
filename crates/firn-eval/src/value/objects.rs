//! Strings, sets, lists, functions and paths.

use super::env::Env;
use super::grown::GROWN;
use super::heap::{self, Class};
use super::word::{BOX_PATH, BOXED, FUN, LIST, STR, Value};
use crate::context::Context;
use crate::expr::{FormalArgs, Lambda, PrimOp};
use crate::source::Pos;
use firn_syntax::Sym;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// A string: bytes and a context.
#[derive(Clone, Copy)]
pub struct NixStr(NonNull<u64>);

fn words_for(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

impl NixStr {
    /// # Safety
    /// `object` must be a string of the heap.
    #[inline]
    pub(super) unsafe fn from_object(object: NonNull<u64>) -> NixStr {
        NixStr(object)
    }

    #[inline]
    pub fn len(self) -> usize {
        // SAFETY: the first word of a string is its length.
        unsafe { self.0.read() as usize }
    }

    /// The string as a name. It is looked up once for each string.
    #[inline]
    pub fn sym(self) -> Sym {
        // SAFETY: the upper half of the second word is a symbol's number or 0; all threads write the same.
        let word = unsafe { AtomicU64::from_ptr(self.0.add(1).as_ptr()) };
        let known = word.load(Ordering::Relaxed);
        if let Some(sym) = Sym::from_index((known >> 32) as u32) {
            return sym;
        }
        let sym = Sym::new(self.as_bytes());
        word.store(known | u64::from(sym.index()) << 32, Ordering::Relaxed);
        sym
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn as_bytes(self) -> &'static [u8] {
        // SAFETY: the bytes follow the two header words and are never changed or freed.
        unsafe { std::slice::from_raw_parts(self.0.add(2).as_ptr().cast::<u8>(), self.len()) }
    }

    #[inline]
    fn context_number(self) -> u32 {
        // SAFETY: the lower half of the second word is what `Context::number` gave.
        let word = unsafe { AtomicU64::from_ptr(self.0.add(1).as_ptr()) };
        word.load(Ordering::Relaxed) as u32
    }

    #[inline]
    pub fn context(self) -> Context {
        Context::from_number(self.context_number())
    }

    /// Whether the string refers to something in the store.
    #[inline]
    pub fn has_context(self) -> bool {
        self.context_number() != 0
    }

    pub fn value(self) -> Value {
        // SAFETY: this is a string.
        unsafe { Value::from_object(self.0, STR) }
    }
}

impl Value {
    /// A string without context.
    pub fn str(bytes: &[u8]) -> Value {
        Value::str_with(bytes, Context::EMPTY)
    }

    pub fn str_with(bytes: &[u8], context: Context) -> Value {
        if let ([byte], true) = (bytes, context.is_empty()) {
            return Value::character(*byte);
        }
        Value::str_parts(&[bytes], context)
    }

    /// The concatenation of the parts.
    pub fn str_parts(parts: &[&[u8]], context: Context) -> Value {
        let len = parts.iter().map(|p| p.len()).sum::<usize>();
        let object = heap::alloc(Class::Opaque, 2 + words_for(len));
        // SAFETY: fresh words: two of header and enough for the bytes.
        unsafe {
            object.write(len as u64);
            object.add(1).write(u64::from(context.number()));
            let mut to = object.add(2).as_ptr().cast::<u8>();
            for part in parts {
                std::ptr::copy_nonoverlapping(part.as_ptr(), to, part.len());
                to = to.add(part.len());
            }
            Value::from_object(object, STR)
        }
    }

    /// An absolute, canonical path of the root file system.
    pub fn path(bytes: &[u8]) -> Value {
        let object = heap::alloc(Class::Opaque, 3 + words_for(bytes.len()));
        // SAFETY: fresh words: three of header and enough for the bytes.
        unsafe {
            object.write(BOX_PATH);
            object.add(1).write(bytes.len() as u64);
            object.add(2).write(0);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), object.add(3).as_ptr().cast::<u8>(), bytes.len());
            Value::from_object(object, BOXED)
        }
    }
}

/// A path. The third word is kept for the tree it belongs to; today that is always the root file system.
#[derive(Clone, Copy)]
pub struct NixPath(NonNull<u64>);

impl NixPath {
    /// # Safety
    /// `object` must be a path of the heap.
    #[inline]
    pub(super) unsafe fn from_object(object: NonNull<u64>) -> NixPath {
        NixPath(object)
    }

    pub fn as_bytes(self) -> &'static [u8] {
        // SAFETY: the second word is the length of the bytes after the third.
        unsafe {
            let len = self.0.add(1).read() as usize;
            std::slice::from_raw_parts(self.0.add(3).as_ptr().cast::<u8>(), len)
        }
    }
}

/// A list: a run of values, perhaps the end of another list's.
#[derive(Clone, Copy)]
pub struct List {
    elements: *const Value,
    len: usize,
}

// SAFETY: list elements are never freed, and only read and written atomically.
unsafe impl Send for List {}
// SAFETY: as above.
unsafe impl Sync for List {}

impl List {
    pub(super) const EMPTY: List = List { elements: NonNull::dangling().as_ptr(), len: 0 };

    /// # Safety
    /// `object` must be a list of the heap.
    #[inline]
    pub(super) unsafe fn from_object(object: NonNull<u64>) -> List {
        // SAFETY: a list object is a pointer and a length.
        unsafe {
            List { elements: object.read() as *const Value, len: (object.add(1).read() & !GROWN) as usize }
        }
    }

    #[inline]
    pub fn len(self) -> usize {
        self.len
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    #[inline]
    fn slot(self, index: usize) -> &'static AtomicU64 {
        assert!(index < self.len, "list index out of range");
        // SAFETY: in range; elements live for ever and are words.
        unsafe { AtomicU64::from_ptr(self.elements.add(index) as *mut u64) }
    }

    #[inline]
    pub fn get(self, index: usize) -> Value {
        // SAFETY: elements are words of values.
        unsafe { Value::from_word(self.slot(index).load(Ordering::Acquire)) }
    }

    #[inline]
    pub fn set(self, index: usize, value: Value) {
        self.slot(index).store(value.word(), Ordering::Release);
    }

    /// Puts what an element was evaluated to into its place (see [`Value::settled`]): the collector marks one object
    /// less for each.
    #[inline]
    pub fn settle(self, index: usize, element: Value) {
        let settled = element.settled();
        if settled != element {
            self.set(index, settled);
        }
    }

    pub fn iter(self) -> impl ExactSizeIterator<Item = Value> + Clone {
        (0..self.len).map(move |i| self.get(i))
    }

    /// The elements from `start` on, sharing memory.
    pub fn tail_from(self, start: usize) -> Value {
        if start >= self.len {
            return Value::EMPTY_LIST;
        }
        // SAFETY: `start` is in range.
        let elements = unsafe { self.elements.add(start) };
        list_object(elements, self.len - start)
    }
}

fn list_object(elements: *const Value, len: usize) -> Value {
    let object = heap::alloc(Class::Traced, 2);
    // SAFETY: two fresh words; the elements are a heap list's.
    unsafe {
        object.write(elements as u64);
        object.add(1).write(len as u64);
        Value::from_object(object, LIST)
    }
}

/// A list being filled; every element must be set before it is finished (unset ones are null).
pub struct ListBuilder {
    object: Option<NonNull<u64>>,
    len: usize,
    filled: usize,
}

impl ListBuilder {
    pub fn new(len: usize) -> ListBuilder {
        if len == 0 {
            return ListBuilder { object: None, len: 0, filled: 0 };
        }
        let object = heap::alloc(Class::Traced, 2 + len);
        // SAFETY: `2 + len` fresh words.
        unsafe {
            object.write(object.add(2).as_ptr() as u64);
            object.add(1).write(len as u64);
            for i in 0..len {
                object.add(2 + i).write(Value::NULL.word());
            }
        }
        ListBuilder { object: Some(object), len, filled: 0 }
    }

    #[inline]
    pub fn push(&mut self, value: Value) {
        assert!(self.filled < self.len, "list is full");
        if let Some(object) = self.object {
            // SAFETY: in range of the object's words.
            unsafe { object.add(2 + self.filled).write(value.word()) };
        }
        self.filled += 1;
    }

    pub fn finish(self) -> Value {
        match self.object {
            // SAFETY: the object is a list.
            Some(object) => unsafe { Value::from_object(object, LIST) },
            None => Value::EMPTY_LIST,
        }
    }
}

impl Value {
    pub fn list(values: &[Value]) -> Value {
        let mut list = ListBuilder::new(values.len());
        for value in values {
            list.push(*value);
        }
        list.finish()
    }
}

/// A function: closure, primitive operation, or a primitive operation with some of its arguments.
#[derive(Clone, Copy)]
pub enum Fun {
    Closure(Closure),
    PrimOp(&'static PrimOp),
    Partial(PartialApp),
}

/// The first word of a function: its kind in the lowest bits; of a closure also the address of its code and, in the
/// upper bits, how many arguments it has.
const FUN_CLOSURE: u64 = 0;
const FUN_PRIMOP: u64 = 1;
const FUN_PARTIAL: u64 = 2;
const ADDRESS: u64 = (1 << 48) - 4;
const COUNT_SHIFT: u32 = 48;

/// A lambda with its environment and its first arguments, fewer than it takes.
#[derive(Clone, Copy)]
pub struct Closure {
    pub lambda: &'static Lambda,
    pub env: Env,
    pub args: &'static [Value],
}

impl Closure {
    /// The pattern of the next argument.
    pub fn formals(self) -> Option<&'static FormalArgs> {
        if self.args.len() < self.lambda.params.len() { None } else { self.lambda.formals }
    }

    /// Name of the function, place, and name of a plain next argument.
    pub fn next(self) -> (Option<Sym>, Pos, Option<Sym>) {
        match self.lambda.params.get(self.args.len()) {
            Some(param) => (param.name, param.pos, Some(param.arg)),
            None => (self.lambda.name, self.lambda.pos, self.lambda.arg),
        }
    }
}

const _: () = assert!(align_of::<Lambda>() > FUN_PARTIAL as usize, "the kind fits below the address");

/// A primitive operation that lacks arguments.
#[derive(Clone, Copy)]
pub struct PartialApp {
    pub primop: &'static PrimOp,
    pub args: &'static [Value],
}

impl Fun {
    /// # Safety
    /// `object` must be a function of the heap.
    #[inline]
    pub(super) unsafe fn from_object(object: NonNull<u64>) -> Fun {
        // SAFETY: the first word is the kind (and number of arguments), and the words after it are what the
        // constructors below wrote.
        unsafe {
            let head = object.read();
            match head & 3 {
                FUN_CLOSURE => Fun::Closure(closure_of(object, head)),
                FUN_PRIMOP => Fun::PrimOp(&*(object.add(1).read() as *const PrimOp)),
                _ => Fun::Partial(PartialApp {
                    primop: &*(object.add(1).read() as *const PrimOp),
                    args: std::slice::from_raw_parts(
                        object.add(2).as_ptr().cast::<Value>(),
                        (head >> 2) as usize,
                    ),
                }),
            }
        }
    }
}

/// # Safety
/// `object` must be a closure with that first word.
#[inline]
unsafe fn closure_of(object: NonNull<u64>, head: u64) -> Closure {
    // SAFETY: the words are what `closure` and `partial_closure` wrote.
    unsafe {
        Closure {
            lambda: &*((head & ADDRESS) as *const Lambda),
            env: Env(NonNull::new_unchecked(object.add(1).read() as *mut u64)),
            args: std::slice::from_raw_parts(
                object.add(2).as_ptr().cast::<Value>(),
                (head >> COUNT_SHIFT) as usize,
            ),
        }
    }
}

impl Value {
    #[inline]
    pub fn as_closure(self) -> Option<Closure> {
        if self.tag() != FUN {
            return None;
        }
        // SAFETY: the tag says that the object is a function, and the first word what kind.
        unsafe {
            let object = self.object();
            let head = object.read();
            (head & 3 == FUN_CLOSURE).then(|| closure_of(object, head))
        }
    }

    /// A closure that has none of its arguments, as nearly all are: its function and where it was made.
    #[inline(always)]
    pub fn as_whole_closure(self) -> Option<(&'static Lambda, Env)> {
        if self.tag() != FUN {
            return None;
        }
        // SAFETY: the tag says that the object is a function, the first word what kind and with how many arguments, and the
        // words are what `closure` wrote.
        unsafe {
            let object = self.object();
            let head = object.read();
            (head & !ADDRESS == FUN_CLOSURE).then(|| {
                (&*(head as *const Lambda), Env(NonNull::new_unchecked(object.add(1).read() as *mut u64)))
            })
        }
    }

    /// The builtin, where it has none of its arguments.
    #[inline(always)]
    pub fn as_primop(self) -> Option<&'static PrimOp> {
        if self.tag() != FUN {
            return None;
        }
        // SAFETY: the tag says that the object is a function, and the first word what kind.
        unsafe {
            let object = self.object();
            (object.read() & 3 == FUN_PRIMOP).then(|| &*(object.add(1).read() as *const PrimOp))
        }
    }

    /// A closure with some of its arguments.
    pub fn partial_closure(closure: Closure, more: &[Value]) -> Value {
        let count = closure.args.len() + more.len();
        assert!(count < 1 << (64 - COUNT_SHIFT), "too many arguments");
        let object = heap::alloc(Class::Traced, 2 + count);
        // SAFETY: `2 + count` fresh words.
        unsafe {
            object
                .write(closure.lambda as *const Lambda as u64 | FUN_CLOSURE | (count as u64) << COUNT_SHIFT);
            object.add(1).write(closure.env.captured());
            for (i, value) in closure.args.iter().chain(more).enumerate() {
                object.add(2 + i).write(value.word());
            }
            Value::from_object(object, FUN)
        }
    }

    #[inline]
    pub fn closure(lambda: &'static Lambda, env: Env) -> Value {
        let object = heap::alloc(Class::Traced, 2);
        // SAFETY: two fresh words.
        unsafe {
            object.write(lambda as *const Lambda as u64 | FUN_CLOSURE);
            object.add(1).write(env.captured());
            Value::from_object(object, FUN)
        }
    }

    pub fn primop(primop: &'static PrimOp) -> Value {
        let object = heap::alloc(Class::Traced, 2);
        // SAFETY: two fresh words.
        unsafe {
            object.write(FUN_PRIMOP);
            object.add(1).write(primop as *const PrimOp as u64);
            Value::from_object(object, FUN)
        }
    }

    pub fn partial(primop: &'static PrimOp, args: &[&[Value]]) -> Value {
        let count = args.iter().map(|a| a.len()).sum::<usize>();
        let object = heap::alloc(Class::Traced, 2 + count);
        // SAFETY: `2 + count` fresh words.
        unsafe {
            object.write(FUN_PARTIAL | ((count as u64) << 2));
            object.add(1).write(primop as *const PrimOp as u64);
            for (i, value) in args.iter().flat_map(|a| a.iter()).enumerate() {
                object.add(2 + i).write(value.word());
            }
            Value::from_object(object, FUN)
        }
    }
}

/// A growing array of values whose memory is the heap's, so that a collector that scans the stack finds it.
pub struct ValueVec {
    data: NonNull<u64>,
    len: usize,
    capacity: usize,
}

impl ValueVec {
    pub fn with_capacity(capacity: usize) -> ValueVec {
        let capacity = capacity.max(4);
        ValueVec { data: heap::alloc(Class::Traced, capacity), len: 0, capacity }
    }

    pub fn push(&mut self, value: Value) {
        if self.len == self.capacity {
            let capacity = self.capacity * 2;
            let data = heap::alloc(Class::Traced, capacity);
            // SAFETY: the old words are initialised up to `len`, and the new memory is larger and apart. Nobody else
            // has the old one.
            unsafe {
                std::ptr::copy_nonoverlapping(self.data.as_ptr(), data.as_ptr(), self.len);
                heap::free(Class::Traced, self.capacity, self.data);
            }
            self.data = data;
            self.capacity = capacity;
        }
        // SAFETY: in range of the capacity.
        unsafe { self.data.add(self.len).write(value.word()) };
        self.len += 1;
    }

    pub fn as_slice(&self) -> &[Value] {
        // SAFETY: `len` words of values are initialised.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().cast::<Value>(), self.len) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [Value] {
        // SAFETY: as above, and this array alone owns its memory.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr().cast::<Value>(), self.len) }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all values from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The values as a list.
    pub fn to_list(&self) -> Value {
        Value::list(self.as_slice())
    }
}

impl Drop for ValueVec {
    fn drop(&mut self) {
        // SAFETY: the memory is this array's alone.
        unsafe { heap::free(Class::Traced, self.capacity, self.data) };
    }
}

/// Up to `N` values on the stack, and more of them in the heap: unlike other vectors, a place for values where the
/// collector finds them.
pub struct FewValues<const N: usize> {
    few: [Value; N],
    len: usize,
    many: Option<ValueVec>,
}

impl<const N: usize> FewValues<N> {
    #[inline]
    pub fn new() -> FewValues<N> {
        FewValues { few: [Value::NULL; N], len: 0, many: None }
    }

    #[inline]
    pub fn push(&mut self, value: Value) {
        if let (None, Some(slot)) = (&self.many, self.few.get_mut(self.len)) {
            *slot = value;
        } else {
            self.many.get_or_insert_with(|| self.few.iter().copied().collect()).push(value);
        }
        self.len += 1;
    }

    pub fn extend_from_slice(&mut self, values: &[Value]) {
        values.iter().for_each(|value| self.push(*value));
    }

    #[inline]
    pub fn as_slice(&self) -> &[Value] {
        match &self.many {
            None => &self.few[..self.len],
            Some(many) => many.as_slice(),
        }
    }
}

impl FromIterator<Value> for ValueVec {
    fn from_iter<T: IntoIterator<Item = Value>>(iter: T) -> ValueVec {
        let iter = iter.into_iter();
        let mut values = ValueVec::with_capacity(iter.size_hint().0);
        values.extend(iter);
        values
    }
}

impl Default for ValueVec {
    fn default() -> Self {
        ValueVec::with_capacity(0)
    }
}

impl Extend<Value> for ValueVec {
    fn extend<T: IntoIterator<Item = Value>>(&mut self, iter: T) {
        for value in iter {
            self.push(value);
        }
    }
}

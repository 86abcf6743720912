//! Suspended computations.

use super::env::Env;
use super::heap::{self, Class};
use super::word::{FUN, THUNK, Value};
use crate::error::EvalError;
use crate::expr::Expr;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

pub mod waiting;

/// Two words: state or environment, and code or result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Thunk(NonNull<u64>);

/// The head of a thunk: in the lower bits its state, in the others the frame or payload, or who claimed it.
const STATE: u64 = 7;
const CODE: u64 = 0;
const NATIVE: u64 = 1;
const CLAIMED: u64 = 2;
const DONE: u64 = 3;
const FAILED: u64 = 4;
/// Of the address of a function that is to be applied to the body's value.
const APPLY: u64 = 5;

/// With [`CLAIMED`]: somebody waits for it.
const WAITED: u64 = 8;
const OWNER_SHIFT: u32 = 4;

/// Who computes a thunk: one for each evaluating thread.
pub type Owner = u64;

/// A computation that the evaluator itself suspends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Native {
    /// Apply the first value to the others.
    Apply = 0,
    /// Select the attribute named by the string from the set.
    Select = 1,
    /// The line of a position, given as an integer.
    PosLine = 2,
    /// The column of a position.
    PosColumn = 3,
}

/// What a claimed thunk has to compute.
#[derive(Clone, Copy)]
pub enum Suspended {
    Code(&'static Expr, Env),
    /// The application of a function to one argument.
    Apply(Value, Value),
    Native(Native, Payload),
}

/// The values that a native computation works on.
#[derive(Clone, Copy)]
pub struct Payload(NonNull<u64>);

impl Payload {
    /// Gives back the memory of a payload that has served.
    #[inline]
    pub fn release(self) {
        // With several threads somebody may be looking at what is applied.
        if !waiting::several_threads() {
            // SAFETY: only the thunk that was just finished had it, and `native` made it of so many words.
            unsafe { heap::free(Class::Traced, self.0.read() as usize + 1, self.0) }
        }
    }

    pub fn as_slice(&self) -> &'static [Value] {
        // SAFETY: a payload is a length and that many words of values, written once and never freed.
        unsafe {
            let len = self.0.read() as usize;
            std::slice::from_raw_parts(self.0.add(1).as_ptr().cast::<Value>(), len)
        }
    }
}

/// Where a thunk stands.
pub enum ThunkState {
    Suspended,
    /// Somebody is computing it; if that is whoever asks, then it needs itself.
    Claimed(Owner),
    Done(Value),
    Failed(&'static EvalError),
}

impl Thunk {
    /// # Safety
    /// `object` must be a thunk of the heap.
    #[inline]
    pub(super) unsafe fn from_object(object: NonNull<u64>) -> Thunk {
        Thunk(object)
    }

    #[inline]
    pub fn new(code: &'static Expr, env: Env) -> Thunk {
        let object = heap::alloc(Class::Traced, 2);
        // SAFETY: two fresh words; frames are aligned to 8 bytes, so the state bits are `CODE`.
        unsafe {
            object.write(env.captured() | CODE);
            object.add(1).write(code as *const Expr as u64);
        }
        Thunk(object)
    }

    /// One that is evaluated already: functions are compared by where they came from.
    pub fn finished(value: Value) -> Thunk {
        let object = heap::alloc(Class::Traced, 2);
        // SAFETY: two fresh words.
        unsafe {
            object.write(DONE);
            object.add(1).write(value.word());
        }
        Thunk(object)
    }

    /// One that has failed already.
    #[cold]
    pub fn failed(error: EvalError) -> Thunk {
        let object = heap::alloc(Class::Traced, 2);
        // SAFETY: two fresh words.
        unsafe {
            object.write(CLAIMED);
            object.add(1).write(0);
        }
        let thunk = Thunk(object);
        thunk.fail(error);
        thunk
    }

    pub fn native(what: Native, payload: &[Value]) -> Thunk {
        let data = heap::alloc(Class::Traced, payload.len() + 1);
        let object = heap::alloc(Class::Traced, 2);
        // SAFETY: fresh words, as many as asked for.
        unsafe {
            data.write(payload.len() as u64);
            for (i, value) in payload.iter().enumerate() {
                data.add(i + 1).write(value.word());
            }
            object.write(data.as_ptr() as u64 | NATIVE);
            object.add(1).write(what as u64);
        }
        Thunk(object)
    }

    /// The lazy application of `f` to one argument.
    #[inline]
    pub fn apply(f: Value, arg: Value) -> Thunk {
        if !f.is_fun() {
            return Thunk::native(Native::Apply, &[f, arg]);
        }
        let object = heap::alloc(Class::Traced, 2);
        // SAFETY: two fresh words; functions are objects, whose addresses leave room for the state.
        unsafe {
            object.write(f.object().as_ptr() as u64 | APPLY);
            object.add(1).write(arg.word());
        }
        Thunk(object)
    }

    #[inline]
    pub fn value(self) -> Value {
        // SAFETY: this is a thunk.
        unsafe { Value::from_object(self.0, THUNK) }
    }

    #[inline]
    fn head(self) -> &'static AtomicU64 {
        // SAFETY: thunks have two words and live for ever.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr()) }
    }

    #[inline]
    fn body(self) -> &'static AtomicU64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().add(1)) }
    }

    /// The result, if there is one already.
    #[inline]
    pub fn result(self) -> Option<Value> {
        if self.head().load(Ordering::Acquire) == DONE {
            // SAFETY: the body of a finished thunk is a value's word.
            Some(unsafe { Value::from_word(self.body().load(Ordering::Relaxed)) })
        } else {
            None
        }
    }

    /// Whether it is suspended code, which finds its places itself.
    #[inline]
    pub fn is_code(self) -> bool {
        self.head().load(Ordering::Relaxed) & STATE == CODE
    }

    pub fn state(self) -> ThunkState {
        match self.head().load(Ordering::Acquire) & STATE {
            // SAFETY: the body of a finished thunk is a value's word.
            DONE => ThunkState::Done(unsafe { Value::from_word(self.body().load(Ordering::Relaxed)) }),
            // SAFETY: the body of a failed thunk is a leaked error.
            FAILED => {
                ThunkState::Failed(unsafe { &*(self.body().load(Ordering::Relaxed) as *const EvalError) })
            }
            CLAIMED => ThunkState::Claimed(self.head().load(Ordering::Relaxed) >> OWNER_SHIFT),
            _ => ThunkState::Suspended,
        }
    }

    /// The function that a suspended application applies, where it is known to be one.
    #[cold]
    pub fn applied_function(self) -> Option<Value> {
        let head = self.head().load(Ordering::Acquire);
        if head & STATE == APPLY {
            return function_at(head);
        }
        if head & STATE != NATIVE || self.body().load(Ordering::Relaxed) != Native::Apply as u64 {
            return None;
        }
        // SAFETY: suspended native thunks hold a payload, as `native` wrote it.
        let payload = unsafe { Payload(NonNull::new_unchecked((head & !STATE) as *mut u64)) };
        match payload.as_slice() {
            [function, _] => Some(*function),
            // Of `zipAttrsWith`; `mapAttrs` does not look at its function.
            [function, _, list] if list.as_list().is_some() => Some(*function),
            _ => None,
        }
    }

    /// Claims a thunk with that head; whether nobody else was faster.
    #[inline(always)]
    fn take(self, head: u64, owner: Owner) -> bool {
        let claimed = owner << OWNER_SHIFT | CLAIMED;
        if !waiting::several_threads() {
            self.head().store(claimed, Ordering::Relaxed);
            return true;
        }
        self.head().compare_exchange(head, claimed, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// [`Thunk::claim`] for suspended code; `None` for anything else.
    #[inline(always)]
    pub fn claim_code(self, owner: Owner) -> Option<(&'static Expr, Env)> {
        let head = self.head().load(Ordering::Acquire);
        if head & STATE != CODE {
            return None;
        }
        let body = self.body().load(Ordering::Relaxed);
        if !self.take(head, owner) {
            return None;
        }
        // SAFETY: suspended code is a frame, whose address is the head as `CODE` is 0, and an expression, as `new` wrote them.
        unsafe { Some((&*(body as *const Expr), Env(NonNull::new_unchecked(head as *mut u64)))) }
    }

    /// Takes the computation, so that nobody else starts it; `None` when it is not (or no longer) suspended.
    #[inline]
    pub fn claim(self, owner: Owner) -> Option<Suspended> {
        let head = self.head().load(Ordering::Acquire);
        if !matches!(head & STATE, CODE | NATIVE | APPLY) {
            return None;
        }
        let body = self.body().load(Ordering::Relaxed);
        if !self.take(head, owner) {
            return None;
        }
        if head & STATE == APPLY {
            // SAFETY: `apply` wrote a value's word.
            let argument = unsafe { Value::from_word(body) };
            return function_at(head).map(|function| Suspended::Apply(function, argument));
        }
        let address = (head & !STATE) as *mut u64;
        // SAFETY: suspended thunks hold a frame and an expression, or a payload and a kind, as `new` and
        // `native` wrote them.
        unsafe {
            let object = NonNull::new_unchecked(address);
            if head & STATE == CODE {
                Some(Suspended::Code(&*(body as *const Expr), Env(object)))
            } else {
                let what = match body {
                    0 => Native::Apply,
                    1 => Native::Select,
                    2 => Native::PosLine,
                    _ => Native::PosColumn,
                };
                Some(Suspended::Native(what, Payload(object)))
            }
        }
    }

    /// Stores the result; only the claimant may.
    #[inline]
    pub fn finish(self, value: Value) {
        debug_assert!(!value.is_thunk());
        self.body().store(value.word(), Ordering::Relaxed);
        self.set_head(DONE);
    }

    /// Suspends a claimed thunk again; only the claimant may.
    #[cold]
    pub fn restore(self, work: Suspended) {
        // The body is as it was.
        self.set_head(match work {
            Suspended::Code(_, env) => env.0.as_ptr() as u64 | CODE,
            Suspended::Native(_, payload) => payload.0.as_ptr() as u64 | NATIVE,
            // SAFETY: it is the function that the head held before.
            Suspended::Apply(function, _) => unsafe { function.object().as_ptr() as u64 | APPLY },
        });
    }

    /// Ends a claim.
    #[inline]
    fn set_head(self, head: u64) {
        if !waiting::several_threads() {
            self.head().store(head, Ordering::Release);
        } else if self.head().swap(head, Ordering::AcqRel) & WAITED != 0 {
            waiting::wake(self);
        }
    }

    /// Stores the failure; only the claimant may.
    pub fn fail(self, error: EvalError) {
        let error: &'static EvalError = Box::leak(Box::new(error));
        self.body().store(error as *const EvalError as u64, Ordering::Relaxed);
        self.set_head(FAILED);
    }
}

/// The function whose address a head of the state [`APPLY`] holds.
#[inline]
fn function_at(head: u64) -> Option<Value> {
    // SAFETY: `apply` wrote the address of a function.
    NonNull::new((head & !STATE) as *mut u64).map(|object| unsafe { Value::from_object(object, FUN) })
}

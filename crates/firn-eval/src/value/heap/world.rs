//! The evaluating threads: stopping them, finding their stacks, and collecting.

use super::team::Team;
use super::{LOCAL, Local, NONE, space};
use crate::value::{Value, queue};
use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A thread that evaluates.
struct Thread {
    /// Where its stack begins; addresses of values are below.
    base: usize,
    /// Down to where its stack has to be looked at while it is stopped; 0 while it runs.
    stopped: AtomicUsize,
    local: usize,
}

struct World {
    threads: Vec<Arc<Thread>>,
    /// Words that are always reachable.
    kept: Vec<u64>,
}

static WORLD: Mutex<World> = Mutex::new(World { threads: Vec::new(), kept: Vec::new() });
static CHANGED: Condvar = Condvar::new();
/// Somebody wants to collect: threads stop where they take memory.
static STOP: AtomicBool = AtomicBool::new(false);
/// Set when a thread takes memory whose stack is not known: nothing can be collected any more.
static FORBIDDEN: AtomicBool =
    AtomicBool::new(cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64"))));

/// How often there was a collection, up to [`LAST_EPOCH`].
static COLLECTIONS: AtomicU64 = AtomicU64::new(0);

/// Bytes before the first collection; 0 where nobody has said how many.
static FIRST: AtomicUsize = AtomicUsize::new(0);
/// How much may be taken until the next one, in hundredths of what was left by the last.
static GROWTH: AtomicUsize = AtomicUsize::new(90);
/// Bytes of code that the program has become so far.
static CODE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: Cell<*const Thread> = const { Cell::new(std::ptr::null()) };
}

/// When to collect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes that may be taken before the first collection.
    first: usize,
    /// Bytes that may be taken between two, however little was left by the last one.
    least: usize,
    /// How much may be taken otherwise, in hundredths of what was left.
    growth: usize,
    /// Bytes that the heap of a program of little code may have in any case, and up to how many half as much again as was
    /// left may be taken.
    little: Option<(usize, usize)>,
}

impl Limits {
    /// How many bytes may be taken now, when `left` were left by the last collection, if there was one.
    pub(super) fn allowed(&self, left: Option<usize>) -> usize {
        let Some(left) = left else { return self.first };
        let allowed = (left / 100).saturating_mul(self.growth).max(self.least);
        match self.little {
            None => allowed,
            Some((heap, most)) => allowed.max(heap.saturating_sub(left)).max((left / 2 * 3).min(most)),
        }
    }
}

/// Bytes before the first collection, at most, where nobody has said how many: a quarter of the machine's memory, within
/// limits. A system of NixOS needs none on most machines.
fn usual_first(memory: u64) -> usize {
    usize::try_from(memory / 4).unwrap_or(usize::MAX).clamp(32 << 20, 400 << 20)
}

/// Bytes before the first collection of a program of little code.
const FIRST_OF_LITTLE_CODE: usize = 128 << 20;
/// Bytes that a program may take for each byte of its code before what it has made is looked through.
const PER_BYTE_OF_CODE: usize = 40;

/// Much memory that comes of little code is made in a loop, and mostly garbage soon: it is found before the kernel has to
/// give more. Package sets and systems are much code that makes what stays; there, looking early only takes time.
fn limits_for(code: usize, usual_first: usize) -> Limits {
    let first = code.saturating_mul(PER_BYTE_OF_CODE).max(FIRST_OF_LITTLE_CODE).min(usual_first);
    if first == usual_first {
        return Limits { first, least: first / 2, growth: 90, little: None };
    }
    Limits { first, least: 0, growth: 90, little: Some((first, usual_first)) }
}

fn limits() -> Limits {
    static USUAL: OnceLock<usize> = OnceLock::new();
    let growth = GROWTH.load(Ordering::Relaxed);
    match FIRST.load(Ordering::Relaxed) {
        0 => {
            let usual_first = *USUAL.get_or_init(|| usual_first(memory()));
            Limits { growth, ..limits_for(code_bytes(), usual_first) }
        }
        first => Limits { first, least: first / 2, growth, little: None },
    }
}

/// Says that so many more bytes of code were made.
pub fn note_code(bytes: usize) {
    CODE.fetch_add(bytes, Ordering::Relaxed);
}

/// Bytes of code that were made.
pub fn code_bytes() -> usize {
    CODE.load(Ordering::Relaxed)
}

/// Bytes of memory that the machine has.
#[cfg(target_os = "linux")]
fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    // Its fields differ in size from one architecture to the next.
    #[expect(clippy::useless_conversion, reason = "of the same size on this architecture only")]
    u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit))
}

#[cfg(not(target_os = "linux"))]
fn memory() -> u64 {
    u64::MAX
}

/// When to collect, where it is not to be as usual: after `first` bytes, and then whenever the heap has grown by
/// `growth` percent.
pub fn set_collector_limits(first: Option<usize>, growth: Option<usize>) {
    if let Some(first) = first {
        FIRST.store(first.max(1), Ordering::Relaxed);
    }
    if let Some(growth) = growth {
        GROWTH.store(growth, Ordering::Relaxed);
    }
}

/// The number from which on collections are not counted any more.
pub(in crate::value) const LAST_EPOCH: u64 = 0xffff;

/// A number that changes whenever objects may have been given back by a collection, until it is [`LAST_EPOCH`].
#[inline]
pub(in crate::value) fn epoch() -> u64 {
    COLLECTIONS.load(Ordering::Relaxed)
}

/// A number that no other object ever has, of those that last until the next collection, and until collections are no longer
/// counted.
#[inline]
pub(in crate::value) fn identity(object: NonNull<u64>) -> u64 {
    /// Bits that tell one collection from the next.
    const EPOCH_BITS: u32 = LAST_EPOCH.trailing_ones();
    // Addresses have 48 bits, of which the lowest three are 0.
    const { assert!(LAST_EPOCH >> EPOCH_BITS == 0 && 48 - 3 + EPOCH_BITS < u64::BITS, "both fit into one number") }
    (object.as_ptr() as u64) << (EPOCH_BITS - 3) | epoch()
}

/// Keeps a value for as long as the process lives.
pub(in crate::value) fn keep(value: Value) {
    WORLD.lock().kept.push(value.word());
}

/// Runs `f` as an evaluating thread: values that it makes are found on this thread's stack.
#[inline(never)]
pub fn evaluating_thread<T>(f: impl FnOnce() -> T) -> T {
    if !THREAD.get().is_null() {
        return f();
    }
    let marker = 0u64;
    let base = std::hint::black_box(&marker) as *const u64 as usize;
    let local = LOCAL.with(|local| local as *const Local as usize);
    let thread = Arc::new(Thread { base, stopped: AtomicUsize::new(0), local });
    {
        let mut world = WORLD.lock();
        while STOP.load(Ordering::Relaxed) {
            CHANGED.wait(&mut world);
        }
        world.threads.push(thread.clone());
    }
    THREAD.set(Arc::as_ptr(&thread));
    let _leave = Leave(thread);
    f()
}

/// Forgets a thread, also when it panics.
struct Leave(Arc<Thread>);

impl Drop for Leave {
    fn drop(&mut self) {
        THREAD.set(std::ptr::null());
        LOCAL.with(Local::forget);
        let mut world = WORLD.lock();
        world.threads.retain(|t| !Arc::ptr_eq(t, &self.0));
        CHANGED.notify_all();
    }
}

impl Local {
    /// Drops all free objects: they belong to the heap again after a collection.
    fn forget(&self) {
        self.free.iter().for_each(|cell| cell.set(std::ptr::null_mut()));
        self.fresh.iter().for_each(|cell| cell.set((0, 0)));
        self.partial.iter().for_each(|cell| cell.set(NONE));
    }
}

/// Called before a block is taken: stops for another thread's collection, or collects.
pub(super) fn before_block(bytes: usize) {
    if THREAD.get().is_null() {
        FORBIDDEN.store(true, Ordering::Relaxed);
        return;
    }
    if STOP.load(Ordering::Acquire) {
        with_registers(|stack| stop_here(stack, || ()));
    }
    if FORBIDDEN.load(Ordering::Relaxed) {
        return;
    }
    if space::is_due(bytes, &limits()) {
        with_registers(collect);
    }
}

/// Runs `f`, which must not touch values, while collections may go on beside it: for waiting.
pub fn blocking<T>(f: impl FnOnce() -> T) -> T {
    if THREAD.get().is_null() {
        return f();
    }
    let mut f = Some(f);
    let mut result = None;
    with_registers(|stack| stop_here(stack, || result = f.take().map(|f| f())));
    match result {
        Some(result) => result,
        None => unreachable!("the function is run once"),
    }
}

/// Runs `f` as a stopped thread, and then waits until no collection is going on.
fn stop_here(stack: usize, f: impl FnOnce()) {
    // SAFETY: the record lives until the thread leaves, which it does after this.
    let thread = unsafe { &*THREAD.get() };
    {
        let _world = WORLD.lock();
        thread.stopped.store(stack, Ordering::Release);
        CHANGED.notify_all();
    }
    f();
    let mut world = WORLD.lock();
    while STOP.load(Ordering::Relaxed) {
        CHANGED.wait(&mut world);
    }
    thread.stopped.store(0, Ordering::Release);
}

#[inline(never)]
fn collect(stack: usize) {
    let mut world = WORLD.lock();
    if STOP.load(Ordering::Relaxed) {
        // Somebody was faster.
        drop(world);
        return stop_here(stack, || ());
    }
    STOP.store(true, Ordering::Release);
    let own = THREAD.get();
    let running = |world: &World| {
        let mut others = world.threads.iter().filter(|t| Arc::as_ptr(t) != own);
        others.any(|t| t.stopped.load(Ordering::Acquire) == 0)
    };
    while running(&world) {
        CHANGED.wait(&mut world);
    }
    space::clear_marks();
    let threads = world.threads.len().min(queue::cores());
    Team::mark(threads, |marker| {
        for word in &world.kept {
            marker.word(*word);
        }
        queue::each_word(|word| marker.word(word));
        for thread in &world.threads {
            let from =
                if Arc::as_ptr(thread) == own { stack } else { thread.stopped.load(Ordering::Acquire) };
            // SAFETY: from a stopped thread's stack pointer to where its stack begins is readable, and all threads
            // that evaluate are stopped or in this function.
            unsafe { marker.range(from, thread.base) };
            // SAFETY: a registered thread's free lists live until it leaves, for which it needs the lock held here.
            unsafe { (&*(thread.local as *const Local)).forget() };
        }
    });
    space::free_unmarked();
    let epoch = COLLECTIONS.load(Ordering::Relaxed);
    COLLECTIONS.store((epoch + 1).min(LAST_EPOCH), Ordering::Relaxed);
    STOP.store(false, Ordering::Release);
    CHANGED.notify_all();
}

/// Calls `f` with an address below which this thread's stack holds nothing of the callers', after the registers
/// that callers may keep values in were written above it.
#[inline(never)]
fn with_registers(f: impl FnOnce(usize)) {
    let mut saved = [0u64; 12];
    let to = saved.as_mut_ptr();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: writes six words into an array of twelve.
    unsafe {
        std::arch::asm!(
            "mov [{to}], rbx", "mov [{to} + 8], rbp", "mov [{to} + 16], r12",
            "mov [{to} + 24], r13", "mov [{to} + 32], r14", "mov [{to} + 40], r15",
            to = in(reg) to, options(nostack, preserves_flags)
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: writes twelve words into an array of twelve.
    unsafe {
        std::arch::asm!(
            "stp x19, x20, [{to}]", "stp x21, x22, [{to}, #16]", "stp x23, x24, [{to}, #32]",
            "stp x25, x26, [{to}, #48]", "stp x27, x28, [{to}, #64]", "stp x29, x30, [{to}, #80]",
            to = in(reg) to, options(nostack, preserves_flags)
        );
    }
    f(std::hint::black_box(to) as usize);
    std::hint::black_box(&saved);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_machines_collect_earlier() {
        let mib = |n: u64| n << 20;
        for (memory, first) in
            [(mib(64), 32), (mib(512), 128), (mib(1600), 400), (mib(65536), 400), (u64::MAX, 400)]
        {
            assert_eq!(usual_first(memory) as u64, mib(first));
        }
    }

    #[test]
    fn programs_of_little_code_collect_earlier() {
        const MIB: usize = 1 << 20;
        let check = |code: usize, usual: usize, left: Option<usize>, allowed: usize| {
            let found = limits_for(code, usual * MIB).allowed(left.map(|n| n * MIB));
            assert_eq!((found + MIB / 2) / MIB, allowed);
        };
        for (code, first) in [(0, 128), (3 * MIB, 128), (5 * MIB, 200), (10 * MIB, 400), (MIB << 30, 400)] {
            check(code, 400, None, first);
        }
        for (left, allowed) in [(1, 127), (50, 78), (100, 150), (300, 400), (1000, 900)] {
            check(0, 400, Some(left), allowed);
        }
        for (left, allowed) in [(1, 200), (100, 200), (300, 270), (1000, 900)] {
            check(20 * MIB, 400, Some(left), allowed);
        }
        check(0, 32, None, 32);
        check(0, 32, Some(20), 18);
    }
}

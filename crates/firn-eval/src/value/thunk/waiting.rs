//! Waiting for a thunk that another thread computes.
//!
//! What a thread waits for is needed for what it computes. Threads that wait for each other in a circle have therefore
//! found a value that needs itself. Which of them finds it depends on chance, so those that work ahead give up, and the one
//! that does what was asked goes on alone, as if there were no others.

use super::super::heap;
use super::{CLAIMED, OWNER_SHIFT, Owner, STATE, Thunk, WAITED};
use parking_lot::{Condvar, Mutex};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many threads may evaluate, the one that does what was asked included.
pub const MAX_THREADS: usize = 256;
const SHARDS: usize = 64;
/// How often a thunk is looked at before its thread is left to the system.
const SPINS: usize = 3000;

static SEVERAL: AtomicBool = AtomicBool::new(false);
static SHARD: [(Mutex<()>, Condvar); SHARDS] = [const { (Mutex::new(()), Condvar::new()) }; SHARDS];
/// The thunk that each thread waits for.
static WAITS_FOR: [AtomicU64; MAX_THREADS] = [const { AtomicU64::new(0) }; MAX_THREADS];
/// Threads that shall give up what they are at.
static GIVE_UP: [AtomicBool; MAX_THREADS] = [const { AtomicBool::new(false) }; MAX_THREADS];

/// From now on thunks may be computed by several threads.
pub fn start_several_threads() {
    SEVERAL.store(true, Ordering::SeqCst);
}

#[inline(always)]
pub(super) fn several_threads() -> bool {
    SEVERAL.load(Ordering::Relaxed)
}

fn shard(address: u64) -> &'static (Mutex<()>, Condvar) {
    &SHARD[(address >> 4) as usize % SHARDS]
}

#[cold]
pub(super) fn wake(thunk: Thunk) {
    wake_address(thunk.0.as_ptr() as u64);
}

fn wake_address(address: u64) {
    let (mutex, changed) = shard(address);
    let _guard = mutex.lock();
    changed.notify_all();
}

/// What came of waiting.
#[derive(PartialEq, Eq)]
pub enum Waited {
    /// The thunk is in another state.
    Changed,
    /// It would never end, or another thread asks for giving up.
    GaveUp,
}

/// Whether a thunk is not claimed, or not any more after a few microseconds, which is less than to be woken up takes.
fn is_soon_done(thunk: Thunk) -> bool {
    (0..SPINS).any(|_| {
        std::hint::spin_loop();
        thunk.head().load(Ordering::Acquire) & STATE != CLAIMED
    })
}

/// Waits until a thunk is not claimed any more. `ahead` says that the caller works ahead and may give up.
#[cold]
pub fn wait(thunk: Thunk, me: Owner, ahead: bool) -> Waited {
    if is_soon_done(thunk) {
        return Waited::Changed;
    }
    let address = thunk.0.as_ptr() as u64;
    let Some(waits_for) = WAITS_FOR.get(me as usize) else { return Waited::GaveUp };
    waits_for.store(address, Ordering::SeqCst);
    let circle = circle(thunk, me);
    if ahead && !circle.is_empty() {
        waits_for.store(0, Ordering::SeqCst);
        return Waited::GaveUp;
    }
    for other in circle {
        GIVE_UP[other as usize].store(true, Ordering::SeqCst);
        wake_address(WAITS_FOR[other as usize].load(Ordering::SeqCst));
    }
    let give_up = || ahead && GIVE_UP[me as usize].load(Ordering::SeqCst);
    heap::blocking(|| {
        let (mutex, changed) = shard(address);
        let mut guard = mutex.lock();
        loop {
            let head = thunk.head().load(Ordering::Acquire);
            if head & STATE != CLAIMED || give_up() {
                break;
            }
            let marked = head | WAITED;
            if head == marked
                || thunk.head().compare_exchange(head, marked, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                changed.wait(&mut guard);
            }
        }
    });
    waits_for.store(0, Ordering::SeqCst);
    if give_up() {
        return Waited::GaveUp;
    }
    Waited::Changed
}

/// Before new work: whatever was asked of this thread before is past.
pub fn begin(me: Owner) {
    GIVE_UP[me as usize].store(false, Ordering::SeqCst);
}

/// The other threads of a circle of waiting threads that `me` is in; none when there is no circle.
fn circle(thunk: Thunk, me: Owner) -> Vec<Owner> {
    let mut others = Vec::new();
    let mut at = thunk;
    while others.len() < MAX_THREADS {
        let head = at.head().load(Ordering::SeqCst);
        if head & STATE != CLAIMED {
            break;
        }
        let owner = head >> OWNER_SHIFT;
        if owner == me {
            return others;
        }
        others.push(owner);
        let next = WAITS_FOR.get(owner as usize).map_or(0, |w| w.load(Ordering::SeqCst));
        let Some(next) = NonNull::new(next as *mut u64) else { break };
        // A thunk that a thread waits for is on that thread's stack, and no collection runs while this thread does.
        at = Thunk(next);
    }
    Vec::new()
}

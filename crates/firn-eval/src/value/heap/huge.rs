//! Huge pages for small objects: one fault of the kernel for 2 MiB instead of 512, which is an eighth of the time of
//! evaluating a system. They are only worth it where they are at hand. Where the kernel must first move other memory
//! about, or a virtual machine must get it back from its host, a fault takes milliseconds, more than all that it saves;
//! so each one is timed, and after a slow one the heap does without for a while. What is timed is the processor time of
//! the thread: where many programs share few processors, a clock on the wall mostly tells of the others.

use super::space::BLOCK_BYTES;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

/// The usual size of huge pages. Elsewhere the advice does less, or nothing.
pub(super) const HUGE_BYTES: usize = 2 << 20;
/// Small programs stay small: from here on pages of a block are made at once, and from there on there are huge ones.
pub(super) const WHOLE_FROM: usize = (2 << 20) / BLOCK_BYTES;
pub(super) const FROM_BLOCK: usize = (8 << 20) / BLOCK_BYTES;
/// Clearing a huge page takes a tenth of this.
const SLOW: Duration = Duration::from_millis(1);
/// For how many steps the heap does without after a slow one: four times as many after each further one in a row, since
/// what other programs give back may bring fast ones again.
const PAUSE: u32 = 16;

pub(super) struct HugePages {
    pause: u32,
    /// Steps that do without.
    skip: u32,
}

impl HugePages {
    pub(super) const fn new() -> HugePages {
        HugePages { pause: PAUSE, skip: 0 }
    }

    /// Asks for a huge page at an address of the heap that nobody has used; whether it may be there now.
    pub(super) fn prepare(&mut self, address: usize) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if !advise(address) {
            self.skip = u32::MAX;
            return false;
        }
        let before = processor_time();
        // SAFETY: the address is the start of so many fresh bytes of the heap.
        unsafe { AtomicU8::from_ptr(address as *mut u8).store(0, Ordering::Relaxed) }
        self.took(processor_time().saturating_sub(before));
        true
    }

    fn took(&mut self, time: Duration) {
        if time > SLOW {
            self.skip = self.pause;
            self.pause = self.pause.saturating_mul(4);
        } else {
            self.pause = PAUSE;
        }
    }
}

/// What this thread has used. Asked of the C library: valgrind does not bear how others look for the clock.
#[cfg(target_os = "linux")]
fn processor_time() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn processor_time() -> Duration {
    Duration::ZERO
}

#[cfg(target_os = "linux")]
fn advise(address: usize) -> bool {
    // SAFETY: the range is the heap's own, and the advice changes nothing that it holds.
    unsafe {
        rustix::mm::madvise(address as *mut std::ffi::c_void, HUGE_BYTES, rustix::mm::Advice::LinuxHugepage)
    }
    .is_ok()
}

/// Asks for so many bytes of usual pages at once, which takes two thirds of the time of one fault for each.
#[cfg(target_os = "linux")]
pub(super) fn populate(address: usize, bytes: usize) {
    use rustix::mm::{Advice, madvise};
    static UNKNOWN: AtomicBool = AtomicBool::new(false);
    if UNKNOWN.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: the range is the heap's own and fresh: it holds zeroes before and after.
    let done = unsafe { madvise(address as *mut std::ffi::c_void, bytes, Advice::LinuxPopulateWrite) };
    if done.is_err() {
        // The kernel is older, and the pages come as they are touched.
        UNKNOWN.store(true, Ordering::Relaxed);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn populate(_: usize, _: usize) {}

#[cfg(not(target_os = "linux"))]
fn advise(_: usize) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_pages_are_not_asked_for_again_at_once() {
        let mut pages = HugePages::new();
        let (fast, slow) = (Duration::from_micros(200), Duration::from_millis(3));
        for (time, skip) in [(fast, 0), (slow, PAUSE), (slow, 4 * PAUSE), (slow, 16 * PAUSE)] {
            pages.took(time);
            assert_eq!(pages.skip, skip);
        }
        pages.took(fast);
        pages.took(slow);
        assert_eq!(pages.skip, PAUSE);
    }
}

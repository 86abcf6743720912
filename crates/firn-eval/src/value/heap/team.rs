//! Threads that mark together: who has nothing left to do gets half of what another one has.

use super::mark::{Marker, Pending};
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Less than this is not worth handing over.
const LEAST: usize = 64;

#[derive(Default)]
pub(super) struct Team {
    state: Mutex<State>,
    changed: Condvar,
    /// How many wait, for those that work to see without the lock.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct State {
    members: usize,
    waiting: usize,
    spare: Vec<Vec<Pending>>,
    done: bool,
}

impl Team {
    /// Marks all that is reachable from what `roots` tells a marker, on so many threads, this one being one of them.
    pub(super) fn mark(threads: usize, roots: impl FnOnce(&mut Marker<'_>)) {
        if threads <= 1 {
            let mut marker = Marker::new(None);
            roots(&mut marker);
            return marker.drain();
        }
        let team = Team::default();
        let mut marker = Marker::new(Some(&team));
        roots(&mut marker);
        team.state.lock().members += 1;
        std::thread::scope(|scope| {
            for _ in 1..threads {
                let help = || {
                    if team.join() {
                        Marker::new(Some(&team)).drain();
                    }
                };
                // Where no thread is to be had, fewer do the work.
                let _ = std::thread::Builder::new().name("mark".into()).spawn_scoped(scope, help);
            }
            marker.drain();
        });
    }

    /// Makes the current thread a member, unless all is done.
    fn join(&self) -> bool {
        let mut state = self.state.lock();
        state.members += usize::from(!state.done);
        !state.done
    }

    /// Hands over half of the work if somebody waits for some.
    #[inline(always)]
    pub(super) fn share(&self, pending: &mut Vec<Pending>) {
        if self.waiting.load(Ordering::Relaxed) > 0 && pending.len() >= 2 * LEAST {
            self.hand_over(pending);
        }
    }

    #[cold]
    #[inline(never)]
    fn hand_over(&self, pending: &mut Vec<Pending>) {
        let half = pending.split_off(pending.len() / 2);
        self.state.lock().spare.push(half);
        self.changed.notify_one();
    }

    /// Called with nothing left to do: gets work, or says that there is none any more.
    #[cold]
    pub(super) fn wait_for_work(&self, pending: &mut Vec<Pending>) -> bool {
        let mut state = self.state.lock();
        state.waiting += 1;
        loop {
            if let Some(spare) = state.spare.pop() {
                state.waiting -= 1;
                self.waiting.store(state.waiting, Ordering::Relaxed);
                *pending = spare;
                return true;
            }
            if state.waiting == state.members {
                state.done = true;
                self.changed.notify_all();
            }
            if state.done {
                return false;
            }
            self.waiting.store(state.waiting, Ordering::Relaxed);
            self.changed.wait(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_found_is_done_once() {
        const ALL: usize = 50_000;
        let done: Vec<AtomicUsize> = (0..ALL).map(|_| AtomicUsize::new(0)).collect();
        let team = Team::default();
        let work = |mut pending: Vec<Pending>| {
            loop {
                while let Some((n, _)) = pending.pop() {
                    done[n].fetch_add(1, Ordering::Relaxed);
                    // A tree with many branches near its root and a long stem.
                    let more = if n < 1000 { n * 40 + 1..n * 40 + 41 } else { n + 39_001..n + 39_002 };
                    pending.extend(more.filter(|n| *n < ALL).map(|n| (n, 8)));
                    team.share(&mut pending);
                }
                if !team.wait_for_work(&mut pending) {
                    return;
                }
            }
        };
        assert!(team.join());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| team.join().then(|| work(Vec::new())));
            }
            work(vec![(0, 8)]);
        });
        assert!(!team.join(), "who comes late has nothing to do");
        assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1));
    }
}

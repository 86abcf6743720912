//! Who may use a connection next: what others wait for goes before what only has to come.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A number of permits and two lines of those who wait for one.
pub(crate) struct Queue {
    state: Mutex<State>,
}

struct State {
    free: usize,
    urgent: VecDeque<oneshot::Sender<Permit>>,
    others: VecDeque<oneshot::Sender<Permit>>,
}

/// Given back when dropped.
pub(crate) struct Permit {
    /// `None` once it was passed on.
    queue: Option<Arc<Queue>>,
}

impl Queue {
    pub fn new(permits: usize) -> Queue {
        let state = State { free: permits, urgent: VecDeque::new(), others: VecDeque::new() };
        Queue { state: Mutex::new(state) }
    }

    /// Waits for a permit, before all that are not urgent if this is.
    pub async fn acquire(self: &Arc<Queue>, urgent: bool) -> Permit {
        let waiting = {
            let mut state = self.state.lock();
            if state.free > 0 {
                state.free -= 1;
                return Permit { queue: Some(Arc::clone(self)) };
            }
            let (sender, waiting) = oneshot::channel();
            let line = if urgent { &mut state.urgent } else { &mut state.others };
            line.push_back(sender);
            waiting
        };
        match waiting.await {
            Ok(permit) => permit,
            // Lines are only emptied by giving permits.
            Err(_) => Permit { queue: None },
        }
    }

    fn give_back(self: Arc<Queue>) {
        loop {
            let next = {
                let mut state = self.state.lock();
                let next = state.urgent.pop_front().or_else(|| state.others.pop_front());
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some(next) = next else { return };
            match next.send(Permit { queue: Some(Arc::clone(&self)) }) {
                Ok(()) => return,
                // That one waits no more.
                Err(mut permit) => permit.queue = None,
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn what_is_urgent_comes_first() {
        let queue = Arc::new(Queue::new(1));
        let first = queue.acquire(false).await;
        let mut later = Box::pin(queue.acquire(false));
        let mut urgent = Box::pin(queue.acquire(true));
        assert!((&mut later).now_or_never().is_none() && (&mut urgent).now_or_never().is_none());
        drop(first);
        let second = (&mut urgent).now_or_never().expect("its turn");
        assert!((&mut later).now_or_never().is_none());
        drop(second);
        assert!((&mut later).now_or_never().is_some());
    }

    #[tokio::test]
    async fn nothing_is_lost_with_those_who_leave() {
        let queue = Arc::new(Queue::new(2));
        let held = [queue.acquire(true).await, queue.acquire(false).await];
        let mut waiting: Vec<_> = (0..5).map(|n| Box::pin(queue.acquire(n % 2 == 0))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        // One leaves before its turn and one after it.
        drop(waiting.remove(0));
        drop(held);
        waiting.clear();
        assert_eq!(queue.state.lock().free, 2);
        let _both = [queue.acquire(false).await, queue.acquire(false).await];
        assert!(queue.acquire(true).now_or_never().is_none());
    }
}

//! How many builds there are, run and are done.

use crate::executor::BuildObserver;
use firn_store::activity::{Activity, ActivityType, Logger, Verbosity};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Counts of builds, shown to the user.
pub(crate) struct Progress {
    // Readers of logs know a run by these three; they end in this order.
    _copies: Activity,
    activity: Activity,
    _realise: Activity,
    pub done: AtomicU64,
    pub expected: AtomicU64,
    running: AtomicU64,
    pub failed: AtomicU64,
    /// Builds that wait for locks of others.
    pub blocked: AtomicUsize,
    /// There are more of them.
    pub more_blocked: Notify,
}

impl Progress {
    pub fn new(logger: &Arc<dyn Logger>) -> Progress {
        let zero = || AtomicU64::new(0);
        let start = |kind| Activity::start(logger, Verbosity::Error, kind, "", &[], 0);
        let realise = start(ActivityType::Realise);
        let activity = start(ActivityType::Builds);
        let copies = start(ActivityType::CopyPaths);
        activity.progress(0, 0, 0, 0);
        copies.progress(0, 0, 0, 0);
        Progress {
            _copies: copies,
            activity,
            _realise: realise,
            done: zero(),
            expected: zero(),
            running: zero(),
            failed: zero(),
            blocked: AtomicUsize::new(0),
            more_blocked: Notify::new(),
        }
    }

    fn show(&self) {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        self.activity.progress(get(&self.done), get(&self.expected), get(&self.running), get(&self.failed));
    }

    pub fn add(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
        self.show();
    }
}

impl BuildObserver for Progress {
    fn started(&self) {
        self.add(&self.running);
    }

    fn stopped(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.show();
    }

    fn blocked(&self, blocked: bool) {
        match blocked {
            true => {
                self.blocked.fetch_add(1, Ordering::Relaxed);
                self.more_blocked.notify_one();
            }
            false => drop(self.blocked.fetch_sub(1, Ordering::Relaxed)),
        }
    }
}

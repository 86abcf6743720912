//! What is told of substitution as it goes on.

use firn_store::activity::{Activity, ActivityType, Logger, Verbosity};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

#[derive(Default)]
pub(super) struct Progress {
    activity: OnceLock<Activity>,
    pub done: AtomicU64,
    pub expected: AtomicU64,
    pub running: AtomicU64,
    pub failed: AtomicU64,
    pub download_size: AtomicU64,
    pub nar_size: AtomicU64,
}

impl Progress {
    pub fn add(&self, logger: &Arc<dyn Logger>, counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
        self.show(logger);
    }

    pub fn show(&self, logger: &Arc<dyn Logger>) {
        let activity = self
            .activity
            .get_or_init(|| Activity::start(logger, Verbosity::Debug, ActivityType::CopyPaths, "", &[], 0));
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        activity.progress(get(&self.done), get(&self.expected), get(&self.running), get(&self.failed));
        activity.set_expected(ActivityType::FileTransfer, get(&self.download_size));
        activity.set_expected(ActivityType::CopyPath, get(&self.nar_size));
    }
}

//! Builds that could begin: which of them do, while there are more than can run.
//!
//! Those that most others wait for in a row go first, since nothing shortens the whole but they. With room for one build at a
//! time the order changes nothing, and names decide.

use crate::executor::BuildFailure;
use crate::goals::GoalId;
use crate::run::Run;
use firn_core::StorePath;
use firn_store::{BuildStatus, StoreError, StoreResult};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// Builds whose inputs are valid, and how many are with the executor.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    waiting: BTreeSet<(Reverse<u32>, String, StorePath, GoalId)>,
    pub begun: usize,
}

impl Run<'_> {
    /// All that a build needs is there.
    pub(crate) fn make_ready(&mut self, id: GoalId) {
        let goal = self.graph.get(id);
        let (name, path) = goal.order();
        let height = if self.scheduler.slots.count() > 1 || self.width() > 2 { goal.height } else { 0 };
        self.ready.waiting.insert((Reverse(height), name, path, id));
    }

    fn width(&self) -> usize {
        self.scheduler.executor.width(&self.scheduler.slots)
    }

    /// Begins as many builds as make sense. Whether there is something to look at because of that.
    pub(crate) async fn begin_builds(&mut self) -> StoreResult<bool> {
        let limit = self.width().saturating_add(self.progress.blocked.load(Ordering::Relaxed));
        let mut any = false;
        while self.ready.begun < limit && !self.is_stopped() {
            let Some((_, _, _, id)) = self.ready.waiting.pop_first() else { break };
            any = true;
            match self.start_build(id).await {
                Err(StoreError::Build { message, .. }) => {
                    self.fail(id, BuildFailure::new(BuildStatus::InputRejected, message));
                }
                other => other?,
            }
        }
        Ok(any)
    }
}

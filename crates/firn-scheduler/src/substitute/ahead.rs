//! Archives that are fetched while it is still found out what else will be: their paths are going to be asked for.

use super::StoreSubstituter;
use super::copies::End;
use super::plan::small;
use firn_core::StorePath;
use firn_store::{HeldNar, Store, StoreError, StoreResult};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::task::AbortOnDropHandle;

/// How many are fetched at once until substitution begins. Questions come first.
const AT_ONCE: usize = 12;

/// As many as there can be: a semaphore that everybody gets through.
const ALL: usize = 1 << 20;

/// An archive on its way, or there.
type Task = AbortOnDropHandle<StoreResult<Option<Box<dyn HeldNar>>>>;

/// An archive that is fetched before its path is asked for.
pub(super) struct Fetched {
    /// The number of the substituter that it comes from.
    source: usize,
    task: Task,
    /// What it takes in memory.
    room: OwnedSemaphorePermit,
}

/// A copy that is begun before what its path refers to is there.
pub(super) struct Early {
    /// Tells that its references are there, or how one of them ended.
    pub gate: oneshot::Receiver<Option<End>>,
    task: Option<Task>,
    room: OwnedSemaphorePermit,
}

pub(super) struct Ahead {
    archives: Mutex<HashMap<StorePath, Fetched>>,
    at_once: Arc<Semaphore>,
}

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead { archives: Mutex::default(), at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Ahead {
    /// Substitution has begun: there are no more questions.
    pub fn hurry(&self) {
        if self.at_once.available_permits() <= AT_ONCE {
            self.at_once.add_permits(ALL);
        }
    }

    /// The archive of a path and the room that it takes, if it was fetched from that substituter.
    pub fn take(&self, path: &StorePath, source: usize) -> Option<(OwnedSemaphorePermit, Task)> {
        let fetched = self.archives.lock().remove(path)?;
        (fetched.source == source).then_some((fetched.room, fetched.task))
    }
}

impl Early {
    /// With what opens the gate.
    pub fn new(room: OwnedSemaphorePermit, task: Option<Task>) -> (oneshot::Sender<Option<End>>, Early) {
        let (sender, gate) = oneshot::channel();
        (sender, Early { gate, task, room })
    }

    /// The gate, the archive that is on its way already, and what the memory is held by.
    pub fn into_parts(self) -> (oneshot::Receiver<Option<End>>, Option<Task>, OwnedSemaphorePermit) {
        (self.gate, self.task, self.room)
    }
}

/// The archive of a path: the one that is on its way, or a new one.
pub(super) async fn archive(
    task: Option<Task>,
    from: &dyn Store,
    path: &StorePath,
) -> StoreResult<Option<Box<dyn HeldNar>>> {
    match task {
        None => from.hold_nar(path).await,
        Some(task) => task.await.unwrap_or_else(|e| Err(StoreError::Other(e.to_string()))),
    }
}

impl StoreSubstituter {
    /// Begins to fetch the small archives among `paths`, as far as there is room for them.
    pub(super) async fn fetch_ahead(&self, paths: &BTreeSet<StorePath>) {
        for path in paths {
            if self.ahead.archives.lock().contains_key(path) {
                continue;
            }
            for (number, source) in self.sources().await.iter().enumerate() {
                if source.store.store_dir() != self.destination.store_dir() {
                    continue;
                }
                let Ok(Some(info)) = source.store.query_path_info(path).await else { continue };
                if !self.believes(source, &info) {
                    continue;
                }
                let Some(size) = small(source, path).await else { break };
                let Ok(room) = Arc::clone(&self.early).try_acquire_many_owned(size) else { return };
                let (store, path_there) = (Arc::clone(&source.store), path.clone());
                let at_once = Arc::clone(&self.ahead.at_once);
                let task = AbortOnDropHandle::new(tokio::spawn(async move {
                    let _turn = at_once.acquire().await;
                    store.hold_nar(&path_there).await
                }));
                self.ahead.archives.lock().insert(path.clone(), Fetched { source: number, task, room });
                break;
            }
        }
    }
}

//! Archives that are fetched while it is still found out what else will be: their paths are going to be asked for.

use super::StoreSubstituter;
use super::copies::End;
use super::plan::small;
use super::sources::Source;
use firn_core::StorePath;
use firn_store::{HeldNar, Store, StoreError, StoreResult};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::task::AbortOnDropHandle;

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

#[derive(Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    archives: HashMap<StorePath, Fetched>,
    /// Paths whose turn came, or whose archives are fetched: none is fetched ahead twice.
    seen: HashSet<StorePath>,
}

impl Ahead {
    /// The archive of a path and the room that it takes, if it was fetched from that substituter.
    pub fn take(&self, path: &StorePath, source: usize) -> Option<(OwnedSemaphorePermit, Task)> {
        let mut state = self.state.lock();
        state.seen.insert(path.clone());
        let fetched = state.archives.remove(path)?;
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
    /// Begins to fetch the archive of a path that will be asked for, if it is small and there is room for it.
    pub(super) async fn fetch_ahead(&self, path: &StorePath, number: usize, source: &Source) {
        if self.ahead.state.lock().seen.contains(path) {
            return;
        }
        let Some(size) = small(source, path).await else { return };
        let Ok(room) = Arc::clone(&self.early).try_acquire_many_owned(size) else { return };
        let mut state = self.ahead.state.lock();
        if !state.seen.insert(path.clone()) {
            return;
        }
        let (store, path_there) = (Arc::clone(&source.store), path.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(async move { store.hold_nar(&path_there).await }));
        state.archives.insert(path.clone(), Fetched { source: number, task, room });
    }
}

//! Derivations are written in the background, many in one transaction.

use crate::runtime::LazyRuntime;
use firn_core::StorePath;
use firn_store::{Store, StoreError, TextToAdd};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// The queue before the writing thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

struct Shared {
    /// Files that are there and damaged are written again.
    repair: bool,
    store: Arc<dyn Store>,
    runtime: Arc<LazyRuntime>,
    state: Mutex<State>,
    /// Told when there is work, and when work is done.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: Vec<TextToAdd>,
    /// Paths that were queued before: the same derivation is often made twice.
    known: rustc_hash::FxHashSet<StorePath>,
    writing: bool,
    /// How many wait until all is written.
    flushing: usize,
    closing: bool,
    error: Option<StoreError>,
}

/// Above this many waiting derivations the evaluator waits for the writer.
const MOST_WAITING: usize = 20_000;
/// Most in one batch.
const BATCH: usize = 2_000;
/// Fewer wait until there are more, or until somebody waits for them: to wake a thread for each derivation takes longer
/// than to look whether it is there already.
const LEAST: usize = 128;

impl Writer {
    pub(crate) fn new(store: Arc<dyn Store>, runtime: Arc<LazyRuntime>, repair: bool) -> Writer {
        let shared = Shared { repair, store, runtime, state: Mutex::default(), changed: Condvar::new() };
        Writer { shared: Arc::new(shared), thread: Mutex::new(None) }
    }

    /// Queues a file. An earlier failure is told here.
    pub(crate) fn push(&self, text: TextToAdd) -> Result<(), StoreError> {
        let mut state = self.shared.state.lock();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        if !state.known.insert(text.path.clone()) {
            return Ok(());
        }
        while state.queue.len() >= MOST_WAITING && state.error.is_none() {
            self.shared.changed.wait(&mut state);
        }
        state.queue.push(text);
        let enough = state.queue.len() == LEAST;
        drop(state);
        self.start()?;
        if enough {
            self.shared.changed.notify_all();
        }
        Ok(())
    }

    fn start(&self) -> Result<(), StoreError> {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let shared = self.shared.clone();
            let spawned = std::thread::Builder::new().name("drv-writer".into()).spawn(move || shared.run());
            let handle = spawned.map_err(|e| StoreError::Other(format!("starting a thread: {e}")))?;
            *thread = Some(handle);
        }
        Ok(())
    }

    /// Waits until all that was queued is in the store.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let mut state = self.shared.state.lock();
        state.flushing += 1;
        if !state.queue.is_empty() {
            self.shared.changed.notify_all();
        }
        while (!state.queue.is_empty() || state.writing) && state.error.is_none() {
            self.shared.changed.wait(&mut state);
        }
        state.flushing -= 1;
        match state.error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl State {
    /// Whether the writer has something to do.
    fn is_due(&self) -> bool {
        self.closing || self.queue.len() >= if self.flushing > 0 { 1 } else { LEAST }
    }
}

impl Shared {
    async fn add(&self, batch: &[TextToAdd]) -> Result<(), StoreError> {
        if !self.repair {
            return self.store.add_texts(batch).await.map(drop);
        }
        for text in batch {
            self.store.add_text(text.path.name(), &text.contents, &text.references, true).await?;
        }
        Ok(())
    }

    fn run(&self) {
        loop {
            let batch = {
                let mut state = self.state.lock();
                while !state.is_due() {
                    self.changed.wait(&mut state);
                }
                if state.queue.is_empty() {
                    return;
                }
                state.writing = true;
                if state.queue.len() > BATCH {
                    let rest = state.queue.split_off(BATCH);
                    std::mem::replace(&mut state.queue, rest)
                } else {
                    std::mem::take(&mut state.queue)
                }
            };
            self.changed.notify_all();
            let result = match self.runtime.block_on(self.add(&batch)) {
                Ok(result) => result,
                Err(e) => Err(StoreError::Other(format!("starting threads: {e}"))),
            };
            let mut state = self.state.lock();
            state.writing = false;
            if let Err(error) = result {
                state.queue.clear();
                state.known.clear();
                state.error.get_or_insert(error);
            }
            drop(state);
            self.changed.notify_all();
        }
    }
}

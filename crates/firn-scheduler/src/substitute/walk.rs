//! Following closures while others wait for their levels: each path is asked about as soon as the facts of one that refers
//! to it are there. What is found stays with the substituters, who then answer from memory.

use super::StoreSubstituter;
use firn_core::{StorePath, ValidPathInfo};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::UnboundedReceiver;

/// Questions on their way at once.
const AT_ONCE: usize = 256;

/// Questions that all substituters are asked before it is known which of them comes first.
const BEFORE: usize = 4;

/// What a substituter says of a path.
struct Found {
    /// The number of the substituter.
    number: usize,
    info: Arc<ValidPathInfo>,
}

impl StoreSubstituter {
    /// Asks about the paths that are told and all that they refer to; with `fetch` also for their archives. Ends when no
    /// more can be told and all is answered.
    pub(super) async fn walk(&self, mut told: UnboundedReceiver<StorePath>, fetch: bool) {
        let before = AtomicUsize::new(BEFORE);
        let mut seen: HashSet<StorePath> = HashSet::new();
        let mut waiting: VecDeque<StorePath> = VecDeque::new();
        let mut steps: FuturesUnordered<BoxFuture<'_, Option<Found>>> = FuturesUnordered::new();
        let mut have = Vec::new();
        let mut open = true;
        while open || !steps.is_empty() {
            tokio::select! {
                path = told.recv(), if open => match path {
                    Some(path) if seen.insert(path.clone()) => waiting.push_back(path),
                    Some(_) => {}
                    None => open = false,
                },
                Some(found) = steps.next(), if !steps.is_empty() => if let Some(found) = found {
                    for path in &found.info.references {
                        if seen.insert(path.clone()) {
                            waiting.push_back(path.clone());
                        }
                    }
                    have.push(found);
                }
            }
            while steps.len() < AT_ONCE
                && let Some(path) = waiting.pop_front()
            {
                steps.push(Box::pin(self.step(path, &before)));
            }
            // Questions first: more follows from them.
            for found in have.drain(..).filter(|_| fetch) {
                steps.push(Box::pin(self.fetch(found)));
            }
        }
    }

    /// Where a path is, if it is not valid yet and a substituter has it that answers side by side.
    async fn step(&self, path: StorePath, before: &AtomicUsize) -> Option<Found> {
        if self.destination.is_valid_path(&path).await.unwrap_or(true) {
            return None;
        }
        let one_of_the_first = || {
            let take = |left: usize| left.checked_sub(1);
            before.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
        };
        tokio::select! {
            biased;
            found = self.find(&path) => found,
            // What the caches are costs no round trip of its own: the question is on its way meanwhile.
            () = async {
                if self.sources.get().is_none() && one_of_the_first() {
                    let stores = self.stores.iter().filter(|store| {
                        store.answers_side_by_side() && store.store_dir() == self.destination.store_dir()
                    });
                    futures::future::join_all(stores.map(|store| store.query_path_info(&path))).await;
                }
                std::future::pending().await
            } => None,
        }
    }

    async fn find(&self, path: &StorePath) -> Option<Found> {
        for (number, source) in self.sources().await.iter().enumerate() {
            if !source.store.answers_side_by_side()
                || source.store.store_dir() != self.destination.store_dir()
            {
                return None;
            }
            match source.store.query_path_info(path).await {
                Ok(Some(info)) => return Some(Found { number, info }),
                Ok(None) => {}
                // Who asks in earnest is told.
                Err(_) => return None,
            }
        }
        None
    }

    async fn fetch(&self, found: Found) -> Option<Found> {
        let source = self.sources().await.get(found.number)?;
        if self.believes(source, &found.info) {
            self.fetch_ahead(&found.info.path, found.number, source).await;
        }
        None
    }
}

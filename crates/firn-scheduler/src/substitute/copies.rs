//! Copying what a plan found.

use super::StoreSubstituter;
use super::ahead::{self, Early};
use super::plan::{Choice, Plan};
use firn_core::{StorePath, ValidPathInfo};
use firn_store::activity::{Activity, ActivityType, Verbosity};
use firn_store::copy::{CopyOptions, copy_path, copy_path_when, shown_uri};
use firn_store::{StoreError, StoreResult};
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// How one path of a plan ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Valid,
    /// No substituter has it, or something that it refers to.
    Absent,
    Failed,
}

impl StoreSubstituter {
    /// Copies what a plan found.
    pub(super) async fn carry_out(
        &self,
        plan: &Plan,
        repaired: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, End>> {
        let order = plan.order(&*self.destination)?;
        let mut ends: BTreeMap<StorePath, End> = BTreeMap::new();
        ends.extend(plan.valid.iter().map(|path| (path.clone(), End::Valid)));
        ends.extend(plan.absent.iter().map(|path| (path.clone(), End::Absent)));
        let (mut waits, mut dependents) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for path in &order {
            let mut number = 0;
            for reference in plan.choices[path].info.references.iter().filter(|r| *r != path) {
                if plan.choices.contains_key(reference) {
                    dependents.entry(reference.clone()).or_default().push(path.clone());
                    number += 1;
                }
            }
            waits.insert(path.clone(), number);
        }
        let count = order.len() as u64;
        let sizes: u64 = plan.choices.values().map(|choice| choice.info.nar_size).sum();
        self.progress.nar_size.fetch_add(sizes, Ordering::Relaxed);
        self.progress.add(&self.logger, &self.progress.expected, count);
        let mut ready: std::collections::VecDeque<StorePath> =
            order.iter().filter(|path| waits[*path] == 0).cloned().collect();
        let mut running = FuturesUnordered::new();
        let mut small = plan.small(&order);
        let mut begun: BTreeSet<StorePath> = BTreeSet::new();
        let mut gates: HashMap<StorePath, oneshot::Sender<Option<End>>> = HashMap::new();
        loop {
            // What comes first in the order is begun first, so that nothing waits for what cannot begin.
            while let Some((path, size)) = small.front() {
                let source = plan.choices[path].source;
                let others =
                    begun.contains(path) || repaired.contains(path) || self.copying.lock().contains_key(path);
                let begin = match (others, self.ahead.take(path, source)) {
                    (true, _) => None,
                    (false, Some((room, task))) => Some(Early::new(room, Some(task))),
                    (false, None) => match Arc::clone(&self.early).try_acquire_many_owned(*size) {
                        Ok(room) => Some(Early::new(room, None)),
                        Err(_) => break,
                    },
                };
                if let Some((gate, early)) = begin {
                    gates.insert(path.clone(), gate);
                    running.push(self.end_of(plan, path.clone(), repaired, None, Some(early)));
                }
                small.pop_front();
            }
            while let Some(path) = ready.pop_front() {
                let bad = plan.choices[&path]
                    .info
                    .references
                    .iter()
                    .filter(|r| **r != path)
                    .map(|r| ends.get(r).copied().unwrap_or(End::Absent))
                    .filter(|end| *end != End::Valid)
                    .max_by_key(|end| *end == End::Failed);
                if bad.is_some() {
                    let dir = self.destination.store_dir();
                    let text =
                        format!("some references of path '{}' could not be realised", dir.display(&path));
                    self.logger.log(Verbosity::Debug, text.as_bytes());
                }
                match gates.remove(&path) {
                    // It was begun already, and is among those that run.
                    Some(gate) => drop(gate.send(bad)),
                    None => {
                        begun.insert(path.clone());
                        let fetched = self.ahead.take(&path, plan.choices[&path].source);
                        let fetched = fetched.filter(|_| bad.is_none() && !repaired.contains(&path));
                        let early = fetched.map(|(room, task)| {
                            let (gate, early) = Early::new(room, Some(task));
                            let _open = gate.send(None);
                            early
                        });
                        running.push(self.end_of(plan, path, repaired, bad, early));
                    }
                }
            }
            let Some((path, end)) = running.next().await else { break };
            match end {
                End::Valid => self.progress.add(&self.logger, &self.progress.done, 1),
                End::Failed => self.progress.add(&self.logger, &self.progress.failed, 1),
                End::Absent => {
                    self.progress.expected.fetch_sub(1, Ordering::Relaxed);
                    self.progress.show(&self.logger);
                }
            }
            for dependent in dependents.remove(&path).unwrap_or_default() {
                if let Some(number) = waits.get_mut(&dependent) {
                    *number -= 1;
                    if *number == 0 {
                        ready.push_back(dependent);
                    }
                }
            }
            ends.insert(path, end);
        }
        Ok(ends)
    }

    /// Copies a path of a plan, unless it is known to be in vain.
    async fn end_of(
        &self,
        plan: &Plan,
        path: StorePath,
        repaired: &BTreeSet<StorePath>,
        bad: Option<End>,
        early: Option<Early>,
    ) -> (StorePath, End) {
        let end = match bad {
            Some(end) => end,
            None => self.copy(&path, &plan.choices[&path], repaired.contains(&path), early).await,
        };
        (path, end)
    }

    /// Copies one path, from its source or a later one. Its references are valid, or will be when the gate opens.
    async fn copy(&self, path: &StorePath, choice: &Choice, repair: bool, early: Option<Early>) -> End {
        let lock = Arc::clone(self.copying.lock().entry(path.clone()).or_default());
        let _one_at_a_time = lock.lock().await;
        // What is early only waits; it takes a slot when it is let through.
        let _slot = match early {
            None => self.slots.acquire().await.ok(),
            Some(_) => None,
        };
        self.progress.add(&self.logger, &self.progress.running, 1);
        let end = self.copy_from_any(path, choice, repair, early).await;
        self.progress.running.fetch_sub(1, Ordering::Relaxed);
        self.copying.lock().remove(path);
        end
    }

    async fn copy_from_any(
        &self,
        path: &StorePath,
        choice: &Choice,
        repair: bool,
        early: Option<Early>,
    ) -> End {
        let (mut gate, mut task, _room) = match early.map(Early::into_parts) {
            Some((gate, task, room)) => (Some(gate), task, Some(room)),
            None => (None, None, None),
        };
        let sources = self.sources().await;
        let mut failed = false;
        let mut bad = End::Failed;
        for (index, source) in sources.iter().enumerate().skip(choice.source) {
            let info = match index == choice.source {
                true => Arc::clone(&choice.info),
                // Another source was not asked yet.
                false => match source.store.query_path_info(path).await {
                    Ok(Some(info)) if self.accepts(source, &info) => info,
                    _ => continue,
                },
            };
            if index != choice.source && !self.has_references(&info).await {
                continue;
            }
            let Some(there) = self.path_elsewhere(source, path) else { continue };
            let shown = self.destination.store_dir().display(path);
            let fields = [shown.into(), shown_uri(&*source.store).into()];
            let kind = ActivityType::Substitute;
            let _activity = Activity::start(&self.logger, Verbosity::Error, kind, "", &fields, 0);
            let options = CopyOptions {
                repair,
                check_signatures: !source.properties.trusted,
                ..CopyOptions::default()
            };
            let (from, to) = (&*source.store, &*self.destination);
            let copied = match gate.is_some() {
                false => copy_path(from, to, &there, options, &self.logger).await.map(|()| true),
                true => {
                    let opened = async {
                        match gate.take()?.await {
                            Ok(None) => self.slots.acquire().await.ok(),
                            Ok(Some(end)) => {
                                bad = end;
                                None
                            }
                            // The plan is given up.
                            Err(_) => None,
                        }
                    };
                    let held = ahead::archive(task.take(), from, &there);
                    copy_path_when(from, to, &there, options, &self.logger, held, opened).await
                }
            };
            // It failed before anything was asked for: then the next one has to wait.
            if let Some(gate) = gate.take() {
                match gate.await {
                    Ok(None) => {}
                    Ok(Some(end)) => return end,
                    Err(_) => return End::Failed,
                }
            }
            match copied {
                Ok(true) => return End::Valid,
                Ok(false) => return bad,
                // Archives that were removed are to be expected.
                Err(error @ StoreError::SubstituteGone(_)) => self.logger.warn(&error.to_string()),
                Err(error) => {
                    self.logger.error(&error.to_string());
                    failed = true;
                }
            }
        }
        if failed { End::Failed } else { End::Absent }
    }

    /// Whether all that a path refers to is valid or can be made so.
    async fn has_references(&self, info: &ValidPathInfo) -> bool {
        let references: BTreeSet<StorePath> =
            info.references.iter().filter(|r| **r != info.path).cloned().collect();
        match self.destination.query_valid_paths(&references).await {
            Ok(valid) => valid.len() == references.len(),
            Err(_) => false,
        }
    }
}

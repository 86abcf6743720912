//! Substitution: making paths valid by copying them, with all they refer to, from other stores.
//!
//! A request is planned first: the facts of the whole closure are asked for, as many at once as the graph is wide.
//! Then paths are copied, several at once, each after what it refers to. What one substituter cannot give is taken
//! from the next.

use crate::executor::{BuildFailure, Substituted, Substituter};
use async_trait::async_trait;
use firn_core::{ContentAddress, StorePath, ValidPathInfo};
use firn_store::activity::{Activity, ActivityType, Logger, Verbosity};
use firn_store::copy::{CopyOptions, copy_path, copy_path_when, shown_uri};
use firn_store::{
    BuildStatus, Realisation, Store, StoreError, StoreResult, SubstitutablePathInfo, SubstituterProperties,
    TrustPolicy,
};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

/// How substitution works.
#[derive(Debug, Clone, Default)]
pub struct SubstitutionConfig {
    /// `fallback`: a substituter that fails is only told about.
    pub fallback: bool,
    /// `max-substitution-jobs`.
    pub jobs: u32,
    /// Whose signatures are believed.
    pub trust: TrustPolicy,
}

/// Substitutes from stores, in the order of their priorities.
pub struct StoreSubstituter {
    destination: Arc<dyn Store>,
    /// As they were configured; reached at first use.
    stores: Vec<Arc<dyn Store>>,
    sources: OnceCell<Vec<Source>>,
    config: SubstitutionConfig,
    logger: Arc<dyn Logger>,
    slots: Semaphore,
    /// Small archives that may be asked for before what they refer to is there.
    early: Semaphore,
    /// Paths that are being copied, so that no two requests copy the same.
    copying: Mutex<HashMap<StorePath, Arc<tokio::sync::Mutex<()>>>>,
    /// Content addresses of paths that were told.
    addresses: Mutex<HashMap<StorePath, ContentAddress>>,
    progress: Progress,
}

struct Source {
    store: Arc<dyn Store>,
    properties: SubstituterProperties,
}

#[derive(Default)]
struct Progress {
    activity: std::sync::OnceLock<Activity>,
    done: AtomicU64,
    expected: AtomicU64,
    running: AtomicU64,
    failed: AtomicU64,
    download_size: AtomicU64,
    nar_size: AtomicU64,
}

impl Progress {
    fn add(&self, logger: &Arc<dyn Logger>, counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
        self.show(logger);
    }

    fn show(&self, logger: &Arc<dyn Logger>) {
        let activity = self
            .activity
            .get_or_init(|| Activity::start(logger, Verbosity::Debug, ActivityType::CopyPaths, "", &[], 0));
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        activity.progress(get(&self.done), get(&self.expected), get(&self.running), get(&self.failed));
        activity.set_expected(ActivityType::FileTransfer, get(&self.download_size));
        activity.set_expected(ActivityType::CopyPath, get(&self.nar_size));
    }
}

/// Where a path comes from: the first source that has it and is believed.
struct Choice {
    source: usize,
    info: Arc<ValidPathInfo>,
    /// Whether its archive is so small that it can wait in memory.
    small: bool,
}

/// What is known of the closure of a request.
#[derive(Default)]
struct Plan {
    choices: BTreeMap<StorePath, Choice>,
    valid: BTreeSet<StorePath>,
    absent: BTreeSet<StorePath>,
    /// What a substituter that failed said last; it may have had what is absent.
    error: Option<StoreError>,
}

/// How many archives are asked for early for each that may be taken in at once.
const EARLY: usize = 4;

/// Largest file that waits in memory for what it refers to, in bytes. Caches fetch files of this size whole.
const SMALL: u64 = 1 << 20;

/// Tells a copy that was begun early that its references are there, or how one of them ended.
type Gate = oneshot::Receiver<Option<End>>;

/// How one path of a plan ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Valid,
    /// No substituter has it, or something that it refers to.
    Absent,
    Failed,
}

/// Whether a source would fetch the path whole. Those that do not know cannot have much under way at once either.
async fn is_small(source: &Source, path: &StorePath) -> bool {
    let info = source.store.query_nar_info(path).await.ok().flatten();
    info.and_then(|info| info.file_size).is_some_and(|size| size <= SMALL)
}

impl StoreSubstituter {
    pub fn new(
        destination: Arc<dyn Store>,
        stores: Vec<Arc<dyn Store>>,
        config: SubstitutionConfig,
        logger: Arc<dyn Logger>,
    ) -> StoreSubstituter {
        StoreSubstituter {
            destination,
            stores,
            sources: OnceCell::new(),
            slots: Semaphore::new(config.jobs.max(1) as usize),
            early: Semaphore::new(if config.jobs > 1 { config.jobs as usize * EARLY } else { 0 }),
            config,
            logger,
            copying: Mutex::default(),
            addresses: Mutex::default(),
            progress: Progress::default(),
        }
    }

    /// The stores that can be reached, best first. One that cannot is told about once and left out.
    async fn sources(&self) -> &[Source] {
        self.sources
            .get_or_init(|| async {
                let asked = self
                    .stores
                    .iter()
                    .map(|store| async move { (Arc::clone(store), store.substituter_properties().await) });
                let mut sources = Vec::new();
                for (store, properties) in futures::future::join_all(asked).await {
                    match properties {
                        Ok(properties) => sources.push(Source { store, properties }),
                        Err(error) => self.logger.warn(&error.to_string()),
                    }
                }
                sources.sort_by_key(|source| source.properties.priority);
                sources
            })
            .await
    }

    /// What one source says of paths. A failure for all is a failure for none: each is asked for alone then, and what
    /// fails alone is told.
    async fn ask(
        &self,
        source: &Source,
        paths: &BTreeSet<StorePath>,
        error: &mut Option<StoreError>,
    ) -> BTreeMap<StorePath, Arc<ValidPathInfo>> {
        if source.store.store_dir() != self.destination.store_dir() {
            return self.ask_elsewhere(source, paths, error).await;
        }
        let all = source.store.query_path_infos(paths).await;
        let first = match all {
            Ok(infos) => return infos,
            Err(StoreError::SubstituterDisabled { uri, reason }) => {
                error.get_or_insert(StoreError::SubstituterDisabled { uri, reason });
                return BTreeMap::new();
            }
            Err(first) => first,
        };
        let mut infos = BTreeMap::new();
        let mut told = false;
        for path in paths {
            match source.store.query_path_info(path).await {
                Ok(info) => infos.extend(info.map(|info| (path.clone(), info))),
                Err(StoreError::SubstituterDisabled { .. }) => break,
                Err(e) => {
                    self.set_error(error, e);
                    told = true;
                }
            }
        }
        if !told {
            self.set_error(error, first);
        }
        infos
    }

    /// The path that a content-addressed one has in a store with another directory.
    fn path_elsewhere(&self, source: &Source, path: &StorePath) -> Option<StorePath> {
        if source.store.store_dir() == self.destination.store_dir() {
            return Some(path.clone());
        }
        let address = self.addresses.lock().get(path).copied()?;
        let none = firn_core::store_path::References::default();
        source.store.store_dir().make_fixed_output_path(&address, path.name(), &none).ok()
    }

    /// The same as [`StoreSubstituter::ask`] for a store with another directory, in which only content-addressed paths
    /// without references can be found.
    async fn ask_elsewhere(
        &self,
        source: &Source,
        paths: &BTreeSet<StorePath>,
        error: &mut Option<StoreError>,
    ) -> BTreeMap<StorePath, Arc<ValidPathInfo>> {
        let mut infos = BTreeMap::new();
        for path in paths {
            let Some(there) = self.path_elsewhere(source, path) else { continue };
            match source.store.query_path_info(&there).await {
                Ok(Some(info))
                    if info.is_content_addressed(source.store.store_dir()) && info.references.is_empty() =>
                {
                    let info = ValidPathInfo { path: path.clone(), ..(*info).clone() };
                    infos.insert(path.clone(), Arc::new(info));
                }
                Ok(_) => {}
                Err(e) => self.set_error(error, e),
            }
        }
        infos
    }

    /// Keeps an error, and tells the one that it takes the place of.
    fn set_error(&self, slot: &mut Option<StoreError>, error: StoreError) {
        if let Some(earlier) = slot.replace(error) {
            self.logger.error(&earlier.to_string());
        }
    }

    fn accepts(&self, source: &Source, info: &ValidPathInfo) -> bool {
        let dir = self.destination.store_dir();
        if source.properties.trusted || self.config.trust.accepts_path(dir, info) {
            return true;
        }
        self.logger.warn(&format!(
            "ignoring substitute for '{}' from '{}', as it's not signed by any of the keys in 'trusted-public-keys'",
            dir.display(&info.path),
            shown_uri(&*source.store)
        ));
        false
    }

    /// Finds out where the closure of `paths` comes from. With `repair` they themselves are taken again.
    async fn plan(&self, paths: &BTreeSet<StorePath>, repair: bool) -> StoreResult<Plan> {
        let sources = self.sources().await;
        let mut plan = Plan::default();
        let mut seen = paths.clone();
        let mut frontier = paths.clone();
        let mut repair = repair;
        while !frontier.is_empty() {
            for path in &frontier {
                self.destination.add_temp_root(path).await?;
            }
            let valid = match repair {
                true => BTreeSet::new(),
                false => self.destination.query_valid_paths(&frontier).await?,
            };
            let mut wanted: BTreeSet<StorePath> = frontier.difference(&valid).cloned().collect();
            plan.valid.extend(valid);
            let mut next = BTreeSet::new();
            for (index, source) in sources.iter().enumerate() {
                if wanted.is_empty() {
                    break;
                }
                for (path, info) in self.ask(source, &wanted, &mut plan.error).await {
                    if !self.accepts(source, &info) {
                        continue;
                    }
                    wanted.remove(&path);
                    next.extend(info.references.iter().filter(|r| seen.insert((*r).clone())).cloned());
                    let small = is_small(source, &path).await;
                    plan.choices.insert(path, Choice { source: index, info, small });
                }
            }
            plan.absent.extend(wanted);
            frontier = next;
            repair = false;
        }
        Ok(plan)
    }

    /// Copies what a plan found.
    async fn carry_out(
        &self,
        plan: &Plan,
        repaired: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, End>> {
        let facts = PlannedStore(plan);
        let order = facts.order(&*self.destination)?;
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
        let mut later: std::collections::VecDeque<StorePath> =
            order.iter().filter(|path| waits[*path] > 0 && plan.choices[*path].small).cloned().collect();
        let mut gates: HashMap<StorePath, oneshot::Sender<Option<End>>> = HashMap::new();
        loop {
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
                    None => running.push(self.end_of(plan, path, repaired, bad, None)),
                }
            }
            // What comes first in the order was begun first, so that nothing waits for what cannot begin.
            while let Some(path) = later.front() {
                let choice = &plan.choices[path];
                let mine =
                    waits[path] > 0 && !repaired.contains(path) && !self.copying.lock().contains_key(path);
                if mine && choice.small {
                    let Ok(permit) = self.early.try_acquire() else { break };
                    let (sender, gate) = oneshot::channel();
                    gates.insert(path.clone(), sender);
                    running.push(self.end_of(plan, path.clone(), repaired, None, Some((gate, permit))));
                }
                later.pop_front();
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
        early: Option<(Gate, SemaphorePermit<'_>)>,
    ) -> (StorePath, End) {
        let (gate, _permit) = early.unzip();
        let end = match bad {
            Some(end) => end,
            None => self.copy(&path, &plan.choices[&path], repaired.contains(&path), gate).await,
        };
        (path, end)
    }

    /// Copies one path, from its source or a later one. Its references are valid, or will be when the gate opens.
    async fn copy(&self, path: &StorePath, choice: &Choice, repair: bool, gate: Option<Gate>) -> End {
        let lock = Arc::clone(self.copying.lock().entry(path.clone()).or_default());
        let _one_at_a_time = lock.lock().await;
        // What is early only waits; it takes a slot when it is let through.
        let _slot = match gate {
            None => self.slots.acquire().await.ok(),
            Some(_) => None,
        };
        self.progress.add(&self.logger, &self.progress.running, 1);
        let end = self.copy_from_any(path, choice, repair, gate).await;
        self.progress.running.fetch_sub(1, Ordering::Relaxed);
        self.copying.lock().remove(path);
        end
    }

    async fn copy_from_any(
        &self,
        path: &StorePath,
        choice: &Choice,
        repair: bool,
        mut gate: Option<Gate>,
    ) -> End {
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
                    copy_path_when(from, to, &there, options, &self.logger, opened).await
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

/// The references of planned paths, for sorting.
struct PlannedStore<'a>(&'a Plan);

impl PlannedStore<'_> {
    /// Planned paths, each after those that it refers to. A circle is a lie of some substituter.
    fn order(&self, store: &dyn Store) -> StoreResult<Vec<StorePath>> {
        let paths: BTreeSet<StorePath> = self.0.choices.keys().cloned().collect();
        let sorted = firn_store::closure::topo_sort(&paths, |path| {
            Ok(self.0.choices.get(path).map(|choice| choice.info.references.clone()).unwrap_or_default())
        })?;
        let mut sorted = sorted.map_err(|cycle| cycle.into_error(store.store_dir()))?;
        sorted.reverse();
        Ok(sorted)
    }
}

#[async_trait]
impl Substituter for StoreSubstituter {
    fn note_content_address(&self, path: &StorePath, address: ContentAddress) {
        self.addresses.lock().insert(path.clone(), address);
    }

    async fn query(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, SubstitutablePathInfo>> {
        let mut found = BTreeMap::new();
        let mut wanted = paths.clone();
        let mut error = None;
        for source in self.sources().await {
            if wanted.is_empty() {
                break;
            }
            for (path, info) in self.ask(source, &wanted, &mut error).await {
                wanted.remove(&path);
                let there = self.path_elsewhere(source, &path).unwrap_or_else(|| path.clone());
                let nar = source.store.query_nar_info(&there).await.ok().flatten();
                let info = SubstitutablePathInfo {
                    deriver: info.deriver.clone(),
                    references: info.references.clone(),
                    download_size: nar.and_then(|nar| nar.file_size).unwrap_or(0),
                    nar_size: info.nar_size,
                };
                found.insert(path, info);
            }
        }
        match error {
            Some(error) if !wanted.is_empty() && !self.config.fallback => Err(error),
            Some(error) => {
                self.logger.error(&error.to_string());
                Ok(found)
            }
            None => Ok(found),
        }
    }

    async fn query_available(&self, paths: &BTreeSet<StorePath>) -> StoreResult<BTreeSet<StorePath>> {
        let mut found = BTreeSet::new();
        let mut wanted = paths.clone();
        for source in self.sources().await.iter().filter(|source| source.properties.want_mass_query) {
            if wanted.is_empty() {
                break;
            }
            let valid = source.store.query_valid_paths(&wanted).await?;
            wanted = wanted.difference(&valid).cloned().collect();
            found.extend(valid);
        }
        Ok(found)
    }

    async fn query_realisation(&self, id: &str) -> StoreResult<Option<Realisation>> {
        for source in self.sources().await {
            match source.store.query_realisation(id).await {
                Ok(Some(realisation)) if realisation.id != id => {
                    self.logger.warn(&format!(
                        "asked '{}' for '{id}' but got '{}'",
                        shown_uri(&*source.store),
                        realisation.id
                    ));
                }
                Ok(Some(realisation))
                    if source.properties.trusted || self.config.trust.accepts_realisation(&realisation) =>
                {
                    return Ok(Some(realisation));
                }
                Ok(Some(_)) => self.logger.warn(&format!(
                    "ignoring realisation of '{id}' from '{}', as it's not signed by any of the keys in \
                     'trusted-public-keys'",
                    shown_uri(&*source.store)
                )),
                Ok(None) | Err(StoreError::Unsupported { .. } | StoreError::SubstituterDisabled { .. }) => {}
                Err(error) => self.logger.error(&error.to_string()),
            }
        }
        Ok(None)
    }

    async fn substitute(
        &self,
        paths: &BTreeSet<StorePath>,
        repair: bool,
        cancel: &CancellationToken,
    ) -> Result<Substituted, BuildFailure> {
        let none = BTreeSet::new();
        let work = async {
            let plan = self.plan(paths, repair).await.map_err(BuildFailure::other)?;
            let ends = self
                .carry_out(&plan, if repair { paths } else { &none })
                .await
                .map_err(BuildFailure::other)?;
            let dir = self.destination.store_dir();
            let end = |path: &StorePath| ends.get(path).copied().unwrap_or(End::Absent);
            if let Some(error) = plan.error {
                let missing = paths.iter().any(|path| end(path) != End::Valid);
                if missing && !self.config.fallback {
                    return Err(BuildFailure::other(error));
                }
                self.logger.error(&error.to_string());
            }
            if let Some(failed) = paths.iter().find(|path| end(path) == End::Failed) {
                let message = format!(
                    "path '{}' is required, but there is no substituter that can build it",
                    dir.display(failed)
                );
                return Err(BuildFailure::new(BuildStatus::NoSubstituters, message));
            }
            match paths.iter().all(|path| end(path) == End::Valid) {
                true => Ok(Substituted::All),
                false => Ok(Substituted::NotAll),
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                Err(BuildFailure::new(BuildStatus::Cancelled, "interrupted by the user"))
            }
            result = work => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_core::signature::SecretKey;
    use firn_store::MemoryStore;
    use firn_store::activity::SilentLogger;

    fn key() -> SecretKey {
        SecretKey::from_seed("k", &[5; 32])
    }

    fn substituter(from: &Arc<MemoryStore>, to: &Arc<MemoryStore>) -> StoreSubstituter {
        let trust = TrustPolicy { require_signatures: true, keys: vec![key().public()] };
        let config = SubstitutionConfig { fallback: false, jobs: 4, trust };
        StoreSubstituter::new(to.clone(), vec![from.clone()], config, Arc::new(SilentLogger))
    }

    /// Adds a path without a content address that refers to others.
    async fn add(
        store: &MemoryStore,
        n: char,
        references: &[&StorePath],
        signer: Option<&SecretKey>,
    ) -> StorePath {
        let text = store.add_text("text", &[n as u8], &BTreeSet::new(), false).await.unwrap();
        let mut archive = Vec::new();
        store.nar_from_path(&text, &mut archive).await.unwrap();
        let path = StorePath::from_base_name(&format!("{}-{n}", n.to_string().repeat(32))).unwrap();
        let info = store.query_path_info(&text).await.unwrap().unwrap();
        let mut info = ValidPathInfo { path: path.clone(), ca: None, ..(*info).clone() };
        info.references = references.iter().map(|path| (*path).clone()).collect();
        if let Some(key) = signer {
            info.signatures.insert(key.sign(info.fingerprint(store.store_dir()).as_bytes()));
        }
        store.add_nar(&info, &mut &archive[..], false, false).await.unwrap();
        path
    }

    async fn run(from: &Arc<MemoryStore>, path: &StorePath) -> (Result<Substituted, BuildFailure>, usize) {
        let to = Arc::new(MemoryStore::default());
        let cancel = CancellationToken::new();
        let result = substituter(from, &to).substitute(&[path.clone()].into(), false, &cancel).await;
        (result, to.query_all_valid_paths().await.unwrap().len())
    }

    #[tokio::test]
    async fn a_closure_with_signatures() {
        let from = Arc::new(MemoryStore::default());
        let a = add(&from, 'a', &[], Some(&key())).await;
        let b = add(&from, 'b', &[&a], Some(&key())).await;
        let c = add(&from, 'c', &[&a, &b], Some(&key())).await;
        assert_eq!(run(&from, &c).await, (Ok(Substituted::All), 3));
        // What nobody signed is not taken, nor what refers to it.
        let d = add(&from, 'd', &[], None).await;
        assert_eq!(run(&from, &d).await, (Ok(Substituted::NotAll), 0));
        let f = add(&from, 'f', &[&d, &a], Some(&key())).await;
        assert_eq!(run(&from, &f).await, (Ok(Substituted::NotAll), 1));
        let other = SecretKey::from_seed("k", &[6; 32]);
        let g = add(&from, 'g', &[], Some(&other)).await;
        assert_eq!(run(&from, &g).await, (Ok(Substituted::NotAll), 0));
        // A content address proves itself.
        let text = from.add_text("t", b"text", &BTreeSet::new(), false).await.unwrap();
        assert_eq!(run(&from, &text).await, (Ok(Substituted::All), 1));
    }

    #[tokio::test]
    async fn realisations_need_signatures() {
        let from = Arc::new(MemoryStore::default());
        let path = from.add_text("t", b"text", &BTreeSet::new(), false).await.unwrap();
        let id = "sha256:00!out";
        let mut realisation = Realisation::new(id.into(), path);
        from.register_realisation(&realisation, false).await.unwrap();
        let to = Arc::new(MemoryStore::default());
        assert_eq!(substituter(&from, &to).query_realisation(id).await.unwrap(), None);
        realisation.signatures.insert(key().sign(realisation.fingerprint().as_bytes()));
        from.register_realisation(&realisation, false).await.unwrap();
        assert_eq!(substituter(&from, &to).query_realisation(id).await.unwrap(), Some(realisation));
    }

    #[tokio::test]
    async fn many_are_asked_about_at_once() {
        let from = Arc::new(MemoryStore::default());
        let a = add(&from, 'a', &[], Some(&key())).await;
        let b = add(&from, 'b', &[&a], Some(&key())).await;
        let to = Arc::new(MemoryStore::default());
        let missing = StorePath::from_base_name(&format!("{}-x", "x".repeat(32))).unwrap();
        let found = substituter(&from, &to).query(&[a.clone(), b.clone(), missing].into()).await.unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&a, &b]);
        assert_eq!(found[&b].references, [a].into());
        // Who does not want to be asked only whether something is there is not.
        assert!(substituter(&from, &to).query_available(&[b].into()).await.unwrap().is_empty());
    }
}

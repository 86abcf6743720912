//! One run: from requests to results.

use crate::dynamic::wanted_inputs;
use crate::executor::{BuildFailure, BuildObserver, BuildRequest, BuildSuccess, Substituted};
use crate::goals::{Goal, GoalId, Graph, State, Target};
use crate::progress::Progress;
use crate::ready::Ready;
use crate::scheduler::{Outcome, Scheduler};
use crate::slots::Place;
use crate::status::{ExitFlags, cannot_build};
use firn_core::{DerivedPath, OutputsSpec, SingleDerivedPath, StorePath};
use firn_derivation::{Derivation, DerivationType};
use firn_store::activity::{Activity, ActivityType, Verbosity};
use firn_store::{BuildMode, BuildResult, BuildStatus, StoreError, StoreResult};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The outputs of derivations that became known in this run, for resolution.
type Known = BTreeMap<(StorePath, String), StorePath>;

/// With more goals than these, derivations of those that wait are read again when their turn comes: they are most of what
/// a goal takes.
const KEPT_DERIVATIONS: usize = 1000;

pub(crate) struct Run<'a> {
    pub(crate) scheduler: &'a Scheduler,
    mode: BuildMode,
    pub(crate) graph: Graph,
    /// Goals to look at, by order.
    fresh: BTreeSet<(String, StorePath, GoalId)>,
    jobs: JoinSet<(GoalId, Job)>,
    flags: ExitFlags,
    known: Known,
    pub(crate) progress: Arc<Progress>,
    pub(crate) ready: Ready,
    /// Set when a failure ends the run.
    stop: bool,
    /// Places of builds that failed just now, with their slots.
    held: Vec<Place>,
    /// Ends this run's tasks; fires with the scheduler's.
    cancel: CancellationToken,
}

/// What a finished task tells.
enum Job {
    /// With the derivation that was built, if that is not the goal's own.
    /// And with its place in the line for slots.
    Built(Result<BuildSuccess, BuildFailure>, Option<(StorePath, Arc<Derivation>)>, Place),
    Substituted(Result<Substituted, BuildFailure>),
}

impl<'a> Run<'a> {
    pub fn new(scheduler: &'a Scheduler, mode: BuildMode) -> Run<'a> {
        Run {
            scheduler,
            mode,
            graph: Graph::default(),
            fresh: BTreeSet::new(),
            jobs: JoinSet::new(),
            flags: ExitFlags::default(),
            known: Known::new(),
            progress: Arc::new(Progress::new(&scheduler.logger)),
            ready: Ready::default(),
            stop: false,
            held: Vec::new(),
            cancel: scheduler.cancel.child_token(),
        }
    }

    pub async fn execute(mut self, paths: &[DerivedPath]) -> StoreResult<Outcome> {
        let mut requested = Vec::with_capacity(paths.len());
        for path in paths {
            requested.push(self.request(path)?);
        }
        let result = self.drive().await;
        // Whatever still runs is not wanted any more; executors kill their builds before they return.
        let interrupted = self.scheduler.cancel.is_cancelled();
        self.abandon().await;
        result?;
        if interrupted {
            return Err(StoreError::Interrupted);
        }
        let results = paths.iter().zip(&requested).map(|(path, goal)| self.result(path, *goal)).collect();
        Ok(Outcome { results, flags: self.flags })
    }

    fn request(&mut self, path: &DerivedPath) -> StoreResult<GoalId> {
        let id = match path {
            DerivedPath::Opaque(path) => self.graph.goal(Target::Path(path.clone())),
            DerivedPath::Built { drv, outputs } => {
                let id = self.graph.goal(Target::outputs_of(drv));
                if let SingleDerivedPath::Built { .. } = &**drv {
                    self.require_dynamic()?;
                }
                let goal = self.graph.get_mut(id);
                match outputs {
                    OutputsSpec::All => goal.wants_all = true,
                    OutputsSpec::Names(names) => goal.wanted.extend(names.iter().cloned()),
                }
                id
            }
        };
        self.graph.get_mut(id).top = true;
        self.look_at(id);
        Ok(id)
    }

    pub(crate) fn look_at(&mut self, id: GoalId) {
        let (name, path) = self.graph.get(id).order();
        self.fresh.insert((name, path, id));
    }

    /// Until nothing is left to do.
    async fn drive(&mut self) -> StoreResult<()> {
        loop {
            while let Some((_, _, id)) = self.fresh.pop_first() {
                if self.stop || self.scheduler.cancel.is_cancelled() {
                    return Ok(());
                }
                self.take_up(id).await?;
            }
            if self.stop {
                return Ok(());
            }
            // Now that it is known what failures mean, others may begin in their stead.
            self.held.clear();
            if self.begin_builds().await? {
                continue;
            }
            let finished = tokio::select! {
                biased;
                () = self.scheduler.cancel.cancelled() => return Ok(()),
                finished = self.jobs.join_next() => finished,
                // There is room for another one.
                () = self.progress.more_blocked.notified() => continue,
            };
            match finished {
                None => return Ok(()),
                Some(Ok((id, job))) => self.finished(id, job).await?,
                Some(Err(error)) => {
                    return Err(StoreError::Other(format!("a build task ended unexpectedly: {error}")));
                }
            }
        }
    }

    async fn abandon(&mut self) {
        if !self.jobs.is_empty() {
            self.cancel.cancel();
            while self.jobs.join_next().await.is_some() {}
        }
    }

    /// Finds out what a goal needs, and starts it where that is nothing.
    async fn take_up(&mut self, id: GoalId) -> StoreResult<()> {
        if self.graph.get(id).is_done() || matches!(self.graph.get(id).state, State::Running) {
            return Ok(());
        }
        let target = self.graph.get(id).target.clone();
        let waiting = matches!(self.graph.get(id).state, State::Waiting);
        let outcome = match &target {
            // Its inputs were looked at; now one of them was done.
            _ if waiting => self.advance(id).await,
            Target::Path(path) => self.take_up_path(id, path).await,
            Target::Derivation(drv) => self.take_up_derivation(id, drv).await,
            Target::Dynamic(drv) => self.take_up_dynamic(id, drv).await,
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(StoreError::Build { message, .. }) => {
                self.fail(id, BuildFailure::new(BuildStatus::InputRejected, message));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn take_up_path(&mut self, id: GoalId, path: &StorePath) -> StoreResult<()> {
        let store = &self.scheduler.store;
        store.add_temp_root(path).await?;
        // What is to be repaired is fetched again.
        let substituted = self.graph.get(id).substituted;
        if (self.mode_of(id) != BuildMode::Repair || substituted) && store.is_valid_path(path).await? {
            let status = if substituted { BuildStatus::Substituted } else { BuildStatus::AlreadyValid };
            self.succeed(id, status, BTreeMap::new());
            return Ok(());
        }
        if self.substitute(id, [path.clone()].into(), BTreeSet::new()) {
            return Ok(());
        }
        let text = store.store_dir().display(path);
        let message = format!("path '{text}' is required, but there is no substituter that can build it");
        self.fail(id, BuildFailure::new(BuildStatus::NoSubstituters, message));
        Ok(())
    }

    /// Starts substitution of paths, and of what realisations with some ids stand for; false where there is none to
    /// be had.
    fn substitute(&mut self, id: GoalId, paths: BTreeSet<StorePath>, realisations: BTreeSet<String>) -> bool {
        let goal = self.graph.get_mut(id);
        if goal.substitution_tried || !self.scheduler.config.substitute {
            return false;
        }
        goal.substitution_tried = true;
        self.start_substitution(id, paths, realisations)
    }

    fn start_substitution(
        &mut self,
        id: GoalId,
        mut paths: BTreeSet<StorePath>,
        realisations: BTreeSet<String>,
    ) -> bool {
        let repair = self.mode_of(id) == BuildMode::Repair;
        let Some(substituter) = self.scheduler.substituter.clone() else { return false };
        self.graph.get_mut(id).state = State::Running;
        let cancel = self.cancel.clone();
        let store = Arc::clone(&self.scheduler.store);
        let logger = Arc::clone(&self.scheduler.logger);
        self.jobs.spawn(async move {
            let work = async {
                let mut found = Vec::new();
                for id in &realisations {
                    match substituter.query_realisation(id).await.map_err(BuildFailure::other)? {
                        Some(realisation) => found.push(realisation),
                        None => {
                            let text = format!(
                                "derivation output '{id}' is required, but there is no substituter that can provide it"
                            );
                            logger.log(Verbosity::Debug, text.as_bytes());
                            return Ok(Substituted::NotAll);
                        }
                    }
                }
                paths.extend(found.iter().map(|realisation| realisation.out_path.clone()));
                let substituted = substituter.substitute(&paths, repair, &cancel).await?;
                if substituted == Substituted::All {
                    for realisation in &found {
                        // The substituter believed it.
                        store.register_realisation(realisation, false).await.map_err(BuildFailure::other)?;
                    }
                }
                Ok(substituted)
            };
            (id, Job::Substituted(work.await))
        });
        true
    }

    async fn take_up_derivation(&mut self, id: GoalId, drv_path: &StorePath) -> StoreResult<()> {
        let store = Arc::clone(&self.scheduler.store);
        let derivations = Arc::clone(self.scheduler.store_of(drv_path).await?);
        let dir = store.store_dir();
        let drv = match self.graph.get(id).derivation.clone() {
            Some(drv) => drv,
            None => {
                derivations.add_temp_root(drv_path).await?;
                if !derivations.is_valid_path(drv_path).await? {
                    if self.substitute(id, [drv_path.clone()].into(), BTreeSet::new()) {
                        return Ok(());
                    }
                    let message = format!("failed to obtain derivation of '{}'", dir.display(drv_path));
                    self.fail(id, BuildFailure::new(BuildStatus::DependencyFailed, message));
                    return Ok(());
                }
                Arc::new(derivations.read_derivation(drv_path).await?)
            }
        };
        self.graph.get_mut(id).derivation = Some(Arc::clone(&drv));
        let reject = |message: String| StoreError::Build { status: 1, message };
        let kind = drv
            .derivation_type()
            .map_err(|e| reject(format!("derivation '{}': {e}", dir.display(drv_path))))?;
        self.check_features(kind)?;
        if let Some(unknown) = self.graph.get(id).wanted.iter().find(|name| !drv.outputs.contains_key(*name))
        {
            let message = format!("derivation '{}' does not have output '{unknown}'", dir.display(drv_path));
            self.fail(id, BuildFailure::new(BuildStatus::MiscFailure, message));
            return Ok(());
        }

        let mode = self.mode_of(id);
        let outputs = match kind.is_impure() {
            true => drv.outputs.keys().map(|name| (name.clone(), None)).collect(),
            false => self.scheduler.outputs_of(drv_path).await?,
        };
        self.scheduler.note_fixed_outputs(&drv, &outputs);
        let paths: BTreeSet<StorePath> = outputs.values().flatten().cloned().collect();
        for path in &paths {
            store.add_temp_root(path).await?;
        }
        let valid = store.query_valid_paths(&paths).await?;
        let goal = self.graph.get(id);
        let missing: BTreeSet<StorePath> = outputs
            .iter()
            .filter(|(name, _)| goal.wants(name))
            .filter_map(|(_, path)| path.clone())
            .filter(|path| !valid.contains(path))
            .collect();
        let all_known = outputs.iter().all(|(name, path)| !goal.wants(name) || path.is_some());
        let mut done = all_known && missing.is_empty() && mode != BuildMode::Check;
        if done && mode == BuildMode::Repair {
            // Only what is damaged is built again.
            for path in &paths {
                done = done && crate::repair::is_intact(self.scheduler, path).await?;
            }
        }
        if done {
            let status = match goal.substituted {
                true => BuildStatus::Substituted,
                false => BuildStatus::AlreadyValid,
            };
            let outputs: BTreeMap<String, StorePath> = outputs
                .into_iter()
                .filter_map(|(name, path)| Some((name, path?)))
                .filter(|(name, path)| valid.contains(path) || self.graph.get(id).wants(name))
                .collect();
            // They may have been made without anybody noting of what.
            self.remember(drv_path, &drv, &outputs).await?;
            self.succeed(id, status, outputs);
            return Ok(());
        }
        if mode == BuildMode::Check && !(all_known && missing.is_empty()) {
            return Err(StoreError::Other(format!(
                "some outputs of '{}' are not valid, so checking is not possible\n\
                 Hint: --rebuild and --check error if the derivation was not previously built and cannot be substituted.\n      \
                 Remove it to perform a fresh build, or use --repair to rewrite missing or corrupted builds in the store.",
                dir.display(drv_path)
            )));
        }
        let options =
            drv.options(dir).map_err(|e| StoreError::Other(e.in_derivation(&dir.display(drv_path))))?;
        let allowed = self.scheduler.config.always_allow_substitutes || options.allow_substitutes;
        if allowed && mode != BuildMode::Check && !kind.is_impure() && !self.graph.get(id).substitution_tried
        {
            // What is there and damaged is fetched again too.
            let paths = match mode {
                BuildMode::Repair => paths,
                _ => missing,
            };
            let mut ids = BTreeSet::new();
            if !all_known && self.scheduler.config.substitute && self.scheduler.substituter.is_some() {
                let all = firn_store::outputs::output_ids(&*derivations, drv_path, &drv).await?;
                let goal = self.graph.get(id);
                let unknown =
                    |name: &String| goal.wants(name) && outputs.get(name).is_none_or(Option::is_none);
                ids = all.into_iter().filter(|(name, _)| unknown(name)).map(|(_, id)| id).collect();
            }
            if self.substitute(id, paths, ids) {
                return Ok(());
            }
        }
        self.wait_for_inputs(id, &drv).await
    }

    /// The derivation of a goal, read again where it was not kept.
    async fn derivation(&self, id: GoalId) -> StoreResult<Arc<Derivation>> {
        let goal = self.graph.get(id);
        if let Some(drv) = &goal.derivation {
            return Ok(Arc::clone(drv));
        }
        let path = goal.path();
        Ok(Arc::new(self.scheduler.store_of(path).await?.read_derivation(path).await?))
    }

    fn check_features(&self, kind: DerivationType) -> StoreResult<()> {
        let config = &self.scheduler.config;
        let feature = match kind {
            DerivationType::Impure if !config.impure_derivations => "impure-derivations",
            DerivationType::CaFloating | DerivationType::InputAddressed { deferred: true }
                if !config.ca_derivations =>
            {
                "ca-derivations"
            }
            _ => return Ok(()),
        };
        Err(feature_is_off(feature))
    }

    pub(crate) fn require_dynamic(&self) -> StoreResult<()> {
        match self.scheduler.config.dynamic_derivations {
            true => Ok(()),
            false => Err(feature_is_off("dynamic-derivations")),
        }
    }

    /// Only what was asked for is checked or repaired; what it depends on is built as usual.
    fn mode_of(&self, id: GoalId) -> BuildMode {
        let goal = self.graph.get(id);
        if goal.top || goal.top_inner { self.mode } else { BuildMode::Normal }
    }

    /// Makes goals of the inputs, and starts the build where all are done.
    async fn wait_for_inputs(&mut self, id: GoalId, drv: &Arc<Derivation>) -> StoreResult<()> {
        if drv.has_dynamic_inputs() {
            self.require_dynamic()?;
        }
        if self.scheduler.config.impure_derivations {
            self.refuse_impure_inputs(id, drv).await?;
        }
        self.progress.add(&self.progress.expected);
        self.graph.get_mut(id).state = State::Waiting;
        let mut inputs = Vec::new();
        let mut valid = self.scheduler.store.query_valid_paths(&drv.input_srcs).await?;
        if self.scheduler.eval_store.is_some() && valid.len() < drv.input_srcs.len() {
            self.scheduler.copy_sources(&drv.input_srcs).await?;
            valid = self.scheduler.store.query_valid_paths(&drv.input_srcs).await?;
        }
        for source in drv.input_srcs.difference(&valid) {
            inputs.push(self.graph.goal(Target::Path(source.clone())));
        }
        for (made_by, outputs) in wanted_inputs(drv) {
            inputs.push(self.want(&made_by, &outputs));
        }
        for input in inputs {
            self.depend(id, input);
        }
        if self.graph.len() > KEPT_DERIVATIONS {
            self.graph.get_mut(id).derivation = None;
        }
        self.advance(id).await
    }

    /// The goal that makes outputs of a derivation, told that these are wanted.
    pub(crate) fn want(&mut self, drv: &SingleDerivedPath, outputs: &BTreeSet<String>) -> GoalId {
        let input = self.graph.goal(Target::outputs_of(drv));
        let goal = self.graph.get_mut(input);
        let news = outputs.iter().any(|name| !goal.wants(name));
        goal.wanted.extend(outputs.iter().cloned());
        // What was enough for others may not be for this one: their outputs were valid, ours need not be.
        if news && matches!(&goal.state, State::Succeeded(s) if s.status != BuildStatus::Built) {
            goal.state = State::New;
        }
        input
    }

    /// Makes one goal wait for another, unless that is done.
    pub(crate) fn depend(&mut self, id: GoalId, input: GoalId) {
        let goal = self.graph.get_mut(input);
        match &goal.state {
            State::Succeeded(_) => {}
            State::Failed(_) => self.graph.get_mut(id).failed_inputs += 1,
            state => {
                let is_new = matches!(state, State::New);
                goal.dependents.insert(id);
                self.graph.get_mut(id).waits_for.insert(input);
                let height = self.graph.get(id).height.saturating_add(1);
                self.graph.raise(input, height);
                if is_new {
                    self.look_at(input);
                }
            }
        }
    }

    /// Goes on with a goal one of whose inputs was done.
    pub(crate) async fn advance(&mut self, id: GoalId) -> StoreResult<()> {
        let goal = self.graph.get(id);
        if !matches!(goal.state, State::Waiting) {
            return Ok(());
        }
        if let Target::Dynamic(drv) = &goal.target {
            let drv = drv.clone();
            self.advance_dynamic(id, &drv);
            return Ok(());
        }
        let failed = goal.failed_inputs;
        let give_up = failed > 0 && (goal.waits_for.is_empty() || !self.scheduler.config.keep_going);
        if give_up {
            let path = goal.path().clone();
            let drv = self.derivation(id).await?;
            let dir = self.scheduler.store.store_dir();
            let reason =
                format!("{failed} {} failed", if failed == 1 { "dependency" } else { "dependencies" });
            let message = cannot_build(dir, &dir.display(&path), &drv, &reason);
            self.fail(id, BuildFailure::new(BuildStatus::DependencyFailed, message));
            return Ok(());
        }
        if goal.waits_for.is_empty() {
            self.make_ready(id);
        }
        Ok(())
    }

    /// The outputs of a derivation that became known in this run.
    pub(crate) fn known_outputs(&self, drv: &StorePath) -> impl Iterator<Item = (String, StorePath)> {
        self.known
            .range((drv.clone(), String::new())..)
            .take_while(move |((path, _), _)| path == drv)
            .map(|((_, name), path)| (name.clone(), path.clone()))
    }

    /// Whether nothing more is to begin.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop || self.scheduler.cancel.is_cancelled()
    }

    pub(crate) async fn start_build(&mut self, id: GoalId) -> StoreResult<()> {
        let drv_path = self.graph.get(id).path().clone();
        let drv = self.derivation(id).await?;
        self.graph.get_mut(id).derivation = Some(Arc::clone(&drv));
        let store = Arc::clone(&self.scheduler.store);
        let mut roots: BTreeSet<StorePath> = drv.input_srcs.clone();
        let mut input_outputs = BTreeMap::new();
        for (input, names) in wanted_inputs(&drv) {
            let outputs = self.input_outputs(&input).await?;
            for name in names {
                let Some(path) = outputs.get(&name).cloned() else {
                    let dir = store.store_dir();
                    let message = format!(
                        "derivation '{}' requires non-existent output '{name}' from input derivation '{}'",
                        dir.display(&drv_path),
                        input.render(dir)
                    );
                    self.fail(id, BuildFailure::new(BuildStatus::MiscFailure, message));
                    return Ok(());
                };
                input_outputs.insert((input.clone(), name), path.clone());
                roots.insert(path);
            }
        }
        let input_paths = closure(&*store, roots).await?;
        let fixed = drv.derivation_type().is_ok_and(DerivationType::is_fixed) && !drv.input_drvs.is_empty();
        let own_text = store.store_dir().display(&drv_path);
        // A fixed output may be made from content-addressed ones, of which it knows placeholders only.
        let resolve = drv.should_resolve() || (fixed && self.scheduler.config.ca_derivations);
        let (drv_path, drv) = match resolve {
            false => (drv_path, drv),
            true => {
                let resolved = drv
                    .resolve(store.store_dir(), |input, name| {
                        input_outputs.get(&(input.clone(), name.to_owned())).cloned()
                    })
                    .map_err(|e| StoreError::Other(e.to_string()))?;
                let Some(resolved) = resolved else {
                    return Err(StoreError::Other(format!(
                        "derivation '{}' could not be resolved",
                        store.store_dir().display(&drv_path)
                    )));
                };
                let bytes = resolved.to_aterm(store.store_dir());
                let name = format!("{}.drv", resolved.name);
                let path = store.add_text(&name, &bytes, &resolved.references(), false).await?;
                (path, Arc::new(resolved))
            }
        };
        let resolved = resolve.then(|| (drv_path.clone(), Arc::clone(&drv)));
        // It goes on for as long as the build does.
        let told = resolve.then(|| {
            let (from, to) = (own_text, store.store_dir().display(&drv_path));
            let text = format!("resolved derivation: '{from}' -> '{to}'");
            let fields = [from.as_str().into(), to.as_str().into()];
            let logger = &self.scheduler.logger;
            Activity::start(logger, Verbosity::Info, ActivityType::BuildWaiting, &text, &fields, 0)
        });
        if let Some((path, drv)) = &resolved
            && self.scheduler.config.ca_derivations
            && !drv.derivation_type().is_ok_and(DerivationType::is_impure)
            && self.mode_of(id) == BuildMode::Normal
        {
            // It may have been built for another derivation that resolves to the same.
            let wanted = |name: &str| self.graph.get(id).wants(name);
            let known = crate::realise::known_outputs(self.scheduler, path, drv, wanted).await?;
            if let Some(outputs) = known {
                if let Some(own) = self.graph.get(id).derivation.clone() {
                    let own_path = self.graph.get(id).path().clone();
                    self.remember(&own_path, &own, &outputs).await?;
                }
                self.succeed(id, BuildStatus::ResolvesToAlreadyValid, outputs);
                return Ok(());
            }
            let allowed = self.scheduler.config.always_allow_substitutes
                || drv.options(store.store_dir()).is_ok_and(|options| options.allow_substitutes);
            if allowed && self.scheduler.config.substitute && !self.graph.get(id).resolved_tried {
                self.graph.get_mut(id).resolved_tried = true;
                let ids = firn_store::outputs::output_ids(&*store, path, drv).await?;
                let goal = self.graph.get(id);
                let ids = ids.into_iter().filter(|(name, _)| goal.wants(name)).map(|(_, id)| id).collect();
                if self.start_substitution(id, BTreeSet::new(), ids) {
                    return Ok(());
                }
            }
        }
        let request = BuildRequest { drv_path, drv, input_paths, mode: self.mode_of(id) };
        self.graph.get_mut(id).state = State::Running;
        self.ready.begun += 1;
        let executor = Arc::clone(&self.scheduler.executor);
        let place = self.scheduler.slots.line_up();
        let observer: Arc<dyn BuildObserver> = self.progress.clone();
        let cancel = self.cancel.clone();
        self.jobs.spawn(async move {
            let result = executor.build(request, &place, &observer, &cancel).await;
            drop(told);
            (id, Job::Built(result, resolved, place))
        });
        Ok(())
    }

    async fn finished(&mut self, id: GoalId, job: Job) -> StoreResult<()> {
        if let Job::Built(..) = &job {
            self.ready.begun = self.ready.begun.saturating_sub(1);
        }
        match job {
            Job::Built(Ok(success), resolved, _) => {
                self.progress.add(&self.progress.done);
                if self.mode_of(id) != BuildMode::Check {
                    if let Some((path, drv)) = &resolved {
                        self.remember(path, drv, &success.outputs).await?;
                    }
                    let goal = self.graph.get(id);
                    if let Some(drv) = goal.derivation.clone() {
                        let path = goal.path().clone();
                        self.remember(&path, &drv, &success.outputs).await?;
                    }
                }
                self.settle(id, State::Succeeded(success));
            }
            Job::Built(Err(failure), resolved, place) => {
                self.held.push(place);
                self.progress.add(&self.progress.failed);
                let failure = match resolved {
                    // The failure is that of another derivation than the one that was asked for.
                    Some((path, _)) if failure.status != BuildStatus::Cancelled => {
                        self.scheduler.logger.error(&failure.message);
                        self.flags.add(failure.status);
                        let path = self.scheduler.store.store_dir().display(&path);
                        let message = format!("build of resolved derivation '{path}' failed");
                        BuildFailure::new(BuildStatus::DependencyFailed, message)
                    }
                    _ => failure,
                };
                self.fail(id, failure);
            }
            Job::Substituted(Err(failure)) if !self.scheduler.config.fallback => {
                let failure = self.substitution_failure(id, failure);
                self.fail(id, failure);
            }
            Job::Substituted(result) => {
                if let Err(failure) = &result {
                    self.scheduler.logger.error(&failure.message);
                }
                // Substituted or not, the next look tells.
                let goal = self.graph.get_mut(id);
                goal.substituted = matches!(result, Ok(Substituted::All));
                // With its inputs done, only building it is left.
                goal.state = if goal.resolved_tried { State::Waiting } else { State::New };
                self.look_at(id);
            }
        }
        Ok(())
    }

    /// What a failed substitution means for who wanted it.
    fn substitution_failure(&self, id: GoalId, failure: BuildFailure) -> BuildFailure {
        match &self.graph.get(id).target {
            Target::Derivation(drv) if failure.status == BuildStatus::NoSubstituters => BuildFailure::new(
                BuildStatus::TransientFailure,
                format!(
                    "some substitutes for the outputs of derivation '{}' failed (usually happens due to networking \
                     issues); try '--fallback' to build derivation from source ",
                    self.scheduler.store.store_dir().display(drv)
                ),
            ),
            _ => failure,
        }
    }

    pub(crate) fn succeed(&mut self, id: GoalId, status: BuildStatus, outputs: BTreeMap<String, StorePath>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        let success = BuildSuccess { status, outputs, start_time: now, stop_time: now, cpu: None };
        self.settle(id, State::Succeeded(success));
    }

    pub(crate) fn fail(&mut self, id: GoalId, failure: BuildFailure) {
        self.flags.add(failure.status);
        let goal = self.graph.get(id);
        // Whoever waits for the derivation behind an output fails with the same words.
        if goal.dependents.iter().any(|dependent| self.graph.get(*dependent).inner != Some(id)) {
            self.scheduler.logger.error(&failure.message);
        }
        if goal.top && !self.scheduler.config.keep_going {
            self.stop = true;
        }
        self.settle(id, State::Failed(failure));
    }

    /// Ends a goal; those that wait for it are taken up again.
    pub(crate) fn settle(&mut self, id: GoalId, state: State) {
        let failed = matches!(state, State::Failed(_));
        if let State::Succeeded(success) = &state {
            if let Target::Derivation(drv) = &self.graph.get(id).target {
                for (name, path) in &success.outputs {
                    self.known.insert((drv.clone(), name.clone()), path.clone());
                }
            }
        }
        let goal = self.graph.get_mut(id);
        goal.state = state;
        // Who needs it again reads it again.
        goal.derivation = None;
        for dependent in std::mem::take(&mut goal.dependents) {
            let goal = self.graph.get_mut(dependent);
            goal.waits_for.remove(&id);
            goal.failed_inputs += usize::from(failed);
            if matches!(goal.state, State::Waiting)
                && (goal.waits_for.is_empty() || (failed && !self.scheduler.config.keep_going))
            {
                self.look_at(dependent);
            }
        }
    }

    fn result(&self, path: &DerivedPath, id: GoalId) -> BuildResult {
        let goal: &Goal = self.graph.get(id);
        let mut result = BuildResult {
            path: path.clone(),
            status: BuildStatus::Cancelled,
            error: String::new(),
            outputs: BTreeMap::new(),
            times_built: 0,
            start_time: 0,
            stop_time: 0,
            cpu: None,
        };
        match &goal.state {
            State::Succeeded(success) => {
                let wanted = |name: &String| match path {
                    DerivedPath::Opaque(_) => false,
                    DerivedPath::Built { outputs, .. } => outputs.contains(name),
                };
                result.status = success.status;
                result.times_built = u32::from(success.status == BuildStatus::Built);
                result.outputs = success
                    .outputs
                    .iter()
                    .filter(|(name, _)| wanted(name))
                    .map(|(name, path)| (name.clone(), path.clone()))
                    .collect();
                // What was not built has no times.
                if success.status == BuildStatus::Built {
                    (result.start_time, result.stop_time) = (success.start_time, success.stop_time);
                }
                result.cpu = success.cpu;
            }
            State::Failed(failure) => {
                result.status = failure.status;
                result.error.clone_from(&failure.message);
            }
            State::New | State::Waiting | State::Running => {
                result.error = "the build was not finished because another one failed".to_owned();
            }
        }
        result
    }
}

fn feature_is_off(feature: &str) -> StoreError {
    StoreError::Other(format!(
        "experimental Nix feature '{feature}' is disabled; add '--extra-experimental-features {feature}' to enable it"
    ))
}

/// Everything that `roots` refer to, and they themselves.
async fn closure(
    store: &dyn firn_store::Store,
    roots: BTreeSet<StorePath>,
) -> StoreResult<BTreeSet<StorePath>> {
    let mut done = BTreeSet::new();
    let mut work: Vec<StorePath> = roots.into_iter().collect();
    while let Some(path) = work.pop() {
        if done.contains(&path) {
            continue;
        }
        let Some(info) = store.query_path_info(&path).await? else {
            return Err(StoreError::InvalidPath { path: store.store_dir().display(&path) });
        };
        work.extend(info.references.iter().filter(|r| !done.contains(*r)).cloned());
        done.insert(path);
    }
    Ok(done)
}

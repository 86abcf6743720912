//! Dynamic derivations: a derivation that is itself the output of another one is obtained first, then built.

use crate::executor::BuildFailure;
use crate::goals::{GoalId, State, Target};
use crate::run::Run;
use crate::scheduler::Scheduler;
use firn_core::{SingleDerivedPath, StorePath};
use firn_derivation::Derivation;
use firn_store::{BuildStatus, StoreError, StoreResult};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Run<'_> {
    /// Begins with making the derivation.
    pub(crate) async fn take_up_dynamic(&mut self, id: GoalId, drv: &SingleDerivedPath) -> StoreResult<()> {
        let SingleDerivedPath::Built { drv: producer, output } = drv else { return Ok(()) };
        let goal = self.graph.get_mut(id);
        goal.state = State::Waiting;
        goal.failed_inputs = 0;
        if goal.inner.is_none() {
            let producer = self.want(producer, &[output.clone()].into());
            self.depend(id, producer);
        } else {
            // More of its outputs are wanted now.
            self.follow(id);
        }
        self.advance_dynamic(id, drv);
        Ok(())
    }

    /// Goes on where the derivation, or what it makes, is done.
    pub(crate) fn advance_dynamic(&mut self, id: GoalId, drv: &SingleDerivedPath) {
        let goal = self.graph.get(id);
        if !goal.waits_for.is_empty() {
            return;
        }
        if let Some(inner) = goal.inner {
            match self.graph.get(inner).state.clone() {
                State::Succeeded(success) => self.settle(id, State::Succeeded(success)),
                State::Failed(failure) => self.fail(id, failure),
                State::New | State::Waiting | State::Running => self.follow(id),
            }
            return;
        }
        let text = drv.render(self.scheduler.store.store_dir());
        let SingleDerivedPath::Built { drv: producer, output } = drv else { return };
        let made = match self.graph.find(&Target::outputs_of(producer)).map(|goal| &goal.state) {
            Some(State::Succeeded(success)) => success.outputs.get(output).cloned(),
            _ => {
                let message = format!("failed to obtain derivation of '{text}'");
                self.fail(id, BuildFailure::new(BuildStatus::DependencyFailed, message));
                return;
            }
        };
        let Some(path) = made else {
            let message = format!("derivation '{text}' was not made");
            self.fail(id, BuildFailure::new(BuildStatus::MiscFailure, message));
            return;
        };
        if !path.is_derivation() {
            let path = self.scheduler.store.store_dir().display(&path);
            let message = format!("'{text}' is not a derivation but '{path}'");
            self.fail(id, BuildFailure::new(BuildStatus::MiscFailure, message));
            return;
        }
        let inner = self.graph.goal(Target::Derivation(path));
        self.graph.get_mut(id).inner = Some(inner);
        self.follow(id);
        if self.graph.get(id).waits_for.is_empty() {
            self.advance_dynamic(id, drv);
        }
    }

    /// Hands on what is wanted to the goal of the derivation that was made, and waits for it.
    fn follow(&mut self, id: GoalId) {
        let goal = self.graph.get(id);
        let Some(inner) = goal.inner else { return };
        let (wanted, all, top) = (goal.wanted.clone(), goal.wants_all, goal.top || goal.top_inner);
        let goal = self.graph.get_mut(inner);
        let news = (all && !goal.wants_all) || wanted.iter().any(|name| !goal.wants(name));
        goal.wanted.extend(wanted);
        goal.wants_all |= all;
        goal.top_inner |= top;
        if news && matches!(&goal.state, State::Succeeded(s) if s.status != BuildStatus::Built) {
            goal.state = State::New;
        }
        self.depend(id, inner);
    }

    /// What is pure would not stay so; only what is known by its content may be made from what changes.
    pub(crate) async fn refuse_impure_inputs(&self, id: GoalId, drv: &Derivation) -> StoreResult<()> {
        if drv.derivation_type().is_ok_and(|kind| kind.is_impure() || kind.is_fixed()) {
            return Ok(());
        }
        for input in drv.input_drvs.keys() {
            let derivations = self.scheduler.store_of(input).await?;
            if derivations.is_valid_path(input).await?
                && derivations.read_derivation(input).await?.derivation_type().is_ok_and(|k| k.is_impure())
            {
                let dir = self.scheduler.store.store_dir();
                return Err(StoreError::Other(format!(
                    "pure derivation '{}' depends on impure derivation '{}'",
                    dir.display(self.graph.get(id).path()),
                    dir.display(input)
                )));
            }
        }
        Ok(())
    }

    /// The outputs of an input that is done.
    pub(crate) async fn input_outputs(
        &self,
        input: &SingleDerivedPath,
    ) -> StoreResult<BTreeMap<String, StorePath>> {
        match input {
            SingleDerivedPath::Opaque(path) => {
                let mut outputs: BTreeMap<String, StorePath> = self
                    .scheduler
                    .outputs_of(path)
                    .await?
                    .into_iter()
                    .filter_map(|(name, path)| Some((name, path?)))
                    .collect();
                outputs.extend(self.known_outputs(path));
                Ok(outputs)
            }
            built @ SingleDerivedPath::Built { .. } => {
                match self.graph.find(&Target::Dynamic(built.clone())).map(|goal| &goal.state) {
                    Some(State::Succeeded(success)) => Ok(success.outputs.clone()),
                    _ => Ok(BTreeMap::new()),
                }
            }
        }
    }
}

/// The derivation that a chain of outputs stands for, where all that make it are done.
pub(crate) async fn resolve(
    scheduler: &Scheduler,
    path: &SingleDerivedPath,
) -> StoreResult<Option<StorePath>> {
    let mut chain = Vec::new();
    let mut at = path;
    while let SingleDerivedPath::Built { drv, output } = at {
        chain.push(output);
        at = drv;
    }
    let mut found = path.base().clone();
    for output in chain.into_iter().rev() {
        let derivations = Arc::clone(scheduler.store_of(&found).await?);
        if !derivations.is_valid_path(&found).await? {
            return Ok(None);
        }
        match scheduler.outputs_of(&found).await?.remove(output).flatten() {
            Some(path) if scheduler.store.is_valid_path(&path).await? => found = path,
            _ => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// The derivations that a derivation depends on, each with the outputs that it wants of it.
pub(crate) fn wanted_inputs(drv: &Derivation) -> Vec<(SingleDerivedPath, BTreeSet<String>)> {
    let opaque = |path: &StorePath| Arc::new(SingleDerivedPath::Opaque(path.clone()));
    let mut work: Vec<_> = drv.input_drvs.iter().rev().map(|(path, node)| (opaque(path), node)).collect();
    let mut wanted = Vec::new();
    while let Some((input, node)) = work.pop() {
        for (output, child) in node.dynamic.iter().rev() {
            let built = SingleDerivedPath::Built { drv: Arc::clone(&input), output: output.clone() };
            work.push((Arc::new(built), child));
        }
        if !node.outputs.is_empty() || node.dynamic.is_empty() {
            wanted.push(((*input).clone(), node.outputs.clone()));
        }
    }
    wanted
}

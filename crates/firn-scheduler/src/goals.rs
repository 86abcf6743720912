//! The graph: one goal for each derivation or path that somebody needs.

use crate::executor::{BuildFailure, BuildSuccess};
use firn_core::StorePath;
use firn_derivation::Derivation;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Index of a goal in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GoalId(usize);

/// What a goal makes valid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// Outputs of a derivation.
    Derivation(StorePath),
    /// A path, by substitution.
    Path(StorePath),
}

/// Where a goal is.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// Not looked at since outputs were added to what is wanted.
    New,
    /// Waits for the goals it depends on.
    Waiting,
    /// Handed out.
    Running,
    Succeeded(BuildSuccess),
    Failed(BuildFailure),
}

#[derive(Debug)]
pub(crate) struct Goal {
    pub target: Target,
    pub state: State,
    /// Names of outputs that somebody wants.
    pub wanted: BTreeSet<String>,
    /// Whether every output is wanted.
    pub wants_all: bool,
    /// Whether substitution was tried already, so that building is what is left.
    pub substitution_tried: bool,
    /// Whether substitution was tried for what the derivation resolves to.
    pub resolved_tried: bool,
    /// Whether that made it valid.
    pub substituted: bool,
    pub derivation: Option<Arc<Derivation>>,
    /// Goals that this one waits for.
    pub waits_for: BTreeSet<GoalId>,
    pub failed_inputs: usize,
    pub dependents: BTreeSet<GoalId>,
    /// Whether a request names it.
    pub top: bool,
}

/// All goals of a run.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    goals: Vec<Goal>,
    by_target: BTreeMap<Target, GoalId>,
}

impl Graph {
    /// The goal for `target`, made if there is none.
    pub fn goal(&mut self, target: Target) -> GoalId {
        if let Some(id) = self.by_target.get(&target) {
            return *id;
        }
        let id = GoalId(self.goals.len());
        self.goals.push(Goal {
            target: target.clone(),
            state: State::New,
            wanted: BTreeSet::new(),
            wants_all: false,
            substitution_tried: false,
            resolved_tried: false,
            substituted: false,
            derivation: None,
            waits_for: BTreeSet::new(),
            failed_inputs: 0,
            dependents: BTreeSet::new(),
            top: false,
        });
        self.by_target.insert(target, id);
        id
    }

    pub fn get(&self, id: GoalId) -> &Goal {
        &self.goals[id.0]
    }

    pub fn get_mut(&mut self, id: GoalId) -> &mut Goal {
        &mut self.goals[id.0]
    }
}

impl Goal {
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Succeeded(_) | State::Failed(_))
    }

    pub fn path(&self) -> &StorePath {
        match &self.target {
            Target::Derivation(path) | Target::Path(path) => path,
        }
    }

    /// Goals are taken up by name, then by path.
    pub fn order(&self) -> (String, StorePath) {
        (self.path().name().to_owned(), self.path().clone())
    }

    pub fn wants(&self, output: &str) -> bool {
        self.wants_all || self.wanted.contains(output)
    }
}

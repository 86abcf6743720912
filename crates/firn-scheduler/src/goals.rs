//! The graph: one goal for each derivation or path that somebody needs.

use crate::executor::{BuildFailure, BuildSuccess};
use firn_core::{SingleDerivedPath, StorePath};
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
    /// Outputs of a derivation that is itself an output of another one.
    Dynamic(SingleDerivedPath),
    /// A path, by substitution.
    Path(StorePath),
}

impl Target {
    /// Outputs of a derivation that is given by how it is made.
    pub fn outputs_of(drv: &SingleDerivedPath) -> Target {
        match drv {
            SingleDerivedPath::Opaque(path) => Target::Derivation(path.clone()),
            SingleDerivedPath::Built { .. } => Target::Dynamic(drv.clone()),
        }
    }
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
    /// How many goals in a row wait for this one.
    pub height: u32,
    /// Whether a request names it.
    pub top: bool,
    /// Whether a request names an output of which it turned out to be the derivation.
    pub top_inner: bool,
    /// The goal of the derivation that was made, for [`Target::Dynamic`].
    pub inner: Option<GoalId>,
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
            height: 0,
            top: false,
            top_inner: false,
            inner: None,
        });
        self.by_target.insert(target, id);
        id
    }

    /// Notes that a goal is at least so high, and what it waits for higher.
    pub fn raise(&mut self, id: GoalId, height: u32) {
        let mut work = vec![(id, height)];
        while let Some((id, height)) = work.pop() {
            let goal = self.get_mut(id);
            if goal.height < height {
                goal.height = height;
                work.extend(goal.waits_for.iter().map(|input| (*input, height.saturating_add(1))));
            }
        }
    }

    /// How many goals there are.
    pub fn len(&self) -> usize {
        self.goals.len()
    }

    /// The goal for `target`, if there is one.
    pub fn find(&self, target: &Target) -> Option<&Goal> {
        self.by_target.get(target).map(|id| self.get(*id))
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
            Target::Dynamic(path) => path.base(),
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

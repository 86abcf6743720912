//! `flake.lock`: a graph of inputs, each with where it comes from and what it is now.

mod diff;
mod read;
mod write;

pub use read::{LockFileError, ReadRules};

use crate::InputPath;
use firn_core::flake_ref::FlakeRef;
use std::collections::{BTreeMap, BTreeSet};

/// A node of a [`LockFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(usize);

/// Where an input leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edge {
    Node(NodeId),
    /// To wherever another input leads, from the root.
    Follows(InputPath),
}

/// What is known of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// What it is, for good.
    pub locked: FlakeRef,
    /// What was asked for.
    pub original: FlakeRef,
    pub is_flake: bool,
    /// The input that a relative path starts from.
    pub parent: Option<InputPath>,
}

/// An input, or the flake itself.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Nothing for the root.
    pub locked: Option<Locked>,
    pub inputs: BTreeMap<String, Edge>,
}

/// All inputs of a flake, and their inputs.
#[derive(Debug, Clone)]
pub struct LockFile {
    nodes: Vec<Node>,
}

impl Default for LockFile {
    fn default() -> LockFile {
        LockFile { nodes: vec![Node::default()] }
    }
}

impl PartialEq for LockFile {
    /// Whether both are written alike.
    fn eq(&self, other: &LockFile) -> bool {
        self.to_json().0 == other.to_json().0
    }
}

impl LockFile {
    /// The flake itself.
    pub const ROOT: NodeId = NodeId(0);

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    pub fn add(&mut self, locked: Locked) -> NodeId {
        self.nodes.push(Node { locked: Some(locked), inputs: BTreeMap::new() });
        NodeId(self.nodes.len() - 1)
    }

    pub fn connect(&mut self, from: NodeId, name: &str, edge: Edge) {
        self.nodes[from.0].inputs.insert(name.to_owned(), edge);
    }

    /// The node that a path leads to, through all that is followed; nothing where there is no such input.
    ///
    /// # Errors
    /// Inputs that follow each other in a circle.
    pub fn find(&self, path: &InputPath) -> Result<Option<NodeId>, String> {
        self.find_from(path, &mut Vec::new())
    }

    fn find_from(&self, path: &InputPath, visited: &mut Vec<InputPath>) -> Result<Option<NodeId>, String> {
        if let Some(at) = visited.iter().position(|known| known == path) {
            let cycle: Vec<String> =
                visited[at..].iter().chain([path]).map(|path| path.to_string()).collect();
            return Err(format!("follow cycle detected: [{}]", cycle.join(" -> ")));
        }
        if visited.len() > MOST_DEEP {
            return Err(format!("inputs follow each other more than {MOST_DEEP} times, at '{path}'"));
        }
        visited.push(path.clone());
        let mut at = LockFile::ROOT;
        for name in &path.0 {
            at = match self.node(at).inputs.get(name) {
                None => return Ok(None),
                Some(Edge::Node(node)) => *node,
                Some(Edge::Follows(target)) => match self.find_from(target, visited)? {
                    Some(node) => node,
                    None => return Ok(None),
                },
            };
        }
        Ok(Some(at))
    }

    /// All inputs, each node once, by the path that leads to it.
    pub fn all_inputs(&self) -> BTreeMap<InputPath, &Edge> {
        let mut found = BTreeMap::new();
        let mut done = BTreeSet::new();
        self.collect(&InputPath::default(), LockFile::ROOT, &mut done, &mut found);
        found
    }

    fn collect<'a>(
        &'a self,
        prefix: &InputPath,
        node: NodeId,
        done: &mut BTreeSet<NodeId>,
        found: &mut BTreeMap<InputPath, &'a Edge>,
    ) {
        if !done.insert(node) {
            return;
        }
        for (name, edge) in &self.node(node).inputs {
            let path = prefix.join(name);
            if let Edge::Node(child) = edge {
                self.collect(&path, *child, done, found);
            }
            found.insert(path, edge);
        }
    }

    /// Checks that all that is followed is there.
    pub fn check(&self) -> Result<(), String> {
        for (path, edge) in self.all_inputs() {
            if let Edge::Follows(target) = edge
                && !target.is_empty()
                && self.find(target)?.is_none()
            {
                return Err(format!("input '{path}' follows a non-existent input '{target}'"));
            }
        }
        Ok(())
    }

    /// An input that may be something else tomorrow, if there is one. With `allow_dirty`, a hash is enough.
    pub fn unlocked(&self, trust_forges: bool, allow_dirty: bool) -> Option<&FlakeRef> {
        let mut reached = BTreeSet::new();
        self.collect(&InputPath::default(), LockFile::ROOT, &mut reached, &mut BTreeMap::new());
        let locked = reached.into_iter().filter_map(|id| self.node(id).locked.as_ref());
        let is_locked = |reference: &FlakeRef| {
            let input = &reference.input;
            input.is_locked(trust_forges)
                || allow_dirty && input.attrs.contains_key("narHash")
                || input.relative_path().is_some()
        };
        locked.map(|locked| &locked.locked).find(|reference| !is_locked(reference))
    }
}

/// How deep inputs may be in each other.
pub(crate) const MOST_DEEP: usize = 500;

#[cfg(test)]
mod tests;

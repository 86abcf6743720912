//! Which paths are alive: those that roots are, and what these keep.

use super::snapshot::Snapshot;
use crate::store::LocalStore;
use firn_core::StorePath;

/// The live ones among the paths of a snapshot.
pub(crate) struct Alive<'a> {
    store: &'a LocalStore,
    snapshot: &'a Snapshot,
    marks: Vec<bool>,
    /// Whether outputs of live derivations are kept also where only realisations know them.
    realised_outputs: bool,
}

impl<'a> Alive<'a> {
    pub(crate) fn new(store: &'a LocalStore, snapshot: &'a Snapshot) -> Alive<'a> {
        let config = &store.inner.config;
        Alive {
            store,
            snapshot,
            marks: vec![false; snapshot.paths.len()],
            realised_outputs: config.keep_outputs && config.ca_derivations,
        }
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        self.marks[number as usize]
    }

    /// Marks a path, if it is valid, and what it keeps.
    pub(crate) fn mark_path(&mut self, path: &StorePath) {
        if let Some(number) = self.snapshot.number(path) {
            self.mark(number);
        }
    }

    pub(crate) fn mark(&mut self, number: u32) {
        let mut todo = vec![number];
        while let Some(number) = todo.pop() {
            if std::mem::replace(&mut self.marks[number as usize], true) {
                continue;
            }
            todo.extend(self.snapshot.keeps(number).filter(|next| !self.marks[*next as usize]));
            let path = &self.snapshot.paths[number as usize];
            if self.realised_outputs && path.is_derivation() {
                // A derivation that cannot be read keeps what the database says, which was followed already.
                let outputs = self.store.derivation_outputs(path).unwrap_or_default();
                let outputs = outputs.into_values().flatten();
                todo.extend(outputs.filter_map(|output| self.snapshot.number(&output)));
            }
        }
    }
}

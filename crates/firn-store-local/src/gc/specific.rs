//! Deleting the paths that a user names, if nothing but each other needs them.

use super::server::Shared;
use crate::roots::Roots;
use crate::store::LocalStore;
use firn_core::StorePath;
use firn_store::{GcOptions, GcResults, StoreError, StoreResult};
use rustc_hash::FxHashSet;
use std::collections::{BTreeSet, VecDeque};

impl LocalStore {
    pub(super) fn collect_specific(
        &self,
        options: &GcOptions,
        shared: &Shared,
        results: &mut GcResults,
    ) -> StoreResult<()> {
        self.say("finding garbage collector roots...");
        // In this order: whoever makes a permanent root and ends in between is seen one way or the other.
        let mut temporary = Roots::new();
        self.temporary_roots(true, &mut temporary)?;
        for root in temporary.keys() {
            shared.add_root(root);
        }
        let mut roots = FxHashSet::default();
        if !options.ignore_liveness {
            self.walk_permanent_roots(&mut |root| {
                roots.insert(root.path);
                // Whether it is valid is of no interest to those who ask for few paths.
                Ok(true)
            })?;
            let mut running = Roots::new();
            self.runtime_roots(true, &mut running)?;
            roots.extend(running.into_keys());
        }
        super::sync_point("_NIX_TEST_GC_SYNC_2");
        // In spite of roots, but not with the derivers or outputs of what is named.
        let follow = !options.ignore_liveness;
        let mut run =
            Run { store: self, options, follow, roots, shared, dead: FxHashSet::default(), results };
        for path in &options.paths_to_delete {
            let outcome = run.visit(path);
            shared.release();
            outcome?;
            if !run.dead.contains(path) {
                return Err(StoreError::Other(format!(
                    "Cannot delete path '{}' since it is still alive. To find out why, use: nix-store --query \
                     --roots and nix-store --query --referrers",
                    self.display(path)
                )));
            }
        }
        Ok(())
    }
}

struct Run<'a> {
    store: &'a LocalStore,
    options: &'a GcOptions,
    /// Whether `keep-outputs` and `keep-derivations` count.
    follow: bool,
    roots: FxHashSet<StorePath>,
    shared: &'a Shared,
    dead: FxHashSet<StorePath>,
    results: &'a mut GcResults,
}

impl Run<'_> {
    /// Visits what must go before `start` can; deletes all of it if nothing among it is a root, or not named.
    fn visit(&mut self, start: &StorePath) -> StoreResult<()> {
        let store = self.store;
        let config = &store.inner.config;
        let mut visited = BTreeSet::from([start.clone()]);
        let mut todo = VecDeque::from([start.clone()]);
        while let Some(path) = todo.pop_front() {
            if self.dead.contains(&path) {
                continue;
            }
            if self.roots.contains(&path)
                || !self.options.paths_to_delete.contains(&path)
                || !self.shared.claim(path.hash_part())
            {
                return Ok(());
            }
            if !store.is_valid_here(&path)? {
                continue;
            }
            let mut next = store.referrers_here(&path)?;
            if self.follow && config.keep_derivations && path.is_derivation() {
                for output in store.derivation_outputs(&path)?.into_values().flatten() {
                    let info = store.path_info(&output)?;
                    if info.is_some_and(|info| info.deriver.as_ref() == Some(&path)) {
                        next.insert(output);
                    }
                }
            }
            if self.follow && config.keep_outputs {
                next.extend(store.valid_derivers(&path)?);
            }
            todo.extend(next.into_iter().filter(|path| visited.insert(path.clone())));
        }
        self.delete(&visited)
    }

    fn delete(&mut self, visited: &BTreeSet<StorePath>) -> StoreResult<()> {
        let store = self.store;
        let sorted = firn_store::closure::topo_sort(visited, |path| {
            Ok(store.path_info(path)?.map(|info| info.references).unwrap_or_default())
        })?
        .map_err(|cycle| cycle.into_error(store.dir()))?;
        let fresh = sorted.into_iter().filter(|path| self.dead.insert(path.clone()));
        for path in fresh.collect::<Vec<_>>() {
            store.invalidate_durably(&path)?;
            let (text, real) = (store.display(&path), store.real(&path));
            // Also of what is not there: who named it asked for that.
            store.say(format!("deleting '{text}'"));
            self.results.paths.insert(text);
            match store.remove_object(&real) {
                Ok(freed) => self.results.bytes_freed += freed,
                Err(e) if store.inner.config.ignore_gc_delete_failure => {
                    let text = format!("ignoring failure to remove '{}': {e}", real.display());
                    store.inner.logger.warn(&text);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

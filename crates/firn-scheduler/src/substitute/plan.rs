//! Where the closure of a request comes from.

use super::StoreSubstituter;
use super::sources::Source;
use firn_core::{StorePath, ValidPathInfo};
use firn_store::{Store, StoreError, StoreResult};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc::{self, UnboundedSender};

/// Where a path comes from: the first source that has it and is believed.
pub(super) struct Choice {
    pub source: usize,
    pub info: Arc<ValidPathInfo>,
    /// What it takes in KiB, if it is so small that it can wait in memory.
    pub small: Option<u32>,
}

/// What is known of the closure of a request.
#[derive(Default)]
pub(super) struct Plan {
    pub choices: BTreeMap<StorePath, Choice>,
    pub valid: BTreeSet<StorePath>,
    pub absent: BTreeSet<StorePath>,
    /// What a substituter that failed said last; it may have had what is absent.
    pub error: Option<StoreError>,
}

/// Largest archive that waits in memory for what it refers to, in KiB. Caches keep those of this size as they are
/// unpacked, others as they came if that is not larger.
pub(super) const SMALL: u32 = 1024;

/// What the smallest archive counts as, in KiB, so that there is a bound for their number too.
const LEAST: u32 = 16;

/// What the archive of a path takes in memory, if its source would hold it there. Only caches do; others cannot have much
/// under way at once either.
pub(super) async fn small(source: &Source, path: &StorePath) -> Option<u32> {
    let info = source.store.query_nar_info(path).await.ok()??;
    let fits = |bytes: u64| u32::try_from(bytes.div_ceil(1024)).ok().filter(|size| *size <= SMALL);
    let file = fits(info.file_size.unwrap_or(info.info.nar_size))?;
    Some(fits(info.info.nar_size).unwrap_or(file).max(LEAST))
}

impl StoreSubstituter {
    /// Finds out where the closure of `paths` comes from. With `repair` they themselves are taken again.
    pub(super) async fn plan(&self, paths: &BTreeSet<StorePath>, repair: bool) -> StoreResult<Plan> {
        let (tell, told) = mpsc::unbounded_channel();
        let ahead = async {
            self.walk(told, true).await;
            std::future::pending().await
        };
        tokio::select! {
            plan = self.plan_by_levels(paths, repair, tell) => plan,
            plan = ahead => plan,
        }
    }

    async fn plan_by_levels(
        &self,
        paths: &BTreeSet<StorePath>,
        repair: bool,
        tell: UnboundedSender<StorePath>,
    ) -> StoreResult<Plan> {
        let sources = self.sources().await;
        let mut plan = Plan::default();
        let mut seen = paths.clone();
        let mut frontier = paths.clone();
        let mut repair = repair;
        while !frontier.is_empty() {
            for path in &frontier {
                // Whoever follows them may be done already.
                let _ = tell.send(path.clone());
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
                    let small = small(source, &path).await;
                    plan.choices.insert(path, Choice { source: index, info, small });
                }
            }
            plan.absent.extend(wanted);
            frontier = next;
            repair = false;
        }
        Ok(plan)
    }
}

impl Plan {
    /// Planned paths, each after those that it refers to. A circle is a lie of some substituter.
    pub fn order(&self, store: &dyn Store) -> StoreResult<Vec<StorePath>> {
        let paths: BTreeSet<StorePath> = self.choices.keys().cloned().collect();
        let sorted = firn_store::closure::topo_sort(&paths, |path| {
            Ok(self.choices.get(path).map(|choice| choice.info.references.clone()).unwrap_or_default())
        })?;
        let mut sorted = sorted.map_err(|cycle| cycle.into_error(store.store_dir()))?;
        sorted.reverse();
        Ok(sorted)
    }

    /// Those of `order` that are small and can be had with all that they refer to, as far as is known.
    pub fn small(&self, order: &[StorePath]) -> VecDeque<(StorePath, u32)> {
        let mut in_vain: BTreeSet<&StorePath> = self.absent.iter().collect();
        let mut small = VecDeque::new();
        for path in order {
            let choice = &self.choices[path];
            if choice.info.references.iter().any(|r| in_vain.contains(r)) {
                in_vain.insert(path);
            } else if let Some(size) = choice.small {
                small.push_back((path.clone(), size));
            }
        }
        small
    }
}

//! Closures of paths, and sorting paths by their references.

use crate::error::{StoreError, StoreResult};
use crate::traits::Store;
use firn_core::{StoreDir, StorePath, ValidPathInfo};
use std::collections::BTreeSet;

/// Which way edges are followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// From a path to what it refers to.
    #[default]
    References,
    /// From a path to what refers to it.
    Referrers,
}

/// What belongs to a closure besides references.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClosureOptions {
    pub direction: Direction,
    /// With a derivation, its valid outputs (backwards: with an output, its valid derivers).
    pub include_outputs: bool,
    /// With a path, its valid deriver (backwards: with a derivation, its valid outputs).
    pub include_derivers: bool,
}

impl ClosureOptions {
    /// Everything that refers to the start, at any distance.
    pub const REFERRERS: ClosureOptions =
        ClosureOptions { direction: Direction::Referrers, include_outputs: false, include_derivers: false };
}

/// Two paths of a circle of references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    pub path: StorePath,
    pub parent: StorePath,
}

impl Cycle {
    pub fn into_error(self, dir: &StoreDir) -> StoreError {
        StoreError::Other(format!(
            "cycle detected in the references of '{}' from '{}'",
            dir.display(&self.path),
            dir.display(&self.parent)
        ))
    }
}

/// Sorts paths so that each comes before those of them that it refers to. Ties are broken as the reference breaks
/// them, so that output agrees. The outer error is the callback's.
pub fn topo_sort(
    items: &BTreeSet<StorePath>,
    mut references: impl FnMut(&StorePath) -> StoreResult<BTreeSet<StorePath>>,
) -> StoreResult<Result<Vec<StorePath>, Cycle>> {
    let mut sorted = Vec::with_capacity(items.len());
    let mut visited: BTreeSet<StorePath> = BTreeSet::new();
    let mut open: BTreeSet<StorePath> = BTreeSet::new();
    let mut stack: Vec<(StorePath, std::collections::btree_set::IntoIter<StorePath>)> = Vec::new();
    for item in items {
        if visited.insert(item.clone()) {
            open.insert(item.clone());
            stack.push((item.clone(), references(item)?.into_iter()));
        }
        while let Some((path, children)) = stack.last_mut() {
            let Some(child) = children.next() else {
                open.remove(path);
                sorted.push(path.clone());
                stack.pop();
                continue;
            };
            if child == *path || !items.contains(&child) {
                continue;
            }
            if open.contains(&child) {
                return Ok(Err(Cycle { path: child, parent: path.clone() }));
            }
            if visited.insert(child.clone()) {
                open.insert(child.clone());
                let next = references(&child)?.into_iter();
                stack.push((child, next));
            }
        }
    }
    sorted.reverse();
    Ok(Ok(sorted))
}

/// Everything that can be reached from `start`, itself included.
pub fn closure(
    start: impl IntoIterator<Item = StorePath>,
    mut edges: impl FnMut(&StorePath) -> StoreResult<BTreeSet<StorePath>>,
) -> StoreResult<BTreeSet<StorePath>> {
    let mut todo: Vec<StorePath> = start.into_iter().collect();
    let mut reached: BTreeSet<StorePath> = todo.iter().cloned().collect();
    while let Some(path) = todo.pop() {
        for next in edges(&path)? {
            if reached.insert(next.clone()) {
                todo.push(next);
            }
        }
    }
    Ok(reached)
}

/// The closure of paths in a store. A path that is not valid is an error, but for what refers to it: that is nothing.
pub async fn compute_fs_closure(
    store: &dyn Store,
    start: &BTreeSet<StorePath>,
    options: ClosureOptions,
) -> StoreResult<BTreeSet<StorePath>> {
    if options.direction == Direction::References
        && !options.include_derivers
        && let Some(closure) = store.query_closure(start, options.include_outputs).await?
    {
        return Ok(closure);
    }
    let mut reached = start.clone();
    // Stores far away are asked for all paths of the same distance at once.
    let mut frontier = start.clone();
    while !frontier.is_empty() {
        let mut next = BTreeSet::new();
        let infos = match options.direction {
            Direction::References => store.query_path_infos(&frontier).await?,
            Direction::Referrers => Default::default(),
        };
        for path in &frontier {
            let edges = match (options.direction, infos.get(path)) {
                (Direction::References, Some(info)) => references(store, path, info, options).await?,
                (Direction::References, None) => {
                    return Err(StoreError::InvalidPath { path: store.store_dir().display(path) });
                }
                (Direction::Referrers, _) => referrers(store, path, options).await?,
            };
            next.extend(edges.into_iter().filter(|edge| reached.insert(edge.clone())));
        }
        frontier = next;
    }
    Ok(reached)
}

async fn references(
    store: &dyn Store,
    path: &StorePath,
    info: &ValidPathInfo,
    options: ClosureOptions,
) -> StoreResult<BTreeSet<StorePath>> {
    let mut next = info.references.clone();
    if options.include_derivers
        && let Some(deriver) = &info.deriver
        && store.is_valid_path(deriver).await?
    {
        next.insert(deriver.clone());
    }
    if options.include_outputs {
        next.extend(valid_outputs(store, path).await?);
    }
    Ok(next)
}

async fn referrers(
    store: &dyn Store,
    path: &StorePath,
    options: ClosureOptions,
) -> StoreResult<BTreeSet<StorePath>> {
    let mut next = store.query_referrers(path).await?;
    if options.include_outputs {
        next.extend(store.query_valid_derivers(path).await?);
    }
    if options.include_derivers {
        next.extend(valid_outputs(store, path).await?);
    }
    Ok(next)
}

/// The outputs of a derivation that are there; none of anything else.
async fn valid_outputs(store: &dyn Store, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
    let mut valid = BTreeSet::new();
    if path.is_derivation() {
        for output in store.query_derivation_outputs(path).await?.into_values().flatten() {
            if store.is_valid_path(&output).await? {
                valid.insert(output);
            }
        }
    }
    Ok(valid)
}

/// As [`topo_sort`], with the references that the store knows; paths that are not valid have none.
pub async fn topo_sort_paths(store: &dyn Store, paths: &BTreeSet<StorePath>) -> StoreResult<Vec<StorePath>> {
    let mut known = store.query_references_among(paths).await?;
    // Each is asked for once.
    topo_sort(paths, |path| Ok(known.remove(path).unwrap_or_default()))?
        .map_err(|cycle| cycle.into_error(store.store_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn path(n: char) -> StorePath {
        StorePath::from_base_name(&format!("{}-{n}", n.to_string().repeat(32))).unwrap()
    }

    /// `"ab bc"`: a refers to b, b refers to c.
    #[track_caller]
    fn check(edges: &str, expected: &str) {
        let mut graph: BTreeMap<StorePath, BTreeSet<StorePath>> = BTreeMap::new();
        for edge in edges.split(' ') {
            let mut ends = edge.chars().map(path);
            let from = ends.next().unwrap();
            graph.entry(from).or_default().extend(ends.clone());
            ends.for_each(|to| {
                graph.entry(to).or_default();
            });
        }
        let items = graph.keys().cloned().collect();
        let got = match topo_sort(&items, |p| Ok(graph[p].clone())).unwrap() {
            Ok(sorted) => sorted.iter().map(|p| p.name().to_owned()).collect::<String>(),
            Err(cycle) => format!("{} from {}", cycle.path.name(), cycle.parent.name()),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn sorts() {
        check("ab bc ac", "abc");
        check("cb ba", "cba");
        check("aa ab", "ab");
        check("a b c", "cba");
        check("ab bc ca", "a from c");
    }
}

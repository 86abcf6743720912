//! What the paths of a closure weigh: by themselves, with all they need, and what would go if they went.

use crate::{ClosureOptions, Store, StoreResult, compute_fs_closure};
use firn_core::StorePath;
use std::collections::{BTreeSet, HashMap};

/// A path of the closure.
#[derive(Debug)]
pub struct Weight {
    pub path: StorePath,
    /// Bytes of its own archive.
    pub own: u64,
    /// Bytes of it and all that it refers to.
    pub closure: u64,
    /// Bytes of it and of what only it brings into the closure.
    pub alone: u64,
    /// Places of the paths that it refers to, but for itself, largest closure first.
    pub references: Vec<usize>,
}

/// A closure with its weights.
#[derive(Debug)]
pub struct Weights {
    /// In no order; the first are the tops, in theirs.
    pub paths: Vec<Weight>,
    pub tops: usize,
    /// Bytes of all paths.
    pub total: u64,
}

/// Weighs the closure of `tops`.
///
/// # Errors
/// A path that is not valid, and those of the store.
pub async fn weigh(store: &dyn Store, tops: &[StorePath]) -> StoreResult<Weights> {
    let start: BTreeSet<StorePath> = tops.iter().cloned().collect();
    let closure = compute_fs_closure(store, &start, ClosureOptions::default()).await?;
    let infos = store.query_path_infos(&closure).await?;
    let mut order: Vec<StorePath> = Vec::with_capacity(closure.len());
    for top in tops {
        if !order.contains(top) {
            order.push(top.clone());
        }
    }
    let count = order.len();
    order.extend(closure.into_iter().filter(|path| !start.contains(path)));
    let places: HashMap<StorePath, usize> = order.iter().cloned().zip(0..).collect();
    let mut paths = Vec::with_capacity(order.len());
    for path in order {
        let info = infos.get(&path);
        let references = info.map(|info| &info.references).into_iter().flatten();
        let references =
            references.filter(|to| **to != path).filter_map(|to| places.get(to).copied()).collect();
        let own = info.map_or(0, |info| info.nar_size);
        paths.push(Weight { path, own, closure: 0, alone: own, references });
    }
    Ok(measure(paths, count))
}

/// Fills in what follows from sizes and references.
fn measure(mut paths: Vec<Weight>, tops: usize) -> Weights {
    let mut seen = vec![usize::MAX; paths.len()];
    let mut todo = Vec::new();
    for start in 0..paths.len() {
        todo.push(start);
        seen[start] = start;
        let mut sum = 0;
        while let Some(place) = todo.pop() {
            sum += paths[place].own;
            for &next in &paths[place].references {
                if seen[next] != start {
                    seen[next] = start;
                    todo.push(next);
                }
            }
        }
        paths[start].closure = sum;
    }
    for place in 0..paths.len() {
        let mut references = std::mem::take(&mut paths[place].references);
        references.sort_by(|&a, &b| {
            paths[b].closure.cmp(&paths[a].closure).then_with(|| paths[a].path.cmp(&paths[b].path))
        });
        paths[place].references = references;
    }
    for (place, dominator) in dominators(&paths, tops) {
        paths[dominator].alone += paths[place].alone;
    }
    let total = paths.iter().map(|path| path.own).sum();
    Weights { paths, tops, total }
}

/// For each path that not all tops' ways reach by themselves, the nearest one that all ways to it lead through; those
/// farther from the tops first. After Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm".
fn dominators(paths: &[Weight], tops: usize) -> Vec<(usize, usize)> {
    // Postorder from a root above all tops, which has the number of none.
    let root = paths.len();
    let mut order = Vec::with_capacity(paths.len() + 1);
    let mut number = vec![usize::MAX; paths.len() + 1];
    let all_tops: Vec<usize> = (0..tops).collect();
    let next = |place: usize| if place == root { &all_tops[..] } else { &paths[place].references[..] };
    let mut entered = vec![false; paths.len() + 1];
    entered[root] = true;
    let mut stack = vec![(root, 0)];
    while let Some((place, at)) = stack.last_mut() {
        match next(*place).get(*at) {
            Some(&child) => {
                *at += 1;
                if !entered[child] {
                    entered[child] = true;
                    stack.push((child, 0));
                }
            }
            None => {
                number[*place] = order.len();
                order.push(*place);
                stack.pop();
            }
        }
    }
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); paths.len() + 1];
    for &place in &order {
        for &child in next(place) {
            before[child].push(place);
        }
    }
    let mut above = vec![usize::MAX; paths.len() + 1];
    above[root] = root;
    let mut changed = true;
    while changed {
        changed = false;
        for &place in order.iter().rev().skip(1) {
            let mut new = usize::MAX;
            for &one in before[place].iter().filter(|&&one| above[one] != usize::MAX) {
                let (mut a, mut b) = (one, if new == usize::MAX { one } else { new });
                while a != b {
                    match number[a] < number[b] {
                        true => a = above[a],
                        false => b = above[b],
                    }
                }
                new = a;
            }
            if above[place] != new {
                above[place] = new;
                changed = true;
            }
        }
    }
    order
        .into_iter()
        .filter(|&place| place != root && above[place] != root)
        .map(|place| (place, above[place]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph of paths by number; each weighs a power of ten.
    fn graph(tops: usize, references: &[&[usize]]) -> Weights {
        let paths = references.iter().enumerate().map(|(place, references)| Weight {
            path: StorePath::from_base_name(&format!("{}-p{place}", "0".repeat(32))).unwrap(),
            own: 10u64.pow(u32::try_from(place).unwrap()),
            closure: 0,
            alone: 10u64.pow(u32::try_from(place).unwrap()),
            references: references.to_vec(),
        });
        measure(paths.collect(), tops)
    }

    #[track_caller]
    fn check(tops: usize, references: &[&[usize]], closures: &[u64], alone: &[u64]) {
        let weights = graph(tops, references);
        assert_eq!(weights.paths.iter().map(|path| path.closure).collect::<Vec<_>>(), closures);
        assert_eq!(weights.paths.iter().map(|path| path.alone).collect::<Vec<_>>(), alone);
    }

    #[test]
    fn weights() {
        check(1, &[&[]], &[1], &[1]);
        check(1, &[&[1], &[2], &[]], &[111, 110, 100], &[111, 110, 100]);
        // A diamond: the bottom goes only with the top.
        check(1, &[&[1, 2], &[3], &[3], &[]], &[1111, 1010, 1100, 1000], &[1111, 10, 100, 1000]);
        // Two tops share it.
        check(2, &[&[2], &[2], &[]], &[101, 110, 100], &[1, 10, 100]);
        // A circle below the top.
        check(1, &[&[1], &[2], &[1]], &[111, 110, 110], &[111, 110, 100]);
    }

    #[test]
    fn references_come_by_weight() {
        assert_eq!(graph(1, &[&[1, 2, 3], &[], &[], &[]]).paths[0].references, [3, 2, 1]);
    }
}

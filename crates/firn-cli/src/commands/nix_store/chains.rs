//! Why roots keep paths alive: the references that lead from one to the other.

use firn_core::StorePath;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// For each path that leads to one of `wanted` by references, the next path on a shortest way there.
pub fn ways_to(
    wanted: &BTreeSet<StorePath>,
    references: &BTreeMap<StorePath, BTreeSet<StorePath>>,
) -> BTreeMap<StorePath, StorePath> {
    let mut referrers: BTreeMap<&StorePath, Vec<&StorePath>> = BTreeMap::new();
    for (path, references) in references {
        for reference in references.iter().filter(|reference| *reference != path) {
            referrers.entry(reference).or_default().push(path);
        }
    }
    let mut ways: BTreeMap<StorePath, StorePath> = BTreeMap::new();
    let mut todo: VecDeque<&StorePath> = wanted.iter().collect();
    while let Some(path) = todo.pop_front() {
        for referrer in referrers.get(path).into_iter().flatten() {
            if !wanted.contains(*referrer) && !ways.contains_key(*referrer) {
                ways.insert((*referrer).clone(), path.clone());
                todo.push_back(referrer);
            }
        }
    }
    ways
}

/// The paths from `start` to the end of its way.
pub fn chain<'a>(start: &'a StorePath, ways: &'a BTreeMap<StorePath, StorePath>) -> Vec<&'a StorePath> {
    std::iter::successors(Some(start), |path| ways.get(*path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_shortest_way() {
        let path = |n: char| StorePath::from_base_name(&format!("{}-{n}", n.to_string().repeat(32))).unwrap();
        // d → c → b → a, d → b, and everything refers to itself.
        let edges = [('a', "a"), ('b', "ab"), ('c', "bc"), ('d', "bcd")];
        let graph = edges.iter().map(|(from, to)| (path(*from), to.chars().map(path).collect())).collect();
        let ways = ways_to(&[path('a')].into(), &graph);
        let names =
            |start| chain(&path(start), &ways).iter().map(|p| p.name().to_owned()).collect::<String>();
        assert_eq!((names('d'), names('c'), names('a')), ("dba".into(), "cba".into(), "a".into()));
    }
}

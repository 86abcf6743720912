//! "Did you mean": names close to one that was not found.

use std::collections::BTreeSet;

/// How many letters may be different.
const FARTHEST: usize = 2;

/// The closest names, best first; few, and none that is far off.
pub fn best_matches<'a>(names: impl Iterator<Item = &'a [u8]>, query: &[u8]) -> Vec<String> {
    best_names(near_names(names, query).into_iter().collect())
}

/// The names that are not far off, each with how far.
pub fn near_names<'a>(names: impl Iterator<Item = &'a [u8]>, query: &[u8]) -> Vec<(usize, String)> {
    let lossy = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    names.map(|name| (distance(query, name), lossy(name))).filter(|(d, _)| *d <= FARTHEST).collect()
}

/// Of names that are near to what was asked for in several places, the closest, best first.
pub fn best_names(found: BTreeSet<(usize, String)>) -> Vec<String> {
    found.into_iter().take(5).map(|(_, name)| name).collect()
}

/// Levenshtein's distance, or more than [`FARTHEST`].
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len().abs_diff(b.len()) > FARTHEST {
        return FARTHEST + 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_only() {
        let names = ["hello", "help", "firefox"];
        let found = best_matches(names.iter().map(|n| n.as_bytes()), b"hell");
        assert_eq!(found, ["hello", "help"]);
        assert!(best_matches(names.iter().map(|n| n.as_bytes()), b"zzzzzzzz").is_empty());
        // Three changes are too many, also where nothing is closer.
        assert!(best_matches(["map", "null"].iter().map(|n| n.as_bytes()), b"nope").is_empty());
    }
}

//! Columns side by side, and how versions compare.

use firn_eval::{FoundDerivation, compare_versions, split_package_name};
use std::cmp::Ordering;
use std::collections::HashMap;

/// Rows as text: columns as wide as their widest cell, in bytes, two spaces between them.
pub fn table(rows: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut out = Vec::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            out.extend(cell.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
            if at + 1 < row.len() {
                out.extend(std::iter::repeat_n(b' ', widths[at] - cell.len() + 2));
            }
        }
        out.push(b'\n');
    }
    out
}

/// How a package's version stands to those of the same name among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionDiff {
    /// There are only lower ones.
    Newest,
    /// There is an equal one and none higher.
    Equal,
    /// There is a higher one.
    Outdated,
    /// There is none of that name.
    Unavailable,
}

impl VersionDiff {
    pub fn sign(self) -> char {
        match self {
            Self::Newest => '>',
            Self::Equal => '=',
            Self::Outdated => '<',
            Self::Unavailable => '-',
        }
    }
}

/// Versions by name, in the order of the packages.
pub struct Versions<'a>(HashMap<&'a [u8], Vec<&'a [u8]>>);

impl<'a> Versions<'a> {
    pub fn of(packages: &'a [FoundDerivation]) -> Self {
        Self::of_names(packages.iter().map(|package| package.name.as_bytes()))
    }

    fn of_names(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut all: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        for full in names {
            let (name, version) = split_package_name(full);
            all.entry(name).or_default().push(version);
        }
        Self(all)
    }

    /// How `full` (a name with version) compares, and with which version. The last higher version counts, not the
    /// highest; among lower ones the highest does.
    pub fn compare(&self, full: &[u8]) -> (VersionDiff, Vec<u8>) {
        let (name, version) = split_package_name(full);
        let mut diff = VersionDiff::Unavailable;
        let mut with: &[u8] = b"?";
        for other in self.0.get(name).into_iter().flatten() {
            match compare_versions(version, other) {
                Ordering::Less => (diff, with) = (VersionDiff::Outdated, other),
                _ if diff == VersionDiff::Outdated => {}
                Ordering::Equal => (diff, with) = (VersionDiff::Equal, other),
                Ordering::Greater if diff != VersionDiff::Equal => {
                    diff = VersionDiff::Newest;
                    if with.is_empty() || compare_versions(with, other) == Ordering::Less {
                        with = other;
                    }
                }
                Ordering::Greater => {}
            }
        }
        (diff, with.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_padded() {
        let rows = [["a", "bcd", ""], ["long", "x\ny", "z"]];
        let rows: Vec<Vec<Vec<u8>>> =
            rows.iter().map(|row| row.iter().map(|cell| cell.as_bytes().to_vec()).collect()).collect();
        assert_eq!(table(&rows), b"a     bcd  \nlong  x y  z\n");
        assert_eq!(table(&[]), b"");
        assert_eq!(table(&[vec![], vec![]]), b"\n\n");
    }

    #[track_caller]
    fn check(name: &str, others: &[&str], expected: &str) {
        let versions = Versions::of_names(others.iter().map(|name| name.as_bytes()));
        let (diff, with) = versions.compare(name.as_bytes());
        assert_eq!(format!("{} {}", diff.sign(), String::from_utf8_lossy(&with)), expected);
    }

    #[test]
    fn comparisons() {
        check("a-1", &["b-1"], "- ?");
        check("a-1", &["a-1", "a-0"], "= 1");
        check("a-1", &["a-0.9", "a-0.5"], "> 0.9");
        check("a-1", &["a-2", "a-3", "a-1"], "< 3");
    }
}

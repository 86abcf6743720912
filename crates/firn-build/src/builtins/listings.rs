//! The folders that packages of an environment have in common, read by several threads before the environment is planned.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Names with their kinds, not in order.
pub(super) type Listing = Vec<(OsString, FileType)>;

/// By the folder.
pub(super) type Listings = HashMap<PathBuf, Listing>;

/// With fewer folders than this, starting threads takes longer than they save.
const FEW: usize = 50;

/// What is in one folder.
pub(super) fn list(folder: &Path) -> io::Result<Listing> {
    fs::read_dir(folder)?
        .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))))
        .collect()
}

/// The roots of packages, and below them each folder that several have at the same place: those will be merged. What cannot
/// be read is left out, to be an error when it is asked for.
pub(super) fn of(roots: &[&Path]) -> Listings {
    let mut all = Listings::new();
    // Folders with a number for their place.
    let mut level: Vec<(usize, PathBuf)> = roots.iter().map(|root| (0, root.to_path_buf())).collect();
    while !level.is_empty() {
        let listed = list_all(&level);
        let mut places: HashMap<(usize, OsString), Vec<PathBuf>> = HashMap::new();
        for ((place, folder), entries) in level.into_iter().zip(listed) {
            let Some(entries) = entries else { continue };
            for (name, _) in entries.iter().filter(|(_, kind)| kind.is_dir()) {
                places.entry((place, name.clone())).or_default().push(folder.join(name));
            }
            all.insert(folder, entries);
        }
        let shared = places.into_values().filter(|folders| folders.len() > 1).enumerate();
        level = shared
            .flat_map(|(place, folders)| folders.into_iter().map(move |folder| (place, folder)))
            .collect();
    }
    all
}

fn list_all(level: &[(usize, PathBuf)]) -> Vec<Option<Listing>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if level.len() < FEW { 1 } else { cores.min(8) };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((_, folder)) = level.get(index) else { return found };
            found.push((index, list(folder).ok()));
        }
    };
    let mut all: Vec<Option<Listing>> = level.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = work();
        for thread in others {
            found.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        found.into_iter().for_each(|(index, listing)| all[index] = listing);
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_read() {
        let tmp = tempfile::tempdir().unwrap();
        let mut roots = Vec::new();
        for package in 0..60 {
            let root = tmp.path().join(package.to_string());
            for folder in
                ["bin", "share/man/man1", &format!("share/own{package}/deep"), &format!("only{package}/x")]
            {
                fs::create_dir_all(root.join(folder)).unwrap();
            }
            fs::write(root.join("bin/file"), "").unwrap();
            roots.push(root);
        }
        roots.push(tmp.path().join("missing"));
        let roots: Vec<&Path> = roots.iter().map(PathBuf::as_path).collect();
        let all = of(&roots);
        let mut names: Vec<String> = all
            .keys()
            .filter_map(|path| path.strip_prefix(roots[7]).ok())
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["", "bin", "share", "share/man", "share/man/man1"]);
        assert_eq!(all.len(), 60 * 5);
        assert_eq!(all[&roots[7].join("bin")].len(), 1);
    }
}

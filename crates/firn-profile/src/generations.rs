//! Generations: the links beside a profile, and switching between them.

use crate::error::{ProfileError, ProfileResult};
use crate::selection::Selection;
use firn_core::StorePath;
use firn_store::LocalFsStore;
use firn_store::locks::PathLocks;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One generation of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub number: u64,
    /// The link to the store path.
    pub path: PathBuf,
    /// Seconds since the epoch.
    pub created: i64,
}

/// All generations of a profile, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generations {
    pub all: Vec<Generation>,
    /// The number of that which the profile points to.
    pub current: Option<u64>,
}

/// From which generation to which a profile was or would be switched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switched {
    /// 0 if there was none.
    pub from: u64,
    pub to: Generation,
}

impl Generations {
    /// Finds the generations of `profile`; there are none where its folder is missing.
    pub fn of(profile: &Path) -> ProfileResult<Generations> {
        let name = profile.file_name().unwrap_or_default();
        let folder = folder_of(profile);
        let mut all = Vec::new();
        let listing = match std::fs::read_dir(folder) {
            Ok(listing) => listing,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Generations::default()),
            Err(e) => return Err(ProfileError::io("reading directory", folder)(e)),
        };
        for entry in listing {
            let entry = entry.map_err(ProfileError::io("reading directory", folder))?;
            let Some(number) = parse_name(name, &entry.file_name()) else { continue };
            let path = entry.path();
            match std::fs::symlink_metadata(&path) {
                Ok(meta) => all.push(Generation { number, path, created: meta.mtime() }),
                // Somebody deletes generations at the same time.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(ProfileError::io("getting status of", path)(e)),
            }
        }
        all.sort_by_key(|generation| generation.number);
        let current =
            std::fs::read_link(profile).ok().and_then(|target| parse_name(name, target.as_os_str()));
        Ok(Generations { all, current })
    }

    /// The numbers that `selection` means, in the order in which they are deleted.
    pub fn to_delete(&self, profile: &Path, selection: &Selection) -> ProfileResult<Vec<u64>> {
        let numbers = self.all.iter().map(|generation| generation.number);
        match selection {
            Selection::Old => Ok(numbers.filter(|n| Some(*n) != self.current).collect()),
            Selection::Numbers(wanted) => {
                if self.current.is_some_and(|current| wanted.contains(&current)) {
                    return Err(ProfileError::CurrentVersion(profile.to_owned()));
                }
                Ok(numbers.filter(|n| wanted.contains(n)).collect())
            }
            Selection::Keep(0) => Err(ProfileError::KeepsNone),
            Selection::Keep(count) => {
                let keep = usize::try_from(*count).unwrap_or(usize::MAX);
                Ok(numbers.rev().skip_while(|n| Some(*n) != self.current).skip(keep).collect())
            }
            // The newest of the older ones was current at that time, so it stays.
            Selection::OlderThan(time) => Ok(self
                .all
                .iter()
                .rev()
                .skip_while(|generation| generation.created >= *time)
                .skip(1)
                .map(|generation| generation.number)
                .filter(|n| Some(*n) != self.current)
                .collect()),
        }
    }

    /// The generation to go to: the one with `number`, or the last one before the current.
    fn target(&self, number: Option<u64>) -> ProfileResult<Switched> {
        let from = self.current.unwrap_or(0);
        let found = self.all.iter().rfind(|generation| match number {
            Some(number) => generation.number == number,
            None => self.current.is_some_and(|current| generation.number < current),
        });
        match (found, number) {
            (Some(to), _) => Ok(Switched { from, to: to.clone() }),
            (None, Some(number)) => Err(ProfileError::NoSuchVersion(number)),
            (None, None) => Err(ProfileError::NoOlderVersion(from)),
        }
    }
}

/// Locks a profile against changes by others; `on_wait` is told if that has to wait.
pub fn lock(profile: &Path, on_wait: &dyn Fn(&str)) -> ProfileResult<PathLocks> {
    let say = || on_wait(&format!("waiting for lock on profile \"{}\"", profile.display()));
    Ok(PathLocks::lock(&[profile.to_owned()].into(), &say)?)
}

/// What a profile points to now; compared later to see whether somebody else changed it.
pub fn token(profile: &Path) -> OsString {
    std::fs::read_link(profile).map(PathBuf::into_os_string).unwrap_or_default()
}

/// Makes a new generation for `path` and returns its link. If the newest one is the same, that is taken, so that
/// repeated installations do not pile up.
pub fn create(
    store: &dyn LocalFsStore,
    shown: &str,
    profile: &Path,
    path: &StorePath,
) -> ProfileResult<PathBuf> {
    let generations = Generations::of(profile)?;
    let last = generations.all.last();
    if let Some(last) = last {
        if std::fs::read_link(&last.path).is_ok_and(|target| target == Path::new(shown)) {
            return Ok(last.path.clone());
        }
    }
    let link = link_path(profile, last.map_or(0, |last| last.number) + 1);
    store.add_indirect_root(path, &link)?;
    Ok(link)
}

/// Lets the symlink `link` point to `target`, in one step. A target in the same folder is written as its name, so
/// that the folder can be moved.
pub fn switch_link(link: &Path, target: &Path) -> ProfileResult<()> {
    let near = target.parent() == link.parent();
    let target = if near { target.file_name().map(Path::new).unwrap_or(target) } else { target };
    let mut temporary = link.as_os_str().to_owned();
    temporary.push(format!(".tmp-{}", std::process::id()));
    let failed = |e| ProfileError::io("creating symlink", link)(e);
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &temporary).map_err(failed)?;
    std::fs::rename(&temporary, link).map_err(|e| {
        // A link that nobody knows is worth less than the error.
        let _ = std::fs::remove_file(&temporary);
        failed(e)
    })
}

/// Switches to the generation with `number`, or to the one before the current. `say` is told what happens before it
/// does; a dry run ends there.
pub fn switch(
    profile: &Path,
    number: Option<u64>,
    dry_run: bool,
    say: &dyn Fn(&str),
) -> ProfileResult<Switched> {
    let _lock = lock(profile, say)?;
    let switched = Generations::of(profile)?.target(number)?;
    say(&format!("switching profile from version {} to {}", switched.from, switched.to.number));
    if !dry_run {
        switch_link(profile, &switched.to.path)?;
    }
    Ok(switched)
}

/// Deletes what `selection` means and returns the numbers. The store paths stay until they are collected.
pub fn delete(
    profile: &Path,
    selection: &Selection,
    dry_run: bool,
    say: &dyn Fn(&str),
) -> ProfileResult<Vec<u64>> {
    let _lock = lock(profile, say)?;
    let numbers = Generations::of(profile)?.to_delete(profile, selection)?;
    for number in &numbers {
        if dry_run {
            say(&format!("would remove profile version {number}"));
            continue;
        }
        say(&format!("removing profile version {number}"));
        let link = link_path(profile, *number);
        match std::fs::remove_file(&link) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(ProfileError::io("removing file", link)(e));
            }
            _ => {}
        }
    }
    Ok(numbers)
}

fn folder_of(profile: &Path) -> &Path {
    profile.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `<profile>-<number>-link`.
fn link_path(profile: &Path, number: u64) -> PathBuf {
    let mut name = profile.as_os_str().to_owned();
    name.push(format!("-{number}-link"));
    name.into()
}

fn parse_name(profile: &OsStr, name: &OsStr) -> Option<u64> {
    let rest = name.as_bytes().strip_prefix(profile.as_bytes())?.strip_prefix(b"-")?;
    let rest = std::str::from_utf8(rest).ok()?;
    let (number, _) = rest.split_once("-link")?;
    // Only digits: `parse` alone would take a sign.
    number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generations(times: &[(u64, i64)], current: Option<u64>) -> Generations {
        let all = times.iter().map(|(number, created)| Generation {
            number: *number,
            path: PathBuf::from(format!("/p-{number}-link")),
            created: *created,
        });
        Generations { all: all.collect(), current }
    }

    #[track_caller]
    fn check(selection: Selection, current: Option<u64>, expected: &str) {
        let generations = generations(&[(1, 10), (2, 20), (3, 30), (5, 50)], current);
        let found = match generations.to_delete(Path::new("/p"), &selection) {
            Ok(numbers) => format!("{numbers:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn plans() {
        check(Selection::Old, Some(3), "[1, 2, 5]");
        check(Selection::Old, None, "[1, 2, 3, 5]");
        check(Selection::Numbers([1, 4, 5].into()), Some(3), "[1, 5]");
        check(Selection::Numbers([3].into()), Some(3), "cannot delete current version of profile \"/p\"");
        check(Selection::Keep(1), Some(3), "[2, 1]");
        check(Selection::Keep(2), Some(5), "[2, 1]");
        check(Selection::Keep(1), None, "[]");
        check(Selection::Keep(0), Some(3), &ProfileError::KeepsNone.to_string());
        check(Selection::OlderThan(31), Some(5), "[2, 1]");
        check(Selection::OlderThan(31), Some(2), "[1]");
        check(Selection::OlderThan(5), Some(5), "[]");
    }

    #[test]
    fn names() {
        let check = |name: &str, expected| {
            assert_eq!(parse_name(OsStr::new("profile"), OsStr::new(name)), expected, "{name}");
        };
        check("profile-12-link", Some(12));
        check("profile-12-link.lock", Some(12));
        check("profile--1-link", None);
        check("profile-+1-link", None);
        check("profile-x-link", None);
        check("profile2-1-link", None);
        check("profile-99999999999999999999-link", None);
    }

    #[test]
    fn switching() {
        let tmp = tempfile::tempdir().unwrap();
        let profile = tmp.path().join("p");
        for number in [1, 2, 3] {
            std::os::unix::fs::symlink("/nowhere", tmp.path().join(format!("p-{number}-link"))).unwrap();
        }
        switch_link(&profile, &tmp.path().join("p-2-link")).unwrap();
        assert_eq!(std::fs::read_link(&profile).unwrap(), Path::new("p-2-link"));
        assert_eq!(Generations::of(&profile).unwrap().current, Some(2));
        let back = switch(&profile, None, false, &|_| ()).unwrap();
        assert_eq!((back.from, back.to.number), (2, 1));
        assert_eq!(Generations::of(&profile).unwrap().current, Some(1));
        let none = switch(&profile, None, false, &|_| ()).unwrap_err();
        assert_eq!(none.to_string(), "no profile version older than the current (1) exists");
        let missing = switch(&profile, Some(7), false, &|_| ()).unwrap_err();
        assert_eq!(missing.to_string(), "profile version 7 does not exist");
        assert_eq!(delete(&profile, &Selection::Old, true, &|_| ()).unwrap(), [2, 3]);
        assert_eq!(delete(&profile, &Selection::Old, false, &|_| ()).unwrap(), [2, 3]);
        assert_eq!(Generations::of(&profile).unwrap().all.len(), 1);
        assert!(!tmp.path().join("p.lock").exists());
    }
}

//! How long builds of a name took, for an estimate of those to come. A small file in the user's cache: losing it, or
//! a line of it, loses an estimate.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// So many names are kept; those that were built longest ago go.
const MAX_NAMES: usize = 4000;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What is remembered: a name's latest duration in milliseconds and when it was noted, counted up.
#[derive(Debug, Default)]
pub struct BuildTimes {
    file: Option<PathBuf>,
    known: BTreeMap<String, (u64, u64)>,
    changed: bool,
}

impl BuildTimes {
    /// Those of the user.
    pub fn load() -> BuildTimes {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let Some(cache) = cache.or_else(home).filter(|path| path.is_absolute()) else {
            return BuildTimes::default();
        };
        let file = cache.join("nix").join("firn-build-times-v1");
        let small = fs::metadata(&file).is_ok_and(|meta| meta.len() <= MAX_FILE);
        let text = if small { fs::read_to_string(&file).unwrap_or_default() } else { String::new() };
        BuildTimes { known: parse(&text), file: Some(file), changed: false }
    }

    /// How long `name` (without a version) took last.
    pub fn expected(&self, name: &str) -> Option<Duration> {
        self.known.get(name).map(|(millis, _)| Duration::from_millis(*millis))
    }

    pub fn note(&mut self, name: &str, took: Duration) {
        if name.is_empty() || name.contains(['\n', ' ']) {
            return;
        }
        let newest = self.known.values().map(|(_, at)| *at).max().unwrap_or(0);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.known.insert(name.to_owned(), (millis, newest + 1));
        self.changed = true;
    }

    /// Writes what is new, in one step.
    pub fn save(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else { return };
        self.changed = false;
        while self.known.len() > MAX_NAMES {
            let oldest = self.known.iter().min_by_key(|(_, (_, at))| *at).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { break };
            self.known.remove(&oldest);
        }
        let mut text = String::new();
        for (name, (millis, at)) in &self.known {
            text.push_str(&format!("{name} {millis} {at}\n"));
        }
        if let Some(dir) = file.parent() {
            let _ = fs::create_dir_all(dir);
        }
        let new = file.with_extension(format!("{}.tmp", std::process::id()));
        if fs::write(&new, text).and_then(|()| fs::rename(&new, file)).is_err() {
            let _ = fs::remove_file(&new);
        }
    }
}

fn parse(text: &str) -> BTreeMap<String, (u64, u64)> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let name = words.next()?.to_owned();
        Some((name, (words.next()?.parse().ok()?, words.next()?.parse().ok()?)))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_counts_and_damage_is_passed_over() {
        let mut times = BuildTimes { known: parse("hello 1500 3\nbad\ngcc x y\n"), ..BuildTimes::default() };
        assert_eq!(times.expected("hello"), Some(Duration::from_millis(1500)));
        assert_eq!(times.expected("gcc"), None);
        times.note("hello", Duration::from_secs(2));
        times.note("two\nlines", Duration::from_secs(2));
        assert_eq!(times.expected("hello"), Some(Duration::from_secs(2)));
        assert_eq!(times.known.len(), 1);
    }
}

//! Builds that have not begun, and what each waits for.

use super::progress::{package_name, path_name};
use firn_store::activity::Announced;
use std::collections::{BTreeMap, BTreeSet};

/// Names that are shown of what a build waits for.
const MAX_NAMES: usize = 4;

#[derive(Default)]
pub(super) struct Waiting {
    /// By derivation: what must be built before.
    inputs: BTreeMap<String, BTreeSet<String>>,
    /// By derivation: which of those that wait need it.
    dependents: BTreeMap<String, Vec<String>>,
}

impl Waiting {
    pub fn announce(&mut self, builds: &[Announced]) {
        for build in builds {
            for input in &build.inputs {
                self.dependents.entry(input.clone()).or_default().push(build.path.clone());
            }
            self.inputs.insert(build.path.clone(), build.inputs.iter().cloned().collect());
        }
    }

    /// A build waits no more.
    pub fn begun(&mut self, path: &str) {
        self.inputs.remove(path);
    }

    /// Nobody waits for this build any more.
    pub fn ended(&mut self, path: &str) {
        self.begun(path);
        for dependent in self.dependents.remove(path).unwrap_or_default() {
            if let Some(inputs) = self.inputs.get_mut(&dependent) {
                inputs.remove(path);
            }
        }
    }

    /// All that wait.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.inputs.keys().map(String::as_str)
    }

    /// At most `limit` lines that say who waits for what, those first that wait for least; and how many more there are.
    pub fn lines(&self, limit: usize) -> Vec<Vec<u8>> {
        let mut builds: Vec<(usize, &str, &String)> =
            self.inputs.iter().map(|(path, inputs)| (inputs.len(), path_name(path), path)).collect();
        let more = builds.len().saturating_sub(limit);
        if more > 0 {
            // There may be thousands, many times a second.
            builds.select_nth_unstable(limit);
            builds.truncate(limit);
        }
        builds.sort_unstable();
        let mut lines: Vec<Vec<u8>> = builds.iter().map(|(_, name, path)| self.line(name, path)).collect();
        if more > 0 {
            lines.push(format!("\x1b[2m  … and {more} more waiting\x1b[0m").into_bytes());
        }
        lines
    }

    fn line(&self, name: &str, path: &str) -> Vec<u8> {
        let mut names: Vec<&str> = self.inputs.get(path).map_or_else(Vec::new, |inputs| {
            inputs.iter().map(|input| package_name(path_name(input))).collect()
        });
        names.sort_unstable();
        let what = match names.len() {
            0 => "waits for its turn".to_owned(),
            all => {
                names.truncate(MAX_NAMES);
                let more = all - names.len();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("waits for {}{more}", names.join(", "))
            }
        };
        format!("\x1b[2m  {name} {what}\x1b[0m").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(waiting: &Waiting, limit: usize, expected: &[&str]) {
        let lines = waiting.lines(limit);
        let lines: Vec<String> = lines
            .iter()
            .map(|line| {
                String::from_utf8_lossy(&firn_store::ansi::filter(line, false, usize::MAX)).into_owned()
            })
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn who_waits_for_whom() {
        let path = |name: &str| format!("/s/0-{name}.drv");
        let build = |name: &str, inputs: &[&str]| Announced {
            path: path(name),
            inputs: inputs.iter().map(|input| path(input)).collect(),
        };
        let mut waiting = Waiting::default();
        check(&waiting, 3, &[]);
        waiting.announce(&[
            build("gcc-4.8", &[]),
            build("make-3.82", &[]),
            build("hello-2.10", &["gcc-4.8", "make-3.82"]),
            build("all", &["hello-2.10", "gcc-4.8", "make-3.82", "x", "y", "z"]),
        ]);
        waiting.begun(&path("gcc-4.8"));
        let all = "  all waits for gcc, hello, make, x and 2 more";
        let hello = "  hello-2.10 waits for gcc, make";
        check(&waiting, 3, &["  make-3.82 waits for its turn", hello, all]);
        check(&waiting, 1, &["  make-3.82 waits for its turn", "  … and 2 more waiting"]);
        waiting.ended(&path("gcc-4.8"));
        waiting.begun(&path("make-3.82"));
        check(&waiting, 3, &["  hello-2.10 waits for make", "  all waits for hello, make, x, y and 1 more"]);
    }
}

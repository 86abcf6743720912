//! What runs, and how far it is: what both kinds of progress on a terminal keep in mind.

use firn_store::activity::{ActivityId, ActivityStart, ActivityType, Field, ResultType};
use std::collections::BTreeMap;
use std::time::Instant;

/// An activity that is under way.
pub(super) struct Running {
    pub kind: ActivityType,
    /// The store path or URI that it is about; what it is named for people; that without a version.
    pub path: String,
    pub name: String,
    pub package: String,
    pub machine: String,
    pub text: String,
    pub phase: String,
    pub last_line: Vec<u8>,
    pub since: Instant,
    /// Done, expected, running, failed.
    pub counts: [u64; 4],
    /// Activity type to how much of it this one expects to start.
    pub expects: BTreeMap<u64, u64>,
    pub parent: ActivityId,
}

impl Running {
    pub fn new(activity: &ActivityStart<'_>) -> Running {
        let path = text_field(activity.fields, 0);
        let name = path_name(&path).to_owned();
        Running {
            kind: activity.kind,
            package: package_name(&name).to_owned(),
            path,
            name,
            machine: text_field(activity.fields, 1),
            text: activity.text.to_owned(),
            phase: String::new(),
            last_line: Vec::new(),
            since: Instant::now(),
            counts: [0; 4],
            expects: BTreeMap::new(),
            parent: activity.parent,
        }
    }

    /// What stands before lines of its log.
    fn prefix(&self, kind: ResultType) -> Vec<u8> {
        let builds = matches!(self.kind, ActivityType::Build | ActivityType::PostBuildHook);
        let name = if builds && !self.package.is_empty() { &self.package } else { "unnamed" };
        let mark = if kind == ResultType::PostBuildLogLine { " (post)> " } else { "> " };
        format!("\x1b[2m{name}{mark}\x1b[0m").into_bytes()
    }
}

/// All that runs, and what ended activities did and expected.
#[derive(Default)]
pub(super) struct Progress {
    /// By id, which is the order of starting.
    pub running: BTreeMap<ActivityId, Running>,
    /// The activity that reported last.
    pub newest: ActivityId,
    /// Activity type to what ended activities did: done, failed.
    ended: BTreeMap<u16, (u64, u64)>,
    expected: BTreeMap<u64, u64>,
}

impl Progress {
    pub fn start(&mut self, activity: &ActivityStart<'_>) {
        self.running.insert(activity.id, Running::new(activity));
        self.newest = activity.id;
    }

    pub fn stop(&mut self, id: ActivityId) -> Option<Running> {
        let mut running = self.running.remove(&id)?;
        let ended = self.ended.entry(running.kind as u16).or_default();
        ended.0 += running.counts[0];
        ended.1 += running.counts[3];
        for (kind, amount) in std::mem::take(&mut running.expects) {
            let expected = self.expected.entry(kind).or_default();
            *expected = expected.saturating_sub(amount);
        }
        Some(running)
    }

    /// Takes a result in.
    pub fn report(&mut self, id: ActivityId, kind: ResultType, fields: &[Field]) {
        let Some(running) = self.running.get_mut(&id) else { return };
        match kind {
            ResultType::BuildLogLine | ResultType::PostBuildLogLine => {
                let Some(Field::Text(line)) = fields.first() else { return };
                running.last_line.clone_from(line);
                self.newest = id;
            }
            ResultType::SetPhase => running.phase = text_field(fields, 0),
            ResultType::FetchStatus => running.last_line = text_field(fields, 0).into_bytes(),
            ResultType::Progress => running.counts = std::array::from_fn(|index| int_field(fields, index)),
            ResultType::SetExpected => {
                let (kind, amount) = (int_field(fields, 0), int_field(fields, 1));
                let before = running.expects.insert(kind, amount);
                let expected = self.expected.entry(kind).or_default();
                *expected = expected.saturating_sub(before.unwrap_or(0)) + amount;
            }
            ResultType::FileLinked | ResultType::UntrustedPath | ResultType::CorruptedPath => {}
        }
    }

    /// Notes the last of several lines of a log, each with its newline.
    pub fn report_lines(&mut self, id: ActivityId, lines: &[u8]) {
        let last = last_line(lines);
        let Some(running) = self.running.get_mut(&id) else { return };
        running.last_line.clear();
        running.last_line.extend_from_slice(last);
        self.newest = id;
    }

    /// Lines of a log as they are shown: without the last newline, each after the name of what it is the log of.
    pub fn named_lines(&self, id: ActivityId, kind: ResultType, lines: &[u8]) -> Vec<Vec<u8>> {
        let prefix =
            self.running.get(&id).map_or_else(|| b"\x1b[2munnamed> \x1b[0m".to_vec(), |r| r.prefix(kind));
        let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
        lines.split(|byte| *byte == b'\n').map(|line| [prefix.as_slice(), line].concat()).collect()
    }

    /// `1/3/7 built, 2 copied (3.0 MiB)`, of what ended, is expected and runs.
    pub fn status(&self) -> String {
        let mut parts = Vec::new();
        for (kind, what, bytes) in [
            (ActivityType::Builds, "built", false),
            (ActivityType::CopyPaths, "copied", false),
            (ActivityType::FileTransfer, "DL", true),
            (ActivityType::OptimiseStore, "paths optimised", false),
            (ActivityType::VerifyPaths, "paths verified", false),
        ] {
            let (mut done, mut failed) = self.ended.get(&(kind as u16)).copied().unwrap_or_default();
            let (mut expected, mut running) = (done, 0);
            for [d, e, r, f] in self.running.values().filter(|r| r.kind == kind).map(|r| r.counts) {
                done += d;
                expected += e;
                running += r;
                failed += f;
            }
            let announced = self.expected.get(&u64::from(kind as u16)).copied().unwrap_or_default();
            let expected = expected.max(announced);
            if done == 0 && expected == 0 && running == 0 && failed == 0 {
                continue;
            }
            let show = |number: u64| match bytes {
                true => format!("{:.1} MiB", number as f64 / f64::from(1 << 20)),
                false => number.to_string(),
            };
            let mut part = String::new();
            if running > 0 {
                part.push_str(&format!("\x1b[34;1m{}\x1b[0m/", show(running)));
            }
            part.push_str(&format!("\x1b[32;1m{}\x1b[0m", show(done)));
            if expected != done {
                part.push_str(&format!("/{}", show(expected)));
            }
            part.push_str(&format!(" {what}"));
            if failed > 0 {
                part.push_str(&format!(" (\x1b[31;1m{failed} failed\x1b[0m)"));
            }
            parts.push(part);
        }
        parts.join(", ")
    }
}

fn last_line(lines: &[u8]) -> &[u8] {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default()
}

fn text_field(fields: &[Field], index: usize) -> String {
    match fields.get(index) {
        Some(Field::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    }
}

fn int_field(fields: &[Field], index: usize) -> u64 {
    match fields.get(index) {
        Some(Field::Int(number)) => *number,
        _ => 0,
    }
}

/// `hello-2.10` of `/nix/store/…-hello-2.10.drv`.
pub(super) fn path_name(path: &str) -> &str {
    let base = path.rsplit('/').next().unwrap_or(path);
    let name = base.split_once('-').map_or(base, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name)
}

/// `hello` of `hello-2.10`: up to the first dash that no letter follows.
pub(super) fn package_name(name: &str) -> &str {
    let dash = name
        .match_indices('-')
        .find(|(at, _)| name[at + 1..].chars().next().is_some_and(|next| !next.is_ascii_alphabetic()));
    dash.map_or(name, |(at, _)| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_store::activity::Verbosity;

    fn start(id: ActivityId, kind: ActivityType) -> Progress {
        let mut progress = Progress::default();
        let fields = ["/s/00000000-hello-2.10.drv".into()];
        progress.start(&ActivityStart {
            id,
            level: Verbosity::Debug,
            kind,
            text: "",
            fields: &fields,
            parent: 0,
        });
        progress
    }

    #[test]
    fn names() {
        assert_eq!(path_name("/nix/store/q8iyvqgsmhlmbz7y-hello-2.10.drv"), "hello-2.10");
        assert_eq!(package_name("hello-2.10"), "hello");
        assert_eq!(package_name("gcc-wrapper-4.8"), "gcc-wrapper");
        assert_eq!(package_name("noversion"), "noversion");
    }

    #[test]
    fn status_line() {
        let mut progress = start(7, ActivityType::Builds);
        progress.report(7, ResultType::Progress, &[1.into(), 3.into(), 2.into(), 0.into()]);
        assert_eq!(progress.status(), "\x1b[34;1m2\x1b[0m/\x1b[32;1m1\x1b[0m/3 built");
        progress.stop(7);
        assert_eq!(progress.status(), "\x1b[32;1m1\x1b[0m built");
    }

    #[test]
    fn logs() {
        let mut progress = start(3, ActivityType::Build);
        progress.report_lines(3, b"one\ntwo\n");
        assert_eq!(progress.running[&3].last_line, b"two");
        let lines = progress.named_lines(3, ResultType::BuildLogLine, b"one\n\n");
        assert_eq!(lines, [b"\x1b[2mhello> \x1b[0mone".to_vec(), b"\x1b[2mhello> \x1b[0m".to_vec()]);
    }
}

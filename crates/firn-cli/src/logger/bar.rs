//! One line of progress at the bottom of a terminal; plain lines where there is no terminal.
//!
//! The line is drawn by whoever reports something, at most every 40 ms, so no thread is needed; it is cleared
//! before anything else is written and when the logger goes.

use super::write_stderr;
use firn_store::activity::{ActivityId, ActivityStart, ActivityType, Field, Logger, ResultType, Verbosity};
use firn_store::ansi;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(40);
const CLEAR: &[u8] = b"\r\x1b[K";

struct Running {
    kind: ActivityType,
    text: String,
    /// The name in front of log lines.
    name: String,
    phase: String,
    last_line: Vec<u8>,
    /// Done, expected, running, failed.
    counts: [u64; 4],
    expects: BTreeMap<u64, u64>,
}

#[derive(Default)]
struct State {
    /// By id, which is the order of starting.
    running: BTreeMap<ActivityId, Running>,
    /// The activity that reported last.
    newest: ActivityId,
    /// Activity type to what ended activities did: done, failed.
    ended: BTreeMap<u16, (u64, u64)>,
    expected: BTreeMap<u64, u64>,
    paused: usize,
    drawn: Option<Instant>,
}

/// The progress line.
pub struct BarLogger {
    verbosity: Verbosity,
    terminal: bool,
    build_logs: bool,
    state: Mutex<State>,
}

pub(super) fn text_field(fields: &[Field], index: usize) -> String {
    match fields.get(index) {
        Some(Field::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    }
}

pub(super) fn int_field(fields: &[Field], index: usize) -> u64 {
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

impl BarLogger {
    pub fn new(verbosity: Verbosity, terminal: bool, build_logs: bool) -> Self {
        Self { verbosity, terminal, build_logs, state: Mutex::new(State::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State, message: &[u8]) {
        let mut out = Vec::new();
        if self.terminal && state.paused == 0 {
            out.extend_from_slice(CLEAR);
        }
        out.extend_from_slice(&ansi::filter(message, self.terminal, usize::MAX));
        if self.terminal {
            out.extend_from_slice(b"\x1b[0m");
        }
        out.push(b'\n');
        write_stderr(&out);
        self.draw(state, true);
    }

    fn draw(&self, state: &mut State, now: bool) {
        if !self.terminal || state.paused > 0 {
            return;
        }
        if !now && state.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        state.drawn = Some(Instant::now());
        let mut line = Vec::new();
        let status = status_of(state);
        if !status.is_empty() {
            line.extend_from_slice(format!("[{status}]").as_bytes());
        }
        let shown = |running: &&Running| !running.text.is_empty() || !running.last_line.is_empty();
        let newest = state.running.get(&state.newest).filter(shown);
        if let Some(running) = newest.or_else(|| state.running.values().rev().find(shown)) {
            if !line.is_empty() {
                line.push(b' ');
            }
            line.extend_from_slice(running.text.as_bytes());
            if !running.phase.is_empty() {
                line.extend_from_slice(format!(" ({})", running.phase).as_bytes());
            }
            if !running.last_line.is_empty() {
                line.extend_from_slice(b": ");
                line.extend_from_slice(&running.last_line);
            }
        }
        let width = rustix::termios::tcgetwinsize(std::io::stderr())
            .map_or(80, |size| if size.ws_col == 0 { 80 } else { usize::from(size.ws_col) });
        let mut out = b"\r".to_vec();
        out.extend_from_slice(&ansi::filter(&line, true, width));
        out.extend_from_slice(b"\x1b[0m\x1b[K");
        write_stderr(&out);
    }
}

fn status_of(state: &State) -> String {
    let running = state.running.values().map(|running| (running.kind, running.counts));
    status(&state.ended, &state.expected, running)
}

/// `1/3/7 built, 2 copied (3.0 MiB)`, of what ended, is expected and runs.
pub(super) fn status(
    all_ended: &BTreeMap<u16, (u64, u64)>,
    all_expected: &BTreeMap<u64, u64>,
    all_running: impl Iterator<Item = (ActivityType, [u64; 4])> + Clone,
) -> String {
    let mut parts = Vec::new();
    for (kind, what, bytes) in [
        (ActivityType::Builds, "built", false),
        (ActivityType::CopyPaths, "copied", false),
        (ActivityType::FileTransfer, "DL", true),
        (ActivityType::OptimiseStore, "paths optimised", false),
        (ActivityType::VerifyPaths, "paths verified", false),
    ] {
        let (mut done, mut failed) = all_ended.get(&(kind as u16)).copied().unwrap_or_default();
        let (mut expected, mut running) = (done, 0);
        for (_, [d, e, r, f]) in all_running.clone().filter(|(other, _)| *other == kind) {
            done += d;
            expected += e;
            running += r;
            failed += f;
        }
        let expected = expected.max(all_expected.get(&u64::from(kind as u16)).copied().unwrap_or_default());
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

impl Logger for BarLogger {
    fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    fn log(&self, level: Verbosity, message: &[u8]) {
        if level <= self.verbosity {
            self.write(&mut self.lock(), message);
        }
    }

    fn start(&self, activity: &ActivityStart<'_>) {
        let mut state = self.lock();
        let fields = activity.fields;
        let says = activity.level <= self.verbosity
            && !activity.text.is_empty()
            && activity.kind != ActivityType::BuildWaiting;
        if says {
            self.write(&mut state, format!("{}...", activity.text).as_bytes());
        }
        let path = text_field(fields, 0);
        let name = path_name(&path);
        let bold = format!("\x1b[1m{name}\x1b[0m");
        let machine = text_field(fields, 1);
        let (text, prefix) = match activity.kind {
            ActivityType::Build if machine.is_empty() => (format!("building {bold}"), package_name(name)),
            ActivityType::Build => (format!("building {bold} on {machine}"), package_name(name)),
            ActivityType::Substitute => (format!("fetching {bold} from {machine}"), ""),
            ActivityType::PostBuildHook => (format!("post-build {bold}"), package_name(name)),
            ActivityType::QueryPathInfo => (format!("querying {bold} on {machine}"), ""),
            _ => (activity.text.to_owned(), ""),
        };
        let running = Running {
            kind: activity.kind,
            text,
            name: prefix.to_owned(),
            phase: String::new(),
            last_line: Vec::new(),
            counts: [0; 4],
            expects: BTreeMap::new(),
        };
        state.running.insert(activity.id, running);
        state.newest = activity.id;
        self.draw(&mut state, false);
    }

    fn stop(&self, id: ActivityId) {
        let mut state = self.lock();
        if let Some(running) = state.running.remove(&id) {
            let ended = state.ended.entry(running.kind as u16).or_default();
            ended.0 += running.counts[0];
            ended.1 += running.counts[3];
            for (kind, amount) in running.expects {
                let expected = state.expected.entry(kind).or_default();
                *expected = expected.saturating_sub(amount);
            }
        }
        self.draw(&mut state, false);
    }

    fn result(&self, id: ActivityId, kind: ResultType, fields: &[Field]) {
        let mut state = self.lock();
        match kind {
            ResultType::BuildLogLine | ResultType::PostBuildLogLine => {
                let Some(Field::Text(line)) = fields.first() else { return };
                if self.build_logs {
                    let name = state.running.get(&id).map_or("", |running| running.name.as_str());
                    let name = if name.is_empty() { "unnamed" } else { name };
                    let mark = if kind == ResultType::PostBuildLogLine { " (post)> " } else { "> " };
                    let mut message = format!("\x1b[2m{name}{mark}\x1b[0m").into_bytes();
                    message.extend_from_slice(line);
                    if Verbosity::Info <= self.verbosity || self.build_logs {
                        self.write(&mut state, &message);
                    }
                    return;
                }
                if let Some(running) = state.running.get_mut(&id) {
                    running.last_line = line.clone();
                }
                state.newest = id;
            }
            ResultType::SetPhase => {
                if let Some(running) = state.running.get_mut(&id) {
                    running.phase = text_field(fields, 0);
                }
            }
            ResultType::FetchStatus => {
                if let Some(running) = state.running.get_mut(&id) {
                    running.last_line = text_field(fields, 0).into_bytes();
                }
            }
            ResultType::Progress => {
                if let Some(running) = state.running.get_mut(&id) {
                    running.counts = std::array::from_fn(|index| int_field(fields, index));
                }
            }
            ResultType::SetExpected => {
                let (kind, amount) = (int_field(fields, 0), int_field(fields, 1));
                let before =
                    state.running.get_mut(&id).and_then(|running| running.expects.insert(kind, amount));
                let expected = state.expected.entry(kind).or_default();
                *expected = expected.saturating_sub(before.unwrap_or(0)) + amount;
            }
            ResultType::FileLinked | ResultType::UntrustedPath | ResultType::CorruptedPath => {}
        }
        self.draw(&mut state, false);
    }

    fn pause(&self) {
        let mut state = self.lock();
        state.paused += 1;
        if self.terminal && state.paused == 1 {
            write_stderr(CLEAR);
        }
    }

    fn resume(&self) {
        let mut state = self.lock();
        state.paused = state.paused.saturating_sub(1);
        self.draw(&mut state, true);
    }

    fn shows_build_logs(&self) -> bool {
        self.build_logs
    }
}

impl Drop for BarLogger {
    fn drop(&mut self) {
        if self.terminal {
            write_stderr(CLEAR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(path_name("/nix/store/q8iyvqgsmhlmbz7y-hello-2.10.drv"), "hello-2.10");
        assert_eq!(package_name("hello-2.10"), "hello");
        assert_eq!(package_name("gcc-wrapper-4.8"), "gcc-wrapper");
        assert_eq!(package_name("noversion"), "noversion");
    }

    #[test]
    fn status_line() {
        let bar = BarLogger::new(Verbosity::Info, false, false);
        bar.start(&ActivityStart {
            id: 7,
            level: Verbosity::Debug,
            kind: ActivityType::Builds,
            text: "",
            fields: &[],
            parent: 0,
        });
        bar.result(7, ResultType::Progress, &[1.into(), 3.into(), 2.into(), 0.into()]);
        assert_eq!(status_of(&bar.lock()), "\x1b[34;1m2\x1b[0m/\x1b[32;1m1\x1b[0m/3 built");
    }
}

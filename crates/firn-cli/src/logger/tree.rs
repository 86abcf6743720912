//! Several lines of progress at the bottom of a terminal: what is being built and fetched, with phases, times and the
//! last line of the log; what waits; totals, and how long the rest will take going by past builds.
//!
//! Everything else is written above it. It is redrawn when something happens, at most every 50 ms, and by a thread of
//! its own twice a second, so that durations move; it folds to nothing when the logger goes.

use super::progress::{Progress, Running, package_name, path_name};
use super::times::BuildTimes;
use super::waiting::Waiting;
use super::write_stderr;
use firn_store::activity::{
    ActivityId, ActivityStart, ActivityType, Announced, Field, Logger, ResultType, Verbosity,
};
use firn_store::ansi;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(500);
/// Builds and downloads that are shown at most; on a small terminal fewer.
const MAX_LINES: usize = 12;
/// Builds that wait that are shown with what they wait for.
const MAX_WAITING: usize = 4;

#[derive(Default)]
struct State {
    progress: Progress,
    waiting: Waiting,
    times: BuildTimes,
    begun: Option<Instant>,
    paused: usize,
    drawn: Option<Instant>,
    /// How many lines of progress are on the screen.
    lines: usize,
}

/// Where the lines are drawn.
struct Screen {
    verbosity: Verbosity,
    build_logs: bool,
    state: Mutex<State>,
}

/// The lines of progress. For terminals only.
pub struct TreeLogger {
    screen: Arc<Screen>,
}

impl TreeLogger {
    pub fn new(verbosity: Verbosity, build_logs: bool) -> Self {
        let state = State { times: BuildTimes::load(), ..State::default() };
        Self { screen: Arc::new(Screen { verbosity, build_logs, state: Mutex::new(state) }) }
    }
}

/// Redraws until the logger is gone.
fn tick(screen: &Weak<Screen>) {
    loop {
        std::thread::sleep(TICK);
        let Some(screen) = screen.upgrade() else { return };
        let mut state = screen.lock();
        if !state.progress.running.is_empty() {
            screen.draw(&mut state, true);
        }
    }
}

impl Screen {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a message where the progress was, and the progress below it.
    fn write<M: AsRef<[u8]>>(&self, state: &mut State, messages: &[M]) {
        let mut out = erase(state);
        for message in messages {
            ansi::filter_into(message.as_ref(), true, usize::MAX, &mut out);
            out.extend_from_slice(b"\x1b[0m\n");
        }
        write_stderr(&out);
        self.draw(state, true);
    }

    fn draw(&self, state: &mut State, now: bool) {
        if state.paused > 0 || (!now && state.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW)) {
            return;
        }
        state.drawn = Some(Instant::now());
        let size = rustix::termios::tcgetwinsize(std::io::stderr());
        let (width, height) =
            size.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        let (width, height) = (if width == 0 { 80 } else { width }, if height == 0 { 24 } else { height });
        let lines = render(state, MAX_LINES.min(height.saturating_sub(4)), Instant::now());
        let mut out = erase(state);
        for line in &lines {
            // One column less: some terminals wrap at the last.
            ansi::filter_into(line, true, width.saturating_sub(1), &mut out);
            out.extend_from_slice(b"\x1b[0m\n");
        }
        state.lines = lines.len();
        if !out.is_empty() {
            write_stderr(&out);
        }
    }
}

/// Takes the progress off the screen; the cursor is where its first line was.
fn erase(state: &mut State) -> Vec<u8> {
    let lines = std::mem::take(&mut state.lines);
    if lines == 0 { Vec::new() } else { format!("\r\x1b[{lines}A\x1b[J").into_bytes() }
}

/// `1m05s`, `12s`.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

fn is_shown(running: &Running) -> bool {
    match running.kind {
        ActivityType::Build | ActivityType::Substitute | ActivityType::PostBuildHook => true,
        // What is about a derivation goes on beside its build.
        ActivityType::BuildWaiting if !running.path.is_empty() => false,
        ActivityType::BuildWaiting | ActivityType::FetchTree | ActivityType::FileTransfer => {
            running.parent == 0 && !running.text.is_empty()
        }
        _ => false,
    }
}

/// The lines, of which at most `limit` are for single activities.
fn render(state: &State, limit: usize, now: Instant) -> Vec<Vec<u8>> {
    let shown: Vec<(&ActivityId, &Running)> =
        state.progress.running.iter().filter(|(_, running)| is_shown(running)).collect();
    let totals = state.progress.status();
    if shown.is_empty() && totals.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let left_out = shown.len().saturating_sub(limit);
    for (id, running) in shown.iter().take(limit) {
        lines.push(line(state, **id, running, now));
    }
    if left_out > 0 {
        lines.push(format!("\x1b[2m  … and {left_out} more\x1b[0m").into_bytes());
    }
    lines.extend(state.waiting.lines(limit.saturating_sub(shown.len().min(limit)).clamp(1, MAX_WAITING)));
    let mut last = if totals.is_empty() { String::new() } else { format!("[{totals}]") };
    if let Some(begun) = state.begun {
        last.push_str(&format!(" {}", duration(now.saturating_duration_since(begun))));
    }
    if let Some(rest) = remaining(state, now) {
        last.push_str(&format!(", about {} left", duration(rest)));
    }
    if !last.is_empty() {
        lines.push(last.trim_start().as_bytes().to_vec());
    }
    lines
}

/// One activity.
fn line(state: &State, id: ActivityId, running: &Running, now: Instant) -> Vec<u8> {
    let mut text = match running.kind {
        ActivityType::Build => format!("\x1b[34;1m▸\x1b[0m \x1b[1m{}\x1b[0m", running.name),
        ActivityType::Substitute => format!("\x1b[32;1m↓\x1b[0m \x1b[1m{}\x1b[0m", running.name),
        ActivityType::PostBuildHook => {
            format!("\x1b[34;1m▸\x1b[0m post-build \x1b[1m{}\x1b[0m", running.name)
        }
        _ => format!("  {}", running.text),
    };
    if !running.machine.is_empty() {
        let word = if running.kind == ActivityType::Substitute { "from" } else { "on" };
        text.push_str(&format!(" {word} {}", running.machine));
    }
    if !running.phase.is_empty() {
        text.push_str(&format!(" ({})", running.phase));
    }
    text.push_str(&format!(" {}", duration(now.saturating_duration_since(running.since))));
    if running.kind == ActivityType::Build
        && let Some(expected) = state.times.expected(&running.package).filter(|time| time.as_secs() > 0)
    {
        text.push_str(&format!("\x1b[2m of about {}\x1b[0m", duration(expected)));
    }
    // Bytes are reported by the activities below.
    let below = state.progress.running.values().filter(|other| other.parent == id).map(|other| other.counts);
    let [done, expected] = std::iter::once(running.counts)
        .chain(below)
        .fold([0, 0], |[done, expected], counts| [done + counts[0], expected + counts[1]]);
    if running.kind == ActivityType::Substitute && expected > 0 {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        text.push_str(&format!(" {:.1}/{:.1} MiB", mib(done), mib(expected)));
    }
    let mut text = text.into_bytes();
    if !running.last_line.is_empty() {
        text.extend_from_slice(b": \x1b[2m");
        text.extend_from_slice(&running.last_line);
    }
    text
}

/// How long the builds that run or wait will take, if all of them were built before: as long as the longest of them, or as
/// all together take when as many run at once as now.
fn remaining(state: &State, now: Instant) -> Option<Duration> {
    let mut all = Duration::ZERO;
    let mut longest = Duration::ZERO;
    let mut count = 0u32;
    for running in state.progress.running.values().filter(|running| running.kind == ActivityType::Build) {
        let expected = state.times.expected(&running.package)?;
        let left = expected.saturating_sub(now.saturating_duration_since(running.since));
        all += left;
        longest = longest.max(left);
        count += 1;
    }
    for path in state.waiting.paths() {
        let expected = state.times.expected(package_name(path_name(path)))?;
        all += expected;
        longest = longest.max(expected);
    }
    (count > 0).then(|| longest.max(all / count)).filter(|time| time.as_secs() > 0)
}

impl Logger for TreeLogger {
    fn verbosity(&self) -> Verbosity {
        self.screen.verbosity
    }

    fn log(&self, level: Verbosity, message: &[u8]) {
        if level <= self.screen.verbosity {
            self.screen.write(&mut self.screen.lock(), &[message]);
        }
    }

    fn start(&self, activity: &ActivityStart<'_>) {
        let screen = &self.screen;
        let mut state = screen.lock();
        // Builds are lines of their own; whoever wants more has asked for it.
        let is_line = matches!(activity.kind, ActivityType::Build | ActivityType::BuildWaiting);
        if activity.level <= screen.verbosity
            && !activity.text.is_empty()
            && (!is_line || screen.verbosity > Verbosity::Info)
        {
            screen.write(&mut state, &[format!("{}...", activity.text)]);
        }
        if state.begun.is_none() {
            state.begun = Some(Instant::now());
            let weak = Arc::downgrade(screen);
            // Without it, durations stand still.
            let _ = std::thread::Builder::new().name("progress".into()).spawn(move || tick(&weak));
        }
        state.progress.start(activity);
        if activity.kind == ActivityType::Build
            && let State { progress, waiting, .. } = &mut *state
            && let Some(running) = progress.running.get(&activity.id)
        {
            waiting.begun(&running.path);
        }
        screen.draw(&mut state, false);
    }

    fn stop(&self, id: ActivityId) {
        let mut state = self.screen.lock();
        if let Some(running) = state.progress.stop(id)
            && running.kind == ActivityType::Build
        {
            state.waiting.ended(&running.path);
            state.times.note(&running.package, running.since.elapsed());
        }
        self.screen.draw(&mut state, false);
    }

    fn result(&self, id: ActivityId, kind: ResultType, fields: &[Field]) {
        let screen = &self.screen;
        let mut state = screen.lock();
        match (kind, fields.first()) {
            (ResultType::BuildLogLine | ResultType::PostBuildLogLine, Some(Field::Text(line)))
                if screen.build_logs =>
            {
                let lines = state.progress.named_lines(id, kind, line);
                screen.write(&mut state, &lines);
            }
            _ => {
                state.progress.report(id, kind, fields);
                screen.draw(&mut state, false);
            }
        }
    }

    fn build_log(&self, id: ActivityId, lines: &[u8]) {
        let screen = &self.screen;
        let mut state = screen.lock();
        if screen.build_logs {
            let lines = state.progress.named_lines(id, ResultType::BuildLogLine, lines);
            screen.write(&mut state, &lines);
        } else {
            state.progress.report_lines(id, lines);
            screen.draw(&mut state, false);
        }
    }

    fn pause(&self) {
        let mut state = self.screen.lock();
        state.paused += 1;
        if state.paused == 1 {
            let out = erase(&mut state);
            write_stderr(&out);
        }
    }

    fn resume(&self) {
        let mut state = self.screen.lock();
        state.paused = state.paused.saturating_sub(1);
        self.screen.draw(&mut state, true);
    }

    fn shows_build_logs(&self) -> bool {
        self.screen.build_logs
    }

    fn announce(&self, builds: &[Announced]) {
        self.screen.lock().waiting.announce(builds);
    }

    fn wants_announcements(&self) -> bool {
        true
    }
}

impl Drop for TreeLogger {
    fn drop(&mut self) {
        let mut state = self.screen.lock();
        // A tick that is under way draws nothing after this.
        state.paused += 1;
        let out = erase(&mut state);
        write_stderr(&out);
        state.times.save();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(kind: ActivityType, name: &str, since: Instant) -> Running {
        let fields = [format!("/s/0-{name}.drv").into()];
        let (level, text) = (Verbosity::Info, "");
        let start = ActivityStart { id: 0, level, kind, text, fields: &fields, parent: 0 };
        Running { since, ..Running::new(&start) }
    }

    #[track_caller]
    fn check(state: &State, now: Instant, expected: &[&str]) {
        let lines = render(state, 3, now);
        let lines: Vec<String> = lines
            .iter()
            .map(|line| String::from_utf8_lossy(&ansi::filter(line, false, usize::MAX)).into_owned())
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_shown() {
        let begun = Instant::now();
        let now = begun + Duration::from_secs(65);
        let mut state = State { begun: Some(begun), ..State::default() };
        check(&state, now, &[]);
        let mut hello = running(ActivityType::Build, "hello-2.10", begun);
        hello.phase = "buildPhase".into();
        hello.last_line = b"gcc -c hello.c".to_vec();
        state.progress.running.insert(2, hello);
        let mut builds = running(ActivityType::Builds, "", begun);
        builds.counts = [1, 3, 1, 0];
        state.progress.running.insert(1, builds);
        let path = |name: &str| format!("/s/0-{name}.drv");
        state.waiting.announce(&[
            Announced { path: path("hello-2.10"), inputs: Vec::new() },
            Announced { path: path("gcc-wrapper-4.8"), inputs: vec![path("hello-2.10")] },
        ]);
        state.waiting.begun(&path("hello-2.10"));
        let first = "▸ hello-2.10 (buildPhase) 1m05s: gcc -c hello.c";
        let waits = "  gcc-wrapper-4.8 waits for hello";
        check(&state, now, &[first, waits, "[1/1/3 built] 1m05s"]);
        // Estimates are shown where all are known.
        state.times.note("hello", Duration::from_secs(100));
        let first = "▸ hello-2.10 (buildPhase) 1m05s of about 1m40s: gcc -c hello.c";
        check(&state, now, &[first, waits, "[1/1/3 built] 1m05s"]);
        state.times.note("gcc-wrapper", Duration::from_secs(10));
        check(&state, now, &[first, waits, "[1/1/3 built] 1m05s, about 45s left"]);
        // Many are cut.
        for id in 10..20 {
            state.progress.running.insert(id, running(ActivityType::Substitute, "x", now));
        }
        let x = "↓ x 0s";
        let more = "  … and 8 more";
        let last = "[1/1/3 built] 1m05s, about 45s left";
        check(&state, now, &[first, x, x, more, waits, last]);
    }
}

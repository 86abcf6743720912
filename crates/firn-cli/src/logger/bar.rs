//! One line of progress at the bottom of a terminal; plain lines where there is no terminal.
//!
//! The line is drawn by whoever reports something, at most every 40 ms, so no thread is needed; it is cleared
//! before anything else is written and when the logger goes.

use super::progress::{Progress, Running};
use super::write_stderr;
use firn_store::activity::{ActivityId, ActivityStart, ActivityType, Field, Logger, ResultType, Verbosity};
use firn_store::ansi;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(40);
const CLEAR: &[u8] = b"\r\x1b[K";

#[derive(Default)]
struct State {
    progress: Progress,
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

impl BarLogger {
    pub fn new(verbosity: Verbosity, terminal: bool, build_logs: bool) -> Self {
        Self { verbosity, terminal, build_logs, state: Mutex::new(State::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<M: AsRef<[u8]>>(&self, state: &mut State, messages: &[M]) {
        let mut out = Vec::new();
        if self.terminal && state.paused == 0 {
            out.extend_from_slice(CLEAR);
        }
        for message in messages {
            ansi::filter_into(message.as_ref(), self.terminal, usize::MAX, &mut out);
            if self.terminal {
                out.extend_from_slice(b"\x1b[0m");
            }
            out.push(b'\n');
        }
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
        let progress = &state.progress;
        let mut line = Vec::new();
        let status = progress.status();
        if !status.is_empty() {
            line.extend_from_slice(format!("[{status}]").as_bytes());
        }
        let shown =
            |(title, running): &(String, &Running)| !title.is_empty() || !running.last_line.is_empty();
        let titled = |running| (title(running), running);
        let newest = progress.running.get(&progress.newest).map(titled).filter(shown);
        let other = || progress.running.values().rev().map(titled).find(shown);
        if let Some((title, running)) = newest.or_else(other) {
            if !line.is_empty() {
                line.push(b' ');
            }
            line.extend_from_slice(title.as_bytes());
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
        ansi::filter_into(&line, true, width, &mut out);
        out.extend_from_slice(b"\x1b[0m\x1b[K");
        write_stderr(&out);
    }
}

/// What the line says of an activity.
fn title(running: &Running) -> String {
    let (name, machine) = (format!("\x1b[1m{}\x1b[0m", running.name), &running.machine);
    match running.kind {
        ActivityType::Build if machine.is_empty() => format!("building {name}"),
        ActivityType::Build => format!("building {name} on {machine}"),
        ActivityType::Substitute => format!("fetching {name} from {machine}"),
        ActivityType::PostBuildHook => format!("post-build {name}"),
        ActivityType::QueryPathInfo => format!("querying {name} on {machine}"),
        _ => running.text.clone(),
    }
}

impl Logger for BarLogger {
    fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    fn log(&self, level: Verbosity, message: &[u8]) {
        if level <= self.verbosity {
            self.write(&mut self.lock(), &[message]);
        }
    }

    fn start(&self, activity: &ActivityStart<'_>) {
        let mut state = self.lock();
        let says = activity.level <= self.verbosity
            && !activity.text.is_empty()
            && activity.kind != ActivityType::BuildWaiting;
        if says {
            self.write(&mut state, &[format!("{}...", activity.text)]);
        }
        state.progress.start(activity);
        self.draw(&mut state, false);
    }

    fn stop(&self, id: ActivityId) {
        let mut state = self.lock();
        state.progress.stop(id);
        self.draw(&mut state, false);
    }

    fn result(&self, id: ActivityId, kind: ResultType, fields: &[Field]) {
        let mut state = self.lock();
        match (kind, fields.first()) {
            (ResultType::BuildLogLine | ResultType::PostBuildLogLine, Some(Field::Text(line)))
                if self.build_logs =>
            {
                let lines = state.progress.named_lines(id, kind, line);
                self.write(&mut state, &lines);
            }
            _ => {
                state.progress.report(id, kind, fields);
                self.draw(&mut state, false);
            }
        }
    }

    fn build_log(&self, id: ActivityId, lines: &[u8]) {
        let mut state = self.lock();
        if self.build_logs {
            let lines = state.progress.named_lines(id, ResultType::BuildLogLine, lines);
            self.write(&mut state, &lines);
        } else {
            state.progress.report_lines(id, lines);
            self.draw(&mut state, false);
        }
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

//! Lines on the standard error, as the older programs write them.

use super::write_stderr;
use firn_store::activity::{ActivityId, ActivityStart, Field, Logger, ResultType, Verbosity};
use firn_store::ansi;

/// Writes each message as a line.
pub struct PlainLogger {
    verbosity: Verbosity,
    colours: bool,
    build_logs: bool,
    /// Under systemd every line carries its level for the journal.
    systemd: bool,
}

impl PlainLogger {
    pub fn new(verbosity: Verbosity, colours: bool, build_logs: bool) -> Self {
        let systemd = std::env::var_os("IN_SYSTEMD").is_some_and(|value| value == "1");
        Self { verbosity, colours, build_logs, systemd }
    }

    fn write(&self, level: Verbosity, message: &[u8]) {
        let mut line = Vec::with_capacity(message.len() + 4);
        self.put(level, message, &mut line);
        write_stderr(&line);
    }

    fn put(&self, level: Verbosity, message: &[u8], out: &mut Vec<u8>) {
        if self.systemd {
            let priority: &[u8] = match level {
                Verbosity::Error => b"<3>",
                Verbosity::Warn => b"<4>",
                Verbosity::Notice | Verbosity::Info => b"<5>",
                Verbosity::Talkative | Verbosity::Chatty => b"<6>",
                Verbosity::Debug | Verbosity::Vomit => b"<7>",
            };
            out.extend_from_slice(priority);
        }
        ansi::filter_into(message, self.colours, usize::MAX, out);
        out.push(b'\n');
    }
}

impl Logger for PlainLogger {
    fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    fn log(&self, level: Verbosity, message: &[u8]) {
        if level <= self.verbosity {
            self.write(level, message);
        }
    }

    fn start(&self, activity: &ActivityStart<'_>) {
        if activity.level <= self.verbosity && !activity.text.is_empty() {
            self.write(activity.level, format!("{}...", activity.text).as_bytes());
        }
    }

    fn stop(&self, _: ActivityId) {}

    fn result(&self, _: ActivityId, kind: ResultType, fields: &[Field]) {
        let Some(Field::Text(line)) = fields.first().filter(|_| self.build_logs) else { return };
        match kind {
            ResultType::BuildLogLine => self.write(Verbosity::Error, line),
            ResultType::PostBuildLogLine => {
                self.write(Verbosity::Error, &[b"post-build-hook: ".as_slice(), line].concat());
            }
            _ => {}
        }
    }

    fn build_log(&self, _: ActivityId, lines: &[u8]) {
        if !self.build_logs {
            return;
        }
        let mut out = Vec::with_capacity(lines.len());
        for line in lines.strip_suffix(b"\n").unwrap_or(lines).split(|byte| *byte == b'\n') {
            self.put(Verbosity::Error, line, &mut out);
        }
        write_stderr(&out);
    }

    fn shows_build_logs(&self) -> bool {
        self.build_logs
    }
}

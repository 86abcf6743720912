//! Where messages and progress go: plain lines, progress on a terminal, or JSON.

mod bar;
mod json;
mod plain;
mod progress;
mod times;
mod tree;
mod waiting;

use crate::args::LogFormat;
use firn_store::activity::{
    ActivityId, ActivityStart, Announced, Field, Logger, Report, ResultType, Verbosity,
};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

/// What a logger is made from.
pub struct LoggerOptions<'a> {
    pub format: LogFormat,
    pub verbosity: Verbosity,
    /// Show build logs also where the format would not.
    pub print_build_logs: bool,
    /// Append everything as JSON to this file as well.
    pub json_log: Option<&'a Path>,
}

/// Whether the standard error is a terminal that wants colours.
pub fn stderr_has_colours() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
        && std::env::var_os("NO_COLOR").is_none()
        && std::env::var_os("NOCOLOR").is_none()
}

/// Makes the logger.
pub fn make(options: &LoggerOptions<'_>) -> Arc<dyn Logger> {
    let (verbosity, colours) = (options.verbosity, stderr_has_colours());
    let logs = options.print_build_logs;
    let main: Arc<dyn Logger> = match options.format {
        LogFormat::Raw => Arc::new(plain::PlainLogger::new(verbosity, colours, logs)),
        LogFormat::RawWithLogs => Arc::new(plain::PlainLogger::new(verbosity, colours, true)),
        LogFormat::InternalJson => Arc::new(json::JsonLogger::stderr(verbosity)),
        LogFormat::Bar => Arc::new(bar::BarLogger::new(verbosity, colours, logs)),
        LogFormat::BarWithLogs => Arc::new(bar::BarLogger::new(verbosity, colours, true)),
        LogFormat::Multiline if colours => Arc::new(tree::TreeLogger::new(verbosity, logs)),
        LogFormat::MultilineWithLogs if colours => Arc::new(tree::TreeLogger::new(verbosity, true)),
        LogFormat::Multiline => Arc::new(bar::BarLogger::new(verbosity, colours, logs)),
        LogFormat::MultilineWithLogs => Arc::new(bar::BarLogger::new(verbosity, colours, true)),
    };
    match options.json_log.map(|path| json::JsonLogger::file(path, verbosity)) {
        None => main,
        Some(Ok(file)) => Arc::new(Tee(main, Arc::new(file))),
        Some(Err(error)) => {
            main.warn(&format!("opening the JSON log: {error}"));
            main
        }
    }
}

/// Writes to the standard error in one piece; that it cannot be written to is nothing to fail for.
fn write_stderr(bytes: &[u8]) {
    let _ = std::io::stderr().lock().write_all(bytes);
}

/// Sends everything to two loggers; the first is the one that is asked.
struct Tee(Arc<dyn Logger>, Arc<dyn Logger>);

impl Logger for Tee {
    fn verbosity(&self) -> Verbosity {
        self.0.verbosity()
    }
    fn log(&self, level: Verbosity, message: &[u8]) {
        self.0.log(level, message);
        self.1.log(level, message);
    }
    fn error(&self, message: &str) {
        self.0.error(message);
        self.1.error(message);
    }
    fn report(&self, report: &Report<'_>) {
        self.0.report(report);
        self.1.report(report);
    }
    fn start(&self, activity: &ActivityStart<'_>) {
        self.0.start(activity);
        self.1.start(activity);
    }
    fn stop(&self, id: ActivityId) {
        self.0.stop(id);
        self.1.stop(id);
    }
    fn result(&self, id: ActivityId, kind: ResultType, fields: &[Field]) {
        self.0.result(id, kind, fields);
        self.1.result(id, kind, fields);
    }
    fn build_log(&self, id: ActivityId, lines: &[u8]) {
        self.0.build_log(id, lines);
        self.1.build_log(id, lines);
    }
    fn announce(&self, builds: &[Announced]) {
        self.0.announce(builds);
    }
    fn wants_announcements(&self) -> bool {
        self.0.wants_announcements()
    }
    fn pause(&self) {
        self.0.pause();
    }
    fn resume(&self) {
        self.0.resume();
    }
    fn shows_build_logs(&self) -> bool {
        self.0.shows_build_logs()
    }
}

//! What long operations tell the person who waits: messages, activities and their progress.
//!
//! Numbers are the reference's, since they appear in `--log-format internal-json` and in the daemon protocol.
//! A [`Logger`] is passed on as `Arc<dyn Logger>`; there is no global one.

use firn_core::raw_text;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How important a message is; a logger shows those up to its own level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verbosity {
    Error = 0,
    Warn = 1,
    Notice = 2,
    Info = 3,
    Talkative = 4,
    Chatty = 5,
    Debug = 6,
    Vomit = 7,
}

impl Verbosity {
    pub const ALL: [Verbosity; 8] = [
        Self::Error,
        Self::Warn,
        Self::Notice,
        Self::Info,
        Self::Talkative,
        Self::Chatty,
        Self::Debug,
        Self::Vomit,
    ];

    /// The level with that number; what is above the highest counts as the highest.
    pub fn from_number(number: u64) -> Self {
        Self::ALL[(number as usize).min(7)]
    }
}

/// What kind of work an activity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ActivityType {
    Unknown = 0,
    /// Fields: store path, source store, destination store.
    CopyPath = 100,
    /// Fields: URI.
    FileTransfer = 101,
    Realise = 102,
    CopyPaths = 103,
    Builds = 104,
    /// Fields: derivation path, machine name (empty for this one), 1, 1.
    Build = 105,
    OptimiseStore = 106,
    VerifyPaths = 107,
    /// Fields: store path, substituter.
    Substitute = 108,
    /// Fields: store path, substituter.
    QueryPathInfo = 109,
    /// Fields: derivation path.
    PostBuildHook = 110,
    BuildWaiting = 111,
    FetchTree = 112,
}

impl ActivityType {
    /// The kind with that number; numbers that are not known yet are `Unknown`.
    pub fn from_number(number: u64) -> Self {
        use ActivityType::*;
        let all = [
            CopyPath,
            FileTransfer,
            Realise,
            CopyPaths,
            Builds,
            Build,
            OptimiseStore,
            VerifyPaths,
            Substitute,
            QueryPathInfo,
            PostBuildHook,
            BuildWaiting,
            FetchTree,
        ];
        all.into_iter().find(|kind| u64::from(*kind as u16) == number).unwrap_or(Unknown)
    }
}

/// What an activity reports while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ResultType {
    /// Fields: bytes saved.
    FileLinked = 100,
    /// Fields: the line.
    BuildLogLine = 101,
    UntrustedPath = 102,
    CorruptedPath = 103,
    /// Fields: the phase's name.
    SetPhase = 104,
    /// Fields: done, expected, running, failed.
    Progress = 105,
    /// Fields: the activity type, how much is expected.
    SetExpected = 106,
    PostBuildLogLine = 107,
    FetchStatus = 108,
}

impl ResultType {
    /// The kind with that number, if it is known.
    pub fn from_number(number: u64) -> Option<Self> {
        use ResultType::*;
        let all = [
            FileLinked,
            BuildLogLine,
            UntrustedPath,
            CorruptedPath,
            SetPhase,
            Progress,
            SetExpected,
            PostBuildLogLine,
            FetchStatus,
        ];
        all.into_iter().find(|kind| u64::from(*kind as u16) == number)
    }
}

/// One field of an activity or a result. Text is bytes: build logs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Int(u64),
    Text(Vec<u8>),
}

impl From<u64> for Field {
    fn from(number: u64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Field {
    fn from(text: &[u8]) -> Self {
        Self::Text(text.to_vec())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::Text(text.into_bytes())
    }
}

/// Identifies an activity; 0 is none. Unique in a process, and the process id in the upper half makes it so
/// on a machine.
pub type ActivityId = u64;

/// What an activity is when it starts.
#[derive(Debug, Clone)]
pub struct ActivityStart<'a> {
    pub id: ActivityId,
    pub level: Verbosity,
    pub kind: ActivityType,
    /// What is done, as in `building '/nix/store/…'`; may be empty.
    pub text: &'a str,
    pub fields: &'a [Field],
    /// 0 for none.
    pub parent: ActivityId,
}

/// A build that is to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The derivation's full path.
    pub path: String,
    /// Those of its inputs that are to be built first, by their full paths.
    pub inputs: Vec<String>,
}

/// Shows or forwards messages and progress. Calls may come from any thread, and never fail: what cannot be
/// shown is dropped.
pub trait Logger: Send + Sync {
    /// Messages above this level are not shown; asking saves making them.
    fn verbosity(&self) -> Verbosity;

    /// A message of one or more lines, without a newline at its end. It may hold colours; where they do not
    /// belong they are taken out.
    fn log(&self, level: Verbosity, message: &[u8]);

    fn start(&self, activity: &ActivityStart<'_>);
    fn stop(&self, id: ActivityId);
    fn result(&self, id: ActivityId, kind: ResultType, fields: &[Field]);

    /// Lines of a build's log that came at once, each with a newline after it.
    fn build_log(&self, id: ActivityId, lines: &[u8]) {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            self.result(id, ResultType::BuildLogLine, &[line.into()]);
        }
    }

    /// Tells of derivations that are about to be built.
    fn announce(&self, builds: &[Announced]) {
        let _ = builds;
    }

    /// Whether [`Logger::announce`] leads to anything: finding out takes time.
    fn wants_announcements(&self) -> bool {
        false
    }

    /// Clears what is on the screen for progress, until [`Logger::resume`]; calls nest.
    fn pause(&self) {}
    fn resume(&self) {}

    /// Whether the lines of build logs are shown as they come.
    fn shows_build_logs(&self) -> bool {
        true
    }

    /// `error: message`, further lines under the first letter of the message. It may quote bytes of builders
    /// ([`firn_core::raw_text`]).
    fn error(&self, message: &str) {
        self.log(Verbosity::Error, &raw_text::restore(&error_layout(message)));
    }

    /// A message that says where in an expression something is wrong, and how evaluation came there.
    fn report(&self, report: &Report<'_>) {
        self.log(report.level, report.text);
    }

    /// `warning: message`.
    fn warn(&self, message: &str) {
        self.log(Verbosity::Warn, format!("\x1b[35;1mwarning:\x1b[0m {message}").as_bytes());
    }
}

/// A place in an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportPlace {
    /// With line and column, as messages have it.
    pub file: String,
    pub line: u32,
    pub column: u32,
}

/// An error or a warning, whole and in its parts.
#[derive(Debug)]
pub struct Report<'a> {
    pub level: Verbosity,
    /// All of it, laid out for people.
    pub text: &'a [u8],
    /// What is wrong, as it is.
    pub message: &'a [u8],
    pub place: Option<ReportPlace>,
    /// Which steps led there, the last one first; none where they are not asked for.
    pub trace: &'a [(Vec<u8>, Option<ReportPlace>)],
}

/// An error as it is shown: `error: ` in bold red, further lines under the first letter of the message, without blanks at
/// their ends.
pub fn error_layout(message: &str) -> String {
    let mut out = String::new();
    for (index, line) in message.trim_end().split('\n').enumerate() {
        let prefix = if index == 0 { "\x1b[31;1merror:\x1b[0m " } else { "\n       " };
        out.push_str(prefix);
        out.push_str(line);
        let end = out.trim_end_matches([' ', '\t', '\r']).len();
        out.truncate(end);
    }
    out
}

/// A logger that shows nothing.
#[derive(Debug, Default)]
pub struct SilentLogger;

impl Logger for SilentLogger {
    fn verbosity(&self) -> Verbosity {
        Verbosity::Error
    }
    fn log(&self, _: Verbosity, _: &[u8]) {}
    fn start(&self, _: &ActivityStart<'_>) {}
    fn stop(&self, _: ActivityId) {}
    fn result(&self, _: ActivityId, _: ResultType, _: &[Field]) {}
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A fresh id.
pub fn next_activity_id() -> ActivityId {
    (u64::from(std::process::id()) << 32) | (NEXT_ID.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff)
}

/// An activity that is under way; it stops when dropped.
pub struct Activity {
    logger: Arc<dyn Logger>,
    id: ActivityId,
}

impl Activity {
    pub fn start(
        logger: &Arc<dyn Logger>,
        level: Verbosity,
        kind: ActivityType,
        text: &str,
        fields: &[Field],
        parent: ActivityId,
    ) -> Self {
        let id = next_activity_id();
        logger.start(&ActivityStart { id, level, kind, text, fields, parent });
        Self { logger: Arc::clone(logger), id }
    }

    pub fn id(&self) -> ActivityId {
        self.id
    }

    pub fn result(&self, kind: ResultType, fields: &[Field]) {
        self.logger.result(self.id, kind, fields);
    }

    /// Lines of a log, each with a newline after it.
    pub fn build_log(&self, lines: &[u8]) {
        self.logger.build_log(self.id, lines);
    }

    /// How far the activity is: in units of its own (bytes, builds, paths).
    pub fn progress(&self, done: u64, expected: u64, running: u64, failed: u64) {
        let fields = [done.into(), expected.into(), running.into(), failed.into()];
        self.result(ResultType::Progress, &fields);
    }

    /// How much of another kind of work this activity is going to start.
    pub fn set_expected(&self, kind: ActivityType, expected: u64) {
        self.result(ResultType::SetExpected, &[u64::from(kind as u16).into(), expected.into()]);
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.logger.stop(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuation_lines_are_indented() {
        assert_eq!(
            error_layout("one:\n> \n> a \t\n>"),
            "\x1b[31;1merror:\x1b[0m one:\n       >\n       > a\n       >"
        );
        assert_eq!(
            error_layout("one\ntwo\n\nthree\n"),
            "\x1b[31;1merror:\x1b[0m one\n       two\n\n       three"
        );
        assert_eq!(
            error_layout("\n… at x\n\nerror: y"),
            "\x1b[31;1merror:\x1b[0m\n       … at x\n\n       error: y"
        );
    }
}

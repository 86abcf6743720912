//! Logs of builds elsewhere: for the user, and for `nix log` here.

use firn_archive::BzipWriter;
use firn_core::raw_text;
use firn_store::activity::{Activity, ActivityId, ActivityStart, Field, Logger, ResultType, Verbosity};
use firn_store::{StoreError, StoreResult};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// The log of one build.
pub(crate) struct BuildLog {
    activity: Activity,
    state: Mutex<State>,
    keep: usize,
    limit: u64,
}

struct State {
    file: Option<Writer>,
    /// The last lines.
    tail: VecDeque<Vec<u8>>,
    size: u64,
}

enum Writer {
    Plain(BufWriter<File>),
    /// Nothing once it was ended.
    Compressed(Box<Option<BzipWriter<BufWriter<File>>>>),
}

impl Writer {
    fn create(path: &Path, compress: bool) -> StoreResult<Writer> {
        let file = BufWriter::new(File::create(path).map_err(StoreError::io("creating log file", path))?);
        Ok(match compress {
            true => Writer::Compressed(Box::new(Some(BzipWriter::new(file, 9)))),
            false => Writer::Plain(file),
        })
    }

    fn write(&mut self, data: &[u8]) -> std::io::Result<()> {
        match self {
            Writer::Plain(writer) => writer.write_all(data),
            Writer::Compressed(writer) => {
                Option::as_mut(writer).map_or(Ok(()), |writer| writer.write_all(data))
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A log that could not be written in full is still better than none.
        let _ = match self {
            Writer::Plain(writer) => writer.flush(),
            Writer::Compressed(writer) => {
                writer.take().map_or(Ok(()), |writer| writer.finish().and_then(|mut file| file.flush()))
            }
        };
    }
}

impl BuildLog {
    /// `file` is where to write, and whether to compress; the last `keep` lines are for the error.
    pub fn start(
        activity: Activity,
        file: Option<(std::path::PathBuf, bool)>,
        keep: usize,
        limit: u64,
    ) -> StoreResult<BuildLog> {
        let file = file.map(|(path, compress)| Writer::create(&path, compress)).transpose()?;
        let state = Mutex::new(State { file, tail: VecDeque::new(), size: 0 });
        Ok(BuildLog { activity, state, keep, limit })
    }

    /// A line without its newline.
    pub fn line(&self, line: &[u8]) {
        self.keep_line(line);
        // The other side passes on what its builders say to nixpkgs' log viewers.
        if let Some(phase) = line.strip_prefix(b"@nix ").and_then(phase_of) {
            self.activity.result(ResultType::SetPhase, &[phase.as_str().into()]);
            return;
        }
        let mut state = self.state.lock();
        state.tail.push_back(line.to_vec());
        if state.tail.len() > self.keep {
            state.tail.pop_front();
        }
        drop(state);
        self.activity.result(ResultType::BuildLogLine, &[line.into()]);
    }

    fn keep_line(&self, line: &[u8]) {
        let mut state = self.state.lock();
        state.size += line.len() as u64 + 1;
        if let Some(file) = &mut state.file {
            let written = file.write(line).and_then(|()| file.write(b"\n"));
            if written.is_err() {
                state.file = None;
            }
        }
    }

    fn phase(&self, phase: &[u8]) {
        let message = serde_json::json!({ "action": "setPhase", "phase": String::from_utf8_lossy(phase) });
        self.keep_line(format!("@nix {message}").as_bytes());
        self.activity.result(ResultType::SetPhase, &[phase.into()]);
    }

    /// Whether more was said than `max-build-log-size` allows.
    pub fn is_too_long(&self) -> bool {
        self.limit > 0 && self.state.lock().size > self.limit
    }

    /// The last line, if it is a program's error: of the one that served us, when it went away.
    pub fn last_error(&self) -> Option<String> {
        let state = self.state.lock();
        let line = state.tail.back()?;
        line.starts_with(b"error: ").then(|| raw_text::keep(line).into_owned())
    }

    /// `Last N log lines`, for an error; empty if there are none.
    pub fn tail(&self) -> String {
        let state = self.state.lock();
        let mut text = String::new();
        if !state.tail.is_empty() {
            text += &format!("\nLast {} log lines:", state.tail.len());
            for line in &state.tail {
                text += &format!("\n> {}", raw_text::keep(line));
            }
        }
        text
    }
}

/// The phase that a message to log viewers sets.
fn phase_of(json: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    match value.get("action")?.as_str()? {
        "setPhase" => Some(value.get("phase")?.as_str()?.to_owned()),
        _ => None,
    }
}

/// The build that a connection works on now; others wait for nothing.
#[derive(Default)]
pub(crate) struct Current(Mutex<Option<Arc<BuildLog>>>);

impl Current {
    pub fn set(&self, log: Option<Arc<BuildLog>>) {
        *self.0.lock() = log;
    }

    pub fn get(&self) -> Option<Arc<BuildLog>> {
        self.0.lock().clone()
    }
}

/// Takes what a daemon elsewhere says: lines of logs go to the current build, the rest to our user.
pub(crate) struct RemoteLogger {
    pub inner: Arc<dyn Logger>,
    pub current: Arc<Current>,
}

impl Logger for RemoteLogger {
    fn verbosity(&self) -> Verbosity {
        self.inner.verbosity()
    }

    fn log(&self, level: Verbosity, message: &[u8]) {
        self.inner.log(level, message);
    }

    fn start(&self, activity: &ActivityStart<'_>) {
        self.inner.start(activity);
    }

    fn stop(&self, id: ActivityId) {
        self.inner.stop(id);
    }

    fn result(&self, id: ActivityId, kind: ResultType, fields: &[Field]) {
        match (kind, fields, self.current.get()) {
            (ResultType::BuildLogLine, [Field::Text(line), ..], Some(log)) => log.line(line),
            (ResultType::SetPhase, [Field::Text(phase), ..], Some(log)) => log.phase(phase),
            _ => self.inner.result(id, kind, fields),
        }
    }

    fn shows_build_logs(&self) -> bool {
        self.inner.shows_build_logs()
    }
}

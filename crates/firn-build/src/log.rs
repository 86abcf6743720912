//! The builder's log: its lines for the user, its bytes for the log file.

use crate::text::io_failure;
use firn_archive::BzipWriter;
use firn_scheduler::BuildFailure;
use firn_store::activity::{Activity, Logger, ResultType, Verbosity};
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest line that is kept whole; what is longer is cut into lines of this many bytes, so that a flood without
/// newlines does not fill the memory.
const MAX_LINE: usize = 64 * 1024;

/// Splits output into lines, and keeps the last ones for the error message.
pub(crate) struct LogLines {
    /// The line that is not ended yet, of which what is before `column` will stay.
    line: Vec<u8>,
    column: usize,
    tail: VecDeque<Vec<u8>>,
    keep: usize,
}

impl LogLines {
    pub fn new(keep: usize) -> LogLines {
        LogLines { line: Vec::new(), column: 0, tail: VecDeque::new(), keep }
    }

    /// Takes output in; hands each whole line to `sink`. A carriage return starts the line anew.
    pub fn feed(&mut self, mut data: &[u8], sink: &mut dyn FnMut(&[u8]) -> bool) {
        while !data.is_empty() {
            let (text, end) = match memchr::memchr2(b'\n', b'\r', data) {
                Some(at) => (&data[..at], Some(data[at])),
                None => (data, None),
            };
            data = data.get(text.len() + 1..).unwrap_or_default();
            match end {
                // Most lines come in one piece.
                Some(b'\n') if self.line.is_empty() && text.len() <= MAX_LINE => self.give(text, sink),
                Some(b'\n') => {
                    self.put(text, sink);
                    self.end_line(sink);
                }
                Some(_) => {
                    self.put(text, sink);
                    self.column = 0;
                }
                None => self.put(text, sink),
            }
        }
    }

    /// The output ended, perhaps within a line.
    pub fn finish(&mut self, sink: &mut dyn FnMut(&[u8]) -> bool) {
        if !self.line.is_empty() {
            self.end_line(sink);
        }
    }

    /// Writes over the line from the column on.
    fn put(&mut self, mut text: &[u8], sink: &mut dyn FnMut(&[u8]) -> bool) {
        while !text.is_empty() {
            if self.column >= MAX_LINE {
                self.end_line(sink);
            }
            let (now, rest) = text.split_at(text.len().min(MAX_LINE - self.column));
            let over = now.len().min(self.line.len() - self.column);
            self.line[self.column..self.column + over].copy_from_slice(&now[..over]);
            self.line.extend_from_slice(&now[over..]);
            self.column += now.len();
            text = rest;
        }
    }

    fn end_line(&mut self, sink: &mut dyn FnMut(&[u8]) -> bool) {
        let mut line = std::mem::take(&mut self.line);
        line.truncate(self.column);
        self.column = 0;
        self.give(&line, sink);
        line.clear();
        self.line = line;
    }

    fn give(&mut self, line: &[u8], sink: &mut dyn FnMut(&[u8]) -> bool) {
        if !sink(line) {
            return;
        }
        // The place of the line that drops out is used again.
        let mut place = match self.tail.len() < self.keep {
            true => Vec::new(),
            false => self.tail.pop_front().unwrap_or_default(),
        };
        place.clear();
        place.extend_from_slice(line);
        self.tail.push_back(place);
        self.tail.truncate(self.keep);
    }

    /// The last lines.
    pub fn tail(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.tail.iter().map(Vec::as_slice)
    }
}

/// Shows a line, or does what it says where it is a message to the program (`@nix {…}`). Whether it was a plain line;
/// messages that make no sense are shown as such, and said to be bad.
pub(crate) fn show_line(line: &[u8], activity: &Activity, logger: &Arc<dyn Logger>) -> bool {
    if let Some(text) = line.strip_prefix(b"@nix ") {
        match serde_json::from_slice::<Value>(text) {
            Ok(message) => match obey(&message, activity, logger) {
                Ok(()) => return false,
                Err(why) => logger
                    .warn(&format!("Unable to handle a JSON message from the derivation builder: {why}")),
            },
            Err(e) => logger.log(
                Verbosity::Error,
                format!("bad JSON log message from the derivation builder: {e}").as_bytes(),
            ),
        }
    }
    activity.result(ResultType::BuildLogLine, &[line.into()]);
    true
}

/// Does what a builder's message says. Activities of builders are not shown.
fn obey(message: &Value, activity: &Activity, logger: &Arc<dyn Logger>) -> Result<(), String> {
    let text = |key: &str| {
        message.get(key).and_then(Value::as_str).ok_or_else(|| format!("'{key}' is missing or not a string"))
    };
    let number = |key: &str| {
        message.get(key).and_then(Value::as_u64).ok_or_else(|| format!("'{key}' is missing or not a number"))
    };
    match text("action")? {
        "setPhase" => activity.result(ResultType::SetPhase, &[text("phase")?.into()]),
        "msg" => logger.log(Verbosity::from_number(number("level")?), text("msg")?.as_bytes()),
        "start" => drop(number("type")?),
        "stop" | "result" => drop(number("id")?),
        _ => {}
    }
    Ok(())
}

/// The log file.
pub(crate) struct LogFile {
    path: PathBuf,
    writer: Writer,
}

enum Writer {
    Plain(BufWriter<File>),
    Compressed(Box<BzipWriter<File>>),
}

impl LogFile {
    /// Starts the file anew. Not followed if somebody put a symlink there.
    pub fn create(path: &Path, compress: bool) -> Result<LogFile, BuildFailure> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o666)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(path)
            .map_err(io_failure("creating log file", path))?;
        let writer = match compress {
            // Blocks as large as Nix's.
            true => Writer::Compressed(Box::new(BzipWriter::new(file, 9))),
            false => Writer::Plain(BufWriter::new(file)),
        };
        Ok(LogFile { path: path.to_owned(), writer })
    }

    pub fn write(&mut self, data: &[u8]) -> Result<(), BuildFailure> {
        self.try_write(data).map_err(io_failure("writing log file", &self.path))
    }

    fn try_write(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.writer {
            Writer::Plain(writer) => writer.write_all(data),
            Writer::Compressed(writer) => writer.write_all(data),
        }
    }

    pub fn finish(self) -> Result<(), BuildFailure> {
        let finish = || -> io::Result<()> {
            match self.writer {
                Writer::Plain(mut writer) => writer.flush(),
                Writer::Compressed(writer) => writer.finish().map(drop),
            }
        };
        finish().map_err(io_failure("writing log file", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(chunks: &[&str], expected: &[&str]) {
        let mut lines = LogLines::new(2);
        let mut seen = Vec::new();
        let mut sink = |line: &[u8]| {
            seen.push(String::from_utf8_lossy(line).into_owned());
            true
        };
        for chunk in chunks {
            lines.feed(chunk.as_bytes(), &mut sink);
        }
        lines.finish(&mut sink);
        assert_eq!(seen, expected);
        assert!(lines.tail().len() <= 2);
    }

    #[test]
    fn lines() {
        check(&["a\nb", "c\nd"], &["a", "bc", "d"]);
        check(&["10%\r20%\r100%\n"], &["100%"]);
        check(&["longer\rab\n"], &["ab"]);
        check(&["\n"], &[""]);
        check(&["x\r\n"], &[""]);
        check(&[""], &[]);
    }

    #[test]
    fn endless_lines_are_cut() {
        let mut lines = LogLines::new(3);
        let mut count = 0;
        lines.feed(&vec![b'x'; MAX_LINE * 3], &mut |line| {
            assert_eq!(line.len(), MAX_LINE);
            count += 1;
            true
        });
        assert_eq!(count, 2);
    }

    #[track_caller]
    fn check_file(pieces: &[&[u8]]) {
        use std::io::Read;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.bz2");
        let mut file = LogFile::create(&path, true).unwrap();
        for piece in pieces {
            file.write(piece).unwrap();
        }
        file.finish().unwrap();
        let mut text = Vec::new();
        bzip2::read::BzDecoder::new(File::open(&path).unwrap()).read_to_end(&mut text).unwrap();
        assert_eq!(text, pieces.concat());
    }

    #[test]
    fn files_of_all_sizes() {
        check_file(&[]);
        check_file(&[b"a line\n"]);
        check_file(&[b"y", &vec![b'x'; 300_000], b"z"]);
    }
}

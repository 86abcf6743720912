//! The builder's log: its lines for the user, its bytes for the log file.

use crate::text::io_failure;
use firn_archive::BzipWriter;
use firn_scheduler::BuildFailure;
use firn_store::activity::{Activity, Logger, ResultType, Verbosity};
use memchr::memmem::Finder;
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

/// Where lines of output go.
pub(crate) trait LineSink {
    /// One line, without its newline. Whether it is part of the log rather than a message to the program.
    fn line(&mut self, line: &[u8]) -> bool;

    /// Lines that are all part of the log, each with its newline.
    fn lines(&mut self, lines: &[u8]);
}

/// What lines begin with that are messages to the program.
const MESSAGE: &[u8] = b"@nix ";

/// Splits output into lines, and keeps the last ones for the error message.
pub(crate) struct LogLines {
    /// The line that is not ended yet, of which what is before `column` will stay.
    line: Vec<u8>,
    column: usize,
    tail: VecDeque<Vec<u8>>,
    keep: usize,
    messages: Finder<'static>,
}

impl LogLines {
    pub fn new(keep: usize) -> LogLines {
        LogLines {
            line: Vec::new(),
            column: 0,
            tail: VecDeque::new(),
            keep,
            messages: Finder::new(b"\n@nix "),
        }
    }

    /// Takes output in; hands each whole line to `sink`. A carriage return starts the line anew.
    pub fn feed(&mut self, mut data: &[u8], sink: &mut dyn LineSink) {
        while !data.is_empty() {
            if self.line.is_empty() {
                data = self.feed_plain(data, sink);
            }
            let (text, end) = match memchr::memchr2(b'\n', b'\r', data) {
                Some(at) => (&data[..at], Some(data[at])),
                None => (data, None),
            };
            data = data.get(text.len() + 1..).unwrap_or_default();
            self.put(text, sink);
            match end {
                Some(b'\n') => self.end_line(sink),
                Some(_) => self.column = 0,
                None => {}
            }
        }
    }

    /// Hands on all whole lines at once where nothing has to be looked at more closely; gives back what is left.
    fn feed_plain<'d>(&mut self, data: &'d [u8], sink: &mut dyn LineSink) -> &'d [u8] {
        let limit = data.len().min(MAX_LINE);
        let end = memchr::memchr(b'\r', &data[..limit]).unwrap_or(limit);
        let Some(end) = memchr::memrchr(b'\n', &data[..end]) else { return data };
        let (mut lines, mut rest) = data.split_at(end + 1);
        if lines.starts_with(MESSAGE) {
            return data;
        }
        if let Some(message) = self.messages.find(lines) {
            (lines, rest) = data.split_at(message + 1);
        }
        sink.lines(lines);
        self.keep_last(lines);
        rest
    }

    /// The output ended, perhaps within a line.
    pub fn finish(&mut self, sink: &mut dyn LineSink) {
        if !self.line.is_empty() {
            self.end_line(sink);
        }
    }

    /// Writes over the line from the column on.
    fn put(&mut self, mut text: &[u8], sink: &mut dyn LineSink) {
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

    fn end_line(&mut self, sink: &mut dyn LineSink) {
        let mut line = std::mem::take(&mut self.line);
        line.truncate(self.column);
        self.column = 0;
        if sink.line(&line) {
            self.keep_line(&line);
        }
        line.clear();
        self.line = line;
    }

    /// Keeps the last of many lines.
    fn keep_last(&mut self, lines: &[u8]) {
        let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
        let mut ends = memchr::memrchr_iter(b'\n', lines);
        // What comes before the last so many ends of lines is forgotten anyway.
        let from = self.keep.checked_sub(1).and_then(|skip| ends.nth(skip)).map_or(0, |at| at + 1);
        for line in lines[from..].split(|byte| *byte == b'\n') {
            self.keep_line(line);
        }
    }

    fn keep_line(&mut self, line: &[u8]) {
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

/// Shows a build's lines, and does what those say that are messages to the program (`@nix {…}`). Messages that make no
/// sense are shown as such, and said to be bad.
pub(crate) struct Shown<'a> {
    pub activity: &'a Activity,
    pub logger: &'a Arc<dyn Logger>,
}

impl LineSink for Shown<'_> {
    fn line(&mut self, line: &[u8]) -> bool {
        if let Some(text) = line.strip_prefix(MESSAGE) {
            match serde_json::from_slice::<Value>(text) {
                Ok(message) => match obey(&message, self.activity, self.logger) {
                    Ok(()) => return false,
                    Err(why) => self
                        .logger
                        .warn(&format!("Unable to handle a JSON message from the derivation builder: {why}")),
                },
                Err(e) => self.logger.log(
                    Verbosity::Error,
                    format!("bad JSON log message from the derivation builder: {e}").as_bytes(),
                ),
            }
        }
        self.activity.result(ResultType::BuildLogLine, &[line.into()]);
        true
    }

    fn lines(&mut self, lines: &[u8]) {
        self.activity.build_log(lines);
    }
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

    /// Lines that were seen; messages are marked.
    #[derive(Default)]
    struct Seen(Vec<String>);

    impl LineSink for Seen {
        fn line(&mut self, line: &[u8]) -> bool {
            let is_message = line.starts_with(MESSAGE);
            let mark = if is_message { "!" } else { "" };
            self.0.push(format!("{mark}{}", String::from_utf8_lossy(line)));
            !is_message
        }

        fn lines(&mut self, lines: &[u8]) {
            assert!(lines.ends_with(b"\n"));
            for line in lines.strip_suffix(b"\n").unwrap_or_default().split(|byte| *byte == b'\n') {
                assert!(!line.starts_with(MESSAGE));
                self.0.push(String::from_utf8_lossy(line).into_owned());
            }
        }
    }

    #[track_caller]
    fn check(chunks: &[&str], expected: &[&str]) {
        let mut lines = LogLines::new(2);
        let mut seen = Seen::default();
        for chunk in chunks {
            lines.feed(chunk.as_bytes(), &mut seen);
        }
        lines.finish(&mut seen);
        assert_eq!(seen.0, expected);
        let log: Vec<&str> = expected.iter().copied().filter(|line| !line.starts_with('!')).collect();
        let tail: Vec<&str> = lines.tail().map(|line| std::str::from_utf8(line).unwrap()).collect();
        assert_eq!(tail, log[log.len().saturating_sub(2)..]);
        let whole = chunks.concat();
        if chunks.len() > 1 {
            check(&[&whole], expected);
        }
    }

    #[test]
    fn lines() {
        check(&["a\nb", "c\nd"], &["a", "bc", "d"]);
        check(&["10%\r20%\r100%\n"], &["100%"]);
        check(&["longer\rab\n"], &["ab"]);
        check(&["\n"], &[""]);
        check(&["x\r\n"], &[""]);
        check(&[""], &[]);
        check(&["a\nb\nc\nd\n", "e\nx\ry\nz\n"], &["a", "b", "c", "d", "e", "y", "z"]);
        check(
            &["@nix 1\na\n@nix 2\n", "@nix 3\nb\n@ni", "x 4"],
            &["!@nix 1", "a", "!@nix 2", "!@nix 3", "b", "!@nix 4"],
        );
        check(&["a @nix 1\n\n\n"], &["a @nix 1", "", ""]);
    }

    #[test]
    fn endless_lines_are_cut() {
        let mut lines = LogLines::new(3);
        let mut seen = Seen::default();
        lines.feed(&vec![b'x'; MAX_LINE * 3], &mut seen);
        assert_eq!(seen.0.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE; 2]);
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

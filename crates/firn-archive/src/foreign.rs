//! Methods that are done by programs of the same name, as libarchive does them: `grzip`, `lrzip` and `lzop`.
//!
//! One thread moves what goes in and what comes out, in turn, as the pipes allow; nothing is kept but one buffer, and the
//! first of what the program has to complain.

use crate::encode::Encoder;
use crate::error::{ArchiveError, ArchiveResult};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::io::{self, BufRead, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// As much as pipes hold.
const BUFFER: usize = 64 * 1024;
/// As much as is kept of what a program complains about.
const COMPLAINTS: usize = 4 * 1024;

/// A running program between two pipes.
struct Program {
    name: &'static str,
    child: Child,
    /// Closed when there is nothing more to go in.
    input: Option<ChildStdin>,
    complaints: Vec<u8>,
    ended: bool,
}

/// What happened first.
enum Event {
    /// The program took so many bytes.
    Took(usize),
    /// It gave so many.
    Gave(usize),
    /// It takes no more. How it ends says whether it has read enough.
    Refused,
    /// It has nothing more to give.
    Ended,
}

impl Program {
    #[expect(clippy::disallowed_methods, reason = "formats that exist as programs only")]
    fn start(name: &'static str, args: &[String]) -> ArchiveResult<Program> {
        let mut command = Command::new(name);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| ArchiveError::Program { name, source })?;
        let input = child.stdin.take();
        if let Some(pipe) = &input {
            let flags = fcntl_getfl(pipe).map_err(|e| ArchiveError::Read(e.into()))?;
            fcntl_setfl(pipe, flags | OFlags::NONBLOCK).map_err(|e| ArchiveError::Read(e.into()))?;
        }
        Ok(Program { name, child, input, complaints: Vec::new(), ended: false })
    }

    /// Moves some of `data` into the program, or some of what it has made into `out`.
    fn exchange(&mut self, data: &[u8], out: &mut [u8]) -> io::Result<Event> {
        loop {
            let Some(output) = self.child.stdout.as_mut() else { return Ok(Event::Ended) };
            let errors = self.child.stderr.as_mut();
            let input = self.input.as_mut().filter(|_| !data.is_empty());
            let mut fds = vec![PollFd::new(&*output, PollFlags::IN)];
            if let Some(errors) = &errors {
                fds.push(PollFd::new(*errors, PollFlags::IN));
            }
            if let Some(input) = &input {
                fds.push(PollFd::new(*input, PollFlags::OUT));
            }
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
            let (gives, complains) = (ready(0), errors.is_some() && ready(1));
            let takes = ready(1 + usize::from(errors.is_some()));
            drop(fds);
            if let Some(errors) = errors.filter(|_| complains) {
                let mut text = [0; 1024];
                match errors.read(&mut text)? {
                    0 => self.child.stderr = None,
                    n => {
                        let room = COMPLAINTS.saturating_sub(self.complaints.len());
                        self.complaints.extend_from_slice(&text[..n.min(room)]);
                    }
                }
                continue;
            }
            if gives {
                return Ok(match output.read(out)? {
                    0 => Event::Ended,
                    n => Event::Gave(n),
                });
            }
            if let Some(input) = input.filter(|_| takes) {
                match input.write(data) {
                    Ok(n) => return Ok(Event::Took(n)),
                    Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                        self.input = None;
                        return Ok(Event::Refused);
                    }
                    Err(e) => return Err(e),
                }
            }
        }
    }

    /// How a program ended that has nothing more to give.
    fn end(&mut self) -> io::Result<()> {
        self.input = None;
        self.ended = true;
        if let Some(mut errors) = self.child.stderr.take() {
            let room = COMPLAINTS.saturating_sub(self.complaints.len());
            errors.by_ref().take(room as u64).read_to_end(&mut self.complaints)?;
            // Whatever else it says, so that it can end.
            io::copy(&mut errors, &mut io::sink())?;
        }
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        let complaints = String::from_utf8_lossy(&self.complaints);
        let complaints = complaints.trim();
        let colon = if complaints.is_empty() { "" } else { ": " };
        Err(io::Error::other(format!("program '{}' failed with {status}{colon}{complaints}", self.name)))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.ended {
            // Nobody waits for what it makes. What cannot be killed has ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a program makes of what is written goes to `out`.
pub(crate) struct ForeignWriter<W> {
    program: Program,
    buffer: Vec<u8>,
    out: W,
}

impl<W: Write> ForeignWriter<W> {
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn new(name: &'static str, args: &[String], out: W) -> ArchiveResult<ForeignWriter<W>> {
        Ok(ForeignWriter { program: Program::start(name, args)?, buffer: vec![0; BUFFER], out })
    }
}

impl<W: Write> Write for ForeignWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        loop {
            match self.program.exchange(data, &mut self.buffer)? {
                Event::Took(n) => return Ok(n),
                Event::Gave(n) => self.out.write_all(&self.buffer[..n])?,
                Event::Refused => {}
                Event::Ended => {
                    self.program.end()?;
                    let text = format!("program '{}' ended before its input did", self.program.name);
                    return Err(io::Error::other(text));
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write + Send> Encoder for ForeignWriter<W> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.program.input = None;
        loop {
            match self.program.exchange(&[], &mut self.buffer)? {
                Event::Took(_) | Event::Refused => {}
                Event::Gave(n) => self.out.write_all(&self.buffer[..n])?,
                Event::Ended => break,
            }
        }
        self.program.end()?;
        self.out.flush()
    }
}

/// What a program makes of `input`.
pub(crate) struct ForeignReader<R> {
    program: Program,
    input: R,
}

impl<R: BufRead> ForeignReader<R> {
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn new(name: &'static str, args: &[String], input: R) -> ArchiveResult<ForeignReader<R>> {
        Ok(ForeignReader { program: Program::start(name, args)?, input })
    }
}

impl<R: BufRead> Read for ForeignReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.program.ended {
            return Ok(0);
        }
        loop {
            let data = if self.program.input.is_some() { self.input.fill_buf()? } else { &[] };
            if data.is_empty() {
                self.program.input = None;
            }
            match self.program.exchange(data, out)? {
                Event::Took(n) => self.input.consume(n),
                Event::Refused => {}
                Event::Gave(n) => return Ok(n),
                Event::Ended => {
                    self.program.end()?;
                    return Ok(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> [String; 2] {
        ["-c".to_owned(), script.to_owned()]
    }

    fn read(script: &str, input: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        ForeignReader::new("sh", &shell(script), input).unwrap().read_to_end(&mut out).map(|_| out)
    }

    fn write(script: &str, data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut writer = Box::new(ForeignWriter::new("sh", &shell(script), &mut out).unwrap());
        writer.write_all(data)?;
        writer.finish()?;
        Ok(out)
    }

    #[test]
    fn more_than_pipes_hold() {
        let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        assert!(read("cat", &data).unwrap() == data);
        assert!(write("cat", &data).unwrap() == data);
        // A program that reads all before it writes, and one that complains meanwhile.
        assert!(write("tac -s ''", &data).unwrap().len() == data.len());
        assert!(read("seq 100000 >&2; cat", &data).unwrap() == data);
        // Much more comes out than goes in, and the other way round.
        assert_eq!(read("cat >/dev/null; head -c 1000000 /dev/zero", b"x").unwrap().len(), 1_000_000);
        assert_eq!(write("wc -c", &data).unwrap(), b"3000000\n");
        assert_eq!(read("cat", b"").unwrap(), b"");
    }

    #[test]
    fn programs_that_fail() {
        let failed = |result: io::Result<Vec<u8>>| result.unwrap_err().to_string();
        let data = vec![7; 1_000_000];
        let text = "program 'sh' failed with exit status: 3: no such luck";
        assert_eq!(failed(read("cat; echo no such luck >&2; exit 3", &data)), text);
        assert_eq!(failed(write("cat; echo no such luck >&2; exit 3", &data)), text);
        assert_eq!(failed(read("echo no such luck >&2; exit 3", &data)), text);
        assert_eq!(failed(write("echo no such luck >&2; exit 3", &data)), text);
        assert!(failed(write("kill -9 $$", &data)).contains("signal: 9"));
        // What it says after its output has ended does not keep it from ending, and is not all kept.
        let talks = "cat >/dev/null; exec >&-; seq 100000 >&2";
        assert_eq!(read(talks, &data).unwrap(), b"");
        assert!(failed(read(&format!("{talks}; exit 4"), &data)).len() < 5000);
        // Whether all was read shows however little is left.
        assert!(
            failed(write("exec <&-; sleep 0.2; exit 0", &data[..100_000])).contains("ended before its input")
        );
        assert!(failed(write("exit 0", &data)).contains("ended before its input did"));
        // One that has read enough is content with it.
        assert_eq!(read("head -c 3", &data).unwrap(), [7; 3]);
        let missing = ForeignReader::new("no-such-program", &[], &b""[..]).err().unwrap().to_string();
        assert!(missing.contains("cannot run program 'no-such-program'"), "{missing}");
    }

    #[test]
    fn who_stops_reading_leaves_no_program_behind() {
        let mut reader = ForeignReader::new("sh", &shell("exec yes"), &b""[..]).unwrap();
        reader.read_exact(&mut [0; 10]).unwrap();
        let pid = reader.program.child.id();
        drop(reader);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

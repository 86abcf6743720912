//! What goes to the client: messages of any thread while an operation runs, and results.
//!
//! Writing is synchronous, so that messages need no task that passes them on, and whoever says much waits for a client
//! that is slow to listen.

use crate::status::{Phase, Status};
use firn_core::raw_text;
use firn_store::{StoreError, activity};
use firn_wire::Message;
use firn_wire::worker::{Field, RemoteError, StderrMessage, Version};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

/// Messages that wait for the next operation, in bytes; more are dropped.
const MAX_PENDING: usize = 1 << 20;

/// Results are collected up to so many bytes before they are written.
const MAX_BUFFER: usize = 64 * 1024;

/// The writing half of a connection.
pub struct Output {
    fd: OwnedFd,
    state: Mutex<State>,
    verbosity: AtomicU8,
    status: Status,
}

struct State {
    version: Version,
    /// Whether the client is listening to messages now.
    working: bool,
    /// Messages from when it was not.
    pending: Vec<u8>,
    /// Parts of results.
    buffer: Vec<u8>,
    /// The client is gone.
    broken: bool,
    /// What was noted for the supervisor.
    phase: Phase,
}

impl Output {
    pub fn new(fd: OwnedFd, status: Status) -> Output {
        let state = State {
            version: Version::LATEST,
            working: false,
            pending: Vec::new(),
            buffer: Vec::new(),
            broken: false,
            phase: Phase::Greeting,
        };
        let verbosity = AtomicU8::new(activity::Verbosity::Info as u8);
        Output { fd, state: Mutex::new(state), verbosity, status }
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) fn set_version(&self, version: Version) {
        self.state.lock().version = version;
    }

    pub(crate) fn set_verbosity(&self, level: activity::Verbosity) {
        self.verbosity.store(level as u8, Ordering::Relaxed);
    }

    pub(crate) fn level(&self) -> activity::Verbosity {
        activity::Verbosity::from_number(self.verbosity.load(Ordering::Relaxed).into())
    }

    /// An operation starts: from now on messages go to the client.
    pub(crate) fn start_work(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.working = true;
        if state.pending.is_empty() {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut state.buffer);
        bytes.append(&mut state.pending);
        self.write(&mut state, &bytes)
    }

    /// The operation is done, its result follows.
    pub(crate) fn stop_work(&self) {
        let mut state = self.state.lock();
        state.working = false;
        let mut message = Message::new();
        StderrMessage::Last.write(&mut message, state.version);
        state.buffer.extend(message.0);
    }

    /// The operation failed.
    pub(crate) fn fail(&self, error: &StoreError) {
        let mut state = self.state.lock();
        state.working = false;
        let status = match error {
            StoreError::Build { status, .. } => *status,
            _ => 1,
        };
        let error = RemoteError::new(raw_text::restore(&crate::tunnel::error_text(error)), status);
        let mut message = Message::new();
        StderrMessage::Error(error).write(&mut message, state.version);
        state.buffer.extend(message.0);
    }

    /// Whether an operation is running, so that its failure can be told.
    pub(crate) fn is_working(&self) -> bool {
        self.state.lock().working
    }

    /// Everything of the result is there.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        // In one piece, so that there is no moment at which half of a small result is out.
        self.flush_state(&mut state)?;
        self.note(&mut state, Phase::Listening);
        Ok(())
    }

    fn note(&self, state: &mut State, phase: Phase) {
        if state.phase != phase {
            state.phase = phase;
            self.status.note(state.version, phase);
        }
    }

    pub(crate) fn send(&self, message: &Message) -> io::Result<()> {
        let mut state = self.state.lock();
        state.buffer.extend_from_slice(&message.0);
        match state.buffer.len() < MAX_BUFFER {
            true => Ok(()),
            false => {
                self.note(&mut state, Phase::Answering);
                self.flush_state(&mut state)
            }
        }
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.flush_state(&mut self.state.lock())
    }

    fn flush_state(&self, state: &mut State) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut state.buffer);
        let result = self.write(state, &bytes);
        // Its memory is of use again.
        bytes.clear();
        if bytes.capacity() <= 2 * MAX_BUFFER {
            state.buffer = bytes;
        }
        result
    }

    /// Asks an older client for more of what it adds.
    pub(crate) fn ask(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut message = Message::new();
        StderrMessage::Read(bytes).write(&mut message, state.version);
        self.write(&mut state, &message.0)
    }

    pub(crate) fn say(&self, message: &StderrMessage) {
        let mut state = self.state.lock();
        if state.broken {
            return;
        }
        let has_activities = state.version.has(20);
        let mut bytes = Message::new();
        match message {
            // Clients that know no activities are told their texts.
            StderrMessage::StartActivity { text, .. } if !has_activities => {
                if text.is_empty() {
                    return;
                }
                StderrMessage::Next([text, b"...\n".as_slice()].concat()).write(&mut bytes, state.version);
            }
            StderrMessage::StopActivity(_) | StderrMessage::Result { .. } if !has_activities => return,
            message => message.write(&mut bytes, state.version),
        }
        if state.working {
            // That the client is gone, the operation's end will show.
            let _ = self.write(&mut state, &bytes.0);
        } else if state.pending.len() + bytes.0.len() <= MAX_PENDING {
            state.pending.extend(bytes.0);
        }
    }

    fn write(&self, state: &mut State, mut bytes: &[u8]) -> io::Result<()> {
        if state.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        while !bytes.is_empty() {
            match rustix::io::write(&self.fd, bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&self.fd, PollFlags::OUT)], None);
                }
                Err(error) => {
                    state.broken = true;
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Bytes as they are, behind the result's beginning.
    pub(crate) fn raw(&self) -> RawSink<'_> {
        RawSink(self)
    }
}

/// Archives for the client.
pub(crate) struct RawSink<'a>(&'a Output);

impl tokio::io::AsyncWrite for RawSink<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.state.lock();
        if state.buffer.len() + data.len() < MAX_BUFFER {
            state.buffer.extend_from_slice(data);
            return Poll::Ready(Ok(data.len()));
        }
        self.0.note(&mut state, Phase::Answering);
        self.0.flush_state(&mut state)?;
        self.0.write(&mut state, data)?;
        Poll::Ready(Ok(data.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.flush())
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.flush())
    }
}

impl activity::Logger for Output {
    fn verbosity(&self) -> activity::Verbosity {
        self.level()
    }

    /// Whatever the client does with the lines: the error may be kept or handed on without them.
    fn shows_build_logs(&self) -> bool {
        false
    }

    fn log(&self, level: activity::Verbosity, message: &[u8]) {
        if level <= self.level() {
            self.say(&StderrMessage::Next([message, b"\n"].concat()));
        }
    }

    fn start(&self, start: &activity::ActivityStart<'_>) {
        self.say(&StderrMessage::StartActivity {
            id: start.id,
            level: start.level as u64,
            kind: u64::from(start.kind as u16),
            text: start.text.as_bytes().to_vec(),
            fields: wire_fields(start.fields),
            parent: start.parent,
        });
    }

    fn stop(&self, id: activity::ActivityId) {
        self.say(&StderrMessage::StopActivity(id));
    }

    fn result(&self, id: activity::ActivityId, kind: activity::ResultType, fields: &[activity::Field]) {
        let kind = u64::from(kind as u16);
        self.say(&StderrMessage::Result { id, kind, fields: wire_fields(fields) });
    }
}

fn wire_fields(fields: &[activity::Field]) -> Vec<Field> {
    fields
        .iter()
        .map(|field| match field {
            activity::Field::Int(number) => Field::Int(*number),
            activity::Field::Text(text) => Field::Text(text.clone()),
        })
        .collect()
}

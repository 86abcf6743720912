//! Small files are read by several threads, in batches, ahead of the one that writes the archive: opening a file costs
//! more than writing its contents out.

use super::{Dir, open_regular};
use crate::error::NarError;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

/// Larger files are left to the one that writes.
const SMALL: u64 = 32 * 1024;
/// So many files make a batch, and so many batches are under way at most. With [`SMALL`] this bounds the memory.
const FILES: usize = 32;
const BATCHES: usize = 4;

/// A regular file that was opened, and read if it is small.
pub(super) enum Found {
    Small {
        executable: bool,
        /// Where its contents lie in the batch.
        contents: Range<usize>,
    },
    Large {
        executable: bool,
        size: u64,
        fd: OwnedFd,
    },
}

/// Files to be read, as directories and places in them.
pub(super) struct Batch {
    pub(super) files: Vec<(Arc<Dir>, usize)>,
    read: Mutex<Option<Contents>>,
}

/// What was read, in the order of the files. After an error nothing follows.
pub(super) struct Contents {
    pub(super) bytes: Vec<u8>,
    pub(super) files: std::vec::IntoIter<Result<Found, NarError>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Batch {
    fn read(&self) {
        let (mut bytes, mut files) = (Vec::new(), Vec::with_capacity(self.files.len()));
        for (dir, index) in &self.files {
            files.push(read_file(dir, *index, &mut bytes));
            if files.last().is_some_and(Result::is_err) {
                break;
            }
        }
        *lock(&self.read) = Some(Contents { bytes, files: files.into_iter() });
    }
}

fn read_file(dir: &Dir, index: usize, bytes: &mut Vec<u8>) -> Result<Found, NarError> {
    let path = || dir.path_of(index);
    let (fd, executable, size) = open_regular(&dir.fd, dir.name(index), path)?;
    if size > SMALL {
        return Ok(Found::Large { executable, size, fd });
    }
    let start = bytes.len();
    bytes.resize(start + size as usize, 0);
    let mut at = start;
    while at < bytes.len() {
        match rustix::io::read(&fd, &mut bytes[at..]) {
            Ok(0) => return Err(NarError::Shrunk { path: path(), missing: (bytes.len() - at) as u64 }),
            Ok(n) => at += n,
            Err(Errno::INTR) => {}
            Err(source) => {
                return Err(NarError::Io { operation: "reading", path: path(), source: source.into() });
            }
        }
    }
    Ok(Found::Small { executable, contents: start..at })
}

/// What the threads share.
#[derive(Default)]
pub(super) struct Readers {
    queue: Mutex<Queue>,
    work: Condvar,
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Batch>>,
    closed: bool,
}

impl Readers {
    fn work(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(batch) = queue.waiting.pop_front() {
                drop(queue);
                batch.read();
                queue = lock(&self.queue);
                self.done.notify_one();
            } else if queue.closed {
                return;
            } else {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// What is in a batch; until that is known, this thread reads what waits.
    fn contents(&self, batch: &Batch) -> Contents {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(contents) = lock(&batch.read).take() {
                return contents;
            }
            match queue.waiting.pop_front() {
                Some(other) => {
                    drop(queue);
                    other.read();
                    queue = lock(&self.queue);
                }
                None => queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// The side of the one that writes. Threads start with the first full batch.
pub(super) struct Ahead<'scope, 'env> {
    readers: &'scope Readers,
    scope: &'scope Scope<'scope, 'env>,
    next: Vec<(Arc<Dir>, usize)>,
    under_way: VecDeque<Arc<Batch>>,
    started: bool,
}

impl<'scope, 'env> Ahead<'scope, 'env> {
    pub(super) fn new(readers: &'scope Readers, scope: &'scope Scope<'scope, 'env>) -> Ahead<'scope, 'env> {
        Ahead { readers, scope, next: Vec::new(), under_way: VecDeque::new(), started: false }
    }

    pub(super) fn add(&mut self, dir: &Arc<Dir>, index: usize) {
        self.next.push((Arc::clone(dir), index));
        if self.next.len() == FILES {
            if !self.started {
                self.started = true;
                let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
                for _ in 1..cores.min(4) {
                    let readers = self.readers;
                    self.scope.spawn(move || readers.work());
                }
            }
            self.hand_over();
        }
    }

    /// Whether what was added first should now be taken.
    pub(super) fn is_full(&self) -> bool {
        self.under_way.len() >= BATCHES
    }

    /// Has also those read that do not fill a batch.
    pub(super) fn hand_over(&mut self) {
        if self.next.is_empty() {
            return;
        }
        let batch = Arc::new(Batch { files: std::mem::take(&mut self.next), read: Mutex::default() });
        self.under_way.push_back(Arc::clone(&batch));
        lock(&self.readers.queue).waiting.push_back(batch);
        self.readers.work.notify_one();
    }

    /// The files that were added first.
    pub(super) fn take(&mut self) -> Option<(Arc<Batch>, Contents)> {
        let batch = self.under_way.pop_front()?;
        let contents = self.readers.contents(&batch);
        Some((batch, contents))
    }
}

impl Drop for Ahead<'_, '_> {
    fn drop(&mut self) {
        let mut queue = lock(&self.readers.queue);
        queue.closed = true;
        queue.waiting.clear();
        drop(queue);
        self.readers.work.notify_all();
    }
}

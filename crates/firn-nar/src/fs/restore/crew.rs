//! Small files are made by several threads, in batches: making a file costs more than reading its contents from an
//! archive.

use super::RestoreOptions;
use super::place::{Dir, File, Modes, Place};
use crate::error::{NarError, NarResult};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

/// Files up to this size are gathered.
pub(super) const SMALL: u64 = 32 * 1024;
/// A batch is handed over when it holds so many bytes or files.
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_FILES: usize = 64;
/// So many batches wait for each thread. With [`BATCH_BYTES`] this bounds the memory.
const WAITING: usize = 2;

/// Files to be made. Names and contents lie in one buffer.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    files: Vec<Job>,
}

struct Job {
    dir: Arc<Dir>,
    name: Range<usize>,
    contents: Range<usize>,
    executable: bool,
}

/// Who makes files, and what is wrong.
pub(super) struct Crew {
    options: RestoreOptions,
    pub(super) modes: Modes,
    queue: Mutex<Queue>,
    work: Condvar,
    failed: AtomicBool,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Batch>,
    closed: bool,
    error: Option<NarError>,
}

impl Crew {
    pub(super) fn new(options: RestoreOptions) -> Crew {
        Crew {
            options,
            modes: Modes::default(),
            queue: Mutex::default(),
            work: Condvar::new(),
            failed: AtomicBool::new(false),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, batch: Batch) -> NarResult<()> {
        for job in batch.files {
            if self.failed.load(Ordering::Relaxed) {
                break;
            }
            let place = Place { dir: Some(&job.dir), name: &batch.bytes[job.name] };
            let size = job.contents.len() as u64;
            let mut file = File::create(place, job.executable, size, self.options, &self.modes)?;
            file.write(&batch.bytes[job.contents])?;
            file.finish()?;
            Dir::release(job.dir, self.options)?;
        }
        Ok(())
    }

    /// As [`Crew::make`]; an error is kept for [`Crew::check`].
    fn attempt(&self, batch: Batch) {
        if let Err(error) = self.make(batch) {
            self.failed.store(true, Ordering::Relaxed);
            self.queue().error.get_or_insert(error);
        }
    }

    fn check(&self) -> NarResult<()> {
        match self.failed.load(Ordering::Relaxed) {
            false => Ok(()),
            true => self.queue().error.take().map_or(Ok(()), Err),
        }
    }

    /// What each thread of the crew does until there is nothing more.
    fn work(&self) {
        let mut queue = self.queue();
        loop {
            if let Some(batch) = queue.batches.pop_front() {
                drop(queue);
                self.attempt(batch);
                queue = self.queue();
            } else if queue.closed {
                return;
            } else {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// The side of the crew that reads the archive. Threads start with the first full batch.
pub(super) struct Gatherer<'scope, 'env> {
    crew: &'scope Crew,
    scope: &'scope Scope<'scope, 'env>,
    batch: Batch,
    threads: usize,
}

impl<'scope, 'env> Gatherer<'scope, 'env> {
    pub(super) fn new(crew: &'scope Crew, scope: &'scope Scope<'scope, 'env>) -> Gatherer<'scope, 'env> {
        Gatherer { crew, scope, batch: Batch::default(), threads: 0 }
    }

    /// Begins a file; its contents follow through [`Gatherer::contents`].
    pub(super) fn file(&mut self, dir: &Arc<Dir>, name: &[u8], executable: bool) {
        let start = self.batch.bytes.len();
        self.batch.bytes.extend_from_slice(name);
        let end = self.batch.bytes.len();
        let dir = Arc::clone(dir);
        self.batch.files.push(Job { dir, name: start..end, contents: end..end, executable });
    }

    pub(super) fn contents(&mut self, piece: &[u8]) {
        self.batch.bytes.extend_from_slice(piece);
    }

    /// Ends the file.
    pub(super) fn end(&mut self) -> NarResult<()> {
        let end = self.batch.bytes.len();
        if let Some(job) = self.batch.files.last_mut() {
            job.contents.end = end;
        }
        if end >= BATCH_BYTES || self.batch.files.len() >= BATCH_FILES { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> NarResult<()> {
        self.crew.check()?;
        if self.threads == 0 {
            self.threads = crew_size(self.crew.options);
            for _ in 1..self.threads {
                let crew = self.crew;
                self.scope.spawn(move || crew.work());
            }
        }
        let batch = std::mem::take(&mut self.batch);
        let mut queue = self.crew.queue();
        queue.batches.push_back(batch);
        // With too much waiting this thread makes some as well.
        let own = match queue.batches.len() > WAITING * (self.threads - 1) {
            true => queue.batches.pop_front(),
            false => None,
        };
        drop(queue);
        self.crew.work.notify_one();
        own.map_or(Ok(()), |batch| self.crew.make(batch))
    }

    /// Makes what is left. Others may still be at work on theirs: errors are known when the scope is left.
    pub(super) fn finish(mut self) -> NarResult<()> {
        self.catch_up()
    }

    /// Makes all files that wait.
    pub(super) fn catch_up(&mut self) -> NarResult<()> {
        let batch = std::mem::take(&mut self.batch);
        self.crew.make(batch)?;
        loop {
            let Some(batch) = self.crew.queue().batches.pop_front() else { return Ok(()) };
            self.crew.make(batch)?;
        }
    }
}

impl Drop for Gatherer<'_, '_> {
    fn drop(&mut self) {
        let mut queue = self.crew.queue();
        queue.closed = true;
        // Where this side failed, nobody wants the rest.
        queue.batches.clear();
        drop(queue);
        self.crew.work.notify_all();
    }
}

/// With how many threads, this one counted. Those who wait for the disk to be written can be more than there are
/// cores.
fn crew_size(options: RestoreOptions) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    if options.sync { cores.clamp(8, 16) } else { cores.min(4) }
}

/// The first error: of the side that reads, or of the crew.
pub(super) fn outcome(crew: &Crew, read: NarResult<()>) -> NarResult<()> {
    read?;
    crew.check()
}

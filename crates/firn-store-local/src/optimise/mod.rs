//! Saving space by hard-linking files of the same content to one in `.links`, named by the hash of its archive.

mod file;

use crate::store::LocalStore;
use file::Linker;
use firn_core::StorePath;
use firn_store::activity::Verbosity;
use firn_store::{StoreError, StoreResult};
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashSet;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Paths that are rooted and looked up together.
const BATCH: usize = 512;

/// What was saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OptimiseStats {
    pub files_linked: u64,
    pub bytes_freed: u64,
}

/// What the workers of one run share.
struct Shared<'a> {
    store: &'a LocalStore,
    links: PathBuf,
    /// Look at the contents of links before they are used.
    repair: bool,
    /// Inodes known to be in `.links`.
    known: Mutex<FxHashSet<u64>>,
    files_linked: AtomicU64,
    bytes_freed: AtomicU64,
    queue: Mutex<Queue>,
    /// There is work, or none will come.
    changed: Condvar,
}

/// Directories, and files in the store directory, that are to be looked at. All files of a directory are one worker's,
/// since the directory is made writable for them.
#[derive(Default)]
struct Queue {
    places: Vec<PathBuf>,
    /// Places taken and not done with, which may bring more.
    busy: usize,
    failed: Option<StoreError>,
}

impl LocalStore {
    /// Goes over all valid paths.
    pub fn optimise(&self) -> StoreResult<OptimiseStats> {
        if let Some(lower) = self.lower() {
            self.drop_duplicates(lower)?;
            return Ok(OptimiseStats::default());
        }
        let paths: Vec<StorePath> = self.all_valid_paths()?.into_iter().collect();
        let shared = self.start_optimising(false)?;
        let dir = &shared.links;
        for entry in std::fs::read_dir(dir).map_err(StoreError::io("reading directory", dir))? {
            let entry = entry.map_err(StoreError::io("reading directory", dir))?;
            shared.known.lock().insert(entry.ino());
        }
        let logger = &self.inner.logger;
        let tells = logger.verbosity() >= Verbosity::Talkative;
        let tell = |text: String| logger.log(Verbosity::Talkative, text.as_bytes());
        if tells {
            tell(format!("loaded {} hash inodes", shared.known.lock().len()));
        }
        for batch in paths.chunks(BATCH) {
            self.add_temp_roots(batch)?;
            let valid = self.valid_among(batch)?;
            if tells {
                let dir = &self.inner.config.store_dir;
                valid.iter().for_each(|path| tell(format!("optimising path '{}'...", dir.display(path))));
            }
            shared.run(valid.iter().map(|path| self.real(path)).collect())?;
        }
        Ok(shared.stats())
    }

    /// Optimises an object that was just written, if the setting says so.
    pub(crate) fn optimise_new(&self, real: &Path, repair: bool) -> StoreResult<()> {
        match self.inner.config.auto_optimise_store {
            true => self.start_optimising(repair)?.run(vec![real.to_owned()]),
            false => Ok(()),
        }
    }

    fn start_optimising(&self, repair: bool) -> StoreResult<Shared<'_>> {
        let links = self.inner.config.links_dir();
        crate::layout::make_dirs(&links)?;
        Ok(Shared {
            store: self,
            links,
            repair,
            known: Mutex::default(),
            files_linked: AtomicU64::new(0),
            bytes_freed: AtomicU64::new(0),
            queue: Mutex::default(),
            changed: Condvar::new(),
        })
    }
}

impl Shared<'_> {
    fn stats(&self) -> OptimiseStats {
        OptimiseStats {
            files_linked: self.files_linked.load(Ordering::Relaxed),
            bytes_freed: self.bytes_freed.load(Ordering::Relaxed),
        }
    }

    /// Links all files at and below some places.
    fn run(&self, places: Vec<PathBuf>) -> StoreResult<()> {
        // A single file is not worth a thread.
        let lone_file = matches!(&places[..], [place] if !place.is_dir());
        *self.queue.lock() = Queue { places, busy: 0, failed: None };
        let workers = match lone_file {
            true => 1,
            false => std::thread::available_parallelism().map_or(1, usize::from).min(8),
        };
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|| self.work());
            }
            self.work();
        });
        self.queue.lock().failed.take().map_or(Ok(()), Err)
    }

    fn work(&self) {
        let mut linker = Linker::new(self);
        while let Some(place) = self.next() {
            let outcome = linker.place(&place);
            let mut queue = self.queue.lock();
            queue.busy -= 1;
            match outcome {
                Ok(below) => queue.places.extend(below),
                Err(e) => {
                    queue.places.clear();
                    queue.failed.get_or_insert(e);
                }
            }
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<PathBuf> {
        let mut queue = self.queue.lock();
        loop {
            if queue.failed.is_some() {
                return None;
            }
            if let Some(place) = queue.places.pop() {
                queue.busy += 1;
                return Some(place);
            }
            if queue.busy == 0 {
                return None;
            }
            self.changed.wait(&mut queue);
        }
    }
}

//! Deleting what is dead, in batches: rows first, in one transaction that is durable when it ends, then files.
//!
//! A path is claimed before its row goes. Whoever wants to root a claimed path waits until it is gone; whoever rooted
//! it before has saved it, with all that it keeps. The database itself refuses to forget a path that something new
//! refers to.

use super::mark::Alive;
use super::server::Shared;
use super::snapshot::Snapshot;
use crate::db::Db;
use crate::store::LocalStore;
use firn_core::StorePath;
use firn_store::{GcResults, StoreError, StoreResult};
use parking_lot::Mutex;
use rusqlite::ErrorCode;
use std::collections::VecDeque;
use std::path::PathBuf;

/// Rows that go in one transaction. Others wait for the database no longer than that takes.
const BATCH: usize = 4096;
/// Threads that remove files.
const WORKERS: usize = 4;

pub(crate) struct Sweep<'a> {
    pub(crate) store: &'a LocalStore,
    pub(crate) shared: &'a Shared,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) db: &'a mut Db,
    pub(crate) max_freed: u64,
    pub(crate) results: &'a mut GcResults,
}

impl Sweep<'_> {
    /// Deletes all that is not alive; answers whether the limit ended it.
    pub(crate) fn paths(&mut self, alive: &mut Alive<'_>) -> StoreResult<bool> {
        let order = self.snapshot.referrers_first(|number| !alive.contains(number));
        let mut rest = &order[..];
        while !rest.is_empty() {
            for path in self.shared.take_new_roots() {
                alive.mark_path(&path);
            }
            let (batch, later) = rest.split_at(self.batch_len(rest));
            rest = later;
            let mut claimed = Vec::with_capacity(batch.len());
            for &number in batch {
                if alive.contains(number) {
                    continue;
                }
                match self.shared.claim(self.snapshot.paths[number as usize].hash_part()) {
                    true => claimed.push(number),
                    false => alive.mark(number),
                }
            }
            let outcome = self.delete_rows(&claimed, alive).and_then(|deleted| {
                let snapshot = self.snapshot;
                let paths = deleted.iter().map(|number| snapshot.paths[*number as usize].clone());
                let objects = paths.map(|path| Object::of(self.store, path)).collect();
                self.remove(objects)
            });
            self.shared.release();
            outcome?;
            if self.is_enough() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deletes files that no row speaks of, as far as nobody is at work on them.
    pub(crate) fn invalid_names(&mut self, names: Vec<StorePath>) -> StoreResult<bool> {
        let mut rest = VecDeque::from(names);
        while !rest.is_empty() {
            let count = if self.max_freed == u64::MAX { BATCH } else { 1 };
            let mut objects = Vec::new();
            for path in rest.drain(..count.min(rest.len())) {
                // What was registered by somebody who has ended since is no garbage yet.
                if self.shared.claim(path.hash_part()) && !self.store.is_valid_here(&path)? {
                    objects.push(Object::of(self.store, path));
                }
            }
            let outcome = self.remove(objects);
            self.shared.release();
            outcome?;
            if self.is_enough() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether more than the limit was freed.
    pub(crate) fn is_enough(&self) -> bool {
        let enough = self.results.bytes_freed > self.max_freed;
        if enough {
            self.store.say(format!("deleted more than {} bytes; stopping", self.max_freed));
        }
        enough
    }

    /// How many of `rest` go at once: with a limit not more than it likely takes to reach it.
    fn batch_len(&self, rest: &[u32]) -> usize {
        if self.max_freed == u64::MAX {
            return rest.len().min(BATCH);
        }
        let mut left = self.max_freed.saturating_sub(self.results.bytes_freed);
        let mut count = 0;
        for number in rest.iter().take(BATCH) {
            count += 1;
            match left.checked_sub(self.snapshot.nar_sizes[*number as usize]) {
                Some(less) if less > 0 => left = less,
                _ => break,
            }
        }
        count
    }

    /// Forgets rows. Those that something new refers to are alive after all.
    fn delete_rows(&mut self, numbers: &[u32], alive: &mut Alive<'_>) -> StoreResult<Vec<u32>> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let snapshot = self.snapshot;
        let (mut deleted, mut in_use) = (Vec::with_capacity(numbers.len()), Vec::new());
        self.db.write(|txn| {
            let mut statement = txn.prepare_cached("delete from ValidPaths where id = ?")?;
            for &number in numbers {
                match statement.execute([snapshot.rows[number as usize]]) {
                    Ok(_) => deleted.push(number),
                    Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                        in_use.push(number);
                    }
                    Err(e) => return Err(e.into()),
                }
            }
            Ok(())
        })?;
        in_use.into_iter().for_each(|number| alive.mark(number));
        Ok(deleted)
    }

    fn remove(&mut self, objects: Vec<Object>) -> StoreResult<()> {
        for object in &objects {
            // A row without files is forgotten silently.
            if object.exists {
                self.store.say(format!("deleting '{}'", object.text));
            }
            self.results.paths.insert(object.text.clone());
        }
        let queue = Mutex::new(objects.into_iter().collect::<VecDeque<_>>());
        let freed = Mutex::new((0u64, None::<StoreError>));
        let work = || {
            loop {
                let next = {
                    let mut queue = queue.lock();
                    // Those that somebody waits for come first.
                    let wanted = self.shared.take_wanted();
                    let at = queue.iter().position(|object| wanted.contains(&object.hash_part));
                    match at {
                        Some(at) => queue.swap_remove_front(at),
                        None => queue.pop_front(),
                    }
                };
                let Some(object) = next else { return };
                let outcome = if object.exists { self.store.remove_object(&object.real) } else { Ok(0) };
                self.shared.release_one(&object.hash_part);
                let mut freed = freed.lock();
                match outcome {
                    Ok(bytes) => freed.0 += bytes,
                    Err(e) if self.store.inner.config.ignore_gc_delete_failure => {
                        let text = format!("ignoring failure to remove '{}': {e}", object.real.display());
                        self.store.inner.logger.warn(&text);
                    }
                    Err(e) => drop(freed.1.get_or_insert(e)),
                }
            }
        };
        let count = queue.lock().len();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = WORKERS.min(cores).min(count / 16 + 1);
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        let (bytes, error) = freed.into_inner();
        self.results.bytes_freed += bytes;
        error.map_or(Ok(()), Err)
    }
}

/// Files to remove.
struct Object {
    text: String,
    hash_part: String,
    real: PathBuf,
    exists: bool,
}

impl Object {
    fn of(store: &LocalStore, path: StorePath) -> Object {
        let real = store.real(&path);
        Object {
            text: store.display(&path),
            hash_part: path.hash_part().to_owned(),
            exists: real.symlink_metadata().is_ok(),
            real,
        }
    }
}

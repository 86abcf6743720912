//! Collecting garbage.
//!
//! With the GC lock held exclusively nobody can add a temporary root unseen: those who try send it to us. The database
//! is read once ([`snapshot`]), what roots reach is marked in memory ([`mark`]), and the rest is deleted in batches,
//! referrers first ([`sweep`]). Deleting a few paths looks at these and what refers to them only ([`specific`]).

mod links;
mod mark;
mod server;
mod snapshot;
mod specific;
mod sweep;

pub(crate) use server::with_short_path;

use crate::db::{Db, OpenMode};
use crate::roots::Roots;
use crate::store::LocalStore;
use crate::temp_roots::open_gc_lock;
use firn_core::StorePath;
use firn_store::activity::Verbosity;
use firn_store::locks::flock::{self, Kind};
use firn_store::{GcAction, GcOptions, GcResults, StoreError, StoreResult};
use mark::Alive;
use server::{Server, Shared};
use snapshot::{Keep, Snapshot};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sweep::Sweep;

impl LocalStore {
    /// Does what `options` say. The results are filled as far as it came, also when it ends with an error.
    pub fn collect(&self, options: &GcOptions, results: &mut GcResults) -> StoreResult<()> {
        let deletes = matches!(options.action, GcAction::DeleteDead | GcAction::DeleteSpecific);
        let config = &self.inner.config;
        if deletes {
            self.ensure_writable()?;
            // On a full disk this is what lets the database open and work.
            let _ = std::fs::remove_file(config.db_dir().join("reserved"));
        }
        drop(self.db()?);
        let lock = open_gc_lock(&config.state_dir)?;
        flock::lock(&lock, Kind::Exclusive, &|| {
            self.say("waiting for the big garbage collector lock...");
        })
        .map_err(|e| StoreError::io("locking", config.state_dir.join("gc.lock"))(e.into()))?;
        sync_point("_NIX_TEST_GC_SYNC_1");
        let shared = Arc::new(Shared::default());
        let server = match Server::start(&config.state_dir, self.dir(), shared.clone()) {
            // Who wants a new root meanwhile waits for the lock.
            Err(e) if !deletes => {
                self.inner.logger.log(Verbosity::Debug, e.to_string().as_bytes());
                None
            }
            server => Some(server?),
        };
        let outcome = match options.action {
            GcAction::DeleteSpecific => self.collect_specific(options, &shared, results),
            _ => self.collect_dead(options, &shared, results),
        };
        drop(server);
        let outcome = outcome.and_then(|()| match deletes {
            true => self.delete_unused_links(),
            false => Ok(()),
        });
        if deletes {
            self.bound_wal();
            crate::layout::reserve_space(config);
            self.remount_if_necessary()?;
        }
        outcome
    }

    fn collect_dead(&self, options: &GcOptions, shared: &Shared, results: &mut GcResults) -> StoreResult<()> {
        let config = &self.inner.config;
        // A connection of its own: others of this process go on using theirs.
        let mode = if config.read_only { OpenMode::Immutable } else { OpenMode::Existing };
        let mut db = Db::open(config, mode)?;
        let keep = Keep { outputs: config.keep_outputs, derivations: config.keep_derivations };
        let snapshot = Snapshot::load(&db, self.dir(), keep)?;
        let mut alive = Alive::new(self, &snapshot);
        self.say("finding garbage collector roots...");
        // Temporary roots come first: whoever makes a permanent one and ends in between is seen one way or the other.
        let mut temporary = Roots::new();
        self.temporary_roots(true, &mut temporary)?;
        for root in temporary.keys() {
            shared.add_root(root);
        }
        if !options.ignore_liveness {
            let mut mark = |path: &StorePath| {
                let number = snapshot.number(path);
                if let Some(number) = number {
                    alive.mark(number);
                }
                number.is_some()
            };
            self.walk_permanent_roots(&mut |root| Ok(mark(&root.path)))?;
            let mut running = Roots::new();
            self.runtime_roots(true, &mut running)?;
            for path in running.keys() {
                mark(path);
            }
        }
        sync_point("_NIX_TEST_GC_SYNC_2");
        if options.max_freed == 0 {
            return Ok(());
        }
        let deletes = options.action == GcAction::DeleteDead;
        self.say(if deletes { "deleting garbage..." } else { "determining live/dead paths..." });
        shared.take_new_roots().iter().for_each(|path| alive.mark_path(path));
        let (names, strangers) = self.other_names(&snapshot)?;
        if deletes {
            db.make_durable(config)?;
            let mut sweep = Sweep {
                store: self,
                shared,
                snapshot: &snapshot,
                db: &mut db,
                max_freed: options.max_freed,
                results,
            };
            if sweep.paths(&mut alive)? || sweep.invalid_names(names)? {
                return Ok(());
            }
            for stranger in strangers {
                self.delete_stranger(&stranger, results)?;
                if results.bytes_freed > options.max_freed {
                    self.say(format!("deleted more than {} bytes; stopping", options.max_freed));
                    break;
                }
            }
            return Ok(());
        }
        let wanted = options.action == GcAction::ReturnLive;
        let valid = (0..).zip(&snapshot.paths).filter(|(number, _)| alive.contains(*number) == wanted);
        results.paths = valid.map(|(_, path)| self.display(path)).collect();
        let invalid = names.iter().filter(|path| shared.is_root(path.hash_part()) == wanted);
        results.paths.extend(invalid.map(|path| self.display(path)));
        Ok(())
    }

    /// What the store directory holds besides valid paths: names of store paths, and others.
    fn other_names(&self, snapshot: &Snapshot) -> StoreResult<(Vec<StorePath>, Vec<PathBuf>)> {
        let dir = &self.inner.config.real_store_dir;
        let (mut names, mut strangers) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(dir).map_err(StoreError::io("reading directory", dir))? {
            let entry = entry.map_err(StoreError::io("reading directory", dir))?;
            let name = entry.file_name();
            if name == ".links" {
                continue;
            }
            match name.to_str().map(StorePath::from_base_name) {
                Some(Ok(path)) if snapshot.number(&path).is_some() => {}
                // What only a lower store has is none of our business.
                _ if !self.has_own_files(&entry.path()) => {}
                Some(Ok(path)) => names.push(path),
                _ => strangers.push(entry.path()),
            }
        }
        names.sort();
        strangers.sort();
        Ok((names, strangers))
    }

    /// Something in the store directory that is no store path.
    fn delete_stranger(&self, real: &Path, results: &mut GcResults) -> StoreResult<()> {
        let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A staging directory is locked by whoever uses it.
        let _lock = if name.starts_with("tmp-") {
            let flags = rustix::fs::OFlags::RDONLY
                | rustix::fs::OFlags::DIRECTORY
                | rustix::fs::OFlags::NOFOLLOW
                | rustix::fs::OFlags::CLOEXEC;
            match rustix::fs::open(real, flags, rustix::fs::Mode::empty()) {
                Ok(fd) if flock::try_lock(&fd, Kind::Exclusive).unwrap_or(false) => Some(fd),
                _ => return Ok(()),
            }
        } else {
            None
        };
        let text = format!("{}/{name}", self.dir());
        self.say(format!("deleting '{text}'"));
        results.paths.insert(text);
        match self.remove_object(real) {
            Ok(freed) => results.bytes_freed += freed,
            Err(e) if self.inner.config.ignore_gc_delete_failure => {
                self.inner.logger.warn(&format!("ignoring failure to remove '{}': {e}", real.display()));
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Moves what the write-ahead log holds into the database and cuts the log, as far as readers allow. The
    /// database is never vacuumed: that would write all of it again.
    fn bound_wal(&self) {
        if let Ok(db) = self.db() {
            let _ = db.read(|c| {
                c.busy_timeout(std::time::Duration::from_secs(1))?;
                let result = c.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()));
                c.busy_timeout(std::time::Duration::from_secs(60 * 60))?;
                result
            });
        }
    }
}

/// Where the reference's test-suite makes a collector wait: reads the file (a FIFO) that the variable names.
fn sync_point(variable: &str) {
    if let Some(path) = std::env::var_os(variable) {
        let _ = std::fs::read(PathBuf::from(path));
    }
}

/// A number of bytes for people: `1.5 MiB`.
pub(crate) fn render_size(bytes: i64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value.abs() >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

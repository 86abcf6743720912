//! Collecting garbage.
//!
//! With the GC lock held exclusively nobody can add a temporary root unseen: those who try send it to us. Starting
//! from each name in the store directory, everything that refers to it is visited; if no root is among what was
//! visited, all of it goes, referrers first.

use crate::gc_server::{Server, Shared};
use crate::remove::remove_tree;
use crate::roots::Roots;
use crate::store::LocalStore;
use crate::temp_roots::open_gc_lock;
use firn_core::StorePath;
use firn_store::locks::flock::{self, Kind};
use firn_store::{GcAction, GcOptions, GcResults, StoreError, StoreResult};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

impl LocalStore {
    /// Does what `options` say. The results are filled as far as it came, also when it ends with an error.
    pub fn collect(&self, options: &GcOptions, results: &mut GcResults) -> StoreResult<()> {
        let deletes = matches!(options.action, GcAction::DeleteDead | GcAction::DeleteSpecific);
        let config = &self.inner.config;
        if deletes {
            // On a full disk this is what lets the database open and work.
            let _ = std::fs::remove_file(config.db_dir().join("reserved"));
            self.ensure_writable()?;
        }
        drop(self.db()?);
        let lock = open_gc_lock(&config.state_dir)?;
        flock::lock(&lock, Kind::Exclusive, &|| {
            self.say("waiting for the big garbage collector lock...");
        })
        .map_err(|e| StoreError::io("locking", config.state_dir.join("gc.lock"))(e.into()))?;
        sync_point("_NIX_TEST_GC_SYNC_1");
        let shared = Arc::new(Shared::default());
        let server = Server::start(&config.state_dir, self.dir(), shared.clone())?;
        self.say("finding garbage collector roots...");
        let mut roots = Roots::new();
        if !options.ignore_liveness {
            roots = self.permanent_roots()?;
            self.runtime_roots(true, &mut roots)?;
        }
        let mut temporary = Roots::new();
        self.temporary_roots(true, &mut temporary)?;
        for root in temporary.keys() {
            shared.add_root(root.hash_part());
        }
        let mut roots: FxHashSet<StorePath> = roots.into_keys().collect();
        roots.extend(temporary.into_keys());
        sync_point("_NIX_TEST_GC_SYNC_2");
        let mut run = Run {
            store: self,
            options,
            // Deleting one path in spite of roots must not take its deriver or outputs along.
            follow: !(options.action == GcAction::DeleteSpecific && options.ignore_liveness),
            deletes,
            roots,
            shared,
            alive: FxHashSet::default(),
            dead: FxHashSet::default(),
            referrers: FxHashMap::default(),
            results,
        };
        let outcome = run.all();
        let (alive, dead) = (std::mem::take(&mut run.alive), std::mem::take(&mut run.dead));
        drop(server);
        match outcome {
            Ok(()) | Err(Stop::Enough) => {}
            Err(Stop::Failed(e)) => return Err(e),
        }
        match options.action {
            GcAction::ReturnLive => results.paths = alive.iter().map(|p| self.display(p)).collect(),
            GcAction::ReturnDead => results.paths = dead.iter().map(|p| self.display(p)).collect(),
            GcAction::DeleteDead | GcAction::DeleteSpecific => {
                self.delete_unused_links()?;
                self.bound_wal();
            }
        }
        Ok(())
    }

    /// Files that only `.links` still has.
    fn delete_unused_links(&self) -> StoreResult<()> {
        self.say("deleting unused links...");
        let dir = self.inner.config.links_dir();
        let listing = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(StoreError::io("reading directory", &dir))?,
        };
        let (mut actual, mut unshared) = (0i64, 0i64);
        for entry in listing {
            let path = entry.map_err(StoreError::io("reading directory", &dir))?.path();
            let meta =
                std::fs::symlink_metadata(&path).map_err(StoreError::io("getting status of", &path))?;
            let size = i64::try_from(meta.len()).unwrap_or(i64::MAX);
            if meta.nlink() == 1 {
                std::fs::remove_file(&path).map_err(StoreError::io("removing", &path))?;
            } else {
                let others = i64::try_from(meta.nlink() - 1).unwrap_or(i64::MAX);
                actual = actual.saturating_add(size);
                unshared = unshared.saturating_add(others.saturating_mul(size));
            }
        }
        let overhead = std::fs::metadata(&dir).map_or(0, |m| i64::try_from(m.blocks() * 512).unwrap_or(0));
        let saving = unshared.saturating_sub(actual).saturating_sub(overhead);
        self.say(format!("note: hard linking is currently saving {}", render_size(saving)));
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

/// Why the walk ended early.
enum Stop {
    /// `max_freed` is reached.
    Enough,
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(e: StoreError) -> Stop {
        Stop::Failed(e)
    }
}

struct Run<'a> {
    store: &'a LocalStore,
    options: &'a GcOptions,
    /// Whether `keep-outputs` and `keep-derivations` count.
    follow: bool,
    deletes: bool,
    roots: FxHashSet<StorePath>,
    shared: Arc<Shared>,
    alive: FxHashSet<StorePath>,
    dead: FxHashSet<StorePath>,
    referrers: FxHashMap<StorePath, BTreeSet<StorePath>>,
    results: &'a mut GcResults,
}

impl Run<'_> {
    fn all(&mut self) -> Result<(), Stop> {
        let store = self.store;
        if self.options.action == GcAction::DeleteSpecific {
            for path in &self.options.paths_to_delete {
                self.visit(path)?;
                if !self.dead.contains(path) {
                    return Err(StoreError::Other(format!(
                        "Cannot delete path '{}' since it is still alive. To find out why, use: nix-store --query \
                         --roots and nix-store --query --referrers",
                        store.display(path)
                    ))
                    .into());
                }
            }
            return Ok(());
        }
        if self.options.max_freed == 0 {
            return Ok(());
        }
        store.say(if self.deletes { "deleting garbage..." } else { "determining live/dead paths..." });
        let dir = &store.inner.config.real_store_dir;
        for entry in std::fs::read_dir(dir).map_err(StoreError::io("reading directory", dir))? {
            let entry = entry.map_err(StoreError::io("reading directory", dir))?;
            let name = entry.file_name();
            if name == ".links" {
                continue;
            }
            match name.to_str().map(StorePath::from_base_name) {
                Some(Ok(path)) => self.visit(&path)?,
                _ if self.deletes => self.delete_stranger(&entry.path())?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Visits what must go before `start` can; deletes all of it if there is no root among it.
    fn visit(&mut self, start: &StorePath) -> Result<(), Stop> {
        let outcome = self.visit_claiming(start);
        self.shared.release();
        outcome
    }

    fn visit_claiming(&mut self, start: &StorePath) -> Result<(), Stop> {
        let config = &self.store.inner.config;
        let mut visited = BTreeSet::from([start.clone()]);
        let mut todo = std::collections::VecDeque::from([start.clone()]);
        while let Some(path) = todo.pop_front() {
            if self.alive.contains(&path) {
                self.alive.insert(start.clone());
                return Ok(());
            }
            if self.dead.contains(&path) {
                continue;
            }
            if self.roots.contains(&path) {
                return self.mark_alive(&path, start);
            }
            if self.options.action == GcAction::DeleteSpecific
                && !self.options.paths_to_delete.contains(&path)
            {
                return Ok(());
            }
            if !self.shared.claim(path.hash_part()) {
                return self.mark_alive(&path, start);
            }
            if !self.store.is_valid(&path)? {
                continue;
            }
            let mut next = match self.referrers.get(&path) {
                Some(known) => known.clone(),
                None => self.store.referrers(&path)?,
            };
            self.referrers.insert(path.clone(), next.clone());
            if self.follow && config.keep_derivations && path.is_derivation() {
                for output in self.store.derivation_outputs(&path)?.into_values().flatten() {
                    let info = self.store.path_info(&output)?;
                    if info.is_some_and(|info| info.deriver.as_ref() == Some(&path)) {
                        next.insert(output);
                    }
                }
            }
            if self.follow && config.keep_outputs {
                next.extend(self.store.valid_derivers(&path)?);
            }
            for path in next {
                if visited.insert(path.clone()) {
                    todo.push_back(path);
                }
            }
        }
        self.delete_all(visited)
    }

    /// Notes that a path and all that it keeps are alive.
    fn mark_alive(&mut self, path: &StorePath, start: &StorePath) -> Result<(), Stop> {
        self.alive.extend([path.clone(), start.clone()]);
        let store = self.store;
        let config = &store.inner.config;
        if !store.is_valid(path)? {
            return Ok(());
        }
        let closure = firn_store::closure::closure([path.clone()], |path| {
            let Some(info) = store.path_info(path)? else { return Ok(BTreeSet::new()) };
            let mut next = info.references;
            if self.follow && config.keep_outputs && path.is_derivation() {
                for output in store.derivation_outputs(path)?.into_values().flatten() {
                    if store.is_valid(&output)? {
                        next.insert(output);
                    }
                }
            }
            if self.follow
                && config.keep_derivations
                && let Some(deriver) = info.deriver
                && store.is_valid(&deriver)?
            {
                next.insert(deriver);
            }
            Ok(next.into_iter().filter(|path| !self.alive.contains(path)).collect())
        })?;
        self.alive.extend(closure);
        Ok(())
    }

    fn delete_all(&mut self, visited: BTreeSet<StorePath>) -> Result<(), Stop> {
        let store = self.store;
        let sorted = firn_store::closure::topo_sort(&visited, |path| {
            Ok(store.path_info(path)?.map(|info| info.references).unwrap_or_default())
        })?
        .map_err(|cycle| cycle.into_error(store.dir()))?;
        for path in sorted {
            if !self.dead.insert(path.clone()) || !self.deletes {
                continue;
            }
            store.invalidate_path(&path)?;
            self.referrers.remove(&path);
            let text = store.display(&path);
            let real = store.real(&path);
            // A deriver that is only known by name has no files.
            if real.symlink_metadata().is_ok() {
                store.say(format!("deleting '{text}'"));
            }
            self.results.paths.insert(text);
            self.remove(&real)?;
        }
        Ok(())
    }

    /// Something in the store directory that is no store path.
    fn delete_stranger(&mut self, real: &std::path::Path) -> Result<(), Stop> {
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
        let text = format!("{}/{name}", self.store.dir());
        self.store.say(format!("deleting '{text}'"));
        self.results.paths.insert(text);
        self.remove(real)
    }

    fn remove(&mut self, real: &std::path::Path) -> Result<(), Stop> {
        match remove_tree(real) {
            Ok(freed) => self.results.bytes_freed += freed,
            Err(e) if self.store.inner.config.ignore_gc_delete_failure => {
                let text = format!("ignoring failure to remove '{}': {e}", real.display());
                self.store.inner.logger.warn(&text);
            }
            Err(e) => return Err(e.into()),
        }
        if self.results.bytes_freed > self.options.max_freed {
            self.store.say(format!("deleted more than {} bytes; stopping", self.options.max_freed));
            return Err(Stop::Enough);
        }
        Ok(())
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

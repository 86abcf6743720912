//! Collecting garbage by itself when the disk runs full (settings `min-free`, `max-free`).

use crate::store::LocalStore;
use firn_store::{GcAction, GcOptions, GcResults, StoreError, StoreResult};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the last look at the disk found.
#[derive(Default)]
pub(crate) struct AutoGc {
    last_check: Option<Instant>,
    /// Free bytes after the last collection: another one is pointless until there is clearly less.
    free_after: Option<u64>,
    /// Whether somebody looks in the background.
    watched: bool,
}

impl LocalStore {
    /// Collects garbage if less than `min-free` bytes are free, until `max-free` are. Looks at the disk once in
    /// `min-free-check-interval`; blocks while a collection runs, also one of another thread. A failed collection is
    /// only told of. To be called now and then while paths are made.
    pub fn auto_gc(&self) -> StoreResult<()> {
        let config = &self.inner.config;
        if config.min_free == 0 {
            return Ok(());
        }
        let mut state = self.inner.auto_gc.lock();
        if state.last_check.is_some_and(|last| last.elapsed() < config.min_free_check_interval) {
            return Ok(());
        }
        let free = self.free_space()?;
        state.last_check = Some(Instant::now());
        if free >= config.min_free || free >= config.max_free {
            return Ok(());
        }
        // 97 %: somebody else may have used a little since.
        if state.free_after.is_some_and(|after| u128::from(free) * 100 > u128::from(after) * 97) {
            return Ok(());
        }
        let options = GcOptions {
            action: GcAction::DeleteDead,
            ignore_liveness: false,
            paths_to_delete: BTreeSet::new(),
            max_freed: config.max_free - free,
        };
        self.say(format!("running auto-GC to free {} bytes", options.max_freed));
        if let Err(error) = self.collect(&options, &mut GcResults::default()) {
            self.complain(format!("error (ignored): {error}"));
        }
        state.free_after = Some(self.free_space()?);
        state.last_check = Some(Instant::now());
        Ok(())
    }

    /// Looks at the disk in the background for as long as the store is open, since builds fill it while nothing is
    /// added. Does nothing where `min-free` is 0.
    pub fn watch_free_space(&self) {
        let config = &self.inner.config;
        if config.min_free == 0 || std::mem::replace(&mut self.inner.auto_gc.lock().watched, true) {
            return;
        }
        let interval = config.min_free_check_interval.max(Duration::from_millis(100));
        let inner = Arc::downgrade(&self.inner);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(interval);
                let Some(inner) = inner.upgrade() else { return };
                let store = LocalStore { inner };
                if let Err(error) = store.auto_gc() {
                    store.complain(format!("error (ignored): {error}"));
                }
            }
        });
    }

    /// Bytes that are free where the objects are. The reference's test-suite lies about them through a file.
    fn free_space(&self) -> StoreResult<u64> {
        if let Some(file) = std::env::var_os("_NIX_TEST_FREE_SPACE_FILE") {
            let file = PathBuf::from(file);
            let text = std::fs::read_to_string(&file).map_err(StoreError::io("reading", &file))?;
            return text
                .trim()
                .parse()
                .map_err(|_| StoreError::Other(format!("'{}' does not hold a number", file.display())));
        }
        let dir = &self.inner.config.real_store_dir;
        let fs = rustix::fs::statvfs(dir)
            .map_err(|e| StoreError::io("getting filesystem info about", dir)(e.into()))?;
        Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
    }
}

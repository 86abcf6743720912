//! The handle.

use crate::auto_gc::AutoGc;
use crate::config::LocalStoreConfig;
use crate::db::{Db, OpenMode};
use crate::layout;
use crate::overlay::Overlay;
use crate::temp_roots::TempRoots;
use firn_core::{StoreDir, StorePath};
use firn_derivation::modulo::ModuloMemo;
use firn_store::activity::{Logger, Verbosity};
use firn_store::{StoreError, StoreResult};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A store on this machine. Cheap to clone; nothing is opened before the first operation that needs it.
///
/// Inherent methods block. The asynchronous traits of `firn-store` are implemented too.
#[derive(Clone)]
pub struct LocalStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: LocalStoreConfig,
    pub(crate) logger: Arc<dyn Logger>,
    state: Mutex<Option<State>>,
    /// A second connection, for readers that come while the first one is busy writing.
    reader: Mutex<Option<Db>>,
    /// Set once the first connection is open, so that there is a database to read.
    opened: AtomicBool,
    temp_roots: Mutex<Option<Arc<TempRoots>>>,
    /// Whether the store directory is known to be fit for writing.
    writable: Mutex<bool>,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) auto_gc: Mutex<AutoGc>,
    pub(crate) drv_hashes: Mutex<ModuloMemo>,
}

struct State {
    db: Db,
    _big_lock: Option<OwnedFd>,
}

impl LocalStore {
    /// A handle on the store; makes nothing and opens nothing.
    pub fn new(config: LocalStoreConfig, logger: Arc<dyn Logger>) -> LocalStore {
        LocalStore {
            inner: Arc::new(Inner {
                overlay: config.overlay.as_ref().map(|overlay| Overlay::new(overlay, &logger)),
                config,
                logger,
                state: Mutex::new(None),
                reader: Mutex::new(None),
                opened: AtomicBool::new(false),
                temp_roots: Mutex::new(None),
                writable: Mutex::new(false),
                auto_gc: Mutex::new(AutoGc::default()),
                drv_hashes: Mutex::new(ModuloMemo::default()),
            }),
        }
    }

    /// Opens the store, making it first if there is none.
    pub fn init(&self) -> StoreResult<()> {
        self.db().map(drop)
    }

    pub fn config(&self) -> &LocalStoreConfig {
        &self.inner.config
    }

    /// The logical store directory.
    pub fn dir(&self) -> &StoreDir {
        &self.inner.config.store_dir
    }

    /// The full path text of `path`.
    pub fn display(&self, path: &StorePath) -> String {
        self.dir().display(path)
    }

    /// Where the files of `path` are.
    pub fn real(&self, path: &StorePath) -> PathBuf {
        self.inner.config.real_store_dir.join(path.base_name())
    }

    /// Keeps paths (valid or not yet) from collectors for as long as this process lives.
    pub fn add_temp_roots<'a>(&self, paths: impl IntoIterator<Item = &'a StorePath>) -> StoreResult<()> {
        if self.inner.config.read_only {
            return Ok(());
        }
        let roots = {
            let mut slot = self.inner.temp_roots.lock();
            match &*slot {
                Some(roots) => roots.clone(),
                None => {
                    // The folders may not be there yet.
                    drop(self.db()?);
                    let roots = TempRoots::open(&self.inner.config.state_dir)?;
                    slot.insert(roots).clone()
                }
            }
        };
        roots.add(self.dir(), paths)
    }

    /// Says something at the level of the reference's informational messages.
    pub(crate) fn say(&self, message: impl AsRef<str>) {
        self.inner.logger.log(Verbosity::Info, message.as_ref().as_bytes());
    }

    /// An error that does not end the operation.
    pub(crate) fn complain(&self, message: impl AsRef<str>) {
        self.inner.logger.log(Verbosity::Error, message.as_ref().as_bytes());
    }

    /// Fails if this handle has the database open.
    pub(crate) fn ensure_untouched(&self) -> StoreResult<()> {
        match self.inner.opened.load(Ordering::Acquire) {
            true => Err(StoreError::Other("the database is open".into())),
            false => Ok(()),
        }
    }

    /// The open database, held for this thread.
    pub(crate) fn db(&self) -> StoreResult<MappedMutexGuard<'_, Db>> {
        let mut state = self.inner.state.lock();
        if state.is_none() {
            if let Some(overlay) = &self.inner.overlay {
                overlay.check_mount(&self.inner.config.real_store_dir)?;
            }
            let (big_lock, db) = layout::open(&self.inner.config, &*self.inner.logger)?;
            *state = Some(State { db, _big_lock: big_lock });
            self.inner.opened.store(true, Ordering::Release);
        }
        MutexGuard::try_map(state, |state| state.as_mut().map(|s| &mut s.db))
            .map_err(|_| StoreError::Other("the database is not open".into()))
    }

    /// Runs reads on a connection that is free. What a transaction under way will change is not seen.
    pub(crate) fn query<T>(
        &self,
        f: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> StoreResult<T> {
        if let Some(state) = self.inner.state.try_lock()
            && let Some(state) = &*state
        {
            return state.db.read(f);
        }
        if !self.inner.opened.load(Ordering::Acquire) {
            return self.db()?.read(f);
        }
        let mut reader = self.inner.reader.lock();
        match &*reader {
            Some(db) => db.read(f),
            None => {
                let config = &self.inner.config;
                let mode = if config.read_only { OpenMode::Immutable } else { OpenMode::Existing };
                reader.insert(Db::open(config, mode)?).read(f)
            }
        }
    }

    /// To be called before anything is written below the store directory.
    pub(crate) fn ensure_writable(&self) -> StoreResult<()> {
        let mut done = self.inner.writable.lock();
        if !*done {
            if self.inner.config.read_only {
                return Err(self.read_only_error());
            }
            drop(self.db()?);
            if !self.inner.config.real_store_dir.is_dir() {
                layout::create(&self.inner.config, &*self.inner.logger)?;
            }
            layout::prepare_store_dir(&self.inner.config, &*self.inner.logger)?;
            layout::reserve_space(&self.inner.config);
            *done = true;
        }
        Ok(())
    }

    /// Why nothing can be written: the disk says so, or else only the setting does.
    fn read_only_error(&self) -> StoreError {
        let dir = &self.inner.config.real_store_dir;
        match rustix::fs::access(dir, rustix::fs::Access::WRITE_OK) {
            Err(e) => StoreError::io("writing to store", dir)(e.into()),
            Ok(()) => StoreError::Other(format!(
                "attempt to write a readonly database: store '{}' is opened read-only",
                dir.display()
            )),
        }
    }
}

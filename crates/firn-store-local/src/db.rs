//! The database connection: opening as the reference does, transactions, and errors that name the file.

use crate::config::LocalStoreConfig;
use crate::cramped::{self, uri_escape};
use crate::schema;
use firn_core::StorePath;
use firn_store::{StoreError, StoreResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use rustc_hash::FxHashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The open database.
pub(crate) struct Db {
    link: Link,
    path: PathBuf,
    /// Row numbers of valid paths. They are never reused, so a stale one can only miss, and that shows as a broken
    /// foreign key.
    pub(crate) ids: FxHashMap<StorePath, i64>,
}

enum Link {
    Open(Connection),
    /// There is no space for what connections share: each read opens the database on its own ([`crate::cramped`]).
    Cramped(Box<LocalStoreConfig>),
}

/// Whether the database file may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenMode {
    Create,
    Existing,
    /// For stores on media that never change: no locks, no journal.
    Immutable,
}

impl Db {
    pub(crate) fn open(config: &LocalStoreConfig, mode: OpenMode) -> StoreResult<Db> {
        let dir = config.db_dir();
        let needed = match mode {
            OpenMode::Immutable => rustix::fs::Access::READ_OK,
            _ => rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK,
        };
        if let Err(error) = rustix::fs::access(&dir, needed) {
            let error = std::io::Error::from(error);
            return Err(StoreError::Other(format!(
                "Nix database directory '{}' is not writable: {error}",
                dir.display()
            )));
        }
        let path = dir.join("db.sqlite");
        let fail = |e: rusqlite::Error| {
            StoreError::Other(format!("cannot open SQLite database '{}': {e}", path.display()))
        };
        let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
        flags |= match mode {
            OpenMode::Create => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            OpenMode::Existing => OpenFlags::SQLITE_OPEN_READ_WRITE,
            OpenMode::Immutable => OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
        };
        let connection = match mode {
            OpenMode::Immutable => {
                Connection::open_with_flags(format!("file:{}?immutable=1", uri_escape(&path)), flags)
            }
            // Without write-ahead log there may be no shared memory either (network file systems).
            _ if !config.use_sqlite_wal => Connection::open_with_flags_and_vfs(&path, flags, "unix-dotfile"),
            _ => Connection::open_with_flags(&path, flags),
        }
        .map_err(fail)?;
        let configured = retry_busy(|| Db::configure(&connection, config, mode));
        let link = match configured {
            Ok(()) => Link::Open(connection),
            Err(e) if mode == OpenMode::Existing && cramped::may_be(&e, &path) => {
                drop(connection);
                cramped::read(&path, |_| Ok(())).map_err(|_| error(&path, e))?;
                Link::Cramped(Box::new(config.clone()))
            }
            Err(e) => return Err(error(&path, e)),
        };
        Ok(Db { link, path, ids: FxHashMap::default() })
    }

    fn configure(c: &Connection, config: &LocalStoreConfig, mode: OpenMode) -> rusqlite::Result<()> {
        c.busy_timeout(Duration::from_secs(60 * 60))?;
        c.set_prepared_statement_cache_capacity(64);
        c.execute_batch("pragma foreign_keys = 1")?;
        if mode == OpenMode::Immutable {
            return Ok(());
        }
        let sync = match (config.fsync_metadata, mode) {
            (false, _) => "off",
            (true, OpenMode::Create) => "full",
            (true, _) => "normal",
        };
        c.execute_batch(&format!("pragma synchronous = {sync}"))?;
        let wanted = if config.use_sqlite_wal { "wal" } else { "truncate" };
        let journal: String = c.query_row("pragma main.journal_mode", [], |row| row.get(0))?;
        if journal != wanted {
            c.query_row(&format!("pragma main.journal_mode = {wanted}"), [], |_| Ok(()))?;
        }
        if config.use_sqlite_wal {
            // Memory that is taken only as far as it is used: inserting references goes all over the indices.
            c.execute_batch("pragma cache_size = -32768")?;
            // As the reference: instantiating a whole system stays within one checkpoint.
            c.query_row("pragma wal_autocheckpoint = 40000", [], |_| Ok(()))?;
        }
        if mode == OpenMode::Create {
            c.execute_batch(schema::BASE)?;
        }
        Ok(())
    }

    /// From now on what this connection commits is on the disk when the call returns, where `fsync-metadata` is on.
    pub(crate) fn make_durable(&self, config: &LocalStoreConfig) -> StoreResult<()> {
        match config.fsync_metadata {
            true => self.read(|c| c.execute_batch("pragma synchronous = full")),
            false => Ok(()),
        }
    }

    /// Back to what the settings say.
    pub(crate) fn make_quick(&self, config: &LocalStoreConfig) -> StoreResult<()> {
        match config.fsync_metadata {
            true => self.read(|c| c.execute_batch("pragma synchronous = normal")),
            false => Ok(()),
        }
    }

    /// Makes the tables that came after the schema's version was frozen. Writes only what is missing.
    pub(crate) fn migrate(&mut self, config: &LocalStoreConfig) -> StoreResult<()> {
        if !self.has_table("SchemaMigrations")? {
            let path = self.path.clone();
            let connection = self.connection()?;
            retry_busy(|| connection.execute_batch(schema::MIGRATIONS)).map_err(|e| error(&path, e))?;
        }
        if config.ca_derivations && !self.has_table("RealisationsRefs")? {
            self.write(|txn| {
                txn.execute_batch(schema::REALISATIONS)?;
                txn.execute(
                    "insert or ignore into SchemaMigrations values (?)",
                    [schema::REALISATIONS_NAME],
                )?;
                Ok(())
            })?;
        }
        Ok(())
    }

    pub(crate) fn has_table(&self, name: &str) -> StoreResult<bool> {
        let found = self.read(|c| {
            c.query_row("select 1 from sqlite_master where type = 'table' and name = ?", [name], |_| Ok(()))
                .optional()
        });
        found.map(|row| row.is_some())
    }

    /// Runs reads.
    pub(crate) fn read<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> StoreResult<T> {
        let result = match &self.link {
            Link::Open(connection) => f(connection),
            Link::Cramped(_) => cramped::read(&self.path, f),
        };
        result.map_err(|e| self.error(e))
    }

    /// The connection to write with. Where there was no space for one, there may be by now.
    fn connection(&mut self) -> StoreResult<&mut Connection> {
        if let Link::Cramped(config) = &self.link {
            let now = Db::open(config, OpenMode::Existing)?;
            self.link = now.link;
        }
        match &mut self.link {
            Link::Open(connection) => Ok(connection),
            Link::Cramped(_) => Err(StoreError::Database {
                path: self.path.clone(),
                message: "it can only be read, for want of space (no space left on device)".to_owned(),
            }),
        }
    }

    /// Runs `f` in one transaction that takes the write lock at once, so that waiting for it never has to end in a
    /// retry; rolled back on error.
    pub(crate) fn write<T>(
        &mut self,
        f: impl FnOnce(&Transaction<'_>) -> Result<T, TxnError>,
    ) -> StoreResult<T> {
        let path = self.path.clone();
        let convert = |e: TxnError| match e {
            TxnError::Sqlite(e) => error(&path, e),
            TxnError::Store(e) => e,
        };
        let txn = self
            .connection()?
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| error(&path, e))?;
        let value = f(&txn).map_err(convert)?;
        txn.commit().map_err(|e| error(&path, e))?;
        Ok(value)
    }

    /// As [`Db::write`], with the table of row numbers at hand.
    pub(crate) fn write_with_ids<T>(
        &mut self,
        f: impl FnOnce(&Transaction<'_>, &mut FxHashMap<StorePath, i64>) -> Result<T, TxnError>,
    ) -> StoreResult<T> {
        let mut ids = std::mem::take(&mut self.ids);
        let result = self.write(|txn| f(txn, &mut ids));
        if result.is_ok() {
            // After a rollback the table may hold rows that are not there.
            self.ids = ids;
        }
        result
    }

    pub(crate) fn error(&self, e: rusqlite::Error) -> StoreError {
        error(&self.path, e)
    }
}

/// Runs `f` again for up to a minute while others hold the database. SQLite itself does not wait when the kind of
/// journal changes or a table is made, as happens when two programs are the first ones in a new store.
fn retry_busy<T>(mut f: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let started = std::time::Instant::now();
    loop {
        match f() {
            Err(e)
                if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && started.elapsed() < Duration::from_secs(60) =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// Why a transaction was rolled back.
pub(crate) enum TxnError {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for TxnError {
    fn from(e: rusqlite::Error) -> TxnError {
        TxnError::Sqlite(e)
    }
}

impl From<StoreError> for TxnError {
    fn from(e: StoreError) -> TxnError {
        TxnError::Store(e)
    }
}

fn error(path: &Path, e: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
    let mut message = e.to_string();
    // SQLite does not say why it could not grow one of its files.
    let may_be_space = matches!(e.sqlite_error_code(), Some(DiskFull | SystemIoFailure));
    if may_be_space && cramped::is_full(path) {
        message += " (no space left on device)";
    }
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let torn = matches!(e.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase));
    if torn || message.contains("no such table") {
        message += " (`firn store rebuild-db` makes it anew from what is in the store)";
    }
    StoreError::Database { path: path.to_owned(), message }
}

//! Reading the database on a disk without any space.
//!
//! Connections in write-ahead mode share an index of the log in a file beside the database, and SQLite makes it before
//! the first read. Where it cannot be made, one connection at a time can do without: with the database locked
//! exclusively the index is in its own memory. That lock is held for one read only, so that others get their turn.

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::path::Path;
use std::time::Duration;

/// Whether opening failed because there was no space for the files beside the database.
pub(crate) fn may_be(error: &rusqlite::Error, database: &Path) -> bool {
    let shared_memory = |code| {
        matches!(code, ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMMAP)
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => true,
        Some(ErrorCode::SystemIoFailure) => {
            matches!(error, rusqlite::Error::SqliteFailure(e, _) if shared_memory(e.extended_code))
                || is_full(database)
        }
        Some(ErrorCode::CannotOpen) => is_full(database),
        _ => false,
    }
}

/// Whether the disk has no space, or no room for another file.
pub(crate) fn is_full(database: &Path) -> bool {
    let full = |fs: rustix::fs::StatVfs| fs.f_bavail < 64 || (fs.f_files > 0 && fs.f_favail == 0);
    database.parent().and_then(|dir| rustix::fs::statvfs(dir).ok()).is_some_and(full)
}

/// Runs reads on a connection of their own.
pub(crate) fn read<T>(
    database: &Path,
    f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    // Each would keep the shared lock that it begins with while it waits for all others to give up theirs: they come
    // in one at a time. The folder is nothing that SQLite locks.
    let _turn = database.parent().and_then(|folder| {
        let folder = std::fs::File::open(folder).ok()?;
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).ok()?;
        Some(folder)
    });
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(Duration::from_secs(60 * 60))?;
    connection.query_row("pragma locking_mode = exclusive", [], |_| Ok(()))?;
    match connection.query_row("select count(*) from sqlite_master", [], |_| Ok(())) {
        Ok(()) => f(&connection),
        // Not even an empty log can be made. Then nobody else can have one, so that the database stays as it is.
        Err(_) if !log_of(database).exists() => {
            drop(connection);
            let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
                | OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_URI;
            let uri = format!("file:{}?immutable=1", uri_escape(database));
            f(&Connection::open_with_flags(uri, flags)?)
        }
        Err(e) => Err(e),
    }
}

fn log_of(database: &Path) -> std::path::PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// A path as part of a URI that SQLite opens.
pub(crate) fn uri_escape(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut out = String::new();
    for &b in path.as_os_str().as_bytes() {
        match b {
            b'/' | b'-' | b'_' | b'.' | b'~' => out.push(b as char),
            _ if b.is_ascii_alphanumeric() => out.push(b as char),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

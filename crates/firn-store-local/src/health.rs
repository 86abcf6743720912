//! Whether the database is in order, for `firn doctor`.

use crate::store::LocalStore;
use firn_store::StoreResult;

/// What a look at the database showed.
#[derive(Debug)]
pub struct DatabaseHealth {
    /// What SQLite finds wrong; nothing if all is well.
    pub problems: Vec<String>,
    /// How many paths are valid.
    pub paths: u64,
    /// When the last one was registered, in seconds since 1970; 0 if there is none.
    pub newest: i64,
}

impl LocalStore {
    /// Reads the whole database and checks its structure, but not that indices agree with tables.
    ///
    /// # Errors
    /// One that cannot be opened.
    pub fn check_database(&self) -> StoreResult<DatabaseHealth> {
        self.query(|c| {
            let said: Vec<String> = c
                .prepare("pragma quick_check(10)")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let problems: Vec<String> = said.into_iter().filter(|line| line != "ok").collect();
            if !problems.is_empty() {
                return Ok(DatabaseHealth { problems, paths: 0, newest: 0 });
            }
            let sql = "select count(*), coalesce(max(registrationTime), 0) from ValidPaths";
            let (paths, newest) = c.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
            Ok(DatabaseHealth { problems, paths: paths.unsigned_abs(), newest })
        })
    }
}

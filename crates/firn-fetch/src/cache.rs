//! What is known of URLs, kept between runs in the reference's database of fetchers, by its name and schema. Entries of
//! files are the same for both programs.

use crate::error::{FetchError, FetchResult};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file's name in the user's cache folder.
pub const FILE_NAME: &str = "fetcher-cache-v4.sqlite";

/// Members of a key or a value.
pub type Attrs = Map<String, Value>;

/// The database.
pub struct FetchCache {
    path: PathBuf,
    db: Mutex<Connection>,
}

/// An entry and when it was made, in seconds since the epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub value: Attrs,
    pub time: i64,
}

impl Entry {
    /// A member that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value.get(name)?.as_str()
    }

    /// Whether the entry is older than `ttl` seconds; with 0 every entry is.
    pub fn is_expired(&self, ttl: u32) -> bool {
        ttl == 0 || self.time + i64::from(ttl) < now()
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// Keys are compared as text, with members in order.
fn text(attrs: &Attrs) -> String {
    let mut value = Value::Object(attrs.clone());
    value.sort_all_objects();
    value.to_string()
}

impl FetchCache {
    /// Opens the database in `dir`, making it if there is none.
    pub fn open(dir: &Path) -> FetchResult<FetchCache> {
        std::fs::create_dir_all(dir).map_err(FetchError::io("creating directory", dir))?;
        let path = dir.join(FILE_NAME);
        let make = || -> rusqlite::Result<Connection> {
            let db = Connection::open(&path)?;
            db.busy_timeout(Duration::from_secs(60))?;
            db.execute_batch("pragma synchronous = off")?;
            db.query_row("pragma main.journal_mode = truncate", [], |_| Ok(()))?;
            db.execute_batch(
                "create table if not exists Cache (domain text not null, key text not null, value text not null, \
                 timestamp integer not null, primary key (domain, key))",
            )?;
            Ok(db)
        };
        match make() {
            Ok(db) => Ok(FetchCache { path, db: Mutex::new(db) }),
            Err(e) => Err(FetchError::Cache { path, message: e.to_string() }),
        }
    }

    fn fail(&self) -> impl FnOnce(rusqlite::Error) -> FetchError {
        let path = self.path.clone();
        move |e| FetchError::Cache { path, message: e.to_string() }
    }

    /// The entry with that key, however old.
    pub fn lookup(&self, domain: &str, key: &Attrs) -> FetchResult<Option<Entry>> {
        let row: Option<(String, i64)> = self
            .db
            .lock()
            .query_row(
                "select value, timestamp from Cache where domain = ? and key = ?",
                params![domain, text(key)],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(self.fail())?;
        // What is no object is as good as not there.
        Ok(row.and_then(|(value, time)| match serde_json::from_str(&value) {
            Ok(Value::Object(value)) => Some(Entry { value, time }),
            _ => None,
        }))
    }

    pub fn upsert(&self, domain: &str, key: &Attrs, value: &Attrs) -> FetchResult<()> {
        self.db
            .lock()
            .execute(
                "insert or replace into Cache (domain, key, value, timestamp) values (?, ?, ?, ?)",
                params![domain, text(key), text(value), now()],
            )
            .map(drop)
            .map_err(self.fail())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attrs(value: Value) -> Attrs {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn keeps() {
        let dir = tempfile::tempdir().unwrap();
        let cache = FetchCache::open(dir.path()).unwrap();
        let key = attrs(json!({ "url": "u", "name": "n" }));
        assert_eq!(cache.lookup("file", &key).unwrap(), None);
        cache.upsert("file", &key, &attrs(json!({ "etag": "e" }))).unwrap();
        // The order of members says nothing.
        let same = attrs(json!({ "name": "n", "url": "u" }));
        let entry = FetchCache::open(dir.path()).unwrap().lookup("file", &same).unwrap().unwrap();
        assert_eq!(entry.text("etag"), Some("e"));
        assert!(!entry.is_expired(100) && entry.is_expired(0));
        assert_eq!(cache.lookup("tarball", &key).unwrap(), None);
    }
}

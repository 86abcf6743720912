//! What caches said, kept between runs: the reference's SQLite database of `.narinfo` files and realisations, by its
//! name and schema, so that both programs use one.

use firn_archive::Method;
use firn_core::{ContentAddress, Hash, HashFormat, NarInfo, StorePath, ValidPathInfo};
use firn_store::{Realisation, StoreError, StoreResult};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file's name in the user's cache folder.
pub const FILE_NAME: &str = "binary-cache-v7.sqlite";

/// Seconds between removals of what is old.
const PURGE_INTERVAL: i64 = 24 * 3600;

const SCHEMA: &str = "
create table if not exists BinaryCaches (
    id integer primary key autoincrement not null,
    url text unique not null,
    timestamp integer not null,
    storeDir text not null,
    wantMassQuery integer not null,
    priority integer not null
);
create table if not exists NARs (
    cache integer not null,
    hashPart text not null,
    namePart text,
    url text,
    compression text,
    fileHash text,
    fileSize integer,
    narHash text,
    narSize integer,
    refs text,
    deriver text,
    sigs text,
    ca text,
    timestamp integer not null,
    present integer not null,
    primary key (cache, hashPart),
    foreign key (cache) references BinaryCaches(id) on delete cascade
);
create table if not exists Realisations (
    cache integer not null,
    outputId text not null,
    content blob,
    timestamp integer not null,
    primary key (cache, outputId),
    foreign key (cache) references BinaryCaches(id) on delete cascade
);
create table if not exists LastPurge (
    dummy text primary key,
    value integer
);
";

/// For how many seconds answers are believed; the settings `narinfo-cache-*-ttl`.
#[derive(Debug, Clone)]
pub struct DiskCacheConfig {
    pub directory: PathBuf,
    pub positive_ttl: i64,
    pub negative_ttl: i64,
    pub meta_ttl: i64,
}

/// The database. One per process.
pub struct DiskCache {
    config: DiskCacheConfig,
    state: Mutex<State>,
    /// Answers that are yet to be written.
    waiting: Mutex<Vec<Answer>>,
}

/// What a cache, by its URL, said of a path, by its hash part.
type Answer = (String, String, Option<Arc<NarInfo>>);

/// How long answers wait for others, so that they are written together and not while the next are being asked for.
const GATHERED_FOR: Duration = Duration::from_millis(10);

struct State {
    db: Connection,
    /// Ids of caches by URL.
    caches: HashMap<String, i64>,
}

/// What is known of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheFacts {
    pub store_dir: String,
    pub want_mass_query: bool,
    pub priority: i64,
}

/// An answer of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known<T> {
    Present(T),
    Absent,
    /// Not asked yet, or too long ago.
    Unknown,
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

fn database(path: &Path) -> impl FnOnce(rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    move |e| StoreError::Database { path, message: e.to_string() }
}

impl DiskCache {
    /// Opens the database, making it if there is none.
    pub fn open(config: DiskCacheConfig) -> StoreResult<DiskCache> {
        let dir = &config.directory;
        std::fs::create_dir_all(dir).map_err(StoreError::io("creating directory", dir))?;
        let path = dir.join(FILE_NAME);
        let make = || -> rusqlite::Result<Connection> {
            let db = Connection::open(&path)?;
            db.busy_timeout(Duration::from_secs(60))?;
            // What is lost is asked for again.
            db.execute_batch("pragma synchronous = off; pragma foreign_keys = 1;")?;
            db.query_row("pragma main.journal_mode = truncate", [], |_| Ok(()))?;
            db.execute_batch(SCHEMA)?;
            let purged: Option<i64> =
                db.query_row("select value from LastPurge", [], |row| row.get(0)).optional()?;
            if purged.is_none_or(|at| at < now() - PURGE_INTERVAL) {
                // --refresh makes answers old for one run only; it is no reason to forget them.
                db.execute(
                    "delete from NARs where (present = 0 and timestamp < ?) or (present = 1 and timestamp < ?)",
                    [now() - config.negative_ttl.max(3600), now() - config.positive_ttl.max(30 * 24 * 3600)],
                )?;
                db.execute("insert or replace into LastPurge (dummy, value) values ('', ?)", [now()])?;
            }
            Ok(db)
        };
        let db = make().map_err(database(&path))?;
        let state = Mutex::new(State { db, caches: HashMap::new() });
        Ok(DiskCache { config, state, waiting: Mutex::default() })
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> rusqlite::Result<T>) -> StoreResult<T> {
        f(&mut self.state.lock()).map_err(database(&self.config.directory.join(FILE_NAME)))
    }

    /// What is known of a cache, if that is not too old.
    pub(crate) fn cache(&self, url: &str) -> StoreResult<Option<CacheFacts>> {
        let since = now() - self.config.meta_ttl;
        self.with(|state| {
            let row = state
                .db
                .prepare_cached(
                    "select id, storeDir, wantMassQuery, priority from BinaryCaches where url = ? and timestamp > ?",
                )?
                .query_row(params![url, since], |row| {
                    let facts = CacheFacts {
                        store_dir: row.get(1)?,
                        want_mass_query: row.get::<_, i64>(2)? != 0,
                        priority: row.get(3)?,
                    };
                    Ok((row.get(0)?, facts))
                })
                .optional()?;
            Ok(row.map(|(id, facts)| {
                state.caches.insert(url.to_owned(), id);
                facts
            }))
        })
    }

    pub(crate) fn set_cache(&self, url: &str, facts: &CacheFacts) -> StoreResult<()> {
        self.with(|state| {
            let id = state
                .db
                .prepare_cached(
                    "insert into BinaryCaches (url, timestamp, storeDir, wantMassQuery, priority) \
                     values (?1, ?2, ?3, ?4, ?5) on conflict (url) do update set timestamp = ?2, storeDir = ?3, \
                     wantMassQuery = ?4, priority = ?5 returning id",
                )?
                .query_row(
                    params![url, now(), facts.store_dir, facts.want_mass_query, facts.priority],
                    |row| row.get(0),
                )?;
            state.caches.insert(url.to_owned(), id);
            Ok(())
        })
    }

    /// The facts of a path, as the cache told them.
    pub(crate) fn nar_info(&self, url: &str, hash_part: &str) -> StoreResult<Known<NarInfo>> {
        let (negative, positive) = (now() - self.config.negative_ttl, now() - self.config.positive_ttl);
        let row = self.with(|state| {
            let Some(id) = state.caches.get(url).copied() else { return Ok(None) };
            state
                .db
                .prepare_cached(
                    "select present, namePart, url, compression, fileHash, fileSize, narHash, narSize, refs, deriver, \
                     sigs, ca from NARs where cache = ? and hashPart = ? and \
                     ((present = 0 and timestamp > ?) or (present = 1 and timestamp > ?))",
                )?
                .query_row(params![id, hash_part, negative, positive], |row| {
                    if row.get::<_, i64>(0)? == 0 {
                        return Ok(Known::Absent);
                    }
                    // What another program or version wrote oddly is as good as not there.
                    Ok(decode(hash_part, row)?.map_or(Known::Unknown, Known::Present))
                })
                .optional()
        })?;
        Ok(row.unwrap_or(Known::Unknown))
    }

    /// Keeps what a cache said of a path, a little later. What cannot be written is only asked for again.
    pub(crate) fn note_nar_info(
        self: &Arc<DiskCache>,
        url: &str,
        hash_part: &str,
        info: Option<Arc<NarInfo>>,
    ) {
        let mut waiting = self.waiting.lock();
        waiting.push((url.to_owned(), hash_part.to_owned(), info));
        if waiting.len() > 1 {
            return;
        }
        let cache = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(GATHERED_FOR).await;
            tokio::task::spawn_blocking(move || cache.flush());
        });
    }

    /// Writes what waits.
    pub(crate) fn flush(&self) {
        let answers = std::mem::take(&mut *self.waiting.lock());
        if answers.is_empty() {
            return;
        }
        let _ = self.with(|state| {
            let State { db, caches } = state;
            let writing = db.transaction()?;
            for (url, hash_part, info) in &answers {
                if let Some(id) = caches.get(url) {
                    set_nar_info(&writing, *id, hash_part, info.as_deref())?;
                }
            }
            writing.commit()
        });
    }

    pub(crate) fn set_nar_info(&self, url: &str, hash_part: &str, info: Option<&NarInfo>) -> StoreResult<()> {
        // What was said before does not come after this.
        self.flush();
        self.with(|state| match state.caches.get(url).copied() {
            Some(id) => set_nar_info(&state.db, id, hash_part, info),
            None => Ok(()),
        })
    }

    pub(crate) fn realisation(&self, url: &str, id: &str) -> StoreResult<Known<Realisation>> {
        let (negative, positive) = (now() - self.config.negative_ttl, now() - self.config.positive_ttl);
        let row: Option<Option<Vec<u8>>> = self.with(|state| {
            let Some(cache) = state.caches.get(url).copied() else { return Ok(None) };
            state
                .db
                .prepare_cached(
                    "select cast(content as blob) from Realisations where cache = ? and outputId = ? and \
                     ((content is null and timestamp > ?) or (content is not null and timestamp > ?))",
                )?
                .query_row(params![cache, id, negative, positive], |row| row.get(0))
                .optional()
        })?;
        Ok(match row {
            None => Known::Unknown,
            Some(None) => Known::Absent,
            Some(Some(text)) => match Realisation::from_json(&text, Some(id), FILE_NAME) {
                Ok(realisation) => Known::Present(realisation),
                Err(_) => Known::Unknown,
            },
        })
    }

    pub(crate) fn set_realisation(
        &self,
        url: &str,
        id: &str,
        realisation: Option<&Realisation>,
    ) -> StoreResult<()> {
        self.with(|state| {
            let Some(cache) = state.caches.get(url).copied() else { return Ok(()) };
            state
                .db
                .prepare_cached(
                    "insert or replace into Realisations (cache, outputId, content, timestamp) values (?, ?, ?, ?)",
                )?
                .execute(params![cache, id, realisation.map(|r| r.to_json().to_string()), now()])?;
            Ok(())
        })
    }
}

fn set_nar_info(db: &Connection, id: i64, hash_part: &str, info: Option<&NarInfo>) -> rusqlite::Result<()> {
    let Some(nar) = info else {
        db.prepare_cached(
            "insert or replace into NARs (cache, hashPart, timestamp, present) values (?, ?, ?, 0)",
        )?
        .execute(params![id, hash_part, now()])?;
        return Ok(());
    };
    let path = &nar.info;
    let join = |parts: Vec<&str>| parts.join(" ");
    db.prepare_cached(
        "insert or replace into NARs (cache, hashPart, namePart, url, compression, fileHash, fileSize, \
         narHash, narSize, refs, deriver, sigs, ca, timestamp, present) \
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
    )?
    .execute(params![
        id,
        hash_part,
        path.path.name(),
        nar.url,
        nar.compression,
        nar.file_hash.map(|hash| hash.to_prefixed(HashFormat::Nix32)),
        nar.file_size.and_then(|n| i64::try_from(n).ok()),
        path.nar_hash.to_prefixed(HashFormat::Nix32),
        i64::try_from(path.nar_size).unwrap_or(i64::MAX),
        join(path.references.iter().map(StorePath::base_name).collect()),
        path.deriver.as_ref().map(StorePath::base_name),
        join(path.signatures.iter().map(String::as_str).collect()),
        path.ca.as_ref().map(ToString::to_string).unwrap_or_default(),
        now(),
    ])?;
    Ok(())
}

fn decode(hash_part: &str, row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<NarInfo>> {
    let text = |at: usize| row.get::<_, Option<String>>(at).map(Option::unwrap_or_default);
    let (name, nar_hash, references) = (text(1)?, text(6)?, text(8)?);
    let (deriver, signatures, ca, file_hash) = (text(9)?, text(10)?, text(11)?, text(4)?);
    let nar_size = row.get::<_, Option<i64>>(7)?.unwrap_or(0);
    let made = || -> Option<ValidPathInfo> {
        let path = StorePath::from_base_name(&format!("{hash_part}-{name}")).ok()?;
        let mut info = ValidPathInfo::new(
            path,
            Hash::parse_any_prefixed(&nar_hash).ok()?,
            u64::try_from(nar_size).ok()?,
        );
        for reference in references.split(' ').filter(|r| !r.is_empty()) {
            info.references.insert(StorePath::from_base_name(reference).ok()?);
        }
        if !deriver.is_empty() {
            info.deriver = Some(StorePath::from_base_name(&deriver).ok()?);
        }
        info.signatures = signatures.split(' ').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        if !ca.is_empty() {
            info.ca = Some(ContentAddress::parse(&ca).ok()?);
        }
        Some(info)
    };
    let Some(info) = made() else { return Ok(None) };
    let compression = text(3)?;
    if Method::parse(&compression).is_err() || info.nar_size == 0 {
        return Ok(None);
    }
    let mut nar = NarInfo::new(info);
    nar.url = text(2)?;
    nar.compression = compression;
    nar.file_hash = Hash::parse_any_prefixed(&file_hash).ok();
    nar.file_size = row.get::<_, Option<i64>>(5)?.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    Ok(Some(nar))
}

/// The database where it can be had: without it everything works, only more is asked for.
pub(crate) fn shared(config: &DiskCacheConfig) -> Option<Arc<DiskCache>> {
    static OPEN: Mutex<Vec<(PathBuf, Arc<DiskCache>)>> = Mutex::new(Vec::new());
    let mut open = OPEN.lock();
    if let Some((_, cache)) = open.iter().find(|(dir, cache)| {
        *dir == config.directory
            && (cache.config.positive_ttl, cache.config.negative_ttl, cache.config.meta_ttl)
                == (config.positive_ttl, config.negative_ttl, config.meta_ttl)
    }) {
        return Some(Arc::clone(cache));
    }
    let cache = Arc::new(DiskCache::open(config.clone()).ok()?);
    open.push((config.directory.clone(), Arc::clone(&cache)));
    Some(cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_and_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let config = |ttl| DiskCacheConfig {
            directory: dir.path().to_owned(),
            positive_ttl: ttl,
            negative_ttl: ttl,
            meta_ttl: ttl,
        };
        let cache = DiskCache::open(config(100)).unwrap();
        let facts = CacheFacts { store_dir: "/nix/store".into(), want_mass_query: true, priority: 40 };
        assert_eq!(cache.cache("u").unwrap(), None);
        cache.set_cache("u", &facts).unwrap();
        assert_eq!(cache.cache("u").unwrap(), Some(facts));

        let part = "a".repeat(32);
        let path = StorePath::from_base_name(&format!("{part}-n")).unwrap();
        let mut info = ValidPathInfo::new(path.clone(), Hash::dummy(), 120);
        info.references.insert(path.clone());
        info.deriver = Some(path.clone());
        info.signatures = ["k:a".into(), "l:b".into()].into();
        let mut nar = NarInfo::new(info);
        (nar.url, nar.compression, nar.file_size) = ("nar/x".into(), "xz".into(), Some(7));
        nar.file_hash = Some(Hash::dummy());
        assert_eq!(cache.nar_info("u", &part).unwrap(), Known::Unknown);
        cache.set_nar_info("u", &part, Some(&nar)).unwrap();
        assert_eq!(cache.nar_info("u", &part).unwrap(), Known::Present(nar));
        assert_eq!(cache.nar_info("v", &part).unwrap(), Known::Unknown);
        cache.set_nar_info("u", &part, None).unwrap();
        assert_eq!(cache.nar_info("u", &part).unwrap(), Known::Absent);

        let realisation = Realisation::new("sha256:00!out".into(), path);
        cache.set_realisation("u", &realisation.id, Some(&realisation)).unwrap();
        assert_eq!(cache.realisation("u", &realisation.id).unwrap(), Known::Present(realisation.clone()));
        drop(cache);
        // With a time to live of nothing everything is asked for again, and nothing is lost.
        let fresh = DiskCache::open(config(0)).unwrap();
        assert_eq!(fresh.cache("u").unwrap(), None);
        let again = DiskCache::open(config(100)).unwrap();
        assert!(again.cache("u").unwrap().is_some());
        assert_eq!(again.realisation("u", &realisation.id).unwrap(), Known::Present(realisation));
    }
}

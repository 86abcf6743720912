//! What a cache says of itself and of its paths: from memory, from the disk, else from the cache.

use super::CacheStore;
use crate::disk_cache::{CacheFacts, Known};
use crate::files::Content;
use firn_core::{NarInfo, StorePath};
use firn_store::activity::{Activity, ActivityType, Verbosity};
use firn_store::{Store, StoreError, StoreResult, SubstituterProperties};
use std::sync::Arc;
use std::time::Instant;

const INFO_FILE: &str = "nix-cache-info";

impl CacheStore {
    /// Finds out what the cache is, once. A place that is no cache yet becomes one.
    pub(super) async fn properties(&self) -> StoreResult<SubstituterProperties> {
        self.inner.properties.get_or_try_init(|| self.reach()).await.copied()
    }

    /// Whether it is known what the cache is, in this process or on the disk.
    fn facts_at_hand(&self) -> StoreResult<bool> {
        if self.inner.properties.initialized() {
            return Ok(true);
        }
        Ok(self.facts_on_disk()?.is_some())
    }

    fn facts_on_disk(&self) -> StoreResult<Option<CacheFacts>> {
        let Some(cache) = self.inner.disk_cache() else { return Ok(None) };
        Ok(cache.cache(self.place())?.filter(|facts| facts.store_dir == self.dir().as_str()))
    }

    async fn reach(&self) -> StoreResult<SubstituterProperties> {
        let inner = &*self.inner;
        let facts = match self.facts_on_disk()? {
            Some(facts) => facts,
            None => {
                inner.files.prepare().await?;
                let facts = self.ask().await?;
                if let Some(cache) = inner.disk_cache() {
                    cache.set_cache(self.place(), &facts)?;
                }
                facts
            }
        };
        Ok(SubstituterProperties {
            priority: inner.config.priority.unwrap_or(facts.priority),
            want_mass_query: inner.config.want_mass_query.unwrap_or(facts.want_mass_query),
            trusted: inner.config.trusted,
        })
    }

    async fn ask(&self) -> StoreResult<CacheFacts> {
        let mut facts =
            CacheFacts { store_dir: self.dir().as_str().to_owned(), want_mass_query: false, priority: 0 };
        let Some(text) = self.files().get(INFO_FILE).await? else {
            let text = format!("StoreDir: {}\n", self.dir());
            let content = Content::Bytes(text.into());
            self.files().put(INFO_FILE, content, "text/x-nix-cache-info").await.map_err(|e| {
                // The page that a server sends with its refusal is of no use here.
                let text = e.to_string();
                let why = text.lines().next().unwrap_or_default();
                StoreError::Other(format!("'{}' does not appear to be a binary cache: {why}", self.place()))
            })?;
            return Ok(facts);
        };
        for line in String::from_utf8_lossy(&text).lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name {
                "StoreDir" if value != self.dir().as_str() => {
                    return Err(StoreError::Other(format!(
                        "binary cache '{}' is for Nix stores with prefix '{value}', not '{}'",
                        self.place(),
                        self.dir()
                    )));
                }
                "WantMassQuery" => facts.want_mass_query = value == "1",
                "Priority" => {
                    facts.priority = value.parse().map_err(|_| {
                        StoreError::Corrupt(format!(
                            "file '{INFO_FILE}' of binary cache '{}' has priority '{value}'",
                            self.place()
                        ))
                    })?;
                }
                _ => {}
            }
        }
        Ok(facts)
    }

    /// What the cache says of a path of which maybe only the hash part is known.
    pub(super) async fn info(&self, path: &StorePath) -> StoreResult<Option<Arc<NarInfo>>> {
        let fits = |info: &NarInfo| {
            info.info.path.hash_part() == path.hash_part()
                && (path.name() == StorePath::UNKNOWN_NAME || info.info.path.name() == path.name())
        };
        let found = self.info_by_hash(path).await?;
        Ok(found.filter(|info| fits(info)))
    }

    async fn info_by_hash(&self, path: &StorePath) -> StoreResult<Option<Arc<NarInfo>>> {
        let (inner, part) = (&*self.inner, path.hash_part());
        if let Some(info) = self.remembered(part) {
            return Ok(info);
        }
        let cell = Arc::clone(inner.asked.lock().entry(part.to_owned()).or_default());
        let answer =
            cell.get_or_init(|| async { self.find_info(path).await.map_err(Arc::new) }).await.clone();
        let mut asked = inner.asked.lock();
        if asked.get(part).is_some_and(|current| Arc::ptr_eq(current, &cell)) {
            asked.remove(part);
        }
        drop(asked);
        drop(cell);
        answer.map_err(|error| Arc::try_unwrap(error).unwrap_or_else(|error| again(&error)))
    }

    /// What was remembered of a path, if that is not too old.
    fn remembered(&self, part: &str) -> Option<Option<Arc<NarInfo>>> {
        let infos = self.inner.infos.lock();
        let (since, info) = infos.get(part)?;
        (info.is_some() || since.elapsed() < self.inner.negative_ttl).then(|| info.clone())
    }

    /// The facts of a path from the disk, else from the cache.
    async fn find_info(&self, path: &StorePath) -> StoreResult<Option<Arc<NarInfo>>> {
        let (inner, part) = (&*self.inner, path.hash_part());
        // Somebody else may have got the answer just now.
        if let Some(info) = self.remembered(part) {
            return Ok(info);
        }
        // What the cache is costs no round trip of its own.
        let text = match self.facts_at_hand()? {
            true => {
                self.properties().await?;
                None
            }
            false => {
                let file = format!("{part}.narinfo");
                let text = async {
                    let _activity = self.asking(path);
                    Ok(self.files().try_get(&file).await)
                };
                tokio::try_join!(self.connect(), text)?.1
            }
        };
        if let Some(cache) = inner.disk_cache().filter(|_| text.is_none()) {
            let known = match cache.nar_info(self.place(), part)? {
                Known::Present(info) => Some(Some(Arc::new(info))),
                Known::Absent => Some(None),
                Known::Unknown => None,
            };
            if let Some(info) = known {
                self.remember(part, info.clone());
                return Ok(info);
            }
        }
        let text = match text {
            Some(text) => text,
            None => self.ask_info(path).await?,
        };
        let info = match text {
            None => None,
            Some(text) => {
                let corrupt = |e: &dyn std::fmt::Display| StoreError::Corrupt(e.to_string());
                let file = format!("{part}.narinfo");
                let text = std::str::from_utf8(&text)
                    .map_err(|_| corrupt(&format!("NAR info file '{file}' is corrupt: it is not text")))?;
                Some(Arc::new(NarInfo::parse(self.dir(), text, &file).map_err(|e| corrupt(&e))?))
            }
        };
        self.remember(part, info.clone());
        if let Some(cache) = inner.disk_cache() {
            cache.note_nar_info(self.place(), part, info.clone());
        }
        Ok(info)
    }

    /// The file with the facts of a path.
    async fn ask_info(&self, path: &StorePath) -> StoreResult<Option<bytes::Bytes>> {
        let _activity = self.asking(path);
        self.files().get(&format!("{}.narinfo", path.hash_part())).await
    }

    /// Tells that it is asked for the facts of a path.
    fn asking(&self, path: &StorePath) -> Activity {
        let shown = self.dir().display(path);
        let text = format!("querying info about '{shown}' on '{}'", self.place());
        let fields = [shown.into(), self.place().into()];
        let kind = ActivityType::QueryPathInfo;
        Activity::start(&self.inner.logger, Verbosity::Talkative, kind, &text, &fields, 0)
    }

    fn remember(&self, part: &str, info: Option<Arc<NarInfo>>) {
        let mut infos = self.inner.infos.lock();
        if infos.len() >= self.inner.config.path_info_cache_size.max(1) {
            infos.clear();
        }
        infos.insert(part.to_owned(), (Instant::now(), info));
    }

    pub(super) async fn require_info(&self, path: &StorePath) -> StoreResult<Arc<NarInfo>> {
        match self.info(path).await? {
            Some(info) => Ok(info),
            None => Err(StoreError::InvalidPath { path: self.dir().display(path) }),
        }
    }

    pub(super) async fn write_info(&self, info: NarInfo) -> StoreResult<()> {
        let part = info.info.path.hash_part().to_owned();
        let content = Content::Bytes(info.render(self.dir()).into());
        self.files().put(&format!("{part}.narinfo"), content, "text/x-nix-narinfo").await?;
        if let Some(cache) = self.inner.disk_cache() {
            cache.set_nar_info(self.place(), &part, Some(&info))?;
        }
        self.remember(&part, Some(Arc::new(info)));
        Ok(())
    }
}

/// What others that waited for it are told of a failure.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::SubstituterDisabled { uri, reason } => {
            StoreError::SubstituterDisabled { uri: uri.clone(), reason: reason.clone() }
        }
        StoreError::Corrupt(text) => StoreError::Corrupt(text.clone()),
        other => StoreError::Other(other.to_string()),
    }
}

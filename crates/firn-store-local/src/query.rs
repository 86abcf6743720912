//! What the database knows.

use crate::store::LocalStore;
use firn_core::store_path::HASH_PART_LEN;
use firn_core::{ContentAddress, Hash, StorePath, ValidPathInfo};
use firn_store::{StoreError, StoreResult};
use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::{BTreeMap, BTreeSet};

impl LocalStore {
    /// What is known of a valid path.
    pub fn path_info(&self, path: &StorePath) -> StoreResult<Option<ValidPathInfo>> {
        let text = self.display(path);
        let row = self.query(|c| {
            let Some(row) = RawInfo::find(c, &text)? else { return Ok(None) };
            let references = strings(c, RawInfo::REFERENCES, [row.id])?;
            Ok(Some((row, references)))
        })?;
        if row.is_none()
            && let Some(lower) = self.lower()
        {
            return lower.path_info(path);
        }
        row.map(|(row, references)| row.check(self, path, references)).transpose()
    }

    /// What is known of a path that must be valid.
    pub fn require_path_info(&self, path: &StorePath) -> StoreResult<ValidPathInfo> {
        self.path_info(path)?.ok_or_else(|| StoreError::InvalidPath { path: self.display(path) })
    }

    pub fn is_valid(&self, path: &StorePath) -> StoreResult<bool> {
        Ok(self.is_valid_here(path)? || self.copy_up(path)?)
    }

    /// Whether this store's own database has the path.
    pub(crate) fn is_valid_here(&self, path: &StorePath) -> StoreResult<bool> {
        let text = self.display(path);
        self.query(|c| c.prepare_cached("select 1 from ValidPaths where path = ?")?.exists([&text]))
    }

    /// Those of `paths` that are valid, as of one moment.
    pub fn valid_among<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> StoreResult<BTreeSet<StorePath>> {
        if self.lower().is_some() {
            let mut valid = BTreeSet::new();
            for path in paths {
                if self.is_valid(path)? {
                    valid.insert(path.clone());
                }
            }
            return Ok(valid);
        }
        self.query(|c| {
            // One transaction takes the database's locks once, not once for each path.
            let transaction = c.unchecked_transaction()?;
            let mut statement = transaction.prepare_cached("select 1 from ValidPaths where path = ?")?;
            let mut valid = BTreeSet::new();
            for path in paths {
                if statement.exists([self.display(path)])? {
                    valid.insert(path.clone());
                }
            }
            Ok(valid)
        })
    }

    pub fn all_valid_paths(&self) -> StoreResult<BTreeSet<StorePath>> {
        let texts = self.query(|c| strings(c, "select path from ValidPaths", []))?;
        self.parse_all(texts)
    }

    /// Valid paths that refer to `path`.
    pub fn referrers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        let mut referrers = self.referrers_here(path)?;
        if let Some(lower) = self.lower() {
            referrers.extend(lower.referrers(path)?);
        }
        Ok(referrers)
    }

    /// Those that this store's own database knows.
    pub(crate) fn referrers_here(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        let text = self.display(path);
        let texts = self.query(|c| {
            strings(
                c,
                "select path from Refs join ValidPaths on referrer = id \
                 where reference = (select id from ValidPaths where path = ?)",
                [&text],
            )
        })?;
        self.parse_all(texts)
    }

    /// Valid derivations that have `path` as an output.
    pub fn valid_derivers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        let text = self.display(path);
        let texts = self.query(|c| {
            strings(
                c,
                "select v.path from DerivationOutputs d join ValidPaths v on d.drv = v.id where d.path = ?",
                [&text],
            )
        })?;
        let mut derivers = self.parse_all(texts)?;
        if let Some(lower) = self.lower() {
            derivers.extend(lower.valid_derivers(path)?);
        }
        Ok(derivers)
    }

    /// Outputs of a valid derivation whose paths the database knows.
    pub fn static_derivation_outputs(&self, drv: &StorePath) -> StoreResult<BTreeMap<String, StorePath>> {
        if self.lower().is_some() {
            // The row must be here.
            self.is_valid(drv)?;
        }
        let text = self.display(drv);
        let rows = self.query(|c| {
            let id: Option<i64> = c
                .prepare_cached("select id from ValidPaths where path = ?")?
                .query_row([&text], |row| row.get(0))
                .optional()?;
            let Some(id) = id else { return Ok(None) };
            let mut statement = c.prepare_cached("select id, path from DerivationOutputs where drv = ?")?;
            let rows = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(String, String)>>>().map(Some)
        })?;
        let Some(rows) = rows else { return Err(StoreError::InvalidPath { path: text }) };
        rows.into_iter().map(|(name, path)| Ok((name, self.dir().parse(&path)?))).collect()
    }

    /// All outputs of a valid derivation; `None` where the path is not known (yet).
    pub fn derivation_outputs(&self, drv: &StorePath) -> StoreResult<BTreeMap<String, Option<StorePath>>> {
        let known = self.static_derivation_outputs(drv)?;
        // Only floating outputs are missing in the table, and a derivation has them all or not at all.
        if !known.is_empty() && !self.inner.config.ca_derivations {
            return Ok(known.into_iter().map(|(name, path)| (name, Some(path))).collect());
        }
        let derivation = self.read_derivation_blocking(drv)?;
        let mut outputs: BTreeMap<String, Option<StorePath>> =
            derivation.outputs.keys().map(|name| (name.clone(), None)).collect();
        if outputs.keys().any(|name| !known.contains_key(name)) && self.inner.config.ca_derivations {
            for (name, path) in self.realised_outputs(drv, &derivation)? {
                outputs.insert(name, Some(path));
            }
        }
        outputs.extend(known.into_iter().map(|(name, path)| (name, Some(path))));
        Ok(outputs)
    }

    /// The valid path with that hash part.
    pub fn path_from_hash_part(&self, hash_part: &str) -> StoreResult<Option<StorePath>> {
        if hash_part.len() != HASH_PART_LEN {
            return Err(StoreError::Other("invalid hash part".into()));
        }
        let prefix = format!("{}/{hash_part}", self.dir());
        let found: Option<String> = self.query(|c| {
            c.prepare_cached("select path from ValidPaths where path >= ? limit 1")?
                .query_row([&prefix], |row| row.get(0))
                .optional()
        })?;
        match found {
            Some(text) if text.starts_with(&prefix) => Ok(Some(self.dir().parse(&text)?)),
            _ => self.lower().map_or(Ok(None), |lower| lower.path_from_hash_part(hash_part)),
        }
    }

    pub(crate) fn parse_all(&self, texts: Vec<String>) -> StoreResult<BTreeSet<StorePath>> {
        texts.iter().map(|text| self.dir().parse(text).map_err(StoreError::from)).collect()
    }
}

/// Runs a query of one text column.
pub(crate) fn strings(
    c: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Vec<String>> {
    let mut statement = c.prepare_cached(sql)?;
    statement.query_map(params, |row| row.get(0))?.collect()
}

/// A row of ValidPaths before its texts are parsed.
pub(crate) struct RawInfo {
    id: i64,
    hash: String,
    registration_time: i64,
    deriver: Option<String>,
    nar_size: Option<i64>,
    ultimate: Option<i64>,
    sigs: Option<String>,
    ca: Option<String>,
}

impl RawInfo {
    /// The query for the references of a row.
    pub(crate) const REFERENCES: &str =
        "select path from Refs join ValidPaths on reference = id where referrer = ?";

    /// The row of a path.
    pub(crate) fn find(c: &Connection, path: &str) -> rusqlite::Result<Option<RawInfo>> {
        c.prepare_cached(
            "select id, hash, registrationTime, deriver, narSize, ultimate, sigs, ca from ValidPaths where path = ?",
        )?
        .query_row([path], RawInfo::from_row)
        .optional()
    }

    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<RawInfo> {
        Ok(RawInfo {
            id: row.get(0)?,
            hash: row.get(1)?,
            registration_time: row.get(2)?,
            deriver: row.get(3)?,
            nar_size: row.get(4)?,
            ultimate: row.get(5)?,
            sigs: row.get(6)?,
            ca: row.get(7)?,
        })
    }

    pub(crate) fn check(
        self,
        store: &LocalStore,
        path: &StorePath,
        references: Vec<String>,
    ) -> StoreResult<ValidPathInfo> {
        let bad = |what: &dyn std::fmt::Display| {
            StoreError::Corrupt(format!("invalid-path entry for '{}': {what}", store.display(path)))
        };
        let non_empty = |text: Option<String>| text.filter(|t| !t.is_empty());
        Ok(ValidPathInfo {
            path: path.clone(),
            deriver: non_empty(self.deriver)
                .map(|text| store.dir().parse(&text))
                .transpose()
                .map_err(|e| bad(&e))?,
            nar_hash: Hash::parse_any_prefixed(&self.hash).map_err(|e| bad(&e))?,
            nar_size: self.nar_size.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            references: store.parse_all(references)?,
            registration_time: self.registration_time,
            ultimate: self.ultimate == Some(1),
            signatures: self
                .sigs
                .iter()
                .flat_map(|s| s.split(' '))
                .filter(|s| !s.is_empty())
                .map(str::to_owned)
                .collect(),
            ca: non_empty(self.ca)
                .map(|text| ContentAddress::parse(&text))
                .transpose()
                .map_err(|e| bad(&e))?,
        })
    }
}

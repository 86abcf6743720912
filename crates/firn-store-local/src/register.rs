//! Making paths valid, and invalid again.

use crate::db::TxnError;
use crate::derivations;
use crate::store::LocalStore;
use firn_core::{HashFormat, StorePath, ValidPathInfo};
use firn_store::{StoreError, StoreResult};
use rusqlite::{OptionalExtension, Transaction, params};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

/// A path about to become valid, with what is known of it besides.
pub(crate) struct Registration<'a> {
    pub(crate) info: &'a ValidPathInfo,
    /// The outputs to note for a derivation, where the caller vouches for them; otherwise the file is read and
    /// checked.
    pub(crate) outputs: Option<BTreeMap<String, StorePath>>,
}

impl LocalStore {
    /// Makes paths valid, all or none. Their files must be complete; their references must be valid or among them.
    pub fn register_valid_paths(&self, infos: &[ValidPathInfo]) -> StoreResult<()> {
        let registrations: Vec<_> = infos.iter().map(|info| Registration { info, outputs: None }).collect();
        self.register(registrations)
    }

    pub(crate) fn register(&self, mut registrations: Vec<Registration<'_>>) -> StoreResult<()> {
        if registrations.is_empty() {
            return Ok(());
        }
        self.ensure_writable()?;
        if self.inner.config.sync_before_registering {
            rustix::fs::sync();
        }
        check_acyclic(self, &registrations)?;
        self.copy_up_for(&registrations.iter().map(|r| r.info).collect::<Vec<_>>())?;
        for r in &mut registrations {
            self.check_content_address(r.info)?;
            if r.info.path.is_derivation() && r.outputs.is_none() {
                let derivation = self.parse_derivation_file(&r.info.path)?;
                self.check_derivation(&r.info.path, &derivation)?;
                r.outputs = Some(derivations::known_outputs(self.dir(), &derivation)?);
            }
        }
        match self.register_rows(&registrations) {
            // A collector of another process may have taken a row that we still knew.
            Err(StoreError::Database { message, .. }) if message.contains("FOREIGN KEY") => {
                self.db()?.ids.clear();
                self.register_rows(&registrations)
            }
            other => other,
        }
    }

    /// Takes over rows of the lower store, whose files are there.
    pub(crate) fn register_here(&self, infos: &[ValidPathInfo]) -> StoreResult<()> {
        let mut registrations = Vec::with_capacity(infos.len());
        for info in infos {
            let outputs = match (info.path.is_derivation(), self.lower()) {
                (true, Some(lower)) => Some(lower.derivation_outputs(&info.path)?),
                _ => None,
            };
            registrations.push(Registration { info, outputs });
        }
        match registrations.is_empty() {
            true => Ok(()),
            false => self.register_rows(&registrations),
        }
    }

    fn register_rows(&self, registrations: &[Registration<'_>]) -> StoreResult<()> {
        self.db()?.write_with_ids(|txn, ids| {
            for r in registrations {
                let id = match find_id(self, txn, ids, &r.info.path)? {
                    Some(id) => {
                        update_row(self, txn, r.info)?;
                        id
                    }
                    None => {
                        let id = insert_row(self, txn, r.info)?;
                        for (name, path) in r.outputs.iter().flatten() {
                            txn.prepare_cached(
                                "insert or replace into DerivationOutputs (drv, id, path) values (?, ?, ?)",
                            )?
                            .execute(params![id, name, self.display(path)])?;
                        }
                        id
                    }
                };
                ids.insert(r.info.path.clone(), id);
            }
            let mut add =
                txn.prepare_cached("insert or replace into Refs (referrer, reference) values (?, ?)")?;
            for r in registrations {
                let referrer = require_id(self, txn, ids, &r.info.path)?;
                for reference in &r.info.references {
                    add.execute(params![referrer, require_id(self, txn, ids, reference)?])?;
                }
            }
            Ok(())
        })
    }

    /// Checks that a path with a content address is the one that the address gives.
    fn check_content_address(&self, info: &ValidPathInfo) -> StoreResult<()> {
        if info.ca.is_none() || info.is_content_addressed(self.dir()) {
            return Ok(());
        }
        Err(StoreError::Other(format!(
            "cannot add path '{}' to the Nix store because it claims to be content-addressed but isn't",
            self.display(&info.path)
        )))
    }

    /// Writes changed facts (hash, size, signatures, ultimate, content address) of a valid path.
    pub(crate) fn update_path_info(&self, info: &ValidPathInfo) -> StoreResult<()> {
        self.db()?.write(|txn| update_row(self, txn, info))
    }

    /// Adds signatures to a valid path.
    pub fn add_signatures_blocking(
        &self,
        path: &StorePath,
        signatures: &BTreeSet<String>,
    ) -> StoreResult<()> {
        let mut info = self.require_path_info(path)?;
        info.signatures.extend(signatures.iter().cloned());
        self.update_path_info(&info)
    }

    /// As [`LocalStore::invalidate_path`], and the disk knows it when this returns: its files may go then.
    pub(crate) fn invalidate_durably(&self, path: &StorePath) -> StoreResult<()> {
        self.db()?.make_durable(&self.inner.config)?;
        let outcome = self.invalidate_path(path);
        self.db()?.make_quick(&self.inner.config)?;
        outcome
    }

    /// Makes a path invalid; its files stay. Refused while other valid paths refer to it.
    pub fn invalidate_path(&self, path: &StorePath) -> StoreResult<()> {
        let text = self.display(path);
        let mut db = self.db()?;
        db.write(|txn| {
            let referrers = crate::query::strings(
                txn,
                "select v.path from Refs join ValidPaths v on referrer = v.id \
                 where reference = (select id from ValidPaths where path = ?1) and v.path <> ?1",
                [&text],
            )?;
            if !referrers.is_empty() {
                let list: Vec<String> = referrers.iter().map(|p| format!("'{p}'")).collect();
                return Err(StoreError::Other(format!(
                    "cannot delete path '{text}' because it is in use by {}",
                    list.join(", ")
                ))
                .into());
            }
            txn.prepare_cached("delete from ValidPaths where path = ?")?.execute([&text])?;
            Ok(())
        })?;
        db.ids.remove(path);
        Ok(())
    }
}

/// Only paths that come together can refer to each other in a circle; outputs of one derivation may.
fn check_acyclic(store: &LocalStore, registrations: &[Registration<'_>]) -> StoreResult<()> {
    if registrations.len() < 2 {
        return Ok(());
    }
    let infos: BTreeMap<&StorePath, &ValidPathInfo> =
        registrations.iter().map(|r| (&r.info.path, r.info)).collect();
    let paths: BTreeSet<StorePath> = infos.keys().map(|p| (*p).clone()).collect();
    firn_store::closure::topo_sort(&paths, |path| {
        Ok(infos.get(path).map(|info| info.references.clone()).unwrap_or_default())
    })?
    .map_err(|cycle| cycle.into_error(store.dir()))
    .map(drop)
}

fn find_id(
    store: &LocalStore,
    txn: &Transaction<'_>,
    ids: &mut FxHashMap<StorePath, i64>,
    path: &StorePath,
) -> rusqlite::Result<Option<i64>> {
    if let Some(id) = ids.get(path) {
        return Ok(Some(*id));
    }
    let id = txn
        .prepare_cached("select id from ValidPaths where path = ?")?
        .query_row([store.display(path)], |row| row.get(0))
        .optional()?;
    if let Some(id) = id {
        ids.insert(path.clone(), id);
    }
    Ok(id)
}

fn require_id(
    store: &LocalStore,
    txn: &Transaction<'_>,
    ids: &mut FxHashMap<StorePath, i64>,
    path: &StorePath,
) -> Result<i64, TxnError> {
    find_id(store, txn, ids, path)?
        .ok_or_else(|| TxnError::Store(StoreError::InvalidPath { path: store.display(path) }))
}

fn insert_row(store: &LocalStore, txn: &Transaction<'_>, info: &ValidPathInfo) -> rusqlite::Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let time = if info.registration_time == 0 { now } else { info.registration_time };
    txn.prepare_cached(
        "insert into ValidPaths (path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca) \
         values (?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        store.display(&info.path),
        info.nar_hash.to_prefixed(HashFormat::Base16),
        time,
        info.deriver.as_ref().map(|d| store.display(d)),
        size(info),
        info.ultimate.then_some(1),
        signatures(info),
        info.ca.as_ref().map(ToString::to_string),
    ])?;
    Ok(txn.last_insert_rowid())
}

fn update_row(store: &LocalStore, txn: &Transaction<'_>, info: &ValidPathInfo) -> Result<(), TxnError> {
    txn.prepare_cached(
        "update ValidPaths set narSize = ?, hash = ?, ultimate = ?, sigs = ?, ca = ? where path = ?",
    )?
    .execute(params![
        size(info),
        info.nar_hash.to_prefixed(HashFormat::Base16),
        info.ultimate.then_some(1),
        signatures(info),
        info.ca.as_ref().map(ToString::to_string),
        store.display(&info.path),
    ])?;
    Ok(())
}

fn size(info: &ValidPathInfo) -> Option<i64> {
    i64::try_from(info.nar_size).ok().filter(|n| *n != 0)
}

fn signatures(info: &ValidPathInfo) -> Option<String> {
    let all: Vec<&str> = info.signatures.iter().map(String::as_str).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

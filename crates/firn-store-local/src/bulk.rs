//! Questions about many paths at once, each answered in one transaction.

use crate::query::{RawInfo, strings};
use crate::store::LocalStore;
use firn_core::{StorePath, ValidPathInfo};
use firn_store::{StoreError, StoreResult};
use rusqlite::{Connection, OptionalExtension};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl LocalStore {
    /// What is known of those of `paths` that are valid.
    pub fn path_infos(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, Arc<ValidPathInfo>>> {
        if self.lower().is_some() {
            let infos = paths.iter().map(|path| Ok((path.clone(), self.path_info(path)?)));
            let infos: Vec<_> = infos.collect::<StoreResult<_>>()?;
            return Ok(infos.into_iter().filter_map(|(path, info)| Some((path, Arc::new(info?)))).collect());
        }
        let rows = self.query(|c| {
            let txn = c.unchecked_transaction()?;
            let mut rows = Vec::with_capacity(paths.len());
            for path in paths {
                if let Some(row) = RawInfo::find(&txn, &self.display(path))? {
                    let references = strings(&txn, RawInfo::REFERENCES, [row.id()])?;
                    rows.push((path, row, references));
                }
            }
            Ok(rows)
        })?;
        let mut infos = BTreeMap::new();
        for (path, row, references) in rows {
            infos.insert(path.clone(), Arc::new(row.check(self, path, references)?));
        }
        Ok(infos)
    }

    /// The references of those of `paths` that are valid, as far as they are among `paths` themselves.
    pub fn references_among(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, BTreeSet<StorePath>>> {
        if self.lower().is_some() {
            let infos = self.path_infos(paths)?;
            return Ok(infos.into_iter().map(|(path, info)| (path, info.references.clone())).collect());
        }
        self.query(|c| {
            let txn = c.unchecked_transaction()?;
            let mut ids = Vec::with_capacity(paths.len());
            let mut by_id = FxHashMap::default();
            for path in paths {
                if let Some(id) = id_of(&txn, &self.display(path))? {
                    ids.push((path, id));
                    by_id.insert(id, path);
                }
            }
            let mut statement = txn.prepare_cached("select reference from Refs where referrer = ?")?;
            let mut graph = BTreeMap::new();
            for (path, id) in ids {
                let mut references = BTreeSet::new();
                let mut rows = statement.query([id])?;
                while let Some(row) = rows.next()? {
                    if let Some(reference) = by_id.get(&row.get(0)?) {
                        references.insert((*reference).clone());
                    }
                }
                graph.insert(path.clone(), references);
            }
            Ok(graph)
        })
    }

    /// Everything that can be reached from valid paths by references and, with `include_outputs`, from derivations to
    /// their valid outputs.
    pub fn closure_of(
        &self,
        start: &BTreeSet<StorePath>,
        include_outputs: bool,
    ) -> StoreResult<BTreeSet<StorePath>> {
        for path in start.iter().filter(|_| self.lower().is_some()) {
            // With a path comes its closure.
            self.is_valid(path)?;
        }
        let mut invalid = None;
        let texts = self.query(|c| {
            let txn = c.unchecked_transaction()?;
            let mut reached: FxHashMap<i64, String> = FxHashMap::default();
            let mut todo = Vec::new();
            for path in start {
                let text = self.display(path);
                match id_of(&txn, &text)? {
                    Some(id) => {
                        reached.insert(id, text);
                        todo.push(id);
                    }
                    None => {
                        invalid = Some(text);
                        return Ok(Vec::new());
                    }
                }
            }
            let mut references = txn.prepare_cached("select reference from Refs where referrer = ?")?;
            let mut outputs = txn.prepare_cached(
                "select v.id from DerivationOutputs d join ValidPaths v on v.path = d.path where d.drv = ?",
            )?;
            let mut name = txn.prepare_cached("select path from ValidPaths where id = ?")?;
            let mut next = Vec::new();
            while let Some(id) = todo.pop() {
                let mut rows = references.query([id])?;
                while let Some(row) = rows.next()? {
                    next.push(row.get::<_, i64>(0)?);
                }
                if include_outputs && reached.get(&id).is_some_and(|text| text.ends_with(".drv")) {
                    let mut rows = outputs.query([id])?;
                    while let Some(row) = rows.next()? {
                        next.push(row.get(0)?);
                    }
                }
                for id in next.drain(..) {
                    if let std::collections::hash_map::Entry::Vacant(slot) = reached.entry(id) {
                        slot.insert(name.query_row([id], |row| row.get(0))?);
                        todo.push(id);
                    }
                }
            }
            Ok(reached.into_values().collect())
        })?;
        match invalid {
            Some(path) => Err(StoreError::InvalidPath { path }),
            None => self.parse_all(texts),
        }
    }
}

fn id_of(c: &Connection, path: &str) -> rusqlite::Result<Option<i64>> {
    c.prepare_cached("select id from ValidPaths where path = ?")?
        .query_row([path], |row| row.get(0))
        .optional()
}

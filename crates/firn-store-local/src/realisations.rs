//! Realisations: which path an output of a content-addressed derivation stands for.

use crate::store::LocalStore;
use firn_core::{HashFormat, StorePath};
use firn_derivation::Derivation;
use firn_derivation::modulo::{HashModuloError, Mask};
use firn_store::{Realisation, StoreError, StoreResult};
use rusqlite::{OptionalExtension, params};
use std::collections::{BTreeMap, BTreeSet};

impl LocalStore {
    /// The realisation with that id (`sha256:<hash>!<output>`).
    pub fn realisation(&self, id: &str) -> StoreResult<Option<Realisation>> {
        let (hash, output) = split(id)?;
        if !self.inner.config.ca_derivations {
            return Ok(None);
        }
        let row: Option<(String, Option<String>)> = self.query(|c| {
            c.prepare_cached(
                "select o.path, r.signatures from Realisations r join ValidPaths o on o.id = r.outputPath \
                 where r.drvPath = ? and r.outputName = ?",
            )?
            .query_row([hash, output], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
        })?;
        let Some((path, signatures)) = row else {
            return self.lower().map_or(Ok(None), |lower| lower.realisation(id));
        };
        Ok(Some(Realisation {
            id: id.to_owned(),
            out_path: self.dir().parse(&path)?,
            signatures: signatures.iter().flat_map(|s| s.split_whitespace()).map(str::to_owned).collect(),
            dependent_realisations: BTreeMap::new(),
        }))
    }

    /// Notes a realisation, or adds its signatures to the one that is there. Another path for the same id is an
    /// error.
    pub fn add_realisation(&self, realisation: &Realisation) -> StoreResult<()> {
        if !self.inner.config.ca_derivations {
            return Err(StoreError::Other(
                "experimental Nix feature 'ca-derivations' is disabled; add '--extra-experimental-features \
                 ca-derivations' to enable it"
                    .into(),
            ));
        }
        let (hash, output) = split(&realisation.id)?;
        let join = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        if let Some(known) = self.realisation(&realisation.id)? {
            if known.out_path != realisation.out_path {
                return Err(StoreError::Other(format!(
                    "Trying to register a realisation of '{}', but we already have another one locally.\n\
                     Local:  {}\nRemote: {}",
                    realisation.id,
                    self.display(&known.out_path),
                    self.display(&realisation.out_path)
                )));
            }
            let all = known.signatures.union(&realisation.signatures).cloned().collect();
            return self.db()?.write(|txn| {
                txn.execute(
                    "update Realisations set signatures = ? where drvPath = ? and outputName = ?",
                    params![join(&all), hash, output],
                )?;
                Ok(())
            });
        }
        if !self.is_valid(&realisation.out_path)? {
            return Err(StoreError::InvalidPath { path: self.display(&realisation.out_path) });
        }
        self.db()?.write(|txn| {
            txn.execute(
                "insert into Realisations (drvPath, outputName, outputPath, signatures) \
                 values (?, ?, (select id from ValidPaths where path = ?), ?)",
                params![hash, output, self.display(&realisation.out_path), join(&realisation.signatures)],
            )?;
            Ok(())
        })
    }

    /// Paths of a derivation's outputs by its realisations.
    pub(crate) fn realised_outputs(
        &self,
        drv: &StorePath,
        derivation: &Derivation,
    ) -> StoreResult<BTreeMap<String, StorePath>> {
        let bad = |e: HashModuloError| {
            StoreError::Other(format!("derivation '{}' is not valid: {e}", self.display(drv)))
        };
        let hash = {
            let mut memo = self.inner.drv_hashes.lock();
            derivation.hash_modulo(self.dir(), Mask::Outputs, |input| {
                memo.compute(self.dir(), input, |p| self.parse_derivation_file(p).map_err(Either::Store))
            })
        };
        let hash = hash.map_err(|e| match e {
            Either::Store(e) => e,
            Either::Hash(e) => bad(e),
        })?;
        let mut outputs = BTreeMap::new();
        for name in derivation.outputs.keys() {
            let Some(hash) = hash.output(name) else { continue };
            let id = format!("{}!{name}", hash.to_prefixed(HashFormat::Base16));
            if let Some(known) = self.realisation(&id)? {
                outputs.insert(name.clone(), known.out_path);
            }
        }
        Ok(outputs)
    }
}

enum Either {
    Store(StoreError),
    Hash(HashModuloError),
}

impl From<HashModuloError> for Either {
    fn from(e: HashModuloError) -> Self {
        Either::Hash(e)
    }
}

fn split(id: &str) -> StoreResult<(&str, &str)> {
    id.split_once('!').ok_or_else(|| StoreError::Other(format!("Invalid derivation output id {id}")))
}

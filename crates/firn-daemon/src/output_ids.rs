//! The ids of outputs, as results name them: the hash of the derivation and the output's name.

use firn_core::{HashFormat, StoreDir, StorePath};
use firn_derivation::modulo::{Mask, ModuloMemo};
use firn_derivation::{Derivation, DrvHashModulo, HashModuloError};
use firn_store::{Store, StoreError, StoreResult};
use std::collections::{BTreeMap, BTreeSet};

/// Computes ids; remembers the hashes of derivations.
#[derive(Default)]
pub(crate) struct OutputIds {
    memo: ModuloMemo,
}

impl OutputIds {
    /// The ids of all outputs of a derivation, by name.
    pub async fn of(&mut self, store: &dyn Store, drv: &Derivation) -> StoreResult<BTreeMap<String, String>> {
        let mut known: BTreeMap<StorePath, Derivation> = BTreeMap::new();
        let mut work: Vec<StorePath> = drv.input_drvs.keys().cloned().collect();
        let mut seen: BTreeSet<StorePath> = work.iter().cloned().collect();
        while let Some(path) = work.pop() {
            if self.memo.get(&path).is_some() {
                continue;
            }
            let input = store.read_derivation(&path).await?;
            work.extend(input.input_drvs.keys().filter(|path| seen.insert((*path).clone())).cloned());
            known.insert(path, input);
        }
        self.memoise(store.store_dir(), known)?;
        let hash = self.hash(store.store_dir(), drv, Mask::Outputs)?;
        Ok(drv
            .outputs
            .keys()
            .filter_map(|name| {
                let digest = hash.output(name)?.to_prefixed(HashFormat::Base16);
                Some((name.clone(), format!("{digest}!{name}")))
            })
            .collect())
    }

    /// Hashes derivations whose inputs are hashed, until all are.
    fn memoise(&mut self, dir: &StoreDir, known: BTreeMap<StorePath, Derivation>) -> StoreResult<()> {
        let mut stack: Vec<(&StorePath, bool)> = known.keys().map(|path| (path, false)).collect();
        let mut open = BTreeSet::new();
        while let Some((path, entered)) = stack.pop() {
            if self.memo.get(path).is_some() {
                continue;
            }
            let drv = &known[path];
            if entered {
                let hash = self.hash(dir, drv, Mask::Nothing)?;
                self.memo.insert(path.clone(), hash);
                continue;
            }
            if !open.insert(path) {
                return Err(StoreError::Corrupt(format!("derivation '{path}' depends on itself")));
            }
            stack.push((path, true));
            let inputs = drv.input_drvs.keys().filter(|input| self.memo.get(input).is_none());
            stack.extend(inputs.filter_map(|input| Some((known.get_key_value(input)?.0, false))));
        }
        Ok(())
    }

    fn hash(&self, dir: &StoreDir, drv: &Derivation, mask: Mask) -> StoreResult<DrvHashModulo> {
        drv.hash_modulo(dir, mask, |path| {
            self.memo.get(path).cloned().ok_or_else(|| HashError(format!("no hash for derivation '{path}'")))
        })
        .map_err(|e: HashError| StoreError::Other(e.0))
    }
}

struct HashError(String);

impl From<HashModuloError> for HashError {
    fn from(error: HashModuloError) -> HashError {
        HashError(error.to_string())
    }
}

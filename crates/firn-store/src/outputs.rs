//! The outputs of derivations in any store: paths that are written in them, and those that realisations tell.

use crate::error::{StoreError, StoreResult};
use crate::traits::Store;
use firn_core::{HashFormat, StorePath};
use firn_derivation::Derivation;
use firn_derivation::modulo::{HashModuloError, Mask, ModuloMemo};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// The ids (`sha256:…!out`) under which realisations of a derivation's outputs are known. `store` has the derivation
/// and those that it depends on.
pub async fn output_ids(
    store: &dyn Store,
    path: &StorePath,
    derivation: &Derivation,
) -> StoreResult<BTreeMap<String, String>> {
    output_ids_with(store, path, derivation, &Mutex::default()).await
}

/// The same, with a memo of hashes for callers that ask for many.
pub async fn output_ids_with(
    store: &dyn Store,
    path: &StorePath,
    derivation: &Derivation,
    memo: &Mutex<ModuloMemo>,
) -> StoreResult<BTreeMap<String, String>> {
    // The hash wants all derivations below this one; they are read first, since it is not asynchronous.
    let mut below: BTreeMap<StorePath, Derivation> = BTreeMap::new();
    let mut todo: Vec<StorePath> = derivation.input_drvs.keys().cloned().collect();
    while let Some(next) = todo.pop() {
        if below.contains_key(&next) || memo.lock().get(&next).is_some() {
            continue;
        }
        let read = store.read_derivation(&next).await?;
        todo.extend(read.input_drvs.keys().cloned());
        below.insert(next, read);
    }
    let dir = store.store_dir();
    let mut memo = memo.lock();
    let hash = derivation.hash_modulo(dir, Mask::Outputs, |input| {
        memo.compute(dir, input, |p| match below.get(p) {
            Some(derivation) => Ok::<_, ModuloError>(derivation.clone()),
            None => Err(ModuloError::Missing(p.clone())),
        })
    });
    let hash = hash.map_err(|e| match e {
        ModuloError::Missing(path) => StoreError::InvalidPath { path: dir.display(&path) },
        ModuloError::Hash(e) => {
            StoreError::Other(format!("derivation '{}' is not valid: {e}", dir.display(path)))
        }
    })?;
    let id = |name: &String| {
        let hash = hash.output(name)?;
        Some((name.clone(), format!("{}!{name}", hash.to_prefixed(HashFormat::Base16))))
    };
    Ok(derivation.outputs.keys().filter_map(id).collect())
}

/// The outputs of a derivation that `store` has; `None` where a path is not known. Realisations are asked for only
/// with `realisations` (the feature `ca-derivations`).
pub async fn derivation_outputs(
    store: &dyn Store,
    path: &StorePath,
    realisations: bool,
) -> StoreResult<BTreeMap<String, Option<StorePath>>> {
    let derivation = store.read_derivation(path).await?;
    let mut outputs = derivation.output_paths(store.store_dir())?;
    if realisations && outputs.values().any(Option::is_none) {
        for (name, id) in output_ids(store, path, &derivation).await? {
            if let Some(slot @ None) = outputs.get_mut(&name) {
                *slot = store.query_realisation(&id).await?.map(|realisation| realisation.out_path);
            }
        }
    }
    Ok(outputs)
}

enum ModuloError {
    Missing(StorePath),
    Hash(HashModuloError),
}

impl From<HashModuloError> for ModuloError {
    fn from(e: HashModuloError) -> Self {
        ModuloError::Hash(e)
    }
}

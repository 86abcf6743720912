//! The outputs of derivations in any store: paths that are written in them, and those that realisations tell.

use crate::error::{StoreError, StoreResult};
use crate::traits::{LogStore, Store};
use firn_core::{HashFormat, SingleDerivedPath, StorePath};
use firn_derivation::modulo::{HashModuloError, Mask, ModuloMemo};
use firn_derivation::{Derivation, DerivationType, InputNode};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// The derivation that `path` is built as: with the outputs of the derivations that it depends on in their place. Nothing
/// if it is built as it is, or what it depends on is not known.
pub async fn resolved_derivation(store: &dyn Store, path: &StorePath) -> StoreResult<Option<StorePath>> {
    if !path.is_derivation() || !store.is_valid_path(path).await? {
        return Ok(None);
    }
    let derivation = store.read_derivation(path).await?;
    let fixed = derivation.derivation_type().is_ok_and(DerivationType::is_fixed);
    if !derivation.should_resolve() && (!fixed || derivation.input_drvs.is_empty()) {
        return Ok(None);
    }
    // Outputs that are derivations themselves come before their own outputs.
    let mut known: BTreeMap<(SingleDerivedPath, String), StorePath> = BTreeMap::new();
    let mut todo: Vec<(Arc<SingleDerivedPath>, StorePath, &InputNode)> = derivation
        .input_drvs
        .iter()
        .map(|(input, node)| (Arc::new(SingleDerivedPath::Opaque(input.clone())), input.clone(), node))
        .collect();
    while let Some((named, drv, node)) = todo.pop() {
        if !store.is_valid_path(&drv).await? {
            return Ok(None);
        }
        let outputs = store.query_derivation_outputs(&drv).await?;
        for output in node.outputs.iter().chain(node.dynamic.keys()) {
            let Some(Some(made)) = outputs.get(output) else { return Ok(None) };
            known.insert(((*named).clone(), output.clone()), made.clone());
        }
        for (output, child) in &node.dynamic {
            let Some(Some(made)) = outputs.get(output) else { return Ok(None) };
            let built = SingleDerivedPath::Built { drv: Arc::clone(&named), output: output.clone() };
            todo.push((Arc::new(built), made.clone(), child));
        }
    }
    let dir = store.store_dir();
    let resolved = derivation
        .resolve(dir, |input, output| known.get(&(input.clone(), output.to_owned())).cloned())
        .map_err(|error| StoreError::Other(error.to_string()))?;
    Ok(resolved.map(|resolved| resolved.store_path(dir)).transpose()?.map(|(path, _)| path))
}

/// The log of the build of `path`, from `logs`, which are those of `store`; with `resolve` (the feature `ca-derivations`)
/// also where it was built as the derivation that it resolves to.
pub async fn build_log(
    store: &dyn Store,
    logs: &dyn LogStore,
    path: &StorePath,
    resolve: bool,
) -> StoreResult<Option<Vec<u8>>> {
    if let Some(log) = logs.build_log(path).await? {
        return Ok(Some(log));
    }
    if !resolve {
        return Ok(None);
    }
    match resolved_derivation(store, path).await? {
        Some(resolved) => logs.build_log(&resolved).await,
        None => Ok(None),
    }
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

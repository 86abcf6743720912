//! Realisations: what outputs of content-addressed derivations turned out to be, remembered and looked up.

use crate::run::Run;
use crate::scheduler::Scheduler;
use firn_core::StorePath;
use firn_derivation::Derivation;
use firn_store::{Realisation, StoreResult};
use std::collections::BTreeMap;

impl Run<'_> {
    /// Notes what the outputs of a derivation are, where that is not known yet.
    pub(crate) async fn remember(
        &self,
        drv_path: &StorePath,
        drv: &Derivation,
        outputs: &BTreeMap<String, StorePath>,
    ) -> StoreResult<()> {
        remember(self.scheduler, drv_path, drv, outputs).await
    }
}

async fn remember(
    scheduler: &Scheduler,
    drv_path: &StorePath,
    drv: &Derivation,
    outputs: &BTreeMap<String, StorePath>,
) -> StoreResult<()> {
    if !scheduler.config.ca_derivations || drv.derivation_type().is_ok_and(|kind| kind.is_impure()) {
        return Ok(());
    }
    let store = &*scheduler.store;
    let derivations = scheduler.store_of(drv_path).await?;
    let ids =
        firn_store::outputs::output_ids_with(&**derivations, drv_path, drv, &scheduler.drv_hashes).await?;
    for (name, id) in ids {
        let Some(path) = outputs.get(&name) else { continue };
        if store.query_realisation(&id).await?.is_some_and(|known| known.out_path == *path) {
            continue;
        }
        let mut realisation = Realisation::new(id, path.clone());
        let fingerprint = realisation.fingerprint();
        for key in &scheduler.config.secret_keys {
            realisation.signatures.insert(key.sign(fingerprint.as_bytes()));
        }
        store.register_realisation(&realisation, false).await?;
    }
    Ok(())
}

/// The outputs of a resolved derivation that are valid already, if all that are wanted are.
pub(crate) async fn known_outputs(
    scheduler: &Scheduler,
    drv_path: &StorePath,
    drv: &Derivation,
    wanted: impl Fn(&str) -> bool,
) -> StoreResult<Option<BTreeMap<String, StorePath>>> {
    let store = &*scheduler.store;
    let mut outputs = BTreeMap::new();
    for (name, id) in firn_store::outputs::output_ids(store, drv_path, drv).await? {
        match store.query_realisation(&id).await? {
            Some(known) if store.is_valid_path(&known.out_path).await? => {
                outputs.insert(name, known.out_path);
            }
            _ if wanted(&name) => return Ok(None),
            _ => {}
        }
    }
    Ok(Some(outputs))
}

//! Copying objects from one store to another.

use crate::closure::topo_sort_paths;
use crate::error::{StoreError, StoreResult};
use crate::traits::Store;
use firn_core::StorePath;
use std::collections::BTreeSet;

/// How much of an archive is on its way between the stores, in bytes.
const IN_FLIGHT: usize = 1 << 20;

/// Copies those of `paths` that `to` lacks, each after what it refers to. Returns the paths that were copied.
/// `paths` should be closed under references: an object whose references `to` does not have is refused by it.
pub async fn copy_paths(
    from: &dyn Store,
    to: &dyn Store,
    paths: &BTreeSet<StorePath>,
    check_signatures: bool,
    mut before: impl FnMut(&StorePath),
) -> StoreResult<Vec<StorePath>> {
    if from.store_dir() != to.store_dir() {
        return Err(StoreError::Other(format!(
            "cannot copy from store '{}' to store '{}': their store directories are '{}' and '{}'",
            from.uri(),
            to.uri(),
            from.store_dir(),
            to.store_dir()
        )));
    }
    let present = to.query_valid_paths(paths).await?;
    let missing: BTreeSet<StorePath> = paths.difference(&present).cloned().collect();
    let mut order = topo_sort_paths(from, &missing).await?;
    // Sorted so that users of a path come before it; they are copied after it.
    order.reverse();
    for path in &order {
        before(path);
        to.add_temp_root(path).await?;
        let info = from
            .query_path_info(path)
            .await?
            .ok_or_else(|| StoreError::InvalidPath { path: from.store_dir().display(path) })?;
        let mut info = (*info).clone();
        // That it was built there says nothing here.
        info.ultimate = false;
        let (mut reader, mut writer) = tokio::io::duplex(IN_FLIGHT);
        let read = async {
            let result = from.nar_from_path(path, &mut writer).await;
            drop(writer);
            result
        };
        let write = to.add_nar(&info, &mut reader, false, check_signatures);
        let (sent, added) = tokio::join!(read, write);
        // What the source says is the cause of what the other side saw.
        sent?;
        added?;
    }
    Ok(order)
}

//! `local-nar-cache`: archives that were fetched to look into them, kept on this machine.

use firn_core::{HashFormat, NarInfo};
use firn_store::{StoreError, StoreResult};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The file that an archive has, or would have.
fn place(dir: &Path, info: &NarInfo) -> PathBuf {
    dir.join(format!("{}.nar", info.info.nar_hash.to_base(HashFormat::Nix32)))
}

/// An archive that was kept.
pub(crate) fn find(dir: &Path, info: &NarInfo) -> Option<File> {
    let file = File::open(place(dir, info)).ok()?;
    (file.metadata().ok()?.len() == info.info.nar_size).then_some(file)
}

/// Keeps an archive, and its listing beside it.
pub(crate) fn keep(
    dir: &Path,
    info: &NarInfo,
    file: tempfile::NamedTempFile,
    listing: &firn_nar::listing::Listing,
) -> StoreResult<()> {
    let target = place(dir, info);
    file.persist(&target).map_err(|e| StoreError::io("renaming to", &target)(e.error))?;
    let text = crate::listing::to_json(listing).to_string();
    let path = target.with_extension("ls");
    std::fs::write(&path, text).map_err(StoreError::io("writing", path))
}

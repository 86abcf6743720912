//! `local-nar-cache`: archives that were fetched to look into them, kept on this machine.

use firn_core::{HashAlgo, HashFormat, NarInfo};
use firn_nar::listing::Listing;
use firn_nar::{HashReader, NarError, NarReader};
use firn_store::{NarSink, Store, StoreError, StoreResult};
use std::fs::File;
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;

/// The file that an archive has, or would have.
fn place(dir: &Path, info: &NarInfo) -> PathBuf {
    dir.join(format!("{}.nar", info.info.nar_hash.to_base(HashFormat::Nix32)))
}

/// Writes an archive to `sink`, from `dir` if it is there, and keeps it there if it is not.
pub(crate) async fn pass(
    store: &dyn Store,
    dir: &Path,
    info: &NarInfo,
    sink: NarSink<'_>,
) -> StoreResult<()> {
    let target = place(dir, info);
    let kept = File::open(&target)
        .ok()
        .filter(|file| file.metadata().is_ok_and(|metadata| metadata.len() == info.info.nar_size));
    let file = match kept {
        Some(file) => file,
        None => fetch(store, dir, info, &target).await?,
    };
    let mut file = tokio::fs::File::from_std(file);
    tokio::io::copy(&mut file, sink).await.map_err(NarError::Write)?;
    Ok(())
}

async fn fetch(store: &dyn Store, dir: &Path, info: &NarInfo, target: &Path) -> StoreResult<File> {
    std::fs::create_dir_all(dir).map_err(StoreError::io("creating directory", dir))?;
    let file =
        tempfile::NamedTempFile::new_in(dir).map_err(StoreError::io("creating temporary file in", dir))?;
    let failed = |e| StoreError::io("writing", target)(e);
    let mut out = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
    store.nar_from_path(&info.info.path, &mut out).await?;
    out.flush().await.map_err(failed)?;
    drop(out);
    let reader = HashReader::new(file.reopen().map_err(failed)?, HashAlgo::Sha256);
    let mut archive = NarReader::new(reader);
    let listing = Listing::read(&mut archive)?;
    let (hash, _) = archive.into_inner().finish();
    if hash != info.info.nar_hash {
        return Err(StoreError::HashMismatch {
            path: store.store_dir().display(&info.info.path),
            expected: info.info.nar_hash.to_prefixed(HashFormat::Nix32),
            got: hash.to_prefixed(HashFormat::Nix32),
        });
    }
    let kept = file.persist(target).map_err(|e| StoreError::io("renaming to", target)(e.error))?;
    let path = target.with_extension("ls");
    let text = crate::listing::to_json(&listing).to_string();
    std::fs::write(&path, text).map_err(StoreError::io("writing", path))?;
    let reopened = File::open(target).map_err(failed);
    drop(kept);
    reopened
}

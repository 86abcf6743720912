//! Files on this machine as store objects that are not made: which path they would have.

use crate::error::{StoreError, StoreResult};
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, Hasher, StoreDir, StorePath};
use firn_nar::fs::{DumpOptions, dump_path};
use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The path that a file or tree would have in a store, and its content address. With `keep`, only those files below
/// `path` count.
pub fn path_of_source(
    dir: &StoreDir,
    name: &str,
    path: &Path,
    method: CaMethod,
    algo: HashAlgo,
    keep: Option<&HashSet<PathBuf>>,
    undo_case_hack: bool,
) -> StoreResult<(StorePath, ContentAddress)> {
    let hash = match method {
        CaMethod::NixArchive | CaMethod::Git => {
            let mut filter =
                |file: &Path, _: firn_nar::fs::FileKind| Ok(keep.is_none_or(|k| k.contains(file)));
            let options = DumpOptions { undo_case_hack, filter: Some(&mut filter) };
            match method {
                CaMethod::Git => firn_nar::git::hash_path(path, algo, options)?,
                _ => dump_path(path, Hasher::new(algo), options)?.finish(),
            }
        }
        CaMethod::Flat | CaMethod::Text => hash_file(path, algo)?,
    };
    let ca = ContentAddress { method, hash };
    let store_path = dir.make_fixed_output_path(&ca, name, &References::default())?;
    Ok((store_path, ca))
}

fn hash_file(path: &Path, algo: HashAlgo) -> StoreResult<Hash> {
    let mut file = std::fs::File::open(path).map_err(StoreError::io("opening file", path))?;
    let mut hasher = Hasher::new(algo);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(StoreError::io("reading file", path))? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

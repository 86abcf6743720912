//! Build logs of stores whose log directory is on this machine: the protocols cannot ask for them.

use bzip2::read::MultiBzDecoder;
use firn_core::StorePath;
use firn_store::{StoreError, StoreResult};
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The log of a derivation: `drvs/<two characters>/<rest>`, plain or with `.bz2`.
pub(crate) fn read(log_dir: &Path, drv: &StorePath) -> StoreResult<Option<Vec<u8>>> {
    let base = drv.base_name();
    let plain = log_dir.join("drvs").join(&base[..2]).join(&base[2..]);
    match std::fs::read(&plain) {
        Ok(log) => return Ok(Some(log)),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(StoreError::io("reading", plain)(e)),
    }
    let mut name = plain.into_os_string();
    name.push(".bz2");
    let compressed = std::path::PathBuf::from(name);
    match std::fs::File::open(&compressed) {
        Ok(file) => {
            let mut log = Vec::new();
            MultiBzDecoder::new(file)
                .read_to_end(&mut log)
                .map_err(StoreError::io("decompressing", compressed))?;
            Ok(Some(log))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::io("reading", compressed)(e)),
    }
}

//! Build logs: `drvs/<two characters>/<rest>.bz2` below the log directory, plain where compression is off.

use crate::store::LocalStore;
use bzip2::read::MultiBzDecoder;
use bzip2::write::BzEncoder;
use firn_core::StorePath;
use firn_store::{StoreError, StoreResult};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

impl LocalStore {
    /// The log of a derivation, or of the deriver of an output, decompressed.
    pub fn read_build_log(&self, path: &StorePath) -> StoreResult<Option<Vec<u8>>> {
        let drv = match path.is_derivation() {
            true => path.clone(),
            false => match self.path_info(path)?.and_then(|info| info.deriver) {
                Some(deriver) => deriver,
                None => return Ok(None),
            },
        };
        let base = drv.base_name();
        let drvs = self.inner.config.log_dir.join("drvs");
        // The second place is where very old versions put logs.
        for plain in [drvs.join(&base[..2]).join(&base[2..]), drvs.join(base)] {
            let compressed = with_suffix(&plain, ".bz2");
            match std::fs::read(&plain) {
                Ok(log) => return Ok(Some(log)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::io("reading", plain)(e)),
            }
            match std::fs::File::open(&compressed) {
                Ok(file) => {
                    let mut log = Vec::new();
                    MultiBzDecoder::new(file)
                        .read_to_end(&mut log)
                        .map_err(StoreError::io("decompressing", compressed))?;
                    return Ok(Some(log));
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::io("reading", compressed)(e)),
            }
        }
        Ok(None)
    }

    /// Where the log of a derivation is written, with its folder made; the flag says whether to compress it.
    pub fn new_log_path(&self, drv: &StorePath) -> StoreResult<(PathBuf, bool)> {
        let base = drv.base_name();
        let dir = self.inner.config.log_dir.join("drvs").join(&base[..2]);
        crate::layout::make_dirs(&dir)?;
        let compress = self.inner.config.compress_build_log;
        Ok((dir.join(format!("{}{}", &base[2..], if compress { ".bz2" } else { "" })), compress))
    }

    /// Keeps a log that was made elsewhere; one that is there already stays.
    pub fn write_build_log(&self, drv: &StorePath, log: &[u8]) -> StoreResult<()> {
        if !drv.is_derivation() {
            return Err(StoreError::Other(format!("path '{}' is not a derivation", self.display(drv))));
        }
        let (path, compress) = self.new_log_path(drv)?;
        if path.exists() {
            return Ok(());
        }
        let temporary = with_suffix(&path, &format!(".tmp.{}", std::process::id()));
        let write = || {
            let mut file = std::fs::File::create(&temporary)?;
            match compress {
                true => {
                    let mut encoder = BzEncoder::new(file, bzip2::Compression::best());
                    encoder.write_all(log)?;
                    encoder.finish()?;
                }
                false => file.write_all(log)?,
            }
            std::fs::rename(&temporary, &path)
        };
        write().map_err(StoreError::io("writing", &path))
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    PathBuf::from(text)
}

//! Which path something added has, worked out on this side, for stores that take archives with facts only.

use crate::upload::open_source;
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, HashAlgo, Hasher, StoreDir, StorePath, ValidPathInfo};
use firn_store::{AddSource, StoreError, StoreResult, regular_file_of_archive};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use tokio::io::AsyncReadExt;

/// What is added, apart from its bytes.
pub(crate) struct Addition<'a> {
    pub name: &'a str,
    pub method: CaMethod,
    pub algo: HashAlgo,
    pub references: &'a BTreeSet<StorePath>,
}

/// Flat files up to this size can be added so, in bytes.
const MAX_FLAT: u64 = 1 << 30;

impl Addition<'_> {
    /// The facts, and the archive in a file that has no name.
    pub async fn prepare(&self, dir: &StoreDir, source: AddSource<'_>) -> StoreResult<(ValidPathInfo, File)> {
        if self.method == CaMethod::Git {
            return Err(StoreError::Other(
                "adding by git's object hash is not possible through 'ssh://'".into(),
            ));
        }
        let spool = |e| StoreError::io("writing", std::env::temp_dir())(e);
        let mut file = tempfile::tempfile().map_err(spool)?;
        let mut nar_hasher = Hasher::new(HashAlgo::Sha256);
        let mut ca_hasher = Hasher::new(self.algo);
        let mut nar_size = 0;
        let mut bytes = open_source(source, CaMethod::NixArchive)?;
        let reader = bytes.reader();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let n = reader.read(&mut buffer).await.map_err(crate::connection::read_error)?;
            if n == 0 {
                break;
            }
            nar_hasher.update(&buffer[..n]);
            ca_hasher.update(&buffer[..n]);
            nar_size += n as u64;
            file.write_all(&buffer[..n]).map_err(spool)?;
        }
        file.seek(SeekFrom::Start(0)).map_err(spool)?;
        let hash = match self.method {
            CaMethod::NixArchive => ca_hasher.finish(),
            _ if nar_size > MAX_FLAT => {
                return Err(StoreError::Other("the file is too large to be added through 'ssh://'".into()));
            }
            _ => {
                let mut archive = Vec::new();
                file.read_to_end(&mut archive).map_err(spool)?;
                file.seek(SeekFrom::Start(0)).map_err(spool)?;
                let mut hasher = Hasher::new(self.algo);
                hasher.update(&regular_file_of_archive(&archive)?);
                hasher.finish()
            }
        };
        let ca = ContentAddress { method: self.method, hash };
        let references = References { others: self.references.clone(), self_reference: false };
        let path = dir.make_fixed_output_path(&ca, self.name, &references)?;
        let mut info = ValidPathInfo::new(path, nar_hasher.finish(), nar_size);
        info.references = self.references.clone();
        info.ca = Some(ca);
        Ok((info, file))
    }
}

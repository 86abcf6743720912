//! Looking into objects of stores whose files are not on this machine: the archive waits in a temporary file, with a
//! table of what is where in it.

use crate::error::{StoreError, StoreResult};
use crate::traits::Store;
use firn_core::{Hash, HashAlgo, StorePath};
use firn_nar::listing::Listing;
use firn_nar::{HashReader, NarReader};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use tokio::io::AsyncWriteExt;

/// An archive in a file.
pub struct OpenArchive {
    pub listing: Listing,
    file: File,
}

impl OpenArchive {
    /// Reads the table of an archive.
    pub fn read(mut file: File) -> StoreResult<OpenArchive> {
        let failed = |e| StoreError::io("reading", "an archive")(e);
        file.rewind().map_err(failed)?;
        let listing = Listing::read(&mut NarReader::new(BufReader::with_capacity(1 << 16, &mut file)))?;
        Ok(OpenArchive { listing, file })
    }

    /// Copies the contents of a regular file of the archive.
    pub fn copy(&mut self, offset: u64, size: u64, out: &mut dyn Write) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        let copied = io::copy(&mut (&mut self.file).take(size), out)?;
        match copied == size {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// An archive that was just fetched.
pub struct Spooled {
    pub file: tempfile::NamedTempFile,
    /// SHA-256 of the archive.
    pub hash: Hash,
}

impl Spooled {
    pub fn open(self) -> StoreResult<OpenArchive> {
        OpenArchive::read(self.file.into_file())
    }
}

/// Fetches the archive of a valid path into a temporary file, in `dir` or the system's place.
pub async fn spool<S: Store + ?Sized>(
    store: &S,
    path: &StorePath,
    dir: Option<&Path>,
) -> StoreResult<Spooled> {
    let made = match dir {
        Some(dir) => tempfile::NamedTempFile::new_in(dir),
        None => tempfile::NamedTempFile::new(),
    };
    let file = made.map_err(StoreError::io("creating temporary file in", dir.unwrap_or(Path::new("/tmp"))))?;
    let failed = |e| StoreError::io("writing", file.path())(e);
    let mut out = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
    store.nar_from_path(path, &mut out).await?;
    out.flush().await.map_err(failed)?;
    drop(out);
    let mut hashing = HashReader::new(file.reopen().map_err(failed)?, HashAlgo::Sha256);
    io::copy(&mut hashing, &mut io::sink()).map_err(failed)?;
    let (hash, _) = hashing.finish();
    Ok(Spooled { file, hash })
}

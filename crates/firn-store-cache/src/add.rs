//! Archives on their way into a cache: parsed for the listing, hashed and compressed in one pass into a temporary file,
//! then uploaded.

use crate::config::CacheConfig;
use bytes::Bytes;
use firn_archive::{Encoder, EncoderOptions};
use firn_core::{Hash, HashAlgo, Hasher};
use firn_http::pipe::{self, PipeReader};
use firn_nar::NarReader;
use firn_nar::listing::Listing;
use firn_store::{NarSource, StoreError, StoreResult};
use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use tokio::io::AsyncReadExt;

/// Bytes of an archive that may be under way.
const IN_FLIGHT: usize = 2 << 20;

/// An archive that waits to be uploaded.
pub(crate) struct Packed {
    pub file: tempfile::NamedTempFile,
    pub file_hash: Hash,
    pub file_size: u64,
    pub nar_hash: Hash,
    pub nar_size: u64,
    pub listing: Listing,
}

/// Reads one archive from `source` and compresses it into a file in `staging`.
pub(crate) async fn pack(
    config: &CacheConfig,
    staging: Option<&Path>,
    source: NarSource<'_>,
) -> StoreResult<Packed> {
    let (sender, reader) = pipe::pipe(IN_FLIGHT);
    let (method, level, threads) = (config.compression, config.compression_level, config.threads());
    let staging = staging.map(Path::to_owned);
    let work = tokio::task::spawn_blocking(move || {
        let file = match &staging {
            Some(dir) => {
                let failed = StoreError::io("creating temporary file in", dir);
                tempfile::Builder::new().prefix(".tmp-").tempfile_in(dir).map_err(failed)?
            }
            None => tempfile::NamedTempFile::new()
                .map_err(|e| StoreError::io("creating temporary file in", std::env::temp_dir())(e))?,
        };
        pack_blocking(reader, file, |out| {
            firn_archive::encoder(method, EncoderOptions { level, threads }, out)
                .map_err(|e| StoreError::Other(e.to_string()))
        })
    });
    let feed = async move {
        loop {
            let mut piece = Vec::with_capacity(pipe::PIECE);
            // Full pieces cost the least on the other side.
            while piece.len() < pipe::PIECE {
                if (&mut *source).take((pipe::PIECE - piece.len()) as u64).read_buf(&mut piece).await? == 0 {
                    break;
                }
            }
            let last = piece.len() < pipe::PIECE;
            if (!piece.is_empty() && sender.send(Ok(Bytes::from(piece))).await.is_err()) || last {
                return Ok::<(), io::Error>(());
            }
        }
    };
    let (packed, fed) = tokio::join!(work, feed);
    if let Err(error) = fed {
        return Err(firn_nar::NarError::read(error).into());
    }
    packed.unwrap_or_else(|e| Err(StoreError::Other(e.to_string())))
}

fn pack_blocking<'a>(
    reader: PipeReader,
    file: tempfile::NamedTempFile,
    encoder: impl FnOnce(HashingFile) -> StoreResult<Box<dyn Encoder + 'a>>,
) -> StoreResult<Packed> {
    let path = file.path().to_owned();
    let failed = |e: io::Error| StoreError::io("writing", &path)(e);
    let handle = file.reopen().map_err(failed)?;
    let hash = std::sync::Arc::new(parking_lot::Mutex::new((Hasher::new(HashAlgo::Sha256), 0)));
    let out = HashingFile { file: handle, hash: std::sync::Arc::clone(&hash) };
    let mut encoder = encoder(out)?;
    // Hashing what comes in is as much work as compressing it quickly; it has a thread of its own.
    let (pieces, hashed) = std::sync::mpsc::sync_channel::<Bytes>(8);
    let hasher = std::thread::spawn(move || {
        let mut hasher = Hasher::new(HashAlgo::Sha256);
        let mut size = 0;
        for piece in hashed {
            hasher.update(&piece);
            size += piece.len() as u64;
        }
        (hasher.finish(), size)
    });
    let mut tee = Tee { reader, piece: Bytes::new(), at: 0, encoder: &mut *encoder, pieces: Some(pieces) };
    let listing = {
        let mut nar = NarReader::new(&mut tee);
        Listing::read(&mut nar)?
    };
    tee.pass_consumed().map_err(failed)?;
    tee.pieces = None;
    encoder.finish().map_err(failed)?;
    let (nar_hash, nar_size) =
        hasher.join().map_err(|_| StoreError::Other("hashing an archive failed".into()))?;
    let (file_hash, file_size) = {
        let state = hash.lock();
        (state.0.clone().finish(), state.1)
    };
    Ok(Packed { file, file_hash, file_size, nar_hash, nar_size, listing })
}

/// Passes what its reader consumes to the encoder and the hasher, in pieces as large as they came.
struct Tee<'a> {
    reader: PipeReader,
    piece: Bytes,
    /// What of the piece was consumed.
    at: usize,
    encoder: &'a mut dyn Write,
    pieces: Option<std::sync::mpsc::SyncSender<Bytes>>,
}

impl Tee<'_> {
    fn pass_consumed(&mut self) -> io::Result<()> {
        let done = self.piece.split_to(self.at);
        self.at = 0;
        if done.is_empty() {
            return Ok(());
        }
        if let Some(pieces) = &self.pieces {
            pieces.send(done.clone()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        self.encoder.write_all(&done)
    }
}

impl BufRead for Tee<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            self.pass_consumed()?;
            let n = self.reader.fill_buf()?.len();
            self.piece = self.reader.take_piece();
            debug_assert_eq!(n, self.piece.len());
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at = (self.at + n).min(self.piece.len());
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(out.len());
        out[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Writes a file and hashes what is written.
struct HashingFile {
    file: std::fs::File,
    hash: std::sync::Arc<parking_lot::Mutex<(Hasher, u64)>>,
}

impl Write for HashingFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.file.write(data)?;
        let mut state = self.hash.lock();
        state.0.update(&data[..n]);
        state.1 += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

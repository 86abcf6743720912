//! The stream of `nix-store --export` and `--import`: archives with the facts that make them valid elsewhere.

use crate::closure::topo_sort_paths;
use crate::error::{StoreError, StoreResult};
use crate::traits::{NarSink, Store};
use firn_core::{Hash, HashAlgo, HashFormat, Hasher, StoreDir, StorePath, ValidPathInfo};
use firn_nar::{HashReader, NarReader};
use std::collections::BTreeSet;
use std::io::{self, BufRead, Read, Seek, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Stands behind each archive.
const MAGIC: u64 = 0x4558_494e;
/// Archives larger than this wait on disk for their facts, which come behind them.
const SPOOL: usize = 32 * 1024 * 1024;
/// Longest string and greatest number of references that is believed.
const MAX_STRING: u64 = 4096;
const MAX_REFERENCES: u64 = 1 << 20;

/// Writes paths, those referred to first. References outside of `paths` must be valid where they are imported.
pub async fn export_paths(
    store: &dyn Store,
    paths: &BTreeSet<StorePath>,
    sink: NarSink<'_>,
) -> StoreResult<()> {
    let mut sorted = topo_sort_paths(store, paths).await?;
    sorted.reverse();
    for path in sorted {
        write(sink, &1u64.to_le_bytes()).await?;
        export_path(store, &path, sink).await?;
    }
    write(sink, &0u64.to_le_bytes()).await?;
    sink.flush().await.map_err(write_error)
}

async fn export_path(store: &dyn Store, path: &StorePath, sink: NarSink<'_>) -> StoreResult<()> {
    let dir = store.store_dir();
    let info = store
        .query_path_info(path)
        .await?
        .ok_or_else(|| StoreError::InvalidPath { path: dir.display(path) })?;
    let mut tee = HashingWriter { out: &mut *sink, hasher: Hasher::new(HashAlgo::Sha256) };
    store.nar_from_path(path, &mut tee).await?;
    let hash = tee.hasher.finish();
    // A path that changed must not spread.
    if hash != info.nar_hash && info.nar_hash != Hash::dummy() {
        return Err(StoreError::Corrupt(format!(
            "hash of path '{}' has changed from '{}' to '{}'!",
            dir.display(path),
            info.nar_hash.to_prefixed(HashFormat::Nix32),
            hash.to_prefixed(HashFormat::Nix32)
        )));
    }
    let mut facts = Vec::new();
    facts.extend(MAGIC.to_le_bytes());
    string(&mut facts, &dir.display(path));
    facts.extend((info.references.len() as u64).to_le_bytes());
    for reference in &info.references {
        string(&mut facts, &dir.display(reference));
    }
    string(&mut facts, &info.deriver.as_ref().map(|d| dir.display(d)).unwrap_or_default());
    // Once a signature could follow.
    facts.extend(0u64.to_le_bytes());
    write(sink, &facts).await
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
    out.resize(out.len() + firn_nar::padding(text.len() as u64), 0);
}

async fn write(sink: NarSink<'_>, bytes: &[u8]) -> StoreResult<()> {
    sink.write_all(bytes).await.map_err(write_error)
}

fn write_error(e: io::Error) -> StoreError {
    StoreError::Nar(firn_nar::NarError::Write(e))
}

/// Reads such a stream into a store; returns the paths in the order of the stream.
pub async fn import_paths(
    store: &dyn Store,
    input: &mut (dyn BufRead + Send),
    check_signatures: bool,
) -> StoreResult<Vec<StorePath>> {
    let mut imported = Vec::new();
    while let Some((info, nar)) = read_entry(store.store_dir(), input)? {
        store.add_nar(&info, &mut BlockingReader(nar), false, check_signatures).await?;
        imported.push(info.path);
    }
    Ok(imported)
}

/// Reads one archive and its facts; `None` at the end mark.
fn read_entry(
    dir: &StoreDir,
    input: &mut dyn BufRead,
) -> StoreResult<Option<(ValidPathInfo, tempfile::SpooledTempFile)>> {
    match word(input)? {
        0 => return Ok(None),
        1 => {}
        _ => {
            let text = "input doesn't look like something created by 'nix-store --export'";
            return Err(StoreError::Other(text.into()));
        }
    }
    let mut spool = tempfile::SpooledTempFile::new(SPOOL);
    let mut reader = NarReader::new(Tee { input: &mut *input, spool: &mut spool, failed: None });
    reader.skip_to_end()?;
    if let Some(error) = reader.into_inner().failed {
        return Err(StoreError::Other(format!("keeping an imported archive: {error}")));
    }
    if word(input)? != MAGIC {
        return Err(StoreError::Other("Nix archive cannot be imported; wrong format".into()));
    }
    let path = dir.parse(&read_string(input)?)?;
    let mut references = BTreeSet::new();
    let count = word(input)?;
    if count > MAX_REFERENCES {
        return Err(StoreError::Other(format!("path '{path}' claims {count} references")));
    }
    for _ in 0..count {
        references.insert(dir.parse(&read_string(input)?)?);
    }
    let deriver = read_string(input)?;
    if word(input)? == 1 {
        read_string(input)?;
    }
    let spool_error = |e| StoreError::Other(format!("keeping an imported archive: {e}"));
    spool.rewind().map_err(spool_error)?;
    let mut hashing = HashReader::new(&mut spool, HashAlgo::Sha256);
    io::copy(&mut hashing, &mut io::sink()).map_err(spool_error)?;
    let (hash, size) = hashing.finish();
    spool.rewind().map_err(spool_error)?;
    let mut info = ValidPathInfo::new(path, hash, size);
    info.references = references;
    if !deriver.is_empty() {
        info.deriver = Some(dir.parse(&deriver)?);
    }
    Ok(Some((info, spool)))
}

fn word(input: &mut dyn BufRead) -> StoreResult<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes).map_err(firn_nar::NarError::read)?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_string(input: &mut dyn BufRead) -> StoreResult<String> {
    let len = word(input)?;
    if len > MAX_STRING {
        return Err(StoreError::Other("string is too long".into()));
    }
    let mut bytes = vec![0; len as usize + firn_nar::padding(len)];
    input.read_exact(&mut bytes).map_err(firn_nar::NarError::read)?;
    bytes.truncate(len as usize);
    String::from_utf8(bytes).map_err(|_| StoreError::Other("a store path in the stream is not text".into()))
}

/// Copies what is consumed to the spool.
struct Tee<'a> {
    input: &'a mut dyn BufRead,
    spool: &'a mut tempfile::SpooledTempFile,
    /// `BufRead::consume` cannot fail, so its error waits here.
    failed: Option<io::Error>,
}

impl Read for Tee<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(out)?;
        self.spool.write_all(&out[..n])?;
        Ok(n)
    }
}

impl BufRead for Tee<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        // The buffer is there already, so this reads nothing.
        let copied = match self.input.fill_buf() {
            Ok(buffer) => self.spool.write_all(&buffer[..n.min(buffer.len())]),
            Err(error) => Err(error),
        };
        if let Err(error) = copied {
            self.failed.get_or_insert(error);
        }
        self.input.consume(n);
    }
}

/// A reader that blocks, as an asynchronous one: for memory and files on this machine.
pub struct BlockingReader<R>(pub R);

impl<R: Read + Unpin> AsyncRead for BlockingReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = self.0.read(out.initialize_unfilled())?;
        out.advance(n);
        Poll::Ready(Ok(()))
    }
}

/// A writer that blocks, as an asynchronous one: for standard output, files and buffers on this machine.
pub struct BlockingWriter<W>(pub W);

impl<W: Write + Unpin> AsyncWrite for BlockingWriter<W> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.write(data))
    }
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.flush())
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.flush())
    }
}

struct HashingWriter<'a> {
    out: NarSink<'a>,
    hasher: Hasher,
}

impl AsyncWrite for HashingWriter<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut *self.out).poll_write(cx, data))?;
        self.hasher.update(&data[..n]);
        Poll::Ready(Ok(n))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.out).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.out).poll_flush(cx)
    }
}

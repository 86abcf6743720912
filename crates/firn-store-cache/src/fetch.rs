//! Archives on their way out of a cache: downloaded, decompressed and passed on as one stream.

use crate::files::Files;
use bytes::Bytes;
use firn_archive::Method;
use firn_core::NarInfo;
use firn_http::pipe::{self, PieceSink, PipeSender, PipeWriter};
use firn_nar::NarError;
use firn_store::{NarSink, StoreError, StoreResult};
use std::io::{self, BufRead, Cursor, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

/// Compressed bytes, and plain ones, that may be under way.
const IN_FLIGHT: usize = 1 << 20;

/// Largest file that is fetched before the first byte of it is passed on. What breaks off then is fetched again, also
/// from servers that do not give parts of files.
const SMALL: u64 = 1 << 20;

/// Writes the archive that `info` speaks of to `sink`. `shown` is its store path.
pub(crate) async fn archive(
    files: &dyn Files,
    info: &NarInfo,
    shown: &str,
    sink: NarSink<'_>,
) -> StoreResult<()> {
    let whole = match is_small(info) {
        true => Some(whole(files, info).await?),
        false => None,
    };
    unpack(files, info, shown, whole, sink).await
}

/// Whether the file of an archive is fetched whole. Servers that compress on the way do not tell its size; it is not
/// much more than that of the archive.
pub(crate) fn is_small(info: &NarInfo) -> bool {
    info.file_size.unwrap_or(info.info.nar_size) <= SMALL
}

/// The file that `info` speaks of, in memory.
pub(crate) async fn whole(files: &dyn Files, info: &NarInfo) -> StoreResult<Bytes> {
    match files.get(&info.url).await? {
        Some(bytes) => Ok(bytes),
        None => Err(gone(files, info)),
    }
}

/// An archive in memory.
pub(crate) enum Held {
    /// As it is unpacked.
    Nar(Bytes),
    /// As it came: it would be too large otherwise.
    File(Bytes),
}

/// Fetches the archive that `info` speaks of, if it can wait in memory. It is decompressed while there is nothing else
/// to do, when `unpacking` lets it.
pub(crate) async fn hold(
    files: &dyn Files,
    info: &NarInfo,
    shown: &str,
    unpacking: &Semaphore,
) -> StoreResult<Option<Held>> {
    if !is_small(info) {
        return Ok(None);
    }
    let method = method(info, shown)?;
    let file = whole(files, info).await?;
    if method == Method::None || info.info.nar_size > SMALL {
        return Ok(Some(Held::File(file)));
    }
    let _turn = unpacking.acquire().await;
    let limit = info.info.nar_size;
    let work = tokio::task::spawn_blocking(move || {
        let mut nar = Vec::with_capacity(limit as usize);
        decompress(method, Cursor::new(file), limit, |piece| {
            nar.extend_from_slice(piece);
            Ok(())
        })
        .map(|()| nar)
    });
    match work.await {
        Ok(Ok(nar)) => Ok(Some(Held::Nar(nar.into()))),
        Ok(Err(error)) => Err(damaged(files, info, method, &error)),
        Err(error) => Err(StoreError::Other(error.to_string())),
    }
}

fn method(info: &NarInfo, shown: &str) -> StoreResult<Method> {
    Method::parse(&info.compression).map_err(|e| StoreError::Other(format!("'{shown}': {e}")))
}

fn damaged(files: &dyn Files, info: &NarInfo, method: Method, error: &io::Error) -> StoreError {
    StoreError::Corrupt(format!(
        "decompressing '{}' from binary cache '{}' as '{}': {error}",
        info.url,
        files.uri(),
        method.name()
    ))
}

/// Decompresses the file that `info` speaks of, or what was fetched of it, to `sink`.
pub(crate) async fn unpack(
    files: &dyn Files,
    info: &NarInfo,
    shown: &str,
    whole: Option<Bytes>,
    sink: NarSink<'_>,
) -> StoreResult<()> {
    let method = method(info, shown)?;
    if method == Method::None {
        let mut sink = Bounded { sink, left: info.info.nar_size };
        return found(files, info, send(files, info, whole, &mut sink).await?);
    }
    let (raw, reader) = pipe::pipe(IN_FLIGHT);
    let (out, mut plain) = pipe::pipe(IN_FLIGHT);
    let limit = info.info.nar_size;
    let work = tokio::task::spawn_blocking(move || pass_on(method, reader, out, limit));
    let feed = async move {
        let mut raw = PieceSink::new(raw);
        send(files, info, whole, &mut raw).await
    };
    let mut failed = None;
    let drain = async {
        while let Some(piece) = plain.next().await {
            match piece {
                Ok(piece) => sink.write_all(&piece).await.map_err(NarError::Write)?,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(plain);
        Ok::<(), StoreError>(())
    };
    let (fed, drained) = tokio::join!(feed, drain);
    drop(work.await);
    // The order of causes: what the other side wants no more, a broken transfer, broken data.
    drained?;
    if let (Some(error), Ok(true) | Err(StoreError::Nar(NarError::Write(_)))) = (&failed, &fed) {
        return Err(damaged(files, info, method, error));
    }
    found(files, info, fed?)
}

/// Writes the file that `info` speaks of, or what was fetched of it, to `sink`; `false` if it is not there.
async fn send(
    files: &dyn Files,
    info: &NarInfo,
    whole: Option<Bytes>,
    sink: NarSink<'_>,
) -> StoreResult<bool> {
    match whole {
        None => files.stream(&info.url, sink).await,
        Some(bytes) => {
            sink.write_all(&bytes).await.map_err(NarError::Write)?;
            Ok(true)
        }
    }
}

fn found(files: &dyn Files, info: &NarInfo, found: bool) -> StoreResult<()> {
    if found { Ok(()) } else { Err(gone(files, info)) }
}

fn gone(files: &dyn Files, info: &NarInfo) -> StoreError {
    let text = format!("file '{}' does not exist in binary cache '{}'", info.url, files.uri());
    StoreError::SubstituteGone(text)
}

/// Decompresses from one pipe into another.
fn pass_on(method: Method, reader: pipe::PipeReader, out: PipeSender, limit: u64) {
    let mut writer = PipeWriter::new(out);
    match decompress(method, reader, limit, |piece| writer.write_all(piece)) {
        Ok(()) => drop(writer.finish()),
        Err(error) => writer.fail(error),
    }
}

/// Gives what comes out of a decompressor to `take`, unless it is more than `limit` bytes.
fn decompress(
    method: Method,
    reader: impl BufRead + Send,
    limit: u64,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let decoder = firn_archive::decoder(method, reader).map_err(io::Error::other)?;
    // An archive that is larger than was said is not unpacked to see how large.
    let mut decoder = decoder.take(limit + 1);
    let mut buffer = vec![0; pipe::PIECE];
    let mut total = 0;
    loop {
        match decoder.read(&mut buffer)? {
            0 => return Ok(()),
            n => {
                total += n as u64;
                if total > limit {
                    return Err(io::Error::other(format!("more than {limit} bytes come out")));
                }
                take(&buffer[..n])?;
            }
        }
    }
}

/// Passes at most so many bytes on.
struct Bounded<'a> {
    sink: NarSink<'a>,
    left: u64,
}

impl AsyncWrite for Bounded<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if data.len() as u64 > self.left {
            return Poll::Ready(Err(io::Error::other("the archive is larger than its facts say")));
        }
        let written = Pin::new(&mut *self.sink).poll_write(cx, data);
        if let Poll::Ready(Ok(n)) = written {
            self.left -= n as u64;
        }
        written
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.sink).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.sink).poll_flush(cx)
    }
}

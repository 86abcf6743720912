//! Archives as bodies of answers.

use super::metrics::{Metrics, count};
use super::server::ServeConfig;
use bytes::Bytes;
use firn_archive::{EncoderOptions, Method};
use firn_core::StorePath;
use firn_http::pipe::{self, PieceSink, PipeReader, PipeSender, PipeWriter};
use firn_store::Store;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{Semaphore, mpsc};

/// The body of an answer.
pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// Bytes of an archive that may be under way.
const IN_FLIGHT: usize = 1 << 20;

/// A body that is there already.
pub(crate) fn full(data: impl Into<Bytes>) -> Body {
    Full::new(data.into()).map_err(|never| match never {}).boxed()
}

/// What a body of an archive is made from.
pub(crate) struct Archive {
    pub store: Arc<dyn Store>,
    pub path: StorePath,
    pub method: Method,
    /// Bytes to leave out at the start, and to send then; only without compression.
    pub part: Option<(u64, u64)>,
}

/// A body that reads the archive as it is sent. Reading ends when the client goes, or stands still for too long.
pub(crate) fn archive(
    archive: Archive,
    config: &ServeConfig,
    slots: &Arc<Semaphore>,
    metrics: &Arc<Metrics>,
) -> Body {
    let (pieces, body) = mpsc::channel::<io::Result<Bytes>>(4);
    let (patience, level) = (config.patience, config.compression_level);
    let (slots, metrics) = (Arc::clone(slots), Arc::clone(metrics));
    tokio::spawn(async move {
        let Ok(_slot) = slots.acquire_owned().await else { return };
        count(&metrics.archives);
        let mut reader = start(archive, level);
        while let Some(piece) = reader.next().await {
            let failed = piece.is_err();
            let length = piece.as_ref().map_or(0, Bytes::len) as u64;
            match tokio::time::timeout(patience, pieces.send(piece)).await {
                Ok(Ok(())) => metrics.archive_bytes.fetch_add(length, Ordering::Relaxed),
                _ => {
                    count(&metrics.archives_failed);
                    return;
                }
            };
            if failed {
                count(&metrics.archives_failed);
            }
        }
    });
    let frames = futures::stream::unfold(body, |mut body| async move {
        let piece = body.recv().await?;
        Some((piece.map(Frame::data), body))
    });
    StreamBody::new(frames).boxed()
}

/// Starts reading the archive; what comes out is what is to be sent.
fn start(archive: Archive, level: Option<i32>) -> PipeReader {
    let Archive { store, path, method, part } = archive;
    let (raw, reader) = pipe::pipe(IN_FLIGHT);
    tokio::spawn(async move {
        let mut sink = PieceSink::new(raw);
        if let Err(error) = store.nar_from_path(&path, &mut sink).await {
            // The client must not take what it got for all.
            sink.fail(io::Error::other(error.to_string())).await;
        }
    });
    if method == Method::None && part.is_none() {
        return reader;
    }
    let (out, made) = pipe::pipe(IN_FLIGHT);
    tokio::task::spawn_blocking(move || match part {
        Some((skip, length)) => cut(reader, out, skip, length),
        None => compress(reader, out, method, level),
    });
    made
}

fn finish(writer: PipeWriter, result: io::Result<u64>) {
    match result {
        Ok(_) => drop(writer.finish()),
        Err(error) => writer.fail(error),
    }
}

fn cut(mut reader: PipeReader, out: PipeSender, skip: u64, length: u64) {
    let mut writer = PipeWriter::new(out);
    let result = io::copy(&mut (&mut reader).take(skip), &mut io::sink())
        .and_then(|_| io::copy(&mut reader.take(length), &mut writer));
    finish(writer, result);
}

fn compress(mut reader: PipeReader, out: PipeSender, method: Method, level: Option<i32>) {
    let mut writer = PipeWriter::new(out);
    let mut packed = || {
        let options = EncoderOptions { level, threads: 1 };
        let mut encoder = firn_archive::encoder(method, options, &mut writer).map_err(io::Error::other)?;
        let size = io::copy(&mut reader, &mut encoder)?;
        encoder.finish()?;
        Ok(size)
    };
    let result = packed();
    finish(writer, result);
}

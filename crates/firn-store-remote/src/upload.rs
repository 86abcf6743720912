//! Sending data of unknown length, and files of this machine as data.

use crate::connection::{Connection, read_error, stderr_of};
use crate::error::{Failure, Outcome};
use firn_core::CaMethod;
use firn_nar::fs::{DumpOptions, FileKind, dump_path};
use firn_store::activity::Logger;
use firn_store::{AddSource, NarSource, StoreError, StoreResult};
use firn_wire::{Message, frame, frame_end};
use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::io::SyncIoBridge;

/// How much is sent at once, in bytes.
const PIECE: usize = 256 * 1024;

/// Files up to this size are read at once.
const SMALL: u64 = 256 * 1024;

impl Connection {
    /// Sends a request and behind it data in frames, taking in what the daemon says meanwhile, up to its result.
    pub async fn upload(
        &mut self,
        message: Message,
        source: NarSource<'_>,
        logger: &dyn Logger,
    ) -> Outcome<()> {
        self.will_hold_roots();
        let version = self.version();
        let (input, output) = (&mut self.input, &mut self.output);
        let mut say = std::pin::pin!(stderr_of(input, version, logger));
        let mut send = std::pin::pin!(send_frames(output, message.0, source));
        let mut said = None;
        let sent = loop {
            tokio::select! {
                sent = &mut send => break sent,
                result = &mut say, if said.is_none() => match result {
                    Ok(()) => said = Some(()),
                    // What is under way cannot be completed, so the connection is of no more use.
                    Err(Failure::Remote(error)) => return Err(Failure::Store(Failure::Remote(error).into())),
                    Err(other) => return Err(other),
                },
            }
        };
        match (sent, said) {
            (Err(Failure::Store(error)), _) => Err(Failure::Store(error)),
            (sent, None) => match say.await {
                // A daemon that went away may have said why.
                Err(Failure::Remote(error)) if sent.is_ok() => Err(Failure::Remote(error)),
                Err(Failure::Remote(error)) => Err(Failure::Store(Failure::Remote(error).into())),
                said => sent.and(said),
            },
            (sent, Some(())) => sent,
        }
    }
}

/// Sends `first` and what `source` gives, in as few writes as fit.
async fn send_frames(
    output: &mut (dyn AsyncWrite + Send + Unpin),
    first: Vec<u8>,
    source: NarSource<'_>,
) -> Outcome<()> {
    let mut buffer = first;
    loop {
        let head = buffer.len();
        buffer.extend_from_slice(&frame(0));
        let mut piece = (&mut *source).take(PIECE as u64);
        let n = piece.read_buf(&mut buffer).await.map_err(|e| Failure::Store(read_error(e)))?;
        buffer[head..head + 8].copy_from_slice(&frame(n));
        if n == 0 {
            break;
        }
        if buffer.len() >= PIECE {
            output.write_all(&buffer).await?;
            buffer.clear();
        }
    }
    debug_assert!(buffer.ends_with(&frame_end()));
    output.write_all(&buffer).await?;
    Ok(output.flush().await?)
}

/// A source as the bytes that the protocols want: the archive, or for flat and text the contents of the file.
pub(crate) enum Bytes<'a> {
    Memory(std::io::Cursor<Vec<u8>>),
    Stream(Box<dyn AsyncRead + Send + Unpin + 'a>),
}

impl Bytes<'_> {
    pub fn reader(&mut self) -> &mut (dyn AsyncRead + Send + Unpin) {
        match self {
            Bytes::Memory(cursor) => cursor,
            Bytes::Stream(stream) => stream,
        }
    }
}

/// What to send for `source`.
pub(crate) fn open_source<'a>(source: AddSource<'a>, method: CaMethod) -> StoreResult<Bytes<'a>> {
    let flat = matches!(method, CaMethod::Flat | CaMethod::Text);
    match (source, flat) {
        (AddSource::Bytes(bytes), true) => Ok(Bytes::Memory(std::io::Cursor::new(bytes.to_vec()))),
        (AddSource::Bytes(bytes), false) => {
            let mut writer = firn_nar::NarWriter::new(Vec::new());
            writer.regular(b"", false, bytes)?;
            Ok(Bytes::Memory(std::io::Cursor::new(writer.finish()?)))
        }
        (AddSource::Nar(source), false) => Ok(Bytes::Stream(Box::new(source))),
        (AddSource::Nar(_), true) => {
            Err(StoreError::Other("an archive cannot be added as a flat file".into()))
        }
        (AddSource::Path(path) | AddSource::Selected { path, .. }, true) => {
            // As the other side would find it: not what a link leads to.
            let metadata = path.symlink_metadata().map_err(StoreError::io("getting status of", path))?;
            if !metadata.is_file() {
                return Err(StoreError::Other(format!("path '{}' is not a regular file", path.display())));
            }
            let size = metadata.len();
            let mut file = std::fs::File::open(path).map_err(StoreError::io("opening file", path))?;
            if size <= SMALL {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(StoreError::io("reading file", path))?;
                return Ok(Bytes::Memory(std::io::Cursor::new(bytes)));
            }
            Ok(Bytes::Stream(Box::new(tokio::fs::File::from_std(file))))
        }
        (AddSource::Path(path), false) => archive(path, None),
        (AddSource::Selected { path, keep }, false) => archive(path, Some(keep)),
    }
}

fn archive(path: &Path, keep: Option<Arc<HashSet<PathBuf>>>) -> StoreResult<Bytes<'static>> {
    let metadata = path.symlink_metadata().map_err(StoreError::io("getting status of", path))?;
    if !metadata.is_dir() && metadata.len() <= SMALL {
        let bytes = dump_path(path, Vec::new(), DumpOptions { undo_case_hack: false, filter: None })?;
        return Ok(Bytes::Memory(std::io::Cursor::new(bytes)));
    }
    let path = path.to_owned();
    Ok(Bytes::Stream(Box::new(blocking_stream(move |out| {
        let mut filter = |file: &Path, _: FileKind| Ok(keep.as_ref().is_none_or(|keep| keep.contains(file)));
        let options = DumpOptions { undo_case_hack: false, filter: Some(&mut filter) };
        dump_path(&path, std::io::BufWriter::with_capacity(PIECE, out), options)?
            .into_inner()
            .map_err(|e| StoreError::from(firn_nar::NarError::Write(e.into_error())))?;
        Ok(())
    }))))
}

/// What `write` writes on a thread of its own. Its error is the stream's.
fn blocking_stream(
    write: impl FnOnce(SyncIoBridge<tokio::io::DuplexStream>) -> StoreResult<()> + Send + 'static,
) -> impl AsyncRead + Send + Unpin + 'static {
    let (ours, theirs) = tokio::io::duplex(PIECE * 2);
    let task = tokio::task::spawn_blocking(move || write(SyncIoBridge::new(theirs)));
    Box::pin(Blocking { stream: ours, task: Some(task) })
}

struct Blocking {
    stream: tokio::io::DuplexStream,
    task: Option<tokio::task::JoinHandle<StoreResult<()>>>,
}

impl AsyncRead for Blocking {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        out: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        use std::task::{Poll, ready};
        let before = out.filled().len();
        ready!(std::pin::Pin::new(&mut self.stream).poll_read(cx, out))?;
        if out.filled().len() > before || out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // The end: whether it is a good one, the task knows.
        if let Some(task) = &mut self.task {
            let result = ready!(std::pin::Pin::new(task).poll(cx));
            self.task = None;
            match result {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Poll::Ready(Err(std::io::Error::other(error))),
                Err(error) => return Poll::Ready(Err(std::io::Error::other(error))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

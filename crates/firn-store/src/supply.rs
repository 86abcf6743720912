//! Many objects on their way into a store, one after the other.

use crate::error::{StoreError, StoreResult};
use crate::nar_stream::NarStream;
use crate::traits::Store;
use async_trait::async_trait;
use firn_core::{StorePath, ValidPathInfo};
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWriteExt, ReadBuf};

/// Archives up to this size are kept in memory as a whole, in bytes.
pub const SMALL_NAR: u64 = 512 * 1024;

/// Small archives that are read ahead.
const AHEAD: usize = 16;

/// How much of a large archive is on its way, in bytes.
const IN_FLIGHT: usize = 256 * 1024;

/// One object.
pub struct NarToAdd<'a> {
    pub info: ValidPathInfo,
    /// The archive and nothing behind it. Need not be read to the end.
    pub archive: Box<dyn AsyncRead + Send + Unpin + 'a>,
}

/// Objects to add, each behind those that it refers to.
#[async_trait]
pub trait NarSupply: Send {
    /// How many objects there are in all.
    fn count(&self) -> usize;

    /// The next one.
    async fn next(&mut self) -> StoreResult<Option<NarToAdd<'_>>>;
}

/// Objects whose archives are in memory.
pub struct NarsInMemory {
    count: usize,
    nars: std::vec::IntoIter<(ValidPathInfo, Vec<u8>)>,
}

impl NarsInMemory {
    pub fn new(nars: Vec<(ValidPathInfo, Vec<u8>)>) -> NarsInMemory {
        NarsInMemory { count: nars.len(), nars: nars.into_iter() }
    }
}

#[async_trait]
impl NarSupply for NarsInMemory {
    fn count(&self) -> usize {
        self.count
    }

    async fn next(&mut self) -> StoreResult<Option<NarToAdd<'_>>> {
        Ok(self
            .nars
            .next()
            .map(|(info, nar)| NarToAdd { info, archive: Box::new(std::io::Cursor::new(nar)) }))
    }
}

/// Objects of a store; small ones are read ahead.
pub struct NarsOfStore<'a> {
    store: &'a dyn Store,
    /// Which, and what the other store is told of them.
    objects: Vec<(StorePath, ValidPathInfo)>,
    /// Called when an object's turn comes.
    started: Box<dyn FnMut(&StorePath) + Send + 'a>,
    at: usize,
    ahead: VecDeque<Ahead<'a>>,
}

enum Ahead<'a> {
    Small(BoxFuture<'a, StoreResult<Vec<u8>>>),
    Done(StoreResult<Vec<u8>>),
    Large,
}

impl<'a> NarsOfStore<'a> {
    pub fn new(
        store: &'a dyn Store,
        objects: Vec<(StorePath, ValidPathInfo)>,
        started: Box<dyn FnMut(&StorePath) + Send + 'a>,
    ) -> NarsOfStore<'a> {
        NarsOfStore { store, objects, started, at: 0, ahead: VecDeque::new() }
    }

    /// The archive of the first object that is waited for, while those behind it are read too.
    async fn first(&mut self) -> Option<StoreResult<Vec<u8>>> {
        std::future::poll_fn(|cx| {
            for ahead in &mut self.ahead {
                if let Ahead::Small(reading) = ahead
                    && let Poll::Ready(result) = reading.as_mut().poll(cx)
                {
                    *ahead = Ahead::Done(result);
                }
            }
            match self.ahead.front() {
                Some(Ahead::Small(_)) => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
        match self.ahead.pop_front() {
            Some(Ahead::Done(result)) => Some(result),
            _ => None,
        }
    }
}

async fn read_small(store: &dyn Store, path: StorePath, size: u64) -> StoreResult<Vec<u8>> {
    let mut nar = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    store.nar_from_path(&path, &mut nar).await?;
    if (nar.len() as u64) < size {
        return Err(StoreError::Other(format!(
            "NAR for '{}' fetched from '{}' is incomplete",
            store.store_dir().display(&path),
            crate::copy::shown_uri(store)
        )));
    }
    Ok(nar)
}

#[async_trait]
impl NarSupply for NarsOfStore<'_> {
    fn count(&self) -> usize {
        self.objects.len()
    }

    async fn next(&mut self) -> StoreResult<Option<NarToAdd<'_>>> {
        while self.ahead.len() < AHEAD
            && let Some((path, info)) = self.objects.get(self.at + self.ahead.len())
        {
            self.ahead.push_back(match info.nar_size <= SMALL_NAR {
                true => Ahead::Small(Box::pin(read_small(self.store, path.clone(), info.nar_size))),
                false => Ahead::Large,
            });
        }
        let Some((path, info)) = self.objects.get(self.at).cloned() else { return Ok(None) };
        (self.started)(&path);
        let small = self.first().await;
        self.at += 1;
        let archive: Box<dyn AsyncRead + Send + Unpin> = match small {
            Some(nar) => Box::new(io::Cursor::new(nar?)),
            None => Box::new(Produced::of_store(self.store, path)),
        };
        Ok(Some(NarToAdd { info, archive }))
    }
}

/// What a future writes, as something to read; its error is that of the reader.
struct Produced<'a> {
    stream: tokio::io::DuplexStream,
    writing: Option<BoxFuture<'a, StoreResult<()>>>,
}

impl<'a> Produced<'a> {
    fn of_store(store: &'a dyn Store, path: StorePath) -> Produced<'a> {
        let (stream, mut writer) = tokio::io::duplex(IN_FLIGHT);
        let writing = Box::pin(async move {
            store.nar_from_path(&path, &mut writer).await?;
            writer.shutdown().await.map_err(crate::read_failed)?;
            Ok(())
        });
        Produced { stream, writing: Some(writing) }
    }
}

impl AsyncRead for Produced<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(writing) = &mut self.writing
            && let Poll::Ready(result) = writing.as_mut().poll(cx)
        {
            self.writing = None;
            result.map_err(io::Error::other)?;
        }
        Pin::new(&mut self.stream).poll_read(cx, out)
    }
}

/// A stream of archives with something before each: which of the two comes next, the holder knows.
pub enum Between<R> {
    /// In front of an archive.
    Before(R),
    /// Somewhere in it.
    In(NarStream<R>),
    /// An earlier error left the stream.
    Lost,
}

impl<R: AsyncBufRead + Unpin> Between<R> {
    /// Passes over the rest of an archive, and gives the stream behind it.
    pub async fn behind(&mut self) -> io::Result<R> {
        match std::mem::replace(self, Between::Lost) {
            Between::Before(input) => Ok(input),
            Between::In(mut archive) => {
                archive.drain().await?;
                Ok(archive.into_inner())
            }
            Between::Lost => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Starts on an archive that `input` is at.
    pub fn start(&mut self, input: R) {
        *self = Between::In(NarStream::new(input));
    }
}

impl<R: AsyncBufRead + Unpin> AsyncRead for Between<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Between::In(archive) => Pin::new(archive).poll_read(cx, out),
            _ => Poll::Ready(Ok(())),
        }
    }
}

//! Many objects in one request, without waiting for answers in between.

use super::RemoteStore;
use crate::error::{Failure, Outcome};
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, StorePath, ValidPathInfo};
use firn_nar::fs::{DumpOptions, dump_path};
use firn_store::supply::SMALL_NAR;
use firn_store::{
    AddSource, NarSupply, NarToAdd, NarsInMemory, Store, StoreError, StoreResult, TextToAdd,
    regular_file_of_archive,
};
use firn_wire::Message;
use firn_wire::worker::{Op, write_path_info};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, ReadBuf};

/// How much is on its way from the supply to the connection, in bytes.
const IN_FLIGHT: usize = 512 * 1024;

/// Archives that are kept in memory before they are sent, in bytes.
const GATHERED: u64 = 8 << 20;

/// Texts that are sent in one request at most.
const TEXTS: usize = 4_000;

impl RemoteStore {
    /// The request came with 1.32, but daemons of that time (2.8) lose their place in it when a path is valid already.
    pub(super) async fn takes_many(&self) -> StoreResult<bool> {
        Ok(self.handshake().await?.protocol.version.has(37))
    }

    pub(super) async fn send_nars(
        &self,
        supply: &mut dyn NarSupply,
        repair: bool,
        check_signatures: bool,
    ) -> Outcome<()> {
        let mut lease = self.lease().await?;
        let mut message = Message::new();
        message.num(Op::AddMultipleToStore).num(repair).num(!check_signatures);
        let (stream, mut writer) = tokio::io::duplex(IN_FLIGHT);
        let complete = Arc::new(AtomicBool::new(false));
        let mut stream = WholeStream { stream, complete: Arc::clone(&complete) };
        let produce = async move {
            writer.write_all(&Message::new().count(supply.count()).0).await?;
            while let Some(NarToAdd { info, mut archive }) = supply.next().await? {
                let mut facts = Message::new();
                write_path_info(&mut facts, self.dir(), &info);
                writer.write_all(&facts.0).await?;
                tokio::io::copy_buf(
                    &mut tokio::io::BufReader::with_capacity(64 * 1024, &mut archive),
                    &mut writer,
                )
                .await?;
            }
            complete.store(true, Ordering::Release);
            writer.shutdown().await?;
            Ok::<(), Failure>(())
        };
        let send = async {
            let sent = lease.upload(message, &mut stream, &*self.logger).await;
            // Nobody reads any more, so nothing more need be produced.
            drop(stream);
            sent
        };
        let (produced, sent) = tokio::join!(produce, send);
        match (produced, sent) {
            // What is to be sent cannot be had: that is the cause.
            (Err(Failure::Store(error)), Err(_)) => Err(Failure::Store(error)),
            (_, sent) => lease.settle(sent),
        }
    }

    /// Adds texts in few requests.
    pub(super) async fn send_texts(&self, texts: &[TextToAdd]) -> StoreResult<()> {
        if texts.len() < 2 || !self.takes_many().await? {
            for text in texts {
                self.add_text(text.path.name(), &text.contents, &text.references, false).await?;
            }
            return Ok(());
        }
        for group in texts.chunks(TEXTS) {
            let mut nars = Vec::with_capacity(group.len());
            let mut size = 0;
            for text in group {
                let mut writer = firn_nar::NarWriter::new(Vec::new());
                writer.regular(b"", false, &text.contents)?;
                let nar = writer.finish()?;
                let ca = ContentAddress { method: CaMethod::Text, hash: text.hash };
                let info = self.facts(text.path.name(), ca, &text.references, &nar)?;
                size += nar.len() as u64;
                nars.push((info, nar));
                if size >= GATHERED {
                    size = 0;
                    self.add_nars(&mut NarsInMemory::new(std::mem::take(&mut nars)), false, true).await?;
                }
            }
            self.add_nars(&mut NarsInMemory::new(nars), false, true).await?;
        }
        Ok(())
    }

    /// Adds files of this machine, small ones many at a time.
    pub(super) async fn send_paths(
        &self,
        sources: &[(&str, &Path)],
        method: CaMethod,
        algo: HashAlgo,
    ) -> StoreResult<Vec<ValidPathInfo>> {
        let together = sources.len() > 1 && method != CaMethod::Git && self.takes_many().await?;
        let mut infos: Vec<ValidPathInfo> = Vec::with_capacity(sources.len());
        let mut nars = Vec::new();
        let mut size = 0;
        for (name, path) in sources {
            let small = match together {
                true => self.small_source(name, path, method, algo)?,
                false => None,
            };
            match small {
                Some((info, nar)) => {
                    size += nar.len() as u64;
                    infos.push(info.clone());
                    nars.push((info, nar));
                }
                None => {
                    let source = AddSource::Path(path);
                    infos.push(self.add_to_store(name, source, method, algo, &BTreeSet::new(), false).await?);
                }
            }
            if size >= GATHERED {
                size = 0;
                self.add_nars(&mut NarsInMemory::new(std::mem::take(&mut nars)), false, true).await?;
            }
        }
        if !nars.is_empty() {
            self.add_nars(&mut NarsInMemory::new(nars), false, true).await?;
        }
        Ok(infos)
    }

    /// The facts and the archive of a small file; directories and large files are sent as they are read.
    fn small_source(
        &self,
        name: &str,
        path: &Path,
        method: CaMethod,
        algo: HashAlgo,
    ) -> StoreResult<Option<(ValidPathInfo, Vec<u8>)>> {
        let metadata = path.symlink_metadata().map_err(StoreError::io("getting status of", path))?;
        let flat = matches!(method, CaMethod::Flat | CaMethod::Text);
        // A flat symlink is what it points to, and leads anywhere.
        if metadata.is_dir() || metadata.len() > SMALL_NAR / 2 || (flat && !metadata.is_file()) {
            return Ok(None);
        }
        let options = DumpOptions { undo_case_hack: false, filter: None };
        let mut nar = dump_path(path, Vec::new(), options)?;
        let hash = match method {
            CaMethod::NixArchive => Hash::of(algo, &nar),
            _ => {
                let contents = regular_file_of_archive(&nar)?;
                // The archive of a flat file is never executable.
                let mut writer = firn_nar::NarWriter::new(Vec::new());
                writer.regular(b"", false, &contents)?;
                nar = writer.finish()?;
                Hash::of(algo, &contents)
            }
        };
        let info = self.facts(name, ContentAddress { method, hash }, &BTreeSet::new(), &nar)?;
        Ok(Some((info, nar)))
    }

    fn facts(
        &self,
        name: &str,
        ca: ContentAddress,
        references: &BTreeSet<StorePath>,
        nar: &[u8],
    ) -> StoreResult<ValidPathInfo> {
        let all = References { others: references.clone(), self_reference: false };
        let path = self.dir().make_fixed_output_path(&ca, name, &all)?;
        let mut info = ValidPathInfo::new(path, Hash::of(HashAlgo::Sha256, nar), nar.len() as u64);
        info.references = references.clone();
        info.ca = Some(ca);
        Ok(info)
    }
}

/// A stream whose end is an error unless all was written to it.
struct WholeStream {
    stream: DuplexStream,
    complete: Arc<AtomicBool>,
}

impl AsyncRead for WholeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        if out.filled().len() == before && out.remaining() > 0 && !self.complete.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(()))
    }
}

//! Inputs to a machine, outputs back.

use crate::pick::{escape_uri, lock_file};
use firn_core::{Hash, HashAlgo, HashFormat, StorePath, ValidPathInfo};
use firn_store::activity::{Activity, ActivityType, Logger, Verbosity};
use firn_store::locks::flock::{self, Kind};
use firn_store::{BuildTarget, CopyOptions, Store, StoreError, StoreResult, copy_paths};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long somebody else's upload is waited for.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What is on its way to one machine.
#[derive(Default)]
pub(crate) struct Uploads {
    /// Paths that a task of ours is sending; the channel closes when it is done.
    under_way: Mutex<HashMap<StorePath, watch::Receiver<()>>>,
    /// The lock against other processes, held while any task of ours sends.
    lock: Mutex<Weak<OwnedFd>>,
}

/// What is to be sent.
pub(crate) struct Upload<'a> {
    pub from: &'a dyn Store,
    pub to: &'a dyn Store,
    /// The machine's, for its lock and for messages.
    pub uri: &'a str,
    /// The folder of locks.
    pub folder: &'a Path,
    pub paths: &'a BTreeSet<StorePath>,
    /// Whether the machine may fetch them from its substituters.
    pub substitute: bool,
    pub logger: &'a Arc<dyn Logger>,
}

impl Uploads {
    /// Sends those of `paths` that `to` lacks; what another task is sending already is waited for.
    pub async fn send(&self, upload: Upload<'_>) -> StoreResult<()> {
        let Upload { from, to, uri, folder, paths, substitute, logger } = upload;
        let missing: BTreeSet<StorePath> = {
            let present = match substitute {
                true => to.query_valid_paths_substituting(paths).await?,
                false => to.query_valid_paths(paths).await?,
            };
            paths.difference(&present).cloned().collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let (done, receiver) = watch::channel(());
        let mut others = Vec::new();
        let mut ours = BTreeSet::new();
        {
            let mut under_way = self.under_way.lock();
            for path in &missing {
                match under_way.get(path) {
                    Some(other) => others.push(other.clone()),
                    None => {
                        under_way.insert(path.clone(), receiver.clone());
                        ours.insert(path.clone());
                    }
                }
            }
        }
        drop(receiver);
        let claim = Claim { uploads: self, paths: &ours };
        // What ours refer to may be on its way from another task.
        for mut other in others {
            // An error is the sender's end, which is what is waited for.
            while other.changed().await.is_ok() {}
        }
        let _lock = self.lock(uri, folder, logger).await?;
        let text = format!("copying dependencies to '{uri}'");
        let activity = Activity::start(logger, Verbosity::Talkative, ActivityType::Unknown, &text, &[], 0);
        let options = CopyOptions { check_signatures: false, ..CopyOptions::CHECKED };
        // Asked again: others' work is done, and the question locks what is there.
        let result = copy_paths(from, to, paths, options, logger).await.map(drop);
        drop(activity);
        drop(claim);
        drop(done);
        result
    }

    /// The machine's upload lock, shared by our tasks.
    async fn lock(&self, uri: &str, folder: &Path, logger: &Arc<dyn Logger>) -> StoreResult<Arc<OwnedFd>> {
        if let Some(lock) = self.lock.lock().upgrade() {
            return Ok(lock);
        }
        let name = format!("{}.upload-lock", escape_uri(uri));
        let file = match lock_file(&folder.join(&name)) {
            Ok(file) => file,
            // The name may be too long for a file.
            Err(_) if name.len() > 255 => {
                let short = Hash::of(HashAlgo::Md5, uri.as_bytes()).to_base(HashFormat::Nix32);
                lock_file(&folder.join(format!("{short}.upload-lock")))?
            }
            Err(error) => return Err(error),
        };
        let text = format!("waiting for the upload lock to '{uri}'");
        let _activity = Activity::start(logger, Verbosity::Talkative, ActivityType::Unknown, &text, &[], 0);
        let started = Instant::now();
        while !flock::try_lock(&file, Kind::Exclusive)
            .map_err(|e| StoreError::io("locking", folder)(e.into()))?
        {
            if let Some(lock) = self.lock.lock().upgrade() {
                return Ok(lock);
            }
            if started.elapsed() > UPLOAD_PATIENCE {
                logger.error(&format!("somebody is hogging the upload lock for '{uri}', continuing..."));
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let lock = Arc::new(file);
        *self.lock.lock() = Arc::downgrade(&lock);
        Ok(lock)
    }
}

/// Paths that are ours to send, until dropped.
struct Claim<'a> {
    uploads: &'a Uploads,
    paths: &'a BTreeSet<StorePath>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut under_way = self.uploads.under_way.lock();
        for path in self.paths {
            under_way.remove(path);
        }
    }
}

/// Brings outputs here and makes them valid. Their locks are held by the caller.
pub(crate) async fn fetch_outputs(
    from: &Arc<dyn Store>,
    target: &Arc<dyn BuildTarget>,
    paths: &BTreeSet<StorePath>,
    uri: &str,
    logger: &Arc<dyn Logger>,
) -> StoreResult<()> {
    let dir = target.store_dir().clone();
    let mut infos = Vec::new();
    for path in paths {
        if target.path_info(path)?.is_some() {
            continue;
        }
        let info = from.query_path_info(path).await?;
        let gone =
            || StoreError::Other(format!("'{uri}' built '{}' but does not have it", dir.display(path)));
        infos.push((*info.ok_or_else(gone)?).clone());
    }
    if infos.is_empty() {
        return Ok(());
    }
    let text = format!("copying outputs from '{uri}'");
    let _activity = Activity::start(logger, Verbosity::Talkative, ActivityType::Unknown, &text, &[], 0);
    // Outputs may refer to each other.
    let all: BTreeSet<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
    let order = firn_store::closure::topo_sort(&all, |path| {
        Ok(infos
            .iter()
            .find(|info| info.path == *path)
            .map(|info| info.references.clone())
            .unwrap_or_default())
    })?
    .map_err(|cycle| cycle.into_error(&dir))?;
    for path in order.into_iter().rev() {
        let Some(info) = infos.iter().find(|info| info.path == path) else { continue };
        let mut info = info.clone();
        info.ultimate = false;
        fetch_one(from, target, info).await?;
    }
    Ok(())
}

/// Pieces of an archive on their way from the connection to the disk.
const PIECES: usize = 8;

async fn fetch_one(
    from: &Arc<dyn Store>,
    target: &Arc<dyn BuildTarget>,
    info: ValidPathInfo,
) -> StoreResult<()> {
    let (sender, receiver) = tokio::sync::mpsc::channel(PIECES);
    let path = info.path.clone();
    let target = Arc::clone(target);
    let write = tokio::task::spawn_blocking(move || {
        let mut reader = Pieces { receiver, piece: Vec::new(), at: 0 };
        target.import_output(&info, &mut reader)
    });
    let mut sink = PieceSink { sender: tokio_util::sync::PollSender::new(sender) };
    let read = from.nar_from_path(&path, &mut sink).await;
    drop(sink);
    let written = write.await.unwrap_or(Err(StoreError::Interrupted));
    // What the source says is the cause of what the disk's side saw, unless that side gave up.
    match (read, written) {
        (Ok(()), written) => written,
        (Err(_), Err(StoreError::Io { operation, path, source })) => {
            Err(StoreError::Io { operation, path, source })
        }
        (Err(error), _) => Err(error),
    }
}

struct Pieces {
    receiver: tokio::sync::mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.piece.len() {
            match self.receiver.blocking_recv() {
                Some(piece) => (self.piece, self.at) = (piece, 0),
                None => return Ok(0),
            }
        }
        let n = out.len().min(self.piece.len() - self.at);
        out[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

struct PieceSink {
    sender: tokio_util::sync::PollSender<Vec<u8>>,
}

impl tokio::io::AsyncWrite for PieceSink {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        data: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let broken = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        std::task::ready!(self.sender.poll_reserve(cx)).map_err(broken)?;
        self.sender.send_item(data.to_vec()).map_err(broken)?;
        std::task::Poll::Ready(Ok(data.len()))
    }
    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

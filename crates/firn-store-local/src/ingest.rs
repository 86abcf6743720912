//! Reading content through hashes, and keeping it as far as it fits.

use crate::add::Ingestion;
use crate::staging::Staging;
use crate::store::LocalStore;
use crate::stream;
use firn_core::{CaMethod, Hash, HashAlgo, Hasher};
use firn_nar::fs::restore;
use firn_nar::git::GitHasher;
use firn_nar::{HashSink, NarError, NarReader, NarWriter};
use firn_store::{StoreError, StoreResult};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io::{BufReader, Write};
use std::path::Path;

/// The archive of a regular file as flat methods store it (never executable), and the hash of its bytes.
pub(crate) fn dump_flat<W: Write>(source: &Path, algo: HashAlgo, sink: W) -> StoreResult<(W, Hash)> {
    let io = |operation| move |e: Errno| StoreError::io(operation, source)(e.into());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let not_regular = || StoreError::Other(format!("path '{}' is not a regular file", source.display()));
    let fd = match rustix::fs::openat(CWD, source, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Err(not_regular()),
        other => other.map_err(io("opening file"))?,
    };
    let stat = rustix::fs::fstat(&fd).map_err(io("getting status of"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(not_regular());
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let mut hasher = Hasher::new(algo);
    let mut writer = NarWriter::new(sink);
    let missing = writer.regular_from(b"", false, size, |buffer| {
        let n = rustix::io::retry_on_intr(|| rustix::io::read(&fd, &mut *buffer))
            .map_err(|e| NarError::Io { operation: "reading", path: source.to_owned(), source: e.into() })?;
        hasher.update(&buffer[..n]);
        Ok(n)
    })?;
    if missing > 0 {
        return Err(NarError::Shrunk { path: source.to_owned(), missing }.into());
    }
    Ok((writer.finish()?, hasher.finish()))
}

/// Buffers up to this size grow in steps.
const GROWS: usize = 1 << 20;

/// A hash of the archive besides SHA-256.
pub(crate) enum OtherHash {
    Plain(Box<Hasher>),
    Git(GitHasher),
}

impl OtherHash {
    /// What a method needs that SHA-256 of the archive, or the bytes of a file, do not give.
    pub(crate) fn of(method: CaMethod, algo: HashAlgo) -> StoreResult<Option<OtherHash>> {
        Ok(match (method, algo) {
            (CaMethod::NixArchive, HashAlgo::Sha256) | (CaMethod::Flat | CaMethod::Text, _) => None,
            (CaMethod::NixArchive, algo) => Some(OtherHash::Plain(Box::new(Hasher::new(algo)))),
            (CaMethod::Git, algo) => Some(OtherHash::Git(GitHasher::start(algo)?)),
        })
    }

    fn update(&mut self, data: &[u8]) -> std::io::Result<()> {
        match self {
            OtherHash::Plain(hasher) => hasher.update(data),
            OtherHash::Git(hasher) => hasher.write_all(data)?,
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> StoreResult<Hash> {
        Ok(match self {
            OtherHash::Plain(hasher) => hasher.finish(),
            OtherHash::Git(hasher) => hasher.finish()?,
        })
    }
}

pub(crate) struct IngestSink<'a> {
    pub(crate) sha256: HashSink,
    pub(crate) other: Option<OtherHash>,
    pub(crate) keep: Keep,
    /// How much is kept in memory.
    pub(crate) limit: usize,
    /// Where to restore to what is larger.
    pub(crate) staging: Option<(&'a LocalStore, Ingestion<'a>)>,
    /// Why restoring could not begin.
    pub(crate) failed: Option<StoreError>,
}

pub(crate) enum Keep {
    Memory(Vec<u8>),
    Dropped,
    Streaming {
        writer: stream::ChannelWriter,
        restoring: std::thread::JoinHandle<firn_nar::NarResult<()>>,
        staging: Staging,
    },
}

impl IngestSink<'_> {
    /// What becomes of an archive that is too large for memory. If the store has nothing of that name, the archive
    /// is new to it, and reading it a second time can be saved.
    fn overflow(&self) -> StoreResult<Keep> {
        let Some((store, how)) = self.staging else { return Ok(Keep::Dropped) };
        if store.has_name(how.name)? {
            return Ok(Keep::Dropped);
        }
        store.ensure_writable()?;
        let staging = Staging::new(store)?;
        let (writer, reader) = stream::channel();
        let (dest, options) = (staging.path.join("x"), store.restore_options());
        let restoring = std::thread::spawn(move || {
            let mut reader = NarReader::new(BufReader::with_capacity(stream::PIECE, reader));
            restore(&mut reader, &dest, options)
        });
        Ok(Keep::Streaming { writer, restoring, staging })
    }

    fn keep(&mut self, data: &[u8]) -> std::io::Result<()> {
        if let Keep::Memory(buffer) = &mut self.keep {
            let len = buffer.len() + data.len();
            if len <= self.limit {
                if len > buffer.capacity() && len > GROWS {
                    // All at once: growing in steps needs half as much again while it copies.
                    buffer.reserve_exact(self.limit - buffer.len());
                }
                buffer.extend_from_slice(data);
                return Ok(());
            }
            let head = std::mem::take(buffer);
            self.keep = match self.overflow() {
                Ok(keep) => keep,
                Err(error) => {
                    self.failed = Some(error);
                    return Err(std::io::ErrorKind::Other.into());
                }
            };
            if let Keep::Streaming { writer, .. } = &mut self.keep {
                for piece in head.chunks(stream::PIECE) {
                    writer.write_all(piece)?;
                }
            }
        }
        match &mut self.keep {
            Keep::Streaming { writer, .. } => writer.write_all(data),
            _ => Ok(()),
        }
    }
}

impl Write for IngestSink<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.sha256.update(data);
        if let Some(other) = &mut self.other {
            other.update(data)?;
        }
        self.keep(data)?;
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) struct TeeSink<W> {
    pub(crate) hash: HashSink,
    pub(crate) out: W,
}

impl<W: Write> Write for TeeSink<W> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.out.write_all(data)?;
        self.hash.update(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

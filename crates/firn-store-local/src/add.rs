//! Adding content-addressed objects: files from disk, bytes, archives.
//!
//! The path follows from the content, so content is read before it is written: once through a hash, and into memory
//! as far as the archive fits there. Only what is not valid yet is written, under its lock, with its metadata
//! already canonical.

use crate::canonicalise::{CanonicaliseOptions, canonicalise_metadata, has_foreign_attributes};
use crate::path_locks::PathLocks;
use crate::register::Registration;
use crate::remove::remove_tree;
use crate::store::LocalStore;
use crate::stream;
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, Hasher, StorePath, ValidPathInfo};
use firn_nar::fs::{Canonical, DumpOptions, Filter, RestoreOptions, dump_path, restore};
use firn_nar::{Event, HashReader, HashSink, NarError, NarReader, NarWriter, Node};
use firn_store::{StoreError, StoreResult};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io::{BufReader, Cursor, Read, Write};
use std::path::{Path, PathBuf};

/// How content becomes a path.
#[derive(Debug, Clone, Copy)]
pub struct Ingestion<'a> {
    pub name: &'a str,
    pub method: CaMethod,
    pub algo: HashAlgo,
    pub references: &'a BTreeSet<StorePath>,
    /// Write the content again even if the path is valid.
    pub repair: bool,
}

/// What one reading of the content gave.
struct Ingested {
    ca: ContentAddress,
    nar_hash: Hash,
    nar_size: u64,
    /// The archive, if it is not too large.
    nar: Option<Vec<u8>>,
}

impl LocalStore {
    /// Adds the file, symlink or directory at `source`. `filter` leaves files out.
    pub fn add_path(
        &self,
        source: &Path,
        how: Ingestion<'_>,
        mut filter: Option<Filter<'_>>,
    ) -> StoreResult<ValidPathInfo> {
        let ingested = self.ingest_path(source, how, &mut filter)?;
        self.finish_add(how, &ingested, |dest| self.copy_path(source, how, &mut filter, dest))
    }

    /// The path that [`LocalStore::add_path`] would make, without making it.
    pub fn path_of_source(
        &self,
        source: &Path,
        how: Ingestion<'_>,
        mut filter: Option<Filter<'_>>,
    ) -> StoreResult<(StorePath, ContentAddress)> {
        let ca = self.ingest_path(source, how, &mut filter)?.ca;
        Ok((self.path_of(how, &ca)?, ca))
    }

    /// Adds one regular file with these bytes.
    pub fn add_bytes(&self, bytes: &[u8], how: Ingestion<'_>) -> StoreResult<ValidPathInfo> {
        let mut writer = NarWriter::new(Vec::new());
        writer.regular(b"", false, bytes)?;
        let nar = writer.finish()?;
        let nar_hash = Hash::of(HashAlgo::Sha256, &nar);
        let hash = match how.method {
            CaMethod::Text | CaMethod::Flat => Hash::of(how.algo, bytes),
            CaMethod::NixArchive if how.algo == HashAlgo::Sha256 => nar_hash,
            CaMethod::NixArchive => Hash::of(how.algo, &nar),
            CaMethod::Git => return Err(no_git()),
        };
        let ca = ContentAddress { method: how.method, hash };
        let ingested = Ingested { ca, nar_hash, nar_size: nar.len() as u64, nar: Some(nar) };
        self.finish_add(how, &ingested, |_| Err(StoreError::Other("the archive is in memory".into())))
    }

    /// Adds what an archive holds, read up to the end of `input`.
    pub fn add_archive(&self, mut input: impl Read, how: Ingestion<'_>) -> StoreResult<ValidPathInfo> {
        let limit = self.inner.config.nar_buffer_size;
        let mut head = Vec::new();
        (&mut input).take(limit as u64).read_to_end(&mut head).map_err(NarError::read)?;
        if head.len() < limit {
            let (ca, nar_hash) = self.ingest_archive(how, &mut NarReader::new(&head[..]), &head)?;
            let ingested = Ingested { ca, nar_hash, nar_size: head.len() as u64, nar: Some(head) };
            return self
                .finish_add(how, &ingested, |_| Err(StoreError::Other("the archive is in memory".into())));
        }
        self.ensure_writable()?;
        let staging = Staging::new(self)?;
        let staged = staging.path.join("x");
        let mut reader = NarReader::new(HashReader::new(Cursor::new(head).chain(input), HashAlgo::Sha256));
        restore(&mut reader, &staged, self.restore_options())?;
        let (nar_hash, nar_size) = reader.into_inner().finish();
        let hash = match (how.method, how.algo) {
            (CaMethod::NixArchive, HashAlgo::Sha256) => nar_hash,
            // The stream's hash is of the wrong sort; what was written is read again.
            _ => self.ingest_path(&staged, how, &mut None)?.ca.hash,
        };
        let ingested =
            Ingested { ca: ContentAddress { method: how.method, hash }, nar_hash, nar_size, nar: None };
        self.finish_add(how, &ingested, |dest| {
            staging.move_to(dest)?;
            Ok((nar_hash, nar_size))
        })
    }

    fn ingest_archive(
        &self,
        how: Ingestion<'_>,
        reader: &mut NarReader<&[u8]>,
        nar: &[u8],
    ) -> StoreResult<(ContentAddress, Hash)> {
        let mut contents = Hasher::new(how.algo);
        if matches!(how.method, CaMethod::Flat | CaMethod::Text) {
            match reader.next_event()? {
                Some(Event::Node { node: Node::Regular { .. }, .. }) => {}
                _ => return Err(StoreError::Other(format!("'{}' is not a regular file", how.name))),
            }
            reader.copy_contents(|chunk| {
                contents.update(chunk);
                Ok(())
            })?;
        }
        reader.skip_to_end()?;
        let length = usize::try_from(reader.position()).unwrap_or(usize::MAX);
        if length != nar.len() {
            return Err(NarError::Bad("there are bytes behind the archive".into()).into());
        }
        let nar_hash = Hash::of(HashAlgo::Sha256, nar);
        let hash = match how.method {
            CaMethod::Flat | CaMethod::Text => contents.finish(),
            CaMethod::NixArchive if how.algo == HashAlgo::Sha256 => nar_hash,
            CaMethod::NixArchive => Hash::of(how.algo, nar),
            CaMethod::Git => return Err(no_git()),
        };
        Ok((ContentAddress { method: how.method, hash }, nar_hash))
    }

    /// Reads the source through the hashes.
    fn ingest_path(
        &self,
        source: &Path,
        how: Ingestion<'_>,
        filter: &mut Option<Filter<'_>>,
    ) -> StoreResult<Ingested> {
        let sink = IngestSink {
            sha256: HashSink::new(HashAlgo::Sha256),
            other: (how.method == CaMethod::NixArchive && how.algo != HashAlgo::Sha256)
                .then(|| Hasher::new(how.algo)),
            buffer: Some(Vec::new()),
            limit: self.inner.config.nar_buffer_size,
        };
        let (sink, flat) = self.dump_source(source, how, filter, sink)?;
        let (nar_hash, nar_size) = sink.sha256.finish();
        let hash = flat.or(sink.other.map(Hasher::finish)).unwrap_or(nar_hash);
        Ok(Ingested { ca: ContentAddress { method: how.method, hash }, nar_hash, nar_size, nar: sink.buffer })
    }

    /// Writes the archive of the source, as it will be in the store; returns the flat hash where that is the method.
    fn dump_source<W: Write>(
        &self,
        source: &Path,
        how: Ingestion<'_>,
        filter: &mut Option<Filter<'_>>,
        sink: W,
    ) -> StoreResult<(W, Option<Hash>)> {
        match how.method {
            CaMethod::NixArchive => {
                let mut call;
                let filter: Option<Filter<'_>> = match filter {
                    Some(filter) => {
                        call = |path: &Path, kind| filter(path, kind);
                        Some(&mut call)
                    }
                    None => None,
                };
                let options = DumpOptions { undo_case_hack: self.inner.config.use_case_hack, filter };
                Ok((dump_path(source, sink, options)?, None))
            }
            CaMethod::Flat | CaMethod::Text => {
                let (sink, hash) = dump_flat(source, how.algo, sink)?;
                Ok((sink, Some(hash)))
            }
            CaMethod::Git => Err(no_git()),
        }
    }

    /// Reads the source again, this time into the store; the hash is on this side, the writing on another thread.
    fn copy_path(
        &self,
        source: &Path,
        how: Ingestion<'_>,
        filter: &mut Option<Filter<'_>>,
        dest: &Path,
    ) -> StoreResult<(Hash, u64)> {
        let (writer, reader) = stream::channel();
        let options = self.restore_options();
        std::thread::scope(|scope| {
            let restoring = scope.spawn(move || {
                let mut reader = NarReader::new(BufReader::with_capacity(stream::PIECE, reader));
                restore(&mut reader, dest, options)
            });
            let tee = TeeSink { hash: HashSink::new(HashAlgo::Sha256), out: writer };
            let dumped = self.dump_source(source, how, filter, tee).map(|(tee, _)| tee.hash.finish());
            let restored = restoring.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (dumped, restored) {
                (Ok(hash), Ok(())) => Ok(hash),
                // The writing side's error is the cause if the reading side found it gone.
                (Err(StoreError::Nar(NarError::Write(_))) | Ok(_), Err(error)) => Err(error.into()),
                (Err(error), _) => Err(error),
            }
        })
    }

    fn path_of(&self, how: Ingestion<'_>, ca: &ContentAddress) -> StoreResult<StorePath> {
        let references = References { others: how.references.clone(), self_reference: false };
        Ok(self.dir().make_fixed_output_path(ca, how.name, &references)?)
    }

    /// Makes the path valid unless it is; `write` puts the content to a place that is empty, and returns its hash.
    fn finish_add(
        &self,
        how: Ingestion<'_>,
        content: &Ingested,
        write: impl FnOnce(&Path) -> StoreResult<(Hash, u64)>,
    ) -> StoreResult<ValidPathInfo> {
        let path = self.path_of(how, &content.ca)?;
        self.add_temp_roots([&path])?;
        if !how.repair
            && let Some(info) = self.path_info(&path)?
        {
            return Ok(info);
        }
        self.ensure_writable()?;
        let _lock = self.lock_path(&path)?;
        if !how.repair
            && let Some(info) = self.path_info(&path)?
        {
            return Ok(info);
        }
        let mut info = ValidPathInfo::new(path, content.nar_hash, content.nar_size);
        info.references = how.references.clone();
        info.ca = Some(content.ca);
        self.write_object(&info.path, how.repair, |real| {
            let written = match &content.nar {
                Some(nar) => {
                    restore(&mut NarReader::new(&nar[..]), real, self.restore_options())?;
                    return Ok(());
                }
                None => write(real)?,
            };
            if written != (content.nar_hash, content.nar_size) {
                return Err(StoreError::Other(format!(
                    "'{}' changed while it was added to the store",
                    how.name
                )));
            }
            Ok(())
        })?;
        self.register(vec![Registration { info: &info, outputs: None }])?;
        self.path_info(&info.path).map(|stored| stored.unwrap_or(info))
    }

    /// Puts an object to its place: whatever lies there goes, `write` writes, and what `write` cannot do itself is
    /// made canonical and durable. The path's lock must be held. After an error nothing is left.
    pub(crate) fn write_object(
        &self,
        path: &StorePath,
        repair: bool,
        write: impl FnOnce(&Path) -> StoreResult<()>,
    ) -> StoreResult<()> {
        let real = self.real(path);
        remove_tree(&real)?;
        let result = write(&real).and_then(|()| self.settle_object(&real, repair));
        if result.is_err() {
            // The error that counts is the first one.
            let _ = remove_tree(&real);
        }
        result
    }

    fn settle_object(&self, real: &Path, repair: bool) -> StoreResult<()> {
        let config = &self.inner.config;
        if has_foreign_attributes(real, &config.ignored_acls)? {
            let options = CanonicaliseOptions { uid_range: None, ignored_acls: Some(&config.ignored_acls) };
            canonicalise_metadata(real, &options, &mut Default::default())?;
        }
        self.optimise_new(real, repair)?;
        if config.fsync_store_paths {
            sync_dir(&config.real_store_dir)?;
        }
        Ok(())
    }

    pub(crate) fn restore_options(&self) -> RestoreOptions {
        let config = &self.inner.config;
        RestoreOptions {
            case_hack: config.use_case_hack,
            canonical: Canonical::Yes,
            preallocate: config.preallocate_contents,
            sync: config.fsync_store_paths,
        }
    }

    /// Takes the lock of one path.
    pub(crate) fn lock_path(&self, path: &StorePath) -> StoreResult<PathLocks> {
        PathLocks::lock(&[self.real(path)].into(), &|| {
            self.say(format!("waiting for lock on '{}'...", self.display(path)));
        })
    }
}

pub(crate) fn sync_dir(dir: &Path) -> StoreResult<()> {
    let sync = || std::fs::File::open(dir)?.sync_all();
    sync().map_err(StoreError::io("syncing", dir))
}

fn no_git() -> StoreError {
    StoreError::Other(
        "experimental Nix feature 'git-hashing' is disabled; adding by git hash is not supported yet".into(),
    )
}

/// The archive of a regular file as flat methods store it (never executable), and the hash of its bytes.
fn dump_flat<W: Write>(source: &Path, algo: HashAlgo, sink: W) -> StoreResult<(W, Hash)> {
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

struct IngestSink {
    sha256: HashSink,
    other: Option<Hasher>,
    buffer: Option<Vec<u8>>,
    limit: usize,
}

impl Write for IngestSink {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.sha256.update(data);
        if let Some(other) = &mut self.other {
            other.update(data);
        }
        match &mut self.buffer {
            Some(buffer) if buffer.len() + data.len() <= self.limit => buffer.extend_from_slice(data),
            _ => self.buffer = None,
        }
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct TeeSink<W> {
    hash: HashSink,
    out: W,
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

/// A directory in the store whose lock tells collectors that it is in use; removed when dropped.
struct Staging {
    path: PathBuf,
    _lock: std::os::fd::OwnedFd,
}

impl Staging {
    fn new(store: &LocalStore) -> StoreResult<Staging> {
        loop {
            let name = format!("tmp-{}-{:016x}", std::process::id(), random());
            let path = store.inner.config.real_store_dir.join(name);
            let io = |operation| {
                let path = path.clone();
                move |e: Errno| StoreError::io(operation, path)(e.into())
            };
            match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700)) {
                Err(Errno::EXIST) => continue,
                other => other.map_err(io("creating directory"))?,
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            // A collector may take it before it is locked.
            let Ok(fd) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
            crate::flock::lock(&fd, crate::flock::Kind::Exclusive, &|| ()).map_err(io("locking"))?;
            if path.exists() {
                return Ok(Staging { path, _lock: fd });
            }
        }
    }

    /// Moves the staged object `x`. Moving a directory needs write permission on it, so that comes last.
    fn move_to(&self, dest: &Path) -> StoreResult<()> {
        let staged = self.path.join("x");
        let io = |operation| move |e: Errno| StoreError::io(operation, dest)(e.into());
        let is_dir = staged.symlink_metadata().is_ok_and(|m| m.is_dir());
        if is_dir {
            rustix::fs::chmod(&staged, Mode::from_raw_mode(0o755)).map_err(io("changing mode of"))?;
        }
        rustix::fs::rename(&staged, dest).map_err(io("moving to"))?;
        if is_dir {
            rustix::fs::chmod(dest, Mode::from_raw_mode(0o555)).map_err(io("changing mode of"))?;
            let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(dest.as_os_str()))
                .map_err(|_| StoreError::Other("a path holds a NUL byte".into()))?;
            crate::canonicalise::set_time(CWD, &name).map_err(io("changing modification time of"))?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = remove_tree(&self.path);
    }
}

/// Enough for names that must not meet by accident.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

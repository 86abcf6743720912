//! Adding content-addressed objects: files from disk, bytes, archives.
//!
//! The path follows from the content, so content is read before it is written: once through a hash, and into memory
//! as far as the archive fits there. Only what is not valid yet is written, under its lock, with its metadata
//! already canonical.

use crate::canonicalise::{CanonicaliseOptions, canonicalise_metadata, has_foreign_attributes};
use crate::ingest::{IngestSink, Keep, OtherHash, TeeSink, dump_flat};
use crate::register::Registration;
use crate::remove::remove_tree;
use crate::staging::Staging;
use crate::store::LocalStore;
use crate::stream;
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, Hasher, StorePath, ValidPathInfo};
use firn_nar::fs::{Canonical, DumpOptions, Filter, RestoreOptions, dump_path, restore};
use firn_nar::{Event, HashReader, HashSink, NarError, NarReader, NarWriter, Node, git};
use firn_store::locks::PathLocks;
use firn_store::{StoreError, StoreResult};
use std::collections::BTreeSet;
use std::io::{BufReader, Cursor, Read, Write};
use std::path::Path;

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
    content: Content,
}

/// Where the content waits for its place.
enum Content {
    /// The archive in memory.
    Memory(Vec<u8>),
    /// Restored, beside its place.
    Staged(Staging),
    /// Nowhere: it is read again if it is needed.
    Dropped,
}

impl LocalStore {
    /// Adds the file, symlink or directory at `source`. `filter` leaves files out.
    pub fn add_path(
        &self,
        source: &Path,
        how: Ingestion<'_>,
        mut filter: Option<Filter<'_>>,
    ) -> StoreResult<ValidPathInfo> {
        let ingested = self.ingest_path(source, how, &mut filter, Some(self))?;
        self.finish_add(how, ingested, |dest| self.copy_path(source, how, &mut filter, dest))
    }

    /// The path that [`LocalStore::add_path`] would make, without making it.
    pub fn path_of_source(
        &self,
        source: &Path,
        how: Ingestion<'_>,
        mut filter: Option<Filter<'_>>,
    ) -> StoreResult<(StorePath, ContentAddress)> {
        let ca = self.ingest_path(source, how, &mut filter, None)?.ca;
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
            CaMethod::Git => git::hash_archive(&mut NarReader::new(&nar[..]), how.algo)?,
        };
        let ca = ContentAddress { method: how.method, hash };
        let nar_size = nar.len() as u64;
        let ingested = Ingested { ca, nar_hash, nar_size, content: Content::Memory(nar) };
        self.finish_add(how, ingested, |_| Err(StoreError::Other("the archive is in memory".into())))
    }

    /// Adds what an archive holds, read up to the end of `input`.
    pub fn add_archive(&self, mut input: impl Read, how: Ingestion<'_>) -> StoreResult<ValidPathInfo> {
        let limit = self.inner.config.nar_buffer_size;
        let mut head = Vec::new();
        (&mut input).take(limit as u64).read_to_end(&mut head).map_err(NarError::read)?;
        if head.len() < limit {
            let (ca, nar_hash) = self.ingest_archive(how, &mut NarReader::new(&head[..]), &head)?;
            let nar_size = head.len() as u64;
            let ingested = Ingested { ca, nar_hash, nar_size, content: Content::Memory(head) };
            return self
                .finish_add(how, ingested, |_| Err(StoreError::Other("the archive is in memory".into())));
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
            _ => self.ingest_path(&staged, how, &mut None, None)?.ca.hash,
        };
        let ca = ContentAddress { method: how.method, hash };
        let ingested = Ingested { ca, nar_hash, nar_size, content: Content::Staged(staging) };
        self.finish_add(how, ingested, |_| Err(StoreError::Other("the archive is staged".into())))
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
            CaMethod::Git => git::hash_archive(&mut NarReader::new(nar), how.algo)?,
        };
        Ok((ContentAddress { method: how.method, hash }, nar_hash))
    }

    /// Reads the source through the hashes. An archive that does not fit in memory is restored beside its place at
    /// the same time if it is likely to be new to the store `staging`.
    fn ingest_path(
        &self,
        source: &Path,
        how: Ingestion<'_>,
        filter: &mut Option<Filter<'_>>,
        staging: Option<&LocalStore>,
    ) -> StoreResult<Ingested> {
        let mut sink = IngestSink {
            sha256: HashSink::new(HashAlgo::Sha256),
            other: OtherHash::of(how.method, how.algo)?,
            keep: Keep::Memory(Vec::new()),
            limit: self.inner.config.nar_buffer_size,
            staging: staging.map(|store| (store, how)),
            failed: None,
        };
        let dumped = self.dump_source(source, how, filter, &mut sink).map(|(_, flat)| flat);
        if let Some(error) = sink.failed.take() {
            return Err(error);
        }
        let content = match sink.keep {
            Keep::Memory(nar) => Content::Memory(nar),
            Keep::Dropped => Content::Dropped,
            Keep::Streaming { writer, restoring, staging } => {
                drop(writer);
                let restored = restoring.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                match (&dumped, restored) {
                    // The writing side's error is the cause if the reading side found it gone.
                    (Ok(_) | Err(StoreError::Nar(NarError::Write(_))), Err(error)) => {
                        return Err(error.into());
                    }
                    _ => Content::Staged(staging),
                }
            }
        };
        let flat = dumped?;
        let (nar_hash, nar_size) = sink.sha256.finish();
        let other = sink.other.map(OtherHash::finish).transpose()?;
        let hash = flat.or(other).unwrap_or(nar_hash);
        Ok(Ingested { ca: ContentAddress { method: how.method, hash }, nar_hash, nar_size, content })
    }

    /// Whether some valid path has that name.
    pub(crate) fn has_name(&self, name: &str) -> StoreResult<bool> {
        let ending = format!("-{name}");
        let from_end = -i64::try_from(ending.len()).unwrap_or(0);
        self.query(|c| {
            c.prepare_cached("select 1 from ValidPaths where substr(path, ?) = ? limit 1")?
                .exists(rusqlite::params![from_end, ending])
        })
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
            CaMethod::NixArchive | CaMethod::Git => {
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
        content: Ingested,
        write: impl FnOnce(&Path) -> StoreResult<(Hash, u64)>,
    ) -> StoreResult<ValidPathInfo> {
        let path = self.path_of(how, &content.ca)?;
        self.add_temp_roots([&path])?;
        if self.lower().is_some() {
            // What was added belongs to the overlay's own database too.
            self.is_valid(&path)?;
        }
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
        if how.repair
            && let Some(info) = self.path_info(&path)?
            && self.is_whole(&info)
        {
            // Writing it again would take it away from its users for a moment.
            return Ok(info);
        }
        let mut info = ValidPathInfo::new(path, content.nar_hash, content.nar_size);
        info.references = how.references.clone();
        info.ca = Some(content.ca);
        self.write_object(&info.path, how.repair, |real| {
            let written = match &content.content {
                Content::Memory(nar) => {
                    restore(&mut NarReader::new(&nar[..]), real, self.restore_options())?;
                    return Ok(());
                }
                Content::Staged(staging) => {
                    return staging.move_to(real, self.inner.config.fsync_store_paths);
                }
                Content::Dropped => write(real)?,
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

    /// Whether the files of a valid path are what they should be.
    fn is_whole(&self, info: &ValidPathInfo) -> bool {
        let undo_case_hack = self.inner.config.use_case_hack;
        let options = || DumpOptions { undo_case_hack, filter: None };
        crate::verify::hash_path(&self.real(&info.path), &options)
            .is_ok_and(|found| found == (info.nar_hash, info.nar_size))
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
        self.auto_gc()?;
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
            crate::durable::sync_dir(&config.real_store_dir)?;
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

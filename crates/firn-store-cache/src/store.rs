//! The cache as a store.

mod facts;

use crate::add::{self, Packed};
use crate::config::CacheConfig;
use crate::debug_info;
use crate::disk_cache::{self, DiskCache, DiskCacheConfig, Known};
use crate::fetch;
use crate::files::{Content, Files};
use crate::listing;
use crate::nar_cache;
use async_trait::async_trait;
use firn_core::{
    CaMethod, ContentAddress, Hash, HashAlgo, HashFormat, NarInfo, StoreDir, StorePath, ValidPathInfo,
};
use firn_derivation::Derivation;
use firn_nar::fs::{DumpOptions, FileKind, dump_path};
use firn_nar::{Event, NarReader, NarWriter, Node};
use firn_store::activity::{Logger, Verbosity};
use firn_store::{
    AddSource, HeldNar, LogStore, NarSink, NarSource, Realisation, Store, StoreError, StoreResult,
    SubstituterProperties, Trust,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::sync::{OnceCell, Semaphore};

/// Questions on their way at once. Connections are bounded by the client.
const AT_ONCE: usize = 128;

/// Largest derivation that is read, in bytes.
const MAX_DERIVATION: u64 = 256 << 20;

/// A binary cache. Cheap to clone; reached at first use.
#[derive(Clone)]
pub struct CacheStore {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<CacheConfig>,
    files: Box<dyn Files>,
    /// URI with parameters.
    uri: String,
    disk_cache: Option<DiskCacheConfig>,
    /// That of `disk_cache`, opened when the cache is first asked something.
    opened_disk_cache: OnceLock<Option<Arc<DiskCache>>>,
    ca_derivations: bool,
    /// Seconds for which absence is believed in this process.
    negative_ttl: Duration,
    logger: Arc<dyn Logger>,
    properties: OnceCell<SubstituterProperties>,
    infos: Mutex<HashMap<String, (Instant, Option<Arc<NarInfo>>)>>,
    /// Questions on their way, by hash part: who asks the same waits for the same answer.
    asked: Mutex<HashMap<String, Arc<OnceCell<Answer>>>>,
    /// Archives that are unpacked before their turn; a core is left for questions.
    unpacking: Semaphore,
}

/// The answer to a question that several may have asked.
type Answer = Result<Option<Arc<NarInfo>>, Arc<StoreError>>;

/// What a [`CacheStore`] is made of.
pub(crate) struct Parts {
    pub config: Arc<CacheConfig>,
    pub files: Box<dyn Files>,
    pub uri: String,
    pub disk_cache: Option<DiskCacheConfig>,
    pub ca_derivations: bool,
    pub negative_ttl: Duration,
    pub logger: Arc<dyn Logger>,
}

impl Inner {
    fn disk_cache(&self) -> Option<&Arc<DiskCache>> {
        self.opened_disk_cache.get_or_init(|| disk_cache::shared(self.disk_cache.as_ref()?)).as_ref()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(Some(cache)) = self.opened_disk_cache.get() {
            cache.flush();
        }
    }
}

impl CacheStore {
    pub(crate) fn new(parts: Parts) -> CacheStore {
        CacheStore {
            inner: Arc::new(Inner {
                config: parts.config,
                files: parts.files,
                uri: parts.uri,
                disk_cache: parts.disk_cache,
                opened_disk_cache: OnceLock::new(),
                ca_derivations: parts.ca_derivations,
                negative_ttl: parts.negative_ttl,
                logger: parts.logger,
                properties: OnceCell::new(),
                infos: Mutex::default(),
                asked: Mutex::default(),
                unpacking: Semaphore::new(unpackers()),
            }),
        }
    }

    pub fn config(&self) -> &CacheConfig {
        &self.inner.config
    }

    fn files(&self) -> &dyn Files {
        &*self.inner.files
    }

    /// Where the cache is, without parameters.
    fn place(&self) -> &str {
        self.files().uri()
    }

    fn dir(&self) -> &StoreDir {
        &self.inner.config.store_dir
    }

    /// Adds an archive whose facts follow from its hash and size.
    async fn add(
        &self,
        source: NarSource<'_>,
        repair: bool,
        make_info: impl FnOnce(Hash, u64) -> StoreResult<ValidPathInfo> + Send,
    ) -> StoreResult<ValidPathInfo> {
        self.properties().await?;
        let start = Instant::now();
        let config = &*self.inner.config;
        let packed = add::pack(config, self.files().staging(), source).await?;
        let mut info = make_info(packed.nar_hash, packed.nar_size)?;
        info.ultimate = false;
        self.inner.logger.log(
            Verbosity::Talkative,
            format!(
                "copying path '{}' ({} bytes, compressed {:.1}% in {} ms) to binary cache",
                self.dir().display(&info.path),
                info.nar_size,
                (1.0 - packed.file_size as f64 / info.nar_size.max(1) as f64) * 100.0,
                start.elapsed().as_millis()
            )
            .as_bytes(),
        );
        let others: BTreeSet<StorePath> =
            info.references.iter().filter(|r| **r != info.path).cloned().collect();
        let known = self.query_path_infos(&others).await?;
        if let Some(missing) = others.iter().find(|reference| !known.contains_key(*reference)) {
            return Err(StoreError::Other(format!(
                "cannot add '{}' to the binary cache because the reference '{}' is not valid",
                self.dir().display(&info.path),
                self.dir().display(missing)
            )));
        }
        self.upload(info, packed, repair).await
    }

    async fn upload(
        &self,
        mut info: ValidPathInfo,
        packed: Packed,
        repair: bool,
    ) -> StoreResult<ValidPathInfo> {
        let config = &*self.inner.config;
        let Packed { file, file_hash, file_size, listing, .. } = packed;
        let url =
            format!("nar/{}.nar{}", file_hash.to_base(HashFormat::Nix32), config.compression.extension());
        if config.write_nar_listing {
            let name = format!("{}.ls", info.path.hash_part());
            let content = Content::Bytes(listing::to_file(&listing).into());
            self.files().put(&name, content, "application/json").await?;
        }
        if config.index_debug_info {
            let uploads = debug_info::members(&listing).into_iter().map(|(id, member)| {
                let (key, target) = (format!("debuginfo/{id}"), format!("../{url}"));
                async move {
                    if self.files().exists(&key).await? {
                        return Ok(());
                    }
                    let text = serde_json::json!({ "archive": target, "member": member }).to_string();
                    self.files().put(&key, Content::Bytes(text.into()), "application/json").await
                }
            });
            stream::iter(uploads).buffer_unordered(25).try_collect::<()>().await?;
        }
        if repair || !self.files().exists(&url).await? {
            self.files().put(&url, Content::File(file), "application/x-nix-nar").await?;
        }
        let fingerprint = info.fingerprint(self.dir());
        for key in &config.secret_keys {
            info.signatures.insert(key.sign(fingerprint.as_bytes()));
        }
        let mut nar_info = NarInfo::new(info.clone());
        nar_info.url = url;
        nar_info.compression = config.compression.name().to_owned();
        nar_info.file_hash = Some(file_hash);
        nar_info.file_size = Some(file_size);
        self.write_info(nar_info).await?;
        Ok(info)
    }

    /// Adds content whose content address is known, as the archive that `write` makes.
    async fn add_addressed(
        &self,
        name: &str,
        ca: ContentAddress,
        references: &BTreeSet<StorePath>,
        repair: bool,
        write: impl FnOnce(firn_http::pipe::PipeWriter) -> StoreResult<()> + Send + 'static,
    ) -> StoreResult<ValidPathInfo> {
        let references_for_path =
            firn_core::store_path::References { others: references.clone(), self_reference: false };
        let path = self.dir().make_fixed_output_path(&ca, name, &references_for_path)?;
        if !repair && let Some(info) = self.info(&path).await? {
            return Ok(info.info.clone());
        }
        let (sender, reader) = firn_http::pipe::pipe(1 << 20);
        let work = tokio::task::spawn_blocking(move || write(firn_http::pipe::PipeWriter::new(sender)));
        let mut source = PipeSource { reader, piece: bytes::Bytes::new() };
        let references = references.clone();
        let added = self
            .add(&mut source, repair, move |hash, size| {
                let mut info = ValidPathInfo::new(path, hash, size);
                info.references = references;
                info.ca = Some(ca);
                Ok(info)
            })
            .await;
        match work.await {
            // What could not be read is the cause of an archive that ends early.
            Ok(Err(error)) if added.is_err() => Err(error),
            _ => added,
        }
    }
}

/// Archives that are unpacked at once before their turn.
fn unpackers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

/// An archive of this cache in memory.
struct Held {
    store: CacheStore,
    info: Arc<NarInfo>,
    archive: fetch::Held,
}

#[async_trait]
impl HeldNar for Held {
    fn whole(&self) -> Option<&[u8]> {
        match &self.archive {
            fetch::Held::Nar(nar) => Some(nar),
            fetch::Held::File(_) => None,
        }
    }

    async fn pass(&self, sink: NarSink<'_>) -> StoreResult<()> {
        match &self.archive {
            fetch::Held::Nar(nar) => {
                sink.write_all(nar).await.map_err(|e| firn_nar::NarError::Write(e).into())
            }
            fetch::Held::File(file) => {
                let shown = self.store.dir().display(&self.info.info.path);
                fetch::unpack(self.store.files(), &self.info, &shown, Some(file.clone()), sink).await
            }
        }
    }
}

/// A pipe as an asynchronous reader.
struct PipeSource {
    reader: firn_http::pipe::PipeReader,
    piece: bytes::Bytes,
}

impl tokio::io::AsyncRead for PipeSource {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        out: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if self.piece.is_empty() {
            match std::task::ready!(self.reader.poll_next(cx)) {
                None => return std::task::Poll::Ready(Ok(())),
                Some(piece) => self.piece = piece?,
            }
        }
        let n = self.piece.len().min(out.remaining());
        out.put_slice(&self.piece.split_to(n));
        std::task::Poll::Ready(Ok(()))
    }
}

/// The archive of one regular file.
fn file_archive(contents: &[u8], out: impl std::io::Write) -> StoreResult<()> {
    let mut nar = NarWriter::new(out);
    nar.regular(b"", false, contents)?;
    nar.finish()?;
    Ok(())
}

#[async_trait]
impl Store for CacheStore {
    fn store_dir(&self) -> &StoreDir {
        self.dir()
    }

    fn uri(&self) -> String {
        self.inner.uri.clone()
    }

    async fn connect(&self) -> StoreResult<()> {
        self.properties().await.map(drop)
    }

    async fn substituter_properties(&self) -> StoreResult<SubstituterProperties> {
        self.properties().await
    }

    async fn query_path_info(&self, path: &StorePath) -> StoreResult<Option<Arc<ValidPathInfo>>> {
        Ok(self.info(path).await?.map(|info| Arc::new(info.info.clone())))
    }

    async fn query_nar_info(&self, path: &StorePath) -> StoreResult<Option<Arc<NarInfo>>> {
        self.info(path).await
    }

    async fn query_path_infos(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, Arc<ValidPathInfo>>> {
        self.properties().await?;
        let answers = stream::iter(paths.iter().cloned()).map(|path| async move {
            let info = self.info(&path).await?;
            Ok::<_, StoreError>(info.map(|info| (path, Arc::new(info.info.clone()))))
        });
        let found: Vec<_> = answers.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn query_valid_paths(&self, paths: &BTreeSet<StorePath>) -> StoreResult<BTreeSet<StorePath>> {
        Ok(self.query_path_infos(paths).await?.into_keys().collect())
    }

    async fn query_all_valid_paths(&self) -> StoreResult<BTreeSet<StorePath>> {
        self.properties().await?;
        let Some(parts) = self.files().hash_parts().await? else {
            return Err(self.unsupported("queryAllValidPaths"));
        };
        let unknown: BTreeSet<StorePath> =
            parts.iter().filter_map(|part| StorePath::of_hash_part(part).ok()).collect();
        let infos = self.query_path_infos(&unknown).await?;
        Ok(infos.into_values().map(|info| info.path.clone()).collect())
    }

    async fn query_referrers(&self, _: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        Err(self.unsupported("queryReferrers"))
    }

    async fn query_valid_derivers(&self, _: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        Ok(BTreeSet::new())
    }

    async fn query_derivation_outputs(
        &self,
        drv: &StorePath,
    ) -> StoreResult<BTreeMap<String, Option<StorePath>>> {
        firn_store::outputs::derivation_outputs(self, drv, self.inner.ca_derivations).await
    }

    async fn query_path_from_hash_part(&self, hash_part: &str) -> StoreResult<Option<StorePath>> {
        let info = self.info(&StorePath::of_hash_part(hash_part)?).await?;
        Ok(info.map(|info| info.info.path.clone()))
    }

    async fn query_realisation(&self, id: &str) -> StoreResult<Option<Realisation>> {
        self.properties().await?;
        if let Some(cache) = self.inner.disk_cache() {
            match cache.realisation(self.place(), id)? {
                Known::Present(realisation) => return Ok(Some(realisation)),
                Known::Absent => return Ok(None),
                Known::Unknown => {}
            }
        }
        let file = realisation_file(id)?;
        let found = match self.files().get(&file).await? {
            None => None,
            Some(text) => Some(Realisation::from_json(&text, Some(id), &file)?),
        };
        if let Some(cache) = self.inner.disk_cache() {
            cache.set_realisation(self.place(), id, found.as_ref())?;
        }
        Ok(found)
    }

    async fn register_realisation(&self, realisation: &Realisation, _: bool) -> StoreResult<()> {
        self.properties().await?;
        let content = Content::Bytes(realisation.to_json().to_string().into());
        self.files().put(&realisation_file(&realisation.id)?, content, "application/json").await?;
        if let Some(cache) = self.inner.disk_cache() {
            cache.set_realisation(self.place(), &realisation.id, Some(realisation))?;
        }
        Ok(())
    }

    async fn nar_from_path(&self, path: &StorePath, sink: NarSink<'_>) -> StoreResult<()> {
        let info = self.require_info(path).await?;
        fetch::archive(self.files(), &info, &self.dir().display(path), sink).await
    }

    fn answers_side_by_side(&self) -> bool {
        true
    }

    async fn hold_nar(&self, path: &StorePath) -> StoreResult<Option<Box<dyn HeldNar>>> {
        let info = self.require_info(path).await?;
        let held = fetch::hold(self.files(), &info, &self.dir().display(path), &self.inner.unpacking).await?;
        Ok(held.map(|archive| Box::new(Held { store: self.clone(), info, archive }) as Box<dyn HeldNar>))
    }

    async fn look_into(&self, path: &StorePath, sink: NarSink<'_>) -> StoreResult<()> {
        match &self.inner.config.local_nar_cache {
            None => self.nar_from_path(path, sink).await,
            Some(dir) => nar_cache::pass(self, dir, &*self.require_info(path).await?, sink).await,
        }
    }

    async fn add_nar(
        &self,
        info: &ValidPathInfo,
        nar: NarSource<'_>,
        repair: bool,
        _check_signatures: bool,
    ) -> StoreResult<()> {
        if !repair && self.info(&info.path).await?.is_some() {
            tokio::io::copy(nar, &mut tokio::io::sink()).await.map_err(firn_nar::NarError::read)?;
            return Ok(());
        }
        self.add(nar, repair, |hash, size| {
            let path = || self.dir().display(&info.path);
            if hash != info.nar_hash && info.nar_hash != Hash::dummy() {
                return Err(StoreError::HashMismatch {
                    path: path(),
                    expected: info.nar_hash.to_prefixed(HashFormat::Nix32),
                    got: hash.to_prefixed(HashFormat::Nix32),
                });
            }
            if size != info.nar_size && info.nar_size != 0 {
                return Err(StoreError::SizeMismatch { path: path(), expected: info.nar_size, got: size });
            }
            Ok(ValidPathInfo { nar_hash: hash, nar_size: size, ..info.clone() })
        })
        .await
        .map(drop)
    }

    async fn add_to_store(
        &self,
        name: &str,
        source: AddSource<'_>,
        method: CaMethod,
        algo: HashAlgo,
        references: &BTreeSet<StorePath>,
        repair: bool,
    ) -> StoreResult<ValidPathInfo> {
        let (path, keep) = match source {
            AddSource::Path(path) => (path, None),
            AddSource::Selected { path, keep } => (path, Some(keep)),
            AddSource::Bytes(bytes) => {
                if method == CaMethod::Git {
                    return Err(self.unsupported("addToStoreFromDump"));
                }
                let hash = match method {
                    CaMethod::NixArchive => {
                        let mut sink = firn_nar::HashSink::new(algo);
                        file_archive(bytes, &mut sink)?;
                        sink.finish().0
                    }
                    _ => Hash::of(algo, bytes),
                };
                let bytes = bytes.to_vec();
                let ca = ContentAddress { method, hash };
                return self
                    .add_addressed(name, ca, references, repair, move |mut out| {
                        file_archive(&bytes, &mut out)?;
                        out.finish().map_err(|e| firn_nar::NarError::Write(e).into())
                    })
                    .await;
            }
            AddSource::Nar(nar) => {
                if method != CaMethod::NixArchive || algo != HashAlgo::Sha256 {
                    return Err(self.unsupported("addToStoreFromDump"));
                }
                let dir = self.dir();
                return self
                    .add(nar, repair, |hash, size| {
                        let ca = ContentAddress { method, hash };
                        let others = firn_core::store_path::References {
                            others: references.clone(),
                            self_reference: false,
                        };
                        let path = dir.make_fixed_output_path(&ca, name, &others)?;
                        let mut info = ValidPathInfo::new(path, hash, size);
                        info.references.clone_from(references);
                        info.ca = Some(ca);
                        Ok(info)
                    })
                    .await;
            }
        };
        let (dir, owned, named) = (self.dir().clone(), path.to_owned(), name.to_owned());
        let kept = keep.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            firn_store::source::path_of_source(&dir, &named, &owned, method, algo, kept.as_deref(), false)
        });
        let (_, ca) = hashed.await.map_err(|e| StoreError::Other(e.to_string()))??;
        let owned = path.to_owned();
        self.add_addressed(name, ca, references, repair, move |out| {
            let mut filter =
                |file: &Path, _: FileKind| Ok(keep.as_ref().is_none_or(|keep| keep.contains(file)));
            let options = DumpOptions { undo_case_hack: false, filter: Some(&mut filter) };
            let out = dump_path(&owned, out, options)?;
            out.finish().map_err(|e| firn_nar::NarError::Write(e).into())
        })
        .await
    }

    async fn add_temp_root(&self, _: &StorePath) -> StoreResult<()> {
        Ok(())
    }

    async fn add_signatures(&self, path: &StorePath, signatures: &BTreeSet<String>) -> StoreResult<()> {
        let mut info = (*self.require_info(path).await?).clone();
        info.info.signatures.extend(signatures.iter().cloned());
        self.write_info(info).await
    }

    async fn is_trusted(&self) -> StoreResult<Option<Trust>> {
        self.properties().await?;
        Ok(self.files().trust())
    }

    async fn read_derivation(&self, path: &StorePath) -> StoreResult<Derivation> {
        let shown = self.dir().display(path);
        let corrupt = |e: &dyn std::fmt::Display| {
            StoreError::Corrupt(format!("error parsing derivation '{shown}': {e}"))
        };
        let info = self.require_info(path).await?;
        if info.info.nar_size > MAX_DERIVATION {
            return Err(corrupt(&"it is too large"));
        }
        let mut nar = Vec::new();
        fetch::archive(self.files(), &info, &shown, &mut nar).await?;
        // What a derivation says is acted on before anybody else checks it.
        if Hash::of(HashAlgo::Sha256, &nar) != info.info.nar_hash {
            return Err(corrupt(&"its hash is not the one that its facts say"));
        }
        let name = Derivation::name_from_path(path).ok_or_else(|| corrupt(&"it is not a derivation"))?;
        let mut reader = NarReader::new(&nar[..]);
        let mut text = Vec::new();
        match reader.next_event()? {
            Some(Event::Node { node: Node::Regular { .. }, .. }) => {
                reader.copy_contents(|piece| {
                    text.extend_from_slice(piece);
                    Ok(())
                })?;
            }
            _ => return Err(corrupt(&"it is not a regular file")),
        }
        Derivation::parse_aterm(name, &text, self.dir()).map_err(|e| corrupt(&e))
    }

    fn as_log(&self) -> Option<&dyn LogStore> {
        Some(self)
    }
}

fn realisation_file(id: &str) -> StoreResult<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ":!+-._?=".contains(c);
    match id.contains('!') && id.chars().all(fits) {
        true => Ok(format!("realisations/{id}.doi")),
        false => Err(StoreError::Other(format!("Invalid derivation output id {id}"))),
    }
}

#[async_trait]
impl LogStore for CacheStore {
    async fn build_log(&self, path: &StorePath) -> StoreResult<Option<Vec<u8>>> {
        self.properties().await?;
        let drv = match path.is_derivation() {
            true => path.clone(),
            false => match self.info(path).await?.and_then(|info| info.info.deriver.clone()) {
                Some(deriver) => deriver,
                None => return Ok(None),
            },
        };
        Ok(self.files().get(&format!("log/{}", drv.base_name())).await?.map(|log| log.to_vec()))
    }

    async fn add_build_log(&self, drv: &StorePath, log: &[u8]) -> StoreResult<()> {
        self.properties().await?;
        let content = Content::Bytes(log.to_vec().into());
        self.files().put(&format!("log/{}", drv.base_name()), content, "text/plain; charset=utf-8").await
    }
}

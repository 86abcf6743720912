//! The asynchronous traits. Queries run where they are called: they take microseconds. What reads or writes files
//! runs on a blocking thread, with archives passed on in pieces.

use crate::add::Ingestion;
use crate::store::LocalStore;
use crate::stream;
use crate::verify::VerifyOptions;
use async_trait::async_trait;
use firn_core::{CaMethod, DerivedPath, HashAlgo, StoreDir, StorePath, ValidPathInfo};
use firn_derivation::Derivation;
use firn_nar::NarError;
use firn_store::{
    AddSource, BuildMode, BuildStore, GcOptions, GcResults, GcStore, LocalFsStore, LogStore, NarSink,
    NarSource, NarSupply, Realisation, Store, StoreError, StoreResult, SubstituterProperties, TextToAdd,
    Trust,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Runs blocking work on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    joined(tokio::task::spawn_blocking(f).await)
}

/// The result of a task; its panic goes on here.
pub(crate) fn joined<T>(ended: Result<StoreResult<T>, tokio::task::JoinError>) -> StoreResult<T> {
    match ended {
        Ok(result) => result,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Interrupted),
        },
    }
}

/// Runs blocking work that reads what `source` delivers.
async fn blocking_reader<T: Send + 'static>(
    source: NarSource<'_>,
    f: impl FnOnce(stream::ChannelReader) -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    let (writer, reader) = stream::channel();
    let work = blocking(move || f(reader));
    let feed = async move {
        loop {
            let mut piece = Vec::with_capacity(stream::PIECE);
            // Fills the piece as far as the source has bytes at hand, to keep pieces large.
            let n = source.read_buf(&mut piece).await?;
            if n == 0 {
                return Ok::<(), std::io::Error>(());
            }
            if writer.0.send(piece).await.is_err() {
                // The other side has all that it wants; what remains of this archive must still be passed over.
                tokio::io::copy(source, &mut tokio::io::sink()).await?;
                return Ok(());
            }
        }
    };
    let (result, fed) = tokio::join!(work, feed);
    match fed {
        // The source's failure is the cause; the reading side saw only an early end.
        Err(e) => Err(NarError::read(e).into()),
        Ok(()) => result,
    }
}

#[async_trait]
impl Store for LocalStore {
    fn store_dir(&self) -> &StoreDir {
        self.dir()
    }

    fn uri(&self) -> String {
        self.config().uri.clone()
    }

    async fn connect(&self) -> StoreResult<()> {
        self.init()
    }

    async fn substituter_properties(&self) -> StoreResult<SubstituterProperties> {
        // A store that cannot be opened is left out, as one on the net is that cannot be reached.
        self.init()?;
        Ok(self.config().properties)
    }

    async fn version(&self) -> StoreResult<Option<String>> {
        Ok(Some(firn_core::REFERENCE_VERSION.to_owned()))
    }

    async fn query_path_info(&self, path: &StorePath) -> StoreResult<Option<Arc<ValidPathInfo>>> {
        Ok(self.path_info(path)?.map(Arc::new))
    }

    async fn query_path_infos(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, Arc<ValidPathInfo>>> {
        self.path_infos(paths)
    }

    async fn query_closure(
        &self,
        start: &BTreeSet<StorePath>,
        include_outputs: bool,
    ) -> StoreResult<Option<BTreeSet<StorePath>>> {
        // Outputs that only realisations know are found one by one.
        if include_outputs && self.config().ca_derivations {
            return Ok(None);
        }
        self.closure_of(start, include_outputs).map(Some)
    }

    async fn query_references_among(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, BTreeSet<StorePath>>> {
        self.references_among(paths)
    }

    async fn is_valid_path(&self, path: &StorePath) -> StoreResult<bool> {
        self.is_valid(path)
    }

    async fn query_valid_paths(&self, paths: &BTreeSet<StorePath>) -> StoreResult<BTreeSet<StorePath>> {
        self.valid_among(paths)
    }

    async fn query_all_valid_paths(&self) -> StoreResult<BTreeSet<StorePath>> {
        self.all_valid_paths()
    }

    async fn query_referrers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        self.referrers(path)
    }

    async fn query_valid_derivers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        self.valid_derivers(path)
    }

    async fn query_derivation_outputs(
        &self,
        drv: &StorePath,
    ) -> StoreResult<BTreeMap<String, Option<StorePath>>> {
        self.derivation_outputs(drv)
    }

    async fn query_path_from_hash_part(&self, hash_part: &str) -> StoreResult<Option<StorePath>> {
        self.path_from_hash_part(hash_part)
    }

    async fn query_realisation(&self, id: &str) -> StoreResult<Option<Realisation>> {
        self.realisation(id)
    }

    async fn register_realisation(
        &self,
        realisation: &Realisation,
        check_signatures: bool,
    ) -> StoreResult<()> {
        if check_signatures && !self.trust().accepts_realisation(realisation) {
            return Err(StoreError::UntrustedRealisation { id: realisation.id.clone() });
        }
        self.add_realisation(realisation)
    }

    async fn nar_from_path(&self, path: &StorePath, sink: NarSink<'_>) -> StoreResult<()> {
        let (writer, mut reader) = stream::channel();
        let (store, path) = (self.clone(), path.clone());
        let work = blocking(move || store.dump(&path, writer));
        let pass = async move {
            while let Some(piece) = reader.next_piece().await {
                sink.write_all(&piece).await?;
            }
            Ok::<(), std::io::Error>(())
        };
        let (result, passed) = tokio::join!(work, pass);
        passed.map_err(NarError::Write)?;
        result
    }

    async fn add_nar(
        &self,
        info: &ValidPathInfo,
        nar: NarSource<'_>,
        repair: bool,
        check_signatures: bool,
    ) -> StoreResult<()> {
        let (store, info) = (self.clone(), info.clone());
        blocking_reader(nar, move |reader| store.import(&info, reader, repair, check_signatures)).await
    }

    async fn add_nars(
        &self,
        supply: &mut dyn NarSupply,
        repair: bool,
        check_signatures: bool,
    ) -> StoreResult<()> {
        self.import_supply(supply, repair, check_signatures).await
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
        let (store, name, references) = (self.clone(), name.to_owned(), references.clone());
        macro_rules! how {
            () => {
                Ingestion { name: &name, method, algo, references: &references, repair }
            };
        }
        match source {
            AddSource::Path(path) => {
                let path = path.to_owned();
                blocking(move || store.add_path(&path, how!(), None)).await
            }
            AddSource::Selected { path, keep } => {
                let path = path.to_owned();
                blocking(move || {
                    let mut filter = |file: &Path, _: firn_nar::fs::FileKind| Ok(keep.contains(file));
                    store.add_path(&path, how!(), Some(&mut filter))
                })
                .await
            }
            AddSource::Bytes(bytes) => {
                let bytes = bytes.to_vec();
                blocking(move || store.add_bytes(&bytes, how!())).await
            }
            AddSource::Nar(source) => {
                blocking_reader(source, move |reader| store.add_archive(reader, how!())).await
            }
        }
    }

    async fn add_texts(&self, texts: &[TextToAdd]) -> StoreResult<()> {
        // The caller is the evaluator's writer, which has a thread of its own.
        self.add_text_batch(texts)
    }

    async fn add_temp_root(&self, path: &StorePath) -> StoreResult<()> {
        self.add_temp_roots([path])
    }

    async fn add_signatures(&self, path: &StorePath, signatures: &BTreeSet<String>) -> StoreResult<()> {
        self.add_signatures_blocking(path, signatures)
    }

    async fn protocol_version(&self) -> StoreResult<Option<(u8, u8)>> {
        // That of a daemon of this version.
        Ok(Some((1, 38)))
    }

    async fn is_trusted(&self) -> StoreResult<Option<Trust>> {
        Ok(Some(Trust::Trusted))
    }

    async fn read_derivation(&self, path: &StorePath) -> StoreResult<Derivation> {
        self.read_derivation_blocking(path)
    }

    fn as_local_fs(&self) -> Option<&dyn LocalFsStore> {
        Some(self)
    }

    fn as_gc(&self) -> Option<&dyn GcStore> {
        Some(self)
    }

    fn as_log(&self) -> Option<&dyn LogStore> {
        Some(self)
    }
}

impl LocalFsStore for LocalStore {
    fn real_store_dir(&self) -> &Path {
        &self.config().real_store_dir
    }

    fn state_dir(&self) -> &Path {
        &self.config().state_dir
    }

    fn log_dir(&self) -> &Path {
        &self.config().log_dir
    }

    fn add_indirect_root(&self, path: &StorePath, link: &Path) -> StoreResult<()> {
        self.add_permanent_root(path, link).map(drop)
    }
}

#[async_trait]
impl LogStore for LocalStore {
    async fn build_log(&self, path: &StorePath) -> StoreResult<Option<Vec<u8>>> {
        let (store, path) = (self.clone(), path.clone());
        blocking(move || store.read_build_log(&path)).await
    }

    async fn add_build_log(&self, drv: &StorePath, log: &[u8]) -> StoreResult<()> {
        let (store, drv, log) = (self.clone(), drv.clone(), log.to_vec());
        blocking(move || store.write_build_log(&drv, &log)).await
    }
}

#[async_trait]
impl GcStore for LocalStore {
    async fn find_roots(&self, censor: bool) -> StoreResult<BTreeMap<StorePath, BTreeSet<String>>> {
        let store = self.clone();
        blocking(move || store.roots(censor)).await
    }

    async fn collect_garbage(&self, options: &GcOptions) -> StoreResult<GcResults> {
        let (store, options) = (self.clone(), options.clone());
        blocking(move || {
            let mut results = GcResults::default();
            store.collect(&options, &mut results).map(|()| results)
        })
        .await
    }

    async fn add_root_link(&self, link: &Path) -> StoreResult<()> {
        self.add_indirect_root_link(link)
    }

    async fn optimise(&self) -> StoreResult<()> {
        let store = self.clone();
        blocking(move || store.optimise().map(drop)).await
    }

    async fn verify(&self, check_contents: bool, repair: Option<Arc<dyn BuildStore>>) -> StoreResult<bool> {
        let store = self.clone();
        let runtime = tokio::runtime::Handle::current();
        blocking(move || {
            let again = repair.map(|builder| {
                move |path: &StorePath| {
                    let wanted = [DerivedPath::Opaque(path.clone())];
                    runtime.block_on(builder.realise(&wanted, BuildMode::Repair)).map(drop)
                }
            });
            let repair = again.as_ref().map(|again| again as &dyn Fn(&StorePath) -> StoreResult<()>);
            store.verify(&VerifyOptions { check_contents, repair })
        })
        .await
    }
}

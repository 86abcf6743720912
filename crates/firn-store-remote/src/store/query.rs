//! [`Store`]: questions, and what the other files do for it.

use super::RemoteStore;
use crate::connection::stderr_of;
use crate::convert::{from_wire_realisation, to_wire_realisation};
use crate::error::{Failure, Outcome};
use async_trait::async_trait;
use firn_core::{CaMethod, HashAlgo, StoreDir, StorePath, ValidPathInfo};
use firn_derivation::Derivation;
use firn_store::{
    AddSource, GcStore, LocalFsStore, LogStore, NarSink, NarSource, NarSupply, NarToAdd, Realisation, Store,
    StoreError, StoreResult, SubstitutablePathInfo, SubstituterProperties, TextToAdd, Trust,
};
use firn_wire::worker::{Op, Version, read_unkeyed_path_info};
use firn_wire::{Message, WireError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Requests that are written at once.
const BATCH: usize = 512;

impl RemoteStore {
    async fn paths_of(&self, op: Op, path: &StorePath) -> Outcome<BTreeSet<StorePath>> {
        let mut lease = self
            .call(op, |m, _| {
                m.path(self.dir(), path);
                Ok(())
            })
            .await?;
        let paths = lease.input.paths(self.dir()).await?;
        lease.done();
        Ok(paths)
    }

    async fn path_info(&self, path: &StorePath) -> Outcome<Option<Arc<ValidPathInfo>>> {
        if let Some(info) = self.cached(path) {
            return Ok(Some(info));
        }
        let asked = self.call(Op::QueryPathInfo, |m, _| {
            m.path(self.dir(), path);
            Ok(())
        });
        let mut lease = match asked.await {
            Ok(lease) => lease,
            // So say daemons that have no better way.
            Err(Failure::Remote(e)) if e.message.windows(12).any(|w| w == b"is not valid") => {
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        if !lease.input.bool().await? {
            lease.done();
            return Ok(None);
        }
        let info = Arc::new(read_unkeyed_path_info(&mut lease.input, self.dir(), path.clone()).await?);
        lease.done();
        self.keep(&info);
        Ok(Some(info))
    }

    /// All questions are sent without waiting for answers.
    async fn path_infos(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> Outcome<BTreeMap<StorePath, Arc<ValidPathInfo>>> {
        let mut infos = BTreeMap::new();
        let mut unknown = Vec::new();
        for path in paths {
            match self.cached(path) {
                Some(info) => drop(infos.insert(path.clone(), info)),
                None => unknown.push(path),
            }
        }
        if unknown.is_empty() {
            return Ok(infos);
        }
        let mut lease = self.lease().await?;
        let version = lease.version();
        let connection = &mut *lease;
        let (input, output) = (&mut connection.input, &mut connection.output);
        let ask = async {
            for batch in unknown.chunks(BATCH) {
                let mut message = Message::new();
                for path in batch {
                    message.num(Op::QueryPathInfo).path(self.dir(), path);
                }
                output.write_all(&message.0).await?;
                output.flush().await?;
            }
            Ok::<(), Failure>(())
        };
        let hear = async {
            let mut heard = Vec::with_capacity(unknown.len());
            for path in &unknown {
                stderr_of(input, version, &*self.logger).await?;
                if input.bool().await? {
                    let info = read_unkeyed_path_info(input, self.dir(), (*path).clone()).await?;
                    heard.push(Arc::new(info));
                }
            }
            Ok::<_, Failure>(heard)
        };
        // A refusal leaves answers on the way, so the connection is of no more use.
        let ((), heard) = tokio::try_join!(ask, hear)?;
        lease.done();
        for info in heard {
            self.keep(&info);
            infos.insert(info.path.clone(), info);
        }
        Ok(infos)
    }

    async fn valid_paths(
        &self,
        paths: &BTreeSet<StorePath>,
        substitute: bool,
    ) -> Outcome<BTreeSet<StorePath>> {
        let mut lease = self
            .call(Op::QueryValidPaths, |m, version| {
                m.paths(self.dir(), paths);
                if version.has(27) {
                    m.num(substitute);
                }
                Ok(())
            })
            .await?;
        let valid = lease.input.paths(self.dir()).await?;
        lease.done();
        Ok(valid)
    }

    async fn substitutable(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> Outcome<BTreeMap<StorePath, SubstitutablePathInfo>> {
        let mut lease = self
            .call(Op::QuerySubstitutablePathInfos, |m, version| {
                m.count(paths.len());
                for path in paths {
                    m.path(self.dir(), path);
                    if version.has(22) {
                        m.bytes("");
                    }
                }
                Ok(())
            })
            .await?;
        let mut infos = BTreeMap::new();
        for _ in 0..lease.input.count().await? {
            let path = lease.input.path(self.dir()).await?;
            let info = SubstitutablePathInfo {
                deriver: lease.input.opt_path(self.dir()).await?,
                references: lease.input.paths(self.dir()).await?,
                download_size: lease.input.u64().await?,
                nar_size: lease.input.u64().await?,
            };
            infos.insert(path, info);
        }
        lease.done();
        Ok(infos)
    }

    async fn output_map(&self, drv: &StorePath) -> Outcome<BTreeMap<String, Option<StorePath>>> {
        if !self.handshake().await?.protocol.version.has(22) {
            let drv = self.read_derivation(drv).await?;
            return Ok(drv.output_paths(self.dir()).map_err(StoreError::from)?);
        }
        let mut lease = self
            .call(Op::QueryDerivationOutputMap, |m, _| {
                m.path(self.dir(), drv);
                Ok(())
            })
            .await?;
        let mut outputs = BTreeMap::new();
        for _ in 0..lease.input.count().await? {
            let name = lease.input.text("an output's name").await?;
            outputs.insert(name, lease.input.opt_path(self.dir()).await?);
        }
        lease.done();
        Ok(outputs)
    }

    async fn realisation(&self, id: &str) -> Outcome<Option<Realisation>> {
        if !self.handshake().await?.protocol.version.has(27) {
            self.logger.warn(
                "the daemon is too old to support content-addressing derivations, please upgrade it to 2.4",
            );
            return Ok(None);
        }
        let mut lease = self
            .call(Op::QueryRealisation, |m, _| {
                m.bytes(id);
                Ok(())
            })
            .await?;
        let mut found = None;
        let old = !lease.version().has(31);
        for _ in 0..lease.input.count().await? {
            let realisation = match old {
                true => Realisation::new(id.to_owned(), lease.input.path(self.dir()).await?),
                false => from_wire_realisation(lease.input.realisation().await?),
            };
            found.get_or_insert(realisation);
        }
        lease.done();
        Ok(found)
    }

    async fn tell_realisation(&self, realisation: &Realisation) -> Outcome<()> {
        let lease = self
            .call(Op::RegisterDrvOutput, |m, version| {
                match version.has(31) {
                    true => m.realisation(&to_wire_realisation(realisation)),
                    false => m.bytes(&realisation.id).bytes(realisation.out_path.base_name()),
                };
                Ok(())
            })
            .await?;
        lease.done();
        Ok(())
    }

    /// An operation that answers with a number that means nothing.
    async fn tell(&self, op: Op, arguments: impl FnOnce(&mut Message, Version) + Send) -> Outcome<()> {
        let mut lease = self
            .call(op, |m, version| {
                arguments(m, version);
                Ok(())
            })
            .await?;
        lease.input.u64().await?;
        lease.done();
        Ok(())
    }

    pub(super) async fn tell_paths(&self, op: Op, path: &StorePath) -> Outcome<()> {
        self.tell(op, |m, _| {
            m.path(self.dir(), path);
        })
        .await
    }

    pub(super) async fn tell_text(&self, op: Op, text: &[u8]) -> Outcome<()> {
        self.tell(op, |m, _| {
            m.bytes(text);
        })
        .await
    }

    pub(super) async fn tell_nothing(&self, op: Op) -> Outcome<()> {
        self.tell(op, |_, _| ()).await
    }
}

#[async_trait]
impl Store for RemoteStore {
    fn store_dir(&self) -> &StoreDir {
        self.dir()
    }

    fn uri(&self) -> String {
        self.config.uri.clone()
    }

    async fn connect(&self) -> StoreResult<()> {
        self.handshake().await.map(drop)
    }

    async fn version(&self) -> StoreResult<Option<String>> {
        Ok(self.handshake().await?.server.program_version)
    }

    async fn protocol_version(&self) -> StoreResult<Option<(u8, u8)>> {
        let version = self.handshake().await?.protocol.version;
        Ok(Some((version.major(), version.minor())))
    }

    async fn substituter_properties(&self) -> StoreResult<SubstituterProperties> {
        Ok(self.config.properties)
    }

    async fn query_path_info(&self, path: &StorePath) -> StoreResult<Option<Arc<ValidPathInfo>>> {
        Ok(self.path_info(path).await?)
    }

    async fn query_path_infos(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, Arc<ValidPathInfo>>> {
        Ok(self.path_infos(paths).await?)
    }

    async fn is_valid_path(&self, path: &StorePath) -> StoreResult<bool> {
        if self.cached(path).is_some() {
            return Ok(true);
        }
        let ask = async {
            let mut lease = self
                .call(Op::IsValidPath, |m, _| {
                    m.path(self.dir(), path);
                    Ok(())
                })
                .await?;
            let valid = lease.input.bool().await?;
            lease.done();
            Ok::<_, Failure>(valid)
        };
        Ok(ask.await?)
    }

    async fn query_valid_paths(&self, paths: &BTreeSet<StorePath>) -> StoreResult<BTreeSet<StorePath>> {
        if paths.is_empty() {
            return Ok(BTreeSet::new());
        }
        Ok(self.valid_paths(paths, false).await?)
    }

    async fn query_valid_paths_substituting(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeSet<StorePath>> {
        if paths.is_empty() {
            return Ok(BTreeSet::new());
        }
        Ok(self.valid_paths(paths, true).await?)
    }

    async fn query_all_valid_paths(&self) -> StoreResult<BTreeSet<StorePath>> {
        let ask = async {
            let mut lease = self.call(Op::QueryAllValidPaths, |_, _| Ok(())).await?;
            // Stores are large.
            lease.input.start_message(4 << 30);
            let paths = lease.input.paths(self.dir()).await?;
            lease.done();
            Ok::<_, Failure>(paths)
        };
        Ok(ask.await?)
    }

    async fn query_referrers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        Ok(self.paths_of(Op::QueryReferrers, path).await?)
    }

    async fn query_valid_derivers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        Ok(self.paths_of(Op::QueryValidDerivers, path).await?)
    }

    async fn query_derivation_outputs(
        &self,
        drv: &StorePath,
    ) -> StoreResult<BTreeMap<String, Option<StorePath>>> {
        Ok(self.output_map(drv).await?)
    }

    async fn query_path_from_hash_part(&self, hash_part: &str) -> StoreResult<Option<StorePath>> {
        let ask = async {
            let mut lease = self
                .call(Op::QueryPathFromHashPart, |m, _| {
                    m.bytes(hash_part);
                    Ok(())
                })
                .await?;
            let path = lease.input.opt_path(self.dir()).await?;
            lease.done();
            Ok::<_, Failure>(path)
        };
        Ok(ask.await?)
    }

    async fn query_substitutable(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, SubstitutablePathInfo>> {
        if paths.is_empty() {
            return Ok(BTreeMap::new());
        }
        Ok(self.substitutable(paths).await?)
    }

    async fn query_realisation(&self, id: &str) -> StoreResult<Option<Realisation>> {
        Ok(self.realisation(id).await?)
    }

    async fn register_realisation(&self, realisation: &Realisation, _: bool) -> StoreResult<()> {
        Ok(self.tell_realisation(realisation).await?)
    }

    async fn nar_from_path(&self, path: &StorePath, sink: NarSink<'_>) -> StoreResult<()> {
        Ok(self.fetch_nar(path, sink).await?)
    }

    async fn add_nar(
        &self,
        info: &ValidPathInfo,
        nar: NarSource<'_>,
        repair: bool,
        check_signatures: bool,
    ) -> StoreResult<()> {
        Ok(self.send_nar(info, nar, repair, check_signatures).await?)
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
        Ok(self.send_source(name, source, method, algo, references, repair).await?)
    }

    async fn add_nars(
        &self,
        supply: &mut dyn NarSupply,
        repair: bool,
        check_signatures: bool,
    ) -> StoreResult<()> {
        if self.takes_many().await? {
            return Ok(self.send_nars(supply, repair, check_signatures).await?);
        }
        while let Some(NarToAdd { info, mut archive }) = supply.next().await? {
            self.add_nar(&info, &mut archive, repair, check_signatures).await?;
        }
        Ok(())
    }

    async fn takes_nars_together(&self) -> StoreResult<bool> {
        self.takes_many().await
    }

    async fn add_paths(
        &self,
        sources: &[(&str, &Path)],
        method: CaMethod,
        algo: HashAlgo,
    ) -> StoreResult<Vec<ValidPathInfo>> {
        self.send_paths(sources, method, algo).await
    }

    async fn add_texts(&self, texts: &[TextToAdd]) -> StoreResult<()> {
        self.send_texts(texts).await
    }

    async fn add_temp_root(&self, path: &StorePath) -> StoreResult<()> {
        if self.pool.has_temp_root(path) {
            return Ok(());
        }
        self.tell_paths(Op::AddTempRoot, path).await?;
        self.pool.note_temp_root(path);
        Ok(())
    }

    async fn add_signatures(&self, path: &StorePath, signatures: &BTreeSet<String>) -> StoreResult<()> {
        self.tell(Op::AddSignatures, |m, _| {
            m.path(self.dir(), path).strings(signatures);
        })
        .await?;
        self.forget();
        Ok(())
    }

    async fn is_trusted(&self) -> StoreResult<Option<Trust>> {
        let trusted = self.handshake().await?.server.trusted;
        Ok(trusted.map(|trusted| if trusted { Trust::Trusted } else { Trust::NotTrusted }))
    }

    async fn read_derivation(&self, path: &StorePath) -> StoreResult<Derivation> {
        let bytes = match &self.config.local {
            Some(local) => {
                let real = local.real_store_dir.join(path.base_name());
                match std::fs::read(&real) {
                    Ok(bytes) => bytes,
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                        return Err(StoreError::InvalidPath { path: self.dir().display(path) });
                    }
                    Err(e) => return Err(StoreError::io("reading", real)(e)),
                }
            }
            None => file_of_archive(self, path).await?,
        };
        parse_derivation(self.dir(), path, &bytes)
    }

    fn as_local_fs(&self) -> Option<&dyn LocalFsStore> {
        self.config.local.is_some().then_some(self)
    }

    fn as_gc(&self) -> Option<&dyn GcStore> {
        Some(self)
    }

    fn as_log(&self) -> Option<&dyn LogStore> {
        Some(self)
    }
}

/// Derivations larger than this are not read from afar, in bytes.
const MAX_DERIVATION: usize = 256 * 1024 * 1024;

/// The contents of a path that is one file, from its archive.
pub(crate) async fn file_of_archive(store: &dyn Store, path: &StorePath) -> StoreResult<Vec<u8>> {
    let mut archive = Bounded(Vec::new());
    store.nar_from_path(path, &mut archive).await?;
    firn_store::regular_file_of_archive(&archive.0).map_err(|error| match error {
        StoreError::Other(_) => {
            StoreError::Other(format!("path '{}' is not a regular file", store.store_dir().display(path)))
        }
        error => error,
    })
}

/// A buffer that does not grow without end.
struct Bounded(Vec<u8>);

impl tokio::io::AsyncWrite for Bounded {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        data: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        if self.0.len() + data.len() > MAX_DERIVATION {
            return std::task::Poll::Ready(Err(std::io::Error::other("the file is too large")));
        }
        self.0.extend_from_slice(data);
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

pub(crate) fn parse_derivation(dir: &StoreDir, path: &StorePath, bytes: &[u8]) -> StoreResult<Derivation> {
    let shown = dir.display(path);
    let name = Derivation::name_from_path(path)
        .ok_or_else(|| StoreError::Other(format!("path '{shown}' is not a derivation")))?;
    Derivation::parse_aterm(name, bytes, dir)
        .map_err(|e| StoreError::Corrupt(format!("error parsing derivation '{shown}': {e}")))
}

impl From<firn_core::store_path::NameError> for Failure {
    fn from(error: firn_core::store_path::NameError) -> Failure {
        Failure::Store(error.into())
    }
}

impl From<firn_core::StorePathError> for Failure {
    fn from(error: firn_core::StorePathError) -> Failure {
        Failure::Wire(WireError::Path(error))
    }
}

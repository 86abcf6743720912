//! A store in the serve protocol: `nix-store --serve --write` at the other end of ssh.

use crate::addition::Addition;
use crate::connect::{Connector, Said};
use crate::convert::{from_wire_result, status};
use crate::error::{Failure, Outcome};
use crate::store::query::{file_of_archive, parse_derivation};
use async_trait::async_trait;
use firn_core::raw_text;
use firn_core::{
    CaMethod, DerivedPath, HashAlgo, OutputsSpec, SingleDerivedPath, StoreDir, StorePath, ValidPathInfo,
};
use firn_derivation::Derivation;
use firn_store::copy::shown_uri;
use firn_store::{
    AddSource, BuildMode, BuildResult, BuildStatus, BuildStore, Missing, NarSink, NarSource, NarStream,
    Realisation, Store, StoreError, StoreResult, SubstituterProperties,
};
use firn_wire::serve::{
    BuildOptions, Command, Version, client_greeting, read_build_result, read_path_info, read_server_greeting,
};
use firn_wire::values::render_path_with_outputs;
use firn_wire::worker;
use firn_wire::{Message, WireError, WireReader};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

/// How to speak with the store.
pub struct ServeConfig {
    pub dir: StoreDir,
    pub uri: String,
    pub host: String,
    /// As a substituter.
    pub properties: SubstituterProperties,
    pub max_connections: usize,
    pub options: BuildOptions,
}

/// Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct ServeStore {
    shared: Arc<Shared>,
}

struct Shared {
    config: ServeConfig,
    connector: Box<dyn Connector>,
    limit: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    input: WireReader<Box<dyn AsyncRead + Send + Unpin>>,
    output: Box<dyn AsyncWrite + Send + Unpin>,
    version: Version,
    _keep: Option<Box<dyn Any + Send>>,
}

/// A connection in use; it goes back with `done`, else it is closed.
struct Lease<'a> {
    connection: Connection,
    store: &'a Shared,
    _permit: Option<tokio::sync::SemaphorePermit<'a>>,
}

impl Lease<'_> {
    fn done(self) {
        self.store.idle.lock().push(self.connection);
    }

    async fn send(&mut self, message: &Message) -> Outcome<()> {
        let sent = async {
            self.connection.output.write_all(&message.0).await?;
            self.connection.output.flush().await
        };
        sent.await.map_err(|e| self.store.lost(e.into()))
    }
}

impl Shared {
    /// An error of the stream: the other side says what went wrong on its standard error only.
    fn lost(&self, error: WireError) -> Failure {
        match error.is_disconnect() {
            true => {
                StoreError::ConnectionLost(format!("connection to '{}' was lost", self.config.host)).into()
            }
            false => error.into(),
        }
    }

    async fn lease(&self) -> Outcome<Lease<'_>> {
        let permit = self.limit.acquire().await.ok();
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Lease { connection, store: self, _permit: permit })
    }

    async fn connect(&self) -> Outcome<Connection> {
        let host = &self.config.host;
        let transport = self.connector.connect().await?;
        let mut output = transport.output;
        let mut input = WireReader::new(transport.input);
        let greeting = client_greeting(Version::LATEST);
        let greet = async {
            let sent = async {
                output.write_all(&greeting.0).await?;
                output.flush().await
            };
            let sent = sent.await;
            tokio::io::AsyncBufReadExt::fill_buf(&mut input).await?;
            let first = input.at_hand().to_vec();
            // Who does not listen may still have said why.
            if first.is_empty() {
                sent?;
            }
            match read_server_greeting(&mut input, host).await {
                Err(WireError::Invalid(message)) => Ok(Err((message, first))),
                other => other.map(Ok),
            }
        };
        let version = match greet.await {
            Ok(Ok(version)) => version,
            Ok(Err((message, mut first))) => {
                drop(output);
                let mut rest = Vec::new();
                let drain = input.read_to_end(&mut rest);
                let _ = tokio::time::timeout(std::time::Duration::from_secs(1), drain).await;
                first.truncate(4096);
                let text = String::from_utf8_lossy(&first).trim_end().to_owned();
                let got =
                    if message.contains("mismatch") { format!(", got '{text}'") } else { String::new() };
                return Err(StoreError::Other(format!("{message}{got}")).into());
            }
            Err(e) if e.is_disconnect() => {
                let why = Said::why(transport.said).await;
                return Err(StoreError::ConnectionLost(format!("cannot connect to '{host}'{why}")).into());
            }
            Err(e) => return Err(e.into()),
        };
        Ok(Connection { input, output, version, _keep: transport.keep })
    }
}

impl ServeStore {
    pub fn new(config: ServeConfig, connector: Box<dyn Connector>) -> ServeStore {
        let limit = Semaphore::new(config.max_connections.max(1));
        ServeStore { shared: Arc::new(Shared { config, connector, limit, idle: Mutex::default() }) }
    }

    fn dir(&self) -> &StoreDir {
        &self.shared.config.dir
    }

    async fn infos(&self, paths: &BTreeSet<StorePath>) -> Outcome<BTreeMap<StorePath, Arc<ValidPathInfo>>> {
        let mut lease = self.shared.lease().await?;
        let mut message = Message::new();
        message.num(Command::QueryPathInfos).paths(self.dir(), paths);
        lease.send(&message).await?;
        let connection = &mut lease.connection;
        connection.input.start_message(1 << 30);
        let mut infos = BTreeMap::new();
        loop {
            let path = connection.input.opt_path(self.dir()).await.map_err(|e| self.shared.lost(e))?;
            let Some(path) = path else { break };
            if !paths.contains(&path) {
                let text = format!("'{}' tells of '{path}', which nobody asked for", self.shared.config.host);
                return Err(StoreError::Other(text).into());
            }
            let info =
                read_path_info(&mut connection.input, self.dir(), path.clone(), connection.version).await?;
            infos.insert(path, Arc::new(info));
        }
        lease.done();
        Ok(infos)
    }

    /// Those that are valid; locked there against collectors while the connection lasts.
    async fn valid(
        &self,
        paths: &BTreeSet<StorePath>,
        lock: bool,
        substitute: bool,
    ) -> Outcome<BTreeSet<StorePath>> {
        let mut lease = self.shared.lease().await?;
        let mut message = Message::new();
        message.num(Command::QueryValidPaths).num(lock).num(substitute).paths(self.dir(), paths);
        lease.send(&message).await?;
        lease.connection.input.start_message(1 << 30);
        let valid = lease.connection.input.paths(self.dir()).await.map_err(|e| self.shared.lost(e))?;
        lease.done();
        Ok(valid)
    }

    async fn closure(&self, paths: &BTreeSet<StorePath>, outputs: bool) -> Outcome<BTreeSet<StorePath>> {
        let mut lease = self.shared.lease().await?;
        let mut message = Message::new();
        message.num(Command::QueryClosure).num(outputs).paths(self.dir(), paths);
        lease.send(&message).await?;
        lease.connection.input.start_message(1 << 30);
        let closure = lease.connection.input.paths(self.dir()).await.map_err(|e| self.shared.lost(e))?;
        lease.done();
        Ok(closure)
    }

    async fn fetch(&self, path: &StorePath, sink: NarSink<'_>) -> Outcome<()> {
        let mut lease = self.shared.lease().await?;
        let mut message = Message::new();
        message.num(Command::DumpStorePath).path(self.dir(), path);
        lease.send(&message).await?;
        let mut nar = NarStream::new(&mut lease.connection.input);
        let mut buffered = tokio::io::BufReader::with_capacity(256 * 1024, &mut nar);
        tokio::io::copy_buf(&mut buffered, sink).await.map_err(|e| self.shared.lost(e.into()))?;
        sink.flush().await?;
        lease.done();
        Ok(())
    }

    async fn send_nar(&self, info: &ValidPathInfo, nar: NarSource<'_>) -> Outcome<()> {
        let mut lease = self.shared.lease().await?;
        let mut message = Message::new();
        message.num(Command::AddToStoreNar);
        worker::write_path_info(&mut message, self.dir(), info);
        lease.send(&message).await?;
        let mut source = tokio::io::BufReader::with_capacity(256 * 1024, nar);
        let mut archive = NarStream::new(&mut source);
        let connection = &mut lease.connection;
        tokio::io::copy(&mut archive, &mut connection.output).await?;
        let answer = async {
            connection.output.flush().await?;
            connection.input.u64().await
        };
        match answer.await.map_err(|e| self.shared.lost(e))? {
            1 => {
                lease.done();
                Ok(())
            }
            _ => Err(StoreError::Other(format!(
                "failed to add path '{}' to remote host '{}'",
                self.dir().display(&info.path),
                self.shared.config.host
            ))
            .into()),
        }
    }

    async fn build(&self, paths: &[DerivedPath]) -> Outcome<()> {
        let mut texts = Vec::with_capacity(paths.len());
        for path in paths {
            texts.push(render_path_with_outputs(self.dir(), path).ok_or_else(|| {
                StoreError::Other(match path {
                    DerivedPath::Opaque(path) => format!(
                        "wanted to fetch '{}' but the legacy ssh protocol doesn't support merely substituting drv files \
                         via the build paths command. It would build them instead. Try using ssh-ng://",
                        self.dir().display(path)
                    ),
                    DerivedPath::Built { .. } => "wanted build derivation that is itself a build product, but the \
                        legacy ssh protocol doesn't support that. Try using ssh-ng://"
                        .into(),
                })
            })?);
        }
        let mut lease = self.shared.lease().await?;
        let mut message = Message::new();
        message.num(Command::BuildPaths).strings(texts);
        self.shared.config.options.write(&mut message, lease.connection.version);
        lease.send(&message).await?;
        let connection = &mut lease.connection;
        let number = connection.input.u64().await.map_err(|e| self.shared.lost(e))?;
        if number == 0 {
            lease.done();
            return Ok(());
        }
        let message = raw_text::keep(&connection.input.bytes().await?).into_owned();
        lease.done();
        Err(StoreError::Build { status: u32::try_from(number).unwrap_or(1), message }.into())
    }

    async fn build_one(&self, drv_path: &StorePath, drv: &Derivation) -> Outcome<BuildResult> {
        let mut lease = self.shared.lease().await?;
        let version = lease.connection.version;
        let mut message = Message::new();
        message.num(Command::BuildDerivation).path(self.dir(), drv_path).derivation(self.dir(), drv);
        self.shared.config.options.write(&mut message, version);
        lease.send(&message).await?;
        lease.connection.input.start_message(1 << 28);
        let result =
            read_build_result(&mut lease.connection.input, version).await.map_err(|e| self.shared.lost(e))?;
        lease.done();
        let mut result = from_wire_result(DerivedPath::built(drv_path.clone(), OutputsSpec::All), result);
        if result.status.is_success() && result.outputs.is_empty() {
            // Before 2.6 outputs are not told.
            let known = drv.output_paths(self.dir()).map_err(StoreError::from)?;
            result.outputs = known.into_iter().filter_map(|(name, path)| Some((name, path?))).collect();
        }
        Ok(result)
    }

    fn unsupported<T>(&self, operation: &'static str) -> StoreResult<T> {
        Err(StoreError::Unsupported { operation, store: shown_uri(self) })
    }
}

#[async_trait]
impl Store for ServeStore {
    fn store_dir(&self) -> &StoreDir {
        self.dir()
    }

    fn uri(&self) -> String {
        self.shared.config.uri.clone()
    }

    async fn connect(&self) -> StoreResult<()> {
        self.shared.lease().await?.done();
        Ok(())
    }

    async fn protocol_version(&self) -> StoreResult<Option<(u8, u8)>> {
        let lease = self.shared.lease().await?;
        let version = lease.connection.version;
        lease.done();
        Ok(Some((version.major(), version.minor())))
    }

    async fn substituter_properties(&self) -> StoreResult<SubstituterProperties> {
        Ok(self.shared.config.properties)
    }

    async fn query_path_info(&self, path: &StorePath) -> StoreResult<Option<Arc<ValidPathInfo>>> {
        Ok(self.infos(&[path.clone()].into()).await?.remove(path))
    }

    async fn query_path_infos(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, Arc<ValidPathInfo>>> {
        Ok(self.infos(paths).await?)
    }

    async fn is_valid_path(&self, path: &StorePath) -> StoreResult<bool> {
        Ok(!self.valid(&[path.clone()].into(), false, false).await?.is_empty())
    }

    async fn query_valid_paths(&self, paths: &BTreeSet<StorePath>) -> StoreResult<BTreeSet<StorePath>> {
        // Locked, so that what is valid now is so still when others refer to it.
        Ok(self.valid(paths, true, false).await?)
    }

    async fn query_valid_paths_substituting(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> StoreResult<BTreeSet<StorePath>> {
        Ok(self.valid(paths, true, true).await?)
    }

    async fn query_all_valid_paths(&self) -> StoreResult<BTreeSet<StorePath>> {
        self.unsupported("queryAllValidPaths")
    }

    async fn query_referrers(&self, _: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        self.unsupported("queryReferrers")
    }

    async fn query_valid_derivers(&self, _: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        Ok(BTreeSet::new())
    }

    async fn query_closure(
        &self,
        paths: &BTreeSet<StorePath>,
        include_outputs: bool,
    ) -> StoreResult<Option<BTreeSet<StorePath>>> {
        Ok(Some(self.closure(paths, include_outputs).await?))
    }

    async fn query_derivation_outputs(
        &self,
        drv: &StorePath,
    ) -> StoreResult<BTreeMap<String, Option<StorePath>>> {
        Ok(self.read_derivation(drv).await?.output_paths(self.dir())?)
    }

    async fn query_path_from_hash_part(&self, _: &str) -> StoreResult<Option<StorePath>> {
        self.unsupported("queryPathFromHashPart")
    }

    async fn query_realisation(&self, _: &str) -> StoreResult<Option<Realisation>> {
        Ok(None)
    }

    async fn register_realisation(&self, _: &Realisation, _: bool) -> StoreResult<()> {
        self.unsupported("registerDrvOutput")
    }

    async fn nar_from_path(&self, path: &StorePath, sink: NarSink<'_>) -> StoreResult<()> {
        if !self.is_valid_path(path).await? {
            return Err(StoreError::InvalidPath { path: self.dir().display(path) });
        }
        Ok(self.fetch(path, sink).await?)
    }

    async fn add_nar(&self, info: &ValidPathInfo, nar: NarSource<'_>, _: bool, _: bool) -> StoreResult<()> {
        Ok(self.send_nar(info, nar).await?)
    }

    async fn add_to_store(
        &self,
        name: &str,
        source: AddSource<'_>,
        method: CaMethod,
        algo: HashAlgo,
        references: &BTreeSet<StorePath>,
        _: bool,
    ) -> StoreResult<ValidPathInfo> {
        // There is no such command: what it would be is worked out here.
        let what = Addition { name, method, algo, references };
        let (info, archive) = what.prepare(self.dir(), source).await?;
        if self.query_path_info(&info.path).await?.is_none() {
            self.send_nar(&info, &mut tokio::fs::File::from_std(archive)).await?;
        }
        Ok(info)
    }

    async fn add_temp_root(&self, _: &StorePath) -> StoreResult<()> {
        // There is no such command; what is asked for is locked by the question.
        Ok(())
    }

    async fn add_signatures(&self, _: &StorePath, _: &BTreeSet<String>) -> StoreResult<()> {
        self.unsupported("addSignatures")
    }

    async fn read_derivation(&self, path: &StorePath) -> StoreResult<Derivation> {
        parse_derivation(self.dir(), path, &file_of_archive(self, path).await?)
    }
}

#[async_trait]
impl BuildStore for ServeStore {
    async fn build_paths(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>> {
        self.realise(paths, mode).await
    }

    async fn realise(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>> {
        if mode != BuildMode::Normal {
            return self.unsupported("repairing and checking builds");
        }
        self.build(paths).await?;
        let mut results = Vec::with_capacity(paths.len());
        for path in paths {
            let (status, outputs) = match path {
                DerivedPath::Opaque(_) => (BuildStatus::Substituted, BTreeMap::new()),
                DerivedPath::Built { drv, outputs } => {
                    let known = self.query_derivation_outputs(drv.base()).await?;
                    let wanted = known.into_iter().filter(|(name, _)| outputs.contains(name));
                    (status(0), wanted.filter_map(|(name, path)| Some((name, path?))).collect())
                }
            };
            results.push(BuildResult {
                path: path.clone(),
                status,
                error: String::new(),
                outputs,
                times_built: 0,
                start_time: 0,
                stop_time: 0,
                cpu: None,
            });
        }
        Ok(results)
    }

    async fn build_derivation(
        &self,
        drv_path: &StorePath,
        drv: &Derivation,
        _: BuildMode,
    ) -> StoreResult<BuildResult> {
        Ok(self.build_one(drv_path, drv).await?)
    }

    /// The protocol has no such question: what is not there is to be built, as far as its derivation is there, and
    /// otherwise unknown. What the other side would substitute it does not say.
    async fn query_missing(&self, paths: &[DerivedPath]) -> StoreResult<Missing> {
        let mut missing = Missing::default();
        let mut done = BTreeSet::new();
        let mut round = paths.to_vec();
        while !round.is_empty() {
            let mut opaque = BTreeSet::new();
            let mut wanted: BTreeSet<(StorePath, OutputsSpec)> = BTreeSet::new();
            for path in std::mem::take(&mut round) {
                match path {
                    DerivedPath::Opaque(path) => drop(opaque.insert(path)),
                    DerivedPath::Built { drv, outputs } => {
                        // What a derivation that is yet to be built will want cannot be known.
                        if let SingleDerivedPath::Opaque(drv) = &*drv {
                            wanted.insert((drv.clone(), outputs));
                        }
                    }
                }
            }
            let asked: BTreeSet<StorePath> =
                opaque.iter().chain(wanted.iter().map(|(drv, _)| drv)).cloned().collect();
            let valid = self.query_valid_paths(&asked).await?;
            missing.unknown.extend(asked.difference(&valid).cloned());
            for (drv_path, outputs) in wanted.into_iter().filter(|(drv, _)| valid.contains(drv)) {
                if missing.will_build.contains(&drv_path) || !done.insert((drv_path.clone(), outputs.clone()))
                {
                    continue;
                }
                let drv = self.read_derivation(&drv_path).await?;
                let known = drv.output_paths(self.dir()).map_err(StoreError::from)?;
                let wanted: Vec<_> = known.into_iter().filter(|(name, _)| outputs.contains(name)).collect();
                let paths: BTreeSet<StorePath> = wanted.iter().filter_map(|(_, path)| path.clone()).collect();
                if paths.len() == wanted.len() && self.query_valid_paths(&paths).await?.len() == paths.len() {
                    continue;
                }
                round.extend(drv.input_drvs.iter().filter(|(_, node)| !node.outputs.is_empty()).map(
                    |(input, node)| {
                        DerivedPath::built(input.clone(), OutputsSpec::Names(node.outputs.clone()))
                    },
                ));
                missing.will_build.insert(drv_path);
            }
        }
        Ok(missing)
    }

    async fn ensure_path(&self, _: &StorePath) -> StoreResult<()> {
        self.unsupported("ensurePath")
    }
}

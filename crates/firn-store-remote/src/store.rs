//! A store in the worker protocol.

mod build;
mod local;
mod many;
pub(crate) mod query;
mod transfer;

use crate::connect::Connector;
use crate::connection::Handshake;
use crate::error::Outcome;
use crate::pool::{Lease, Pool};
use firn_core::{StoreDir, StorePath, ValidPathInfo};
use firn_store::activity::Logger;
use firn_store::{StoreError, StoreResult, SubstituterProperties};
use firn_wire::worker::{ClientOptions, Op, Version};
use firn_wire::{Message, WireResult};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How to speak with the store.
pub struct RemoteConfig {
    pub dir: StoreDir,
    /// As the user would write it.
    pub uri: String,
    /// As a substituter.
    pub properties: SubstituterProperties,
    /// Settings of this process that go to the other side.
    pub options: Option<ClientOptions>,
    pub max_connections: usize,
    pub max_connection_age: Duration,
    /// Where the store's files are on this machine, if they are.
    pub local: Option<LocalPart>,
    /// Whether answers about paths are kept. What is valid may become invalid by a collector's work only.
    pub cache: bool,
    /// Whether exit statuses of failed builds are worked out here.
    pub keep_going: bool,
}

/// The files of a store that is on this machine although others work on it.
#[derive(Debug, Clone)]
pub struct LocalPart {
    pub real_store_dir: PathBuf,
    pub state_dir: PathBuf,
    pub log_dir: PathBuf,
    pub roots: RootKeeping,
}

/// Who makes the links that are roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootKeeping {
    /// We make the link, the daemon registers it.
    LinkHere,
    /// The other side does both, as the user that it runs as.
    LinkThere,
}

/// Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct RemoteStore {
    config: Arc<RemoteConfig>,
    pool: Arc<Pool>,
    logger: Arc<dyn Logger>,
    infos: Arc<Mutex<HashMap<StorePath, Arc<ValidPathInfo>>>>,
}

/// A URI without its parameters, as errors have it.
fn bare(uri: &str) -> &str {
    uri.split_once('?').map_or(uri, |(bare, _)| bare)
}

/// Answers that are kept at most.
const CACHED: usize = 1 << 16;

impl RemoteStore {
    pub fn new(config: RemoteConfig, connector: Box<dyn Connector>, logger: Arc<dyn Logger>) -> RemoteStore {
        let pool = Pool::new(
            connector,
            bare(&config.uri).to_owned(),
            config.dir.clone(),
            config.options.clone(),
            config.max_connections,
            config.max_connection_age,
        );
        RemoteStore { config: Arc::new(config), pool: Arc::new(pool), logger, infos: Arc::default() }
    }

    /// The same store and connections, with what is said going elsewhere.
    pub fn with_logger(&self, logger: Arc<dyn Logger>) -> RemoteStore {
        RemoteStore { logger, ..self.clone() }
    }

    /// What was agreed on when the store was connected to, which is done now if it was not.
    pub async fn handshake(&self) -> StoreResult<Handshake> {
        self.pool.handshake(&*self.logger).await
    }

    fn dir(&self) -> &StoreDir {
        &self.config.dir
    }

    async fn lease(&self) -> Outcome<Lease> {
        Ok(self.pool.lease(&*self.logger).await?)
    }

    /// Sends a request and waits for its result, which is read from the lease.
    async fn call(
        &self,
        op: Op,
        arguments: impl FnOnce(&mut Message, Version) -> WireResult<()> + Send,
    ) -> Outcome<Lease> {
        let mut lease = self.lease().await?;
        use Op::{AddTempRoot, BuildDerivation, BuildPaths, BuildPathsWithResults, EnsurePath};
        if matches!(op, AddTempRoot | BuildDerivation | BuildPaths | BuildPathsWithResults | EnsurePath) {
            lease.will_hold_roots();
        }
        let mut message = Message::new();
        message.num(op);
        if let Err(error) = arguments(&mut message, lease.version()) {
            lease.done();
            return Err(error.into());
        }
        match lease.exchange(&message, &*self.logger).await {
            Ok(()) => Ok(lease),
            Err(failure) => match lease.settle::<()>(Err(failure)) {
                Err(failure) => Err(failure),
                Ok(()) => Err(StoreError::Interrupted.into()),
            },
        }
    }

    fn cached(&self, path: &StorePath) -> Option<Arc<ValidPathInfo>> {
        self.config.cache.then(|| self.infos.lock().get(path).cloned()).flatten()
    }

    fn keep(&self, info: &Arc<ValidPathInfo>) {
        if self.config.cache {
            let mut infos = self.infos.lock();
            if infos.len() >= CACHED {
                infos.clear();
            }
            infos.insert(info.path.clone(), Arc::clone(info));
        }
    }

    fn forget(&self) {
        self.infos.lock().clear();
    }

    fn too_old(&self, operation: &'static str) -> StoreError {
        StoreError::Unsupported { operation, store: bare(&self.config.uri).to_owned() }
    }
}

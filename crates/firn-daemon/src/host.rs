//! What a connection works on.

use firn_settings::Settings;
use firn_store::activity::Logger;
use firn_store::{BuildStore, Store, StoreResult};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// An open store and what builds into it.
#[derive(Clone)]
pub struct Stores {
    pub store: Arc<dyn Store>,
    pub build: Arc<dyn BuildStore>,
    /// Fires to end builds, when the client is gone.
    pub cancel: CancellationToken,
}

/// Opens stores under settings that a client may have changed.
pub trait Host: Send + Sync {
    fn open(&self, settings: &Settings, logger: &Arc<dyn Logger>) -> StoreResult<Stores>;
}

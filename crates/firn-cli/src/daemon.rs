//! The stores behind a daemon's or `nix-store --serve`'s connection.

use crate::builds;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::stores;
use crate::substituters;
use firn_daemon::{Host, Stores};
use firn_settings::Settings;
use firn_store::activity::Logger;
use firn_store::{StoreError, StoreResult};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What a connection keeps of an archive in memory at most, in bytes.
const MAX_NAR_BUFFER: u64 = 4 << 20;

/// Opens the store of the settings, each time under the settings of a connection.
pub struct StoreHost {
    program: String,
    uri: String,
}

impl StoreHost {
    pub fn new(context: &Context) -> CliResult<StoreHost> {
        Ok(StoreHost { program: context.program.clone(), uri: context.settings.store.clone() })
    }
}

impl Host for StoreHost {
    fn open(&self, settings: &Settings, logger: &Arc<dyn Logger>) -> StoreResult<Stores> {
        let mut settings = settings.clone();
        // There may be many connections.
        settings.nar_buffer_size = settings.nar_buffer_size.min(MAX_NAR_BUFFER);
        let settings = &settings;
        let context = Context::for_connection(&self.program, settings.clone(), Arc::clone(logger));
        let open = || -> CliResult<Stores> {
            let opened = stores::open(&self.uri, &context)?;
            if let Some(build) = builds::own_build(&opened, None, logger) {
                return Ok(Stores { store: opened.store, build, cancel: CancellationToken::new() });
            }
            let substituter = substituters::open(&context, &opened)?;
            let scheduler = builds::scheduler(&opened, None, substituter, settings, logger)?;
            let cancel = scheduler.cancellation().clone();
            Ok(Stores { store: opened.store, build: Arc::new(scheduler), cancel })
        };
        open().map_err(|error| match error {
            CliError::Store(error) => error,
            other => StoreError::Other(other.to_string()),
        })
    }
}

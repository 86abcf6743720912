//! Nix for builds that call it themselves: a daemon in this process, behind a store that shows a build what it may know.

use crate::builds;
use crate::error::CliError;
use crate::stores::Opened;
use firn_build::NestedServer;
use firn_core::REFERENCE_VERSION;
use firn_daemon::{ConnectionConfig, Host, Output, Status, Stores, open_input, serve_connection};
use firn_scheduler::Substituter;
use firn_settings::Settings;
use firn_store::activity::{Logger, Verbosity};
use firn_store::{RestrictedStore, Scope, StoreError, StoreResult};
use rustix::event::{PollFd, PollFlags, poll};
use std::any::Any;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Serves builds from the store that they are built into.
pub struct Server {
    pub opened: Opened,
    pub substituter: Option<Arc<dyn Substituter>>,
    pub settings: Settings,
}

/// What one build's connections see.
struct BuildHost {
    opened: Opened,
    substituter: Option<Arc<dyn Substituter>>,
    scope: Arc<dyn Scope>,
}

impl Host for BuildHost {
    fn open(&self, settings: &Settings, logger: &Arc<dyn Logger>) -> StoreResult<Stores> {
        let substituter = self.substituter.clone();
        let scheduler = builds::scheduler(&self.opened, None, substituter, settings, logger).map_err(
            |error| match error {
                CliError::Store(error) => error,
                other => StoreError::Other(other.to_string()),
            },
        )?;
        let cancel = scheduler.cancellation().clone();
        let next = Arc::clone(&self.opened.store);
        let store = Arc::new(RestrictedStore::new(next, Arc::new(scheduler), Arc::clone(&self.scope)));
        Ok(Stores { store: store.clone(), build: store, cancel })
    }
}

impl NestedServer for Server {
    fn serve(
        &self,
        listener: UnixListener,
        scope: Arc<dyn Scope>,
        logger: &Arc<dyn Logger>,
    ) -> io::Result<Box<dyn Any + Send>> {
        let host =
            Arc::new(BuildHost { opened: self.opened.clone(), substituter: self.substituter.clone(), scope });
        let (stop, stopped) = UnixStream::pair()?;
        let (settings, logger) = (self.settings.clone(), Arc::clone(logger));
        let thread = std::thread::Builder::new()
            .name("nested-nix".into())
            .spawn(move || accept(&listener, &stopped, &host, &settings, &logger))?;
        Ok(Box::new(Served { stop: Some(stop), thread: Some(thread) }))
    }
}

/// Ends serving when dropped.
struct Served {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until `stopped` closes; then connections are cut off, and their builds ended.
fn accept(
    listener: &UnixListener,
    stopped: &UnixStream,
    host: &Arc<BuildHost>,
    settings: &Settings,
    logger: &Arc<dyn Logger>,
) {
    let open: Mutex<Vec<UnixStream>> = Mutex::default();
    std::thread::scope(|threads| {
        loop {
            let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break,
            }
            if !fds[1].revents().is_empty() {
                break;
            }
            let Ok((socket, _)) = listener.accept() else { continue };
            let Ok(copy) = socket.try_clone() else { continue };
            open.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
            threads.spawn(move || {
                if let Err(message) = connection(socket, host, settings) {
                    let text = format!("error processing connection of a build: {message}");
                    logger.log(Verbosity::Debug, text.as_bytes());
                }
            });
        }
        for socket in open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    });
}

fn connection(socket: UnixStream, host: &Arc<BuildHost>, settings: &Settings) -> Result<(), String> {
    let failed = |e: io::Error| e.to_string();
    let output: OwnedFd = socket.try_clone().map_err(failed)?.into();
    let watch: OwnedFd = socket.try_clone().map_err(failed)?.into();
    let output = Arc::new(Output::new(output, Status::default()));
    // Whoever asks from within a build is nobody.
    let config = ConnectionConfig {
        trusted: false,
        program_version: REFERENCE_VERSION.to_owned(),
        settings: settings.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let host: Arc<dyn Host> = Arc::clone(host) as _;
    let served = runtime.block_on(async {
        let input = open_input(socket.into()).map_err(failed)?;
        serve_connection(input, output, host, config, Some(watch)).await
    });
    runtime.shutdown_background();
    served.map(drop)
}

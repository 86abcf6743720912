//! `nix store roots-daemon`: tells collectors that may not look into other users' processes what these use.

use crate::args::{FlagSink, Values};
use crate::commands::nix::NixCommand;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_daemon::{bind_socket, inherited_sockets};
use firn_settings::ExperimentalFeature;
use firn_store_local::LocalStore;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};

/// The command, which takes nothing.
#[derive(Default)]
pub struct RootsDaemon;

impl FlagSink for RootsDaemon {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }
}

impl NixCommand for RootsDaemon {
    fn feature(&self) -> Option<ExperimentalFeature> {
        Some(ExperimentalFeature::LocalOverlayStore)
    }

    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let opened = context.opened()?;
        let Some(store) = &opened.local else {
            return Err(CliError::usage(format!(
                "Roots daemon only functions with a local store, not '{}'",
                opened.store.uri()
            )));
        };
        let failed = |e: firn_daemon::SupervisorError| CliError::failed(e.to_string());
        let mut listeners = inherited_sockets().map_err(failed)?;
        if listeners.is_empty() {
            listeners.push(bind_socket(&store.config().roots_socket()).map_err(failed)?);
        }
        std::thread::scope(|scope| {
            for listener in &listeners {
                scope.spawn(|| serve(listener, store));
            }
        });
        Err(CliError::failed("the sockets of the roots daemon are closed"))
    }
}

/// Answers everybody who connects, each on a thread of its own: reading /proc takes a while.
fn serve(listener: &UnixListener, store: &LocalStore) {
    std::thread::scope(|scope| {
        for client in listener.incoming() {
            match client {
                Ok(client) => {
                    scope.spawn(move || answer(client, store));
                }
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionAborted => {}
                // Such as too many open files: it passes.
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(100)),
            }
        }
    });
}

/// Paths with a null byte behind each; who does not wait for them gets none.
fn answer(mut client: UnixStream, store: &LocalStore) {
    let mut text = Vec::new();
    for path in store.used_by_programs() {
        text.extend_from_slice(store.display(&path).as_bytes());
        text.push(0);
    }
    let _ = client.set_write_timeout(Some(std::time::Duration::from_secs(10)));
    let _ = client.write_all(&text);
}

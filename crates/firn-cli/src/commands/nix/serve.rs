//! `nix serve`: the store as a binary cache over HTTP. Not in the reference.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_archive::Method;
use firn_settings::ExperimentalFeature;
use firn_store::Store;
use firn_store::activity::Verbosity;
use firn_store_cache::config::secret_key;
use firn_store_cache::serve::{ServeConfig, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The command as it was written.
pub struct Serve {
    listen: String,
    keys: Vec<String>,
    config: ServeConfig,
}

impl Default for Serve {
    fn default() -> Self {
        Self { listen: "127.0.0.1:5000".into(), keys: Vec::new(), config: ServeConfig::default() }
    }
}

fn number<N: FromStr>(flag: &str, values: &mut Values) -> CliResult<N> {
    let text = values.next_text(flag)?;
    text.parse().map_err(|_| CliError::usage(format!("flag '{flag}' needs a number, got '{text}'")))
}

/// The store as its user knows it. Stores below a folder have the same address as the one of the machine.
fn shown(store: &dyn Store) -> String {
    let uri = store.uri();
    let Some(files) = store.as_local_fs() else { return uri };
    let real = files.real_store_dir();
    if uri != "local" || real == Path::new(store.store_dir().as_str()) {
        return uri;
    }
    // Whatever the store's directory is, it is there in a folder.
    let root = real.to_str().and_then(|real| real.strip_suffix("/nix/store"));
    root.map_or_else(|| real.display().to_string(), str::to_owned)
}

/// Lets this process have as many connections as it may ask for.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised is told when it is too little.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Tells the service manager that clients can come, as units with `Type=notify` wait for.
fn tell_systemd() {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    // Nobody can be told that this went wrong; the manager will notice.
    let _ = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"READY=1\n", &address));
}

impl FlagSink for Serve {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-l" | "--listen" => self.listen = values.next_text(flag)?,
            "-k" | "--key-file" => self.keys.push(values.next_text(flag)?),
            "--priority" => self.config.priority = number(flag, values)?,
            "--compression" => {
                let name = values.next_text(flag)?;
                self.config.compression = match Method::parse(&name) {
                    Ok(method @ (Method::None | Method::Zstd)) => method,
                    _ => {
                        return Err(CliError::usage(format!(
                            "'--compression {name}': a store is served as 'none' or 'zstd'"
                        )));
                    }
                };
            }
            "--compression-level" => self.config.compression_level = Some(number(flag, values)?),
            "--max-connections" => self.config.max_connections = number(flag, values)?,
            "--max-archives" => self.config.max_archives = number(flag, values)?,
            "--client-timeout" => {
                self.config.patience = Duration::from_secs(number::<u64>(flag, values)?.max(1));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy())))
    }
}

impl NixCommand for Serve {
    fn feature(&self) -> Option<ExperimentalFeature> {
        None
    }

    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let mut config = self.config;
        for file in self.keys.iter().chain(&context.settings.secret_key_files) {
            config.secret_keys.push(secret_key(file)?);
        }
        let logger = Arc::clone(&context.logger);
        config.report = Arc::new(move |text| logger.warn(text));
        let store = context.store()?;
        let shown = shown(&*store);
        raise_file_limit();
        let listen = self.listen;
        context.block_on(async {
            store.connect().await?;
            let failed = |e: std::io::Error| CliError::failed(format!("listening at '{listen}': {e}"));
            let server = Server::bind(store, config, &listen).await.map_err(failed)?;
            let address = server.address().map_err(failed)?;
            let text = format!("serving store '{shown}' at http://{address}/");
            context.logger.log(Verbosity::Error, text.as_bytes());
            tell_systemd();
            let stop = CancellationToken::new();
            let stopper = stop.clone();
            let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
            tokio::spawn(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                stopper.cancel();
            });
            server.run(stop).await;
            Ok::<(), CliError>(())
        })??;
        Ok(0)
    }
}

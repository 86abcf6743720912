//! Stores behind a daemon's socket or ssh.

use super::{Opened, absolute, boolean, integer, invalid, store_dir};
use crate::error::{CliError, CliResult};
use firn_settings::Settings;
use firn_store::activity::{Logger, Verbosity};
use firn_store::uri::{StoreKind, StoreUri};
use firn_store::{BuildStore, Store, SubstituterProperties};
use firn_store_remote::{
    LineSink, LocalPart, MasterSlot, RemoteConfig, RemoteStore, RootKeeping, ServeConfig, ServeStore,
    SshCommand, SshConnector, SshTarget, UnixConnector,
};
use firn_wire::serve::BuildOptions;
use firn_wire::worker::ClientOptions;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

type Params = BTreeMap<String, String>;

/// How ssh notices that a machine does not answer any more: within half a minute.
const BUILDER_OPTIONS: &[&str] = &["-oServerAliveInterval=10", "-oServerAliveCountMax=2", "-oBatchMode=yes"];

/// Connections to a daemon on this machine at once, where nobody says otherwise: one waits for a build while others ask.
const UNIX_CONNECTIONS: usize = 4;

/// What opening a remote store needs to know of this process.
pub struct Surroundings<'a> {
    pub settings: &'a Settings,
    pub logger: &'a Arc<dyn Logger>,
    /// Where ssh's and the other side's standard error goes; to ours if there is none.
    pub log: Option<LineSink>,
}

/// `daemon` and `unix://SOCKET`.
pub fn open_unix(from: &Surroundings<'_>, socket: &str, params: &Params) -> CliResult<Opened> {
    let dirs = &from.settings.dirs;
    let path = match socket {
        "" => dirs.daemon_socket.clone(),
        path => PathBuf::from(path),
    };
    let uri = match path == dirs.daemon_socket {
        true => "daemon".to_owned(),
        false => format!("unix://{}", path.display()),
    };
    let mut config = worker_config(from, uri, params, UNIX_CONNECTIONS)?;
    config.local = Some(local_part(from.settings, params, RootKeeping::LinkHere)?);
    config.options = Some(client_options(from));
    Ok(worker(RemoteStore::new(config, Box::new(UnixConnector { path }), Arc::clone(from.logger))))
}

/// `ssh-ng://`, and with files on this machine `mounted-ssh-ng://`.
pub fn open_ssh_ng(
    from: &Surroundings<'_>,
    authority: &str,
    params: &Params,
    mounted: bool,
) -> CliResult<Opened> {
    let scheme = if mounted { "mounted-ssh-ng" } else { "ssh-ng" };
    let mut config = worker_config(from, shown(scheme, authority, params), params, 1)?;
    let mut arguments = vec!["--stdio".to_owned()];
    arguments.extend(remote_store(params));
    if mounted {
        config.local = Some(local_part(from.settings, params, RootKeeping::LinkThere)?);
        arguments.push("--process-ops".into());
    }
    let connector = connector(from, authority, params, "nix-daemon", arguments)?;
    Ok(worker(RemoteStore::new(config, Box::new(connector), Arc::clone(from.logger))))
}

/// `ssh://`.
pub fn open_ssh(from: &Surroundings<'_>, authority: &str, params: &Params) -> CliResult<Opened> {
    let mut arguments = vec!["--serve".to_owned(), "--write".to_owned()];
    arguments.extend(remote_store(params));
    let mut connector = connector(from, authority, params, "nix-store", arguments)?;
    if let (None, Some(fd)) = (&connector.log, params.get("log-fd")) {
        connector.log = Some(log_to(fd)?);
    }
    let s = from.settings;
    let config = ServeConfig {
        dir: store_dir(s, params.get("store"))?,
        uri: shown("ssh", authority, params),
        host: connector.command.target.host.clone(),
        properties: properties(params)?,
        max_connections: number(params, "max-connections", 1)?,
        options: BuildOptions {
            max_silent_time: s.max_silent_time.try_into().unwrap_or(0),
            build_timeout: s.timeout.try_into().unwrap_or(0),
            max_log_size: s.max_build_log_size,
            repeats: 0,
            enforce_determinism: false,
            keep_failed: s.keep_failed,
        },
    };
    let store = Arc::new(ServeStore::new(config, Box::new(connector)));
    Ok(Opened {
        store: Arc::clone(&store) as Arc<dyn Store>,
        local: None,
        build: Some(store),
        system_features: None,
        build_dir: None,
    })
}

/// The URI with its parameters, as `nix store info` has it.
fn shown(scheme: &str, authority: &str, params: &Params) -> String {
    let kind = StoreKind::Specified { scheme: scheme.to_owned(), authority: authority.to_owned() };
    StoreUri { kind, params: params.clone() }.render()
}

fn worker(store: RemoteStore) -> Opened {
    let store = Arc::new(store);
    let build: Arc<dyn BuildStore> = Arc::clone(&store) as _;
    Opened { store, local: None, build: Some(build), system_features: None, build_dir: None }
}

fn worker_config(
    from: &Surroundings<'_>,
    uri: String,
    params: &Params,
    default_connections: usize,
) -> CliResult<RemoteConfig> {
    Ok(RemoteConfig {
        dir: store_dir(from.settings, params.get("store"))?,
        uri,
        properties: properties(params)?,
        options: None,
        max_connections: number(params, "max-connections", default_connections)?,
        max_connection_age: Duration::from_secs(number(params, "max-connection-age", u64::from(u32::MAX))?),
        local: None,
        cache: number(params, "path-info-cache-size", 65536)? > 0,
        keep_going: from.settings.keep_going,
    })
}

/// What the store is as a substituter.
pub(super) fn properties(params: &Params) -> CliResult<SubstituterProperties> {
    let flag = |name: &str| match params.get(name) {
        Some(value) => boolean(name, value),
        None => Ok(false),
    };
    Ok(SubstituterProperties {
        priority: number(params, "priority", 0)?,
        want_mass_query: flag("want-mass-query")?,
        trusted: flag("trusted")?,
    })
}

fn remote_store(params: &Params) -> Vec<String> {
    match params.get("remote-store").filter(|uri| !uri.is_empty()) {
        Some(uri) => vec!["--store".into(), uri.clone()],
        None => Vec::new(),
    }
}

fn connector(
    from: &Surroundings<'_>,
    authority: &str,
    params: &Params,
    program: &str,
    arguments: Vec<String>,
) -> CliResult<SshConnector> {
    let text = |name: &str| params.get(name).filter(|value| !value.is_empty()).cloned();
    let program = text("remote-program").unwrap_or_else(|| program.to_owned());
    let mut program: Vec<String> = program.split_ascii_whitespace().map(str::to_owned).collect();
    program.extend(arguments);
    let options = std::env::var("NIX_SSHOPTS").unwrap_or_default();
    let mut options = SshCommand::split_options(&options)?;
    if from.log.is_some() {
        // A machine that builds for us and hangs must be noticed, and nobody is there to type a password. Options that
        // were given first are the ones that count.
        options.extend(BUILDER_OPTIONS.iter().map(|option| (*option).to_owned()));
        options.push(format!("-oConnectTimeout={}", from.settings.connect_timeout.max(1)));
    }
    Ok(SshConnector {
        command: SshCommand {
            target: SshTarget::parse(authority)?,
            key: text("ssh-key"),
            host_key: text("base64-ssh-public-host-key"),
            compress: match params.get("compress") {
                Some(value) => boolean("compress", value)?,
                None => false,
            },
            options,
            program,
            verbose: from.logger.verbosity() >= Verbosity::Chatty,
        },
        log: from.log.clone(),
        logger: Arc::clone(from.logger),
        use_master: number(params, "max-connections", 1usize)? > 1,
        master: MasterSlot::default(),
    })
}

/// Lines go to an open file of this process, as build hooks want it.
pub fn log_to(fd: &str) -> CliResult<LineSink> {
    use std::io::Write;
    let path = Path::new("/proc/self/fd").join(fd);
    let file = std::fs::OpenOptions::new().append(true).open(&path);
    let file = OwnedFd::from(file.map_err(CliError::io("opening", path))?);
    Ok(Arc::new(move |line: &[u8]| {
        if let Ok(copy) = file.try_clone() {
            let text = [line, b"\n"].concat();
            // Whoever does not read the log any more does not want it.
            let _ = std::fs::File::from(copy).write_all(&text);
        }
    }))
}

/// Where the files of a store are that shares a file system with us.
fn local_part(settings: &Settings, params: &Params, roots: RootKeeping) -> CliResult<LocalPart> {
    let path = |name: &str| params.get(name).filter(|value| !value.is_empty());
    let dir = store_dir(settings, params.get("store"))?;
    let root = path("root").map(|root| absolute(Path::new(root))).transpose()?;
    let below = |root: &PathBuf, default: &str| root.join(default);
    let choose = |name: &str, inside: &str, outside: &Path| match (path(name), &root) {
        (Some(path), _) => absolute(Path::new(path)),
        (None, Some(root)) => Ok(below(root, inside)),
        (None, None) => Ok(outside.to_owned()),
    };
    Ok(LocalPart {
        real_store_dir: choose("real", dir.as_str().trim_start_matches('/'), Path::new(dir.as_str()))?,
        state_dir: choose("state", "nix/var/nix", &settings.dirs.state)?,
        log_dir: choose("log", "nix/var/log/nix", &settings.dirs.log)?,
        roots,
    })
}

fn number<T: TryFrom<i128>>(params: &Params, name: &str, default: T) -> CliResult<T> {
    match params.get(name) {
        None => Ok(default),
        Some(text) => T::try_from(integer(name, text)?).map_err(|_| invalid("setting", name, text)),
    }
}

/// Settings that concern this process only: evaluation, fetching, how things are shown.
const NOT_SENT: &[&str] = &[
    // These have places of their own in the message.
    "cores",
    "fallback",
    "keep-failed",
    "keep-going",
    "max-jobs",
    "max-silent-time",
    "substitute",
    "abort-on-warn",
    "accept-flake-config",
    "access-tokens",
    "allow-dirty",
    "allow-dirty-locks",
    "allow-import-from-derivation",
    "allow-unsafe-native-code-during-evaluation",
    "allowed-uris",
    "allowed-users",
    "commit-lock-file-summary",
    "debugger-on-trace",
    "debugger-on-warn",
    "eval-attrset-update-layer-rhs-threshold",
    "eval-cache",
    "eval-cores",
    "eval-profile-file",
    "eval-profiler",
    "eval-profiler-frequency",
    "eval-system",
    "experimental-features",
    "flake-registry",
    "ignore-try",
    "json-log-path",
    "lint-absolute-path-literals",
    "lint-short-path-literals",
    "lint-url-literals",
    "max-call-depth",
    "nix-path",
    "nix-shell-always-looks-for-shell-nix",
    "parse-cache",
    "plugin-files",
    "pure-eval",
    "restrict-eval",
    "show-trace",
    "store",
    "tarball-ttl",
    "trace-function-calls",
    "trace-import-from-derivation",
    "trace-verbose",
    "trust-tarballs-from-git-forges",
    "trusted-users",
    "use-case-hack",
    "use-registries",
    "warn-dirty",
    "warn-short-path-literals",
];

/// What a daemon is told of our settings.
fn client_options(from: &Surroundings<'_>) -> ClientOptions {
    let s = from.settings;
    let known = s
        .overridden()
        .filter(|setting| !NOT_SENT.contains(&setting.name))
        .map(|setting| (setting.name.to_owned(), setting.render(s)));
    let unknown = s.unknown().iter().map(|(name, value)| (name.clone(), value.clone()));
    ClientOptions {
        keep_failed: s.keep_failed,
        keep_going: s.keep_going,
        fallback: s.fallback,
        verbosity: from.logger.verbosity() as u64,
        max_jobs: s.max_jobs.0.into(),
        max_silent_time: s.max_silent_time.try_into().unwrap_or(0),
        verbose_build: from.logger.shows_build_logs(),
        cores: s.cores.into(),
        substitute: s.substitute,
        overrides: known.chain(unknown).collect(),
    }
}

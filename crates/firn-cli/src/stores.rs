//! The composition root: which store stands behind the traits.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::StoreDir;
use firn_core::signature::PublicKey;
use firn_settings::{ExperimentalFeature, Settings};
use firn_store::{Store, StoreKind, StoreUri};
use firn_store_local::{LocalStore, LocalStoreConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open store.
#[derive(Clone)]
pub struct Opened {
    pub store: Arc<dyn Store>,
    /// The same, if it is a store on this machine that this process works on itself.
    pub local: Option<LocalStore>,
}

impl Opened {
    fn local(store: LocalStore) -> Opened {
        Opened { store: Arc::new(store.clone()), local: Some(store) }
    }
}

/// Opens the store `uri`. Nothing is touched on disk before the store is used.
pub fn open(uri: &str, context: &Context) -> CliResult<Opened> {
    let current_dir = std::env::current_dir().unwrap_or_default();
    let parsed = StoreUri::parse(uri, &current_dir.to_string_lossy())?;
    let local = |root: Option<&Path>| local_store(context, root, &parsed.params).map(Opened::local);
    match &parsed.kind {
        StoreKind::Auto => auto(context, &parsed.params).map(Opened::local),
        StoreKind::Local => local(None),
        StoreKind::Specified { scheme, authority } if scheme == "local" => match authority.as_str() {
            "" => local(None),
            root => local(Some(Path::new(root))),
        },
        StoreKind::Specified { scheme, authority } if scheme == "dummy" && authority.is_empty() => {
            let dir = store_dir(&context.settings, parsed.params.get("store"))?;
            let read_only = match parsed.params.get("read-only") {
                Some(value) => boolean("read-only", value)?,
                None => true,
            };
            let store = match read_only {
                true => firn_store::MemoryStore::read_only(dir),
                false => firn_store::MemoryStore::new(dir),
            };
            Ok(Opened { store: Arc::new(store), local: None })
        }
        StoreKind::Daemon => Err(unsupported("daemon")),
        StoreKind::Specified { scheme, .. } => match scheme.as_str() {
            "unix" | "ssh" | "ssh-ng" | "http" | "https" | "file" | "s3" | "local-overlay"
            | "mounted-ssh-ng" => Err(unsupported(scheme)),
            _ => Err(CliError::failed(format!("don't know how to open Nix store with scheme '{scheme}'"))),
        },
    }
}

fn unsupported(kind: &str) -> CliError {
    CliError::failed(format!(
        "stores of kind '{kind}' are not supported yet by this version of firn; see COMPATIBILITY.md"
    ))
}

/// The local store where its state can be written; else the user's own chroot store, where there is no other.
fn auto(context: &Context, params: &BTreeMap<String, String>) -> CliResult<LocalStore> {
    let settings = &context.settings;
    let state = params.get("state").map_or(settings.dirs.state.clone(), PathBuf::from);
    let access = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    if rustix::fs::access(&state, access).is_ok() {
        return local_store(context, None, params);
    }
    if settings.dirs.daemon_socket.exists() {
        return Err(unsupported("daemon"));
    }
    let untouched = ["NIX_STORE_DIR", "NIX_STATE_DIR"].iter().all(|name| std::env::var_os(name).is_none());
    if !state.exists()
        && params.is_empty()
        && untouched
        && !rustix::process::geteuid().is_root()
        && let Some(data) = &settings.dirs.data_home
    {
        let root = data.join("root");
        if !root.exists() {
            if std::fs::create_dir_all(&root).is_err() {
                return local_store(context, None, params);
            }
            context.logger.warn(&format!(
                "'{}' does not exist, so Nix will use '{}' as a chroot store",
                state.display(),
                root.display()
            ));
        }
        return local_store(context, Some(&root), params);
    }
    local_store(context, None, params)
}

fn store_dir(settings: &Settings, param: Option<&String>) -> CliResult<StoreDir> {
    let dir = match param {
        Some(dir) => dir.as_str(),
        None => settings
            .dirs
            .store
            .to_str()
            .ok_or_else(|| CliError::failed("the store directory's path is not valid UTF-8"))?,
    };
    match dir.starts_with('/') {
        true => Ok(StoreDir::new(dir)),
        false => Err(CliError::failed(format!("not an absolute path: '{dir}'"))),
    }
}

/// A local store with its parameters from settings, environment and URI, the last being the strongest.
fn local_store(
    context: &Context,
    root: Option<&Path>,
    params: &BTreeMap<String, String>,
) -> CliResult<LocalStore> {
    let s = &*context.settings;
    let dir = store_dir(s, params.get("store"))?;
    let root = params.get("root").map(Path::new).filter(|p| !p.as_os_str().is_empty()).or(root);
    let mut config = match root {
        Some(root) => LocalStoreConfig::with_root(dir, &absolute(root)?),
        None => LocalStoreConfig::new(dir, &s.dirs.state, &s.dirs.log),
    };
    config.require_sigs = s.require_sigs;
    config.use_sqlite_wal = s.use_sqlite_wal;
    config.fsync_metadata = s.fsync_metadata;
    config.fsync_store_paths = s.fsync_store_paths;
    config.sync_before_registering = s.sync_before_registering;
    config.build_users_group = Some(s.build_users_group.clone()).filter(|group| !group.is_empty());
    config.allow_symlinked_store = s.allow_symlinked_store;
    config.ignored_acls = s.ignored_acls.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.auto_optimise_store = s.auto_optimise_store;
    config.use_case_hack = s.use_case_hack;
    config.preallocate_contents = s.preallocate_contents;
    config.nar_buffer_size = usize::try_from(s.nar_buffer_size).unwrap_or(usize::MAX);
    config.gc_reserved_space = u64::try_from(s.gc_reserved_space).unwrap_or(0);
    config.keep_outputs = s.keep_outputs;
    config.keep_derivations = s.keep_derivations;
    config.min_free = s.min_free;
    config.max_free = s.max_free;
    config.min_free_check_interval = std::time::Duration::from_secs(s.min_free_check_interval);
    config.compress_build_log = s.compress_build_log;
    config.ca_derivations = s.has_feature(ExperimentalFeature::CaDerivations);
    for key in &s.trusted_public_keys {
        let parsed = PublicKey::parse(key)
            .map_err(|e| CliError::failed(format!("setting 'trusted-public-keys': '{key}': {e}")))?;
        config.trusted_public_keys.push(parsed);
    }
    for (name, value) in params {
        match name.as_str() {
            "store" | "root" => {}
            "state" => config.state_dir = absolute(Path::new(value))?,
            "log" => config.log_dir = absolute(Path::new(value))?,
            "real" => config.real_store_dir = absolute(Path::new(value))?,
            "read-only" => {
                config.read_only = boolean(name, value)?;
                if config.read_only {
                    context.require(ExperimentalFeature::ReadOnlyLocalStore)?;
                }
            }
            "require-sigs" => config.require_sigs = boolean(name, value)?,
            "ignore-gc-delete-failure" => {
                config.ignore_gc_delete_failure = boolean(name, value)?;
                if config.ignore_gc_delete_failure {
                    context.require(ExperimentalFeature::LocalOverlayStore)?;
                }
            }
            // These steer builds and substitution, which read them from the URI themselves.
            "build-dir"
            | "path-info-cache-size"
            | "priority"
            | "system-features"
            | "trusted"
            | "want-mass-query" => {}
            _ => context.logger.warn(&format!("unknown setting '{name}'")),
        }
    }
    let kind = if params.is_empty() { StoreKind::Local } else { specified("local") };
    config.uri = StoreUri { kind, params: params.clone() }.render();
    Ok(LocalStore::new(config, Arc::clone(&context.logger)))
}

fn specified(scheme: &str) -> StoreKind {
    StoreKind::Specified { scheme: scheme.to_owned(), authority: String::new() }
}

fn absolute(path: &Path) -> CliResult<PathBuf> {
    std::path::absolute(path).map_err(CliError::io("resolving", path))
}

fn boolean(name: &str, value: &str) -> CliResult<bool> {
    match value {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(CliError::failed(format!("Boolean setting '{name}' has invalid value '{value}'"))),
    }
}

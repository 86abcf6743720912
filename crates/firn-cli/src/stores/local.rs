//! Stores that this process works on itself.

use super::{Opened, absolute, boolean, store_dir};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::signature::PublicKey;
use firn_settings::ExperimentalFeature;
use firn_store::{StoreKind, StoreUri};
use firn_store_local::{LocalStore, LocalStoreConfig, LowerConfig, OverlayConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `local`, `local://`, a path.
pub fn open(context: &Context, root: &str, params: &BTreeMap<String, String>) -> CliResult<Opened> {
    let root = Some(root).filter(|root| !root.is_empty()).map(Path::new);
    opened(local_store(context, root, params)?, params)
}

/// A store with what its URI says of builds.
fn opened(store: LocalStore, params: &BTreeMap<String, String>) -> CliResult<Opened> {
    let words = |text: &String| text.split_ascii_whitespace().map(str::to_owned).collect();
    Ok(Opened {
        system_features: params.get("system-features").map(words),
        build_dir: params.get("build-dir").filter(|dir| !dir.is_empty()).map(build_dir).transpose()?,
        ..Opened::local(store)
    })
}

fn build_dir(dir: &String) -> CliResult<PathBuf> {
    match Path::new(dir).is_absolute() {
        true => Ok(dir.into()),
        false => Err(CliError::failed(format!("not an absolute path: \"{dir}\""))),
    }
}

/// `local-overlay://`.
pub fn open_overlay(context: &Context, params: &BTreeMap<String, String>) -> CliResult<Opened> {
    context.require(ExperimentalFeature::LocalOverlayStore)?;
    let mut own = params.clone();
    let lower = own.remove("lower-store").unwrap_or_else(|| "auto".to_owned());
    let path =
        |value: Option<String>| value.filter(|value| !value.is_empty()).map(|v| absolute(Path::new(&v)));
    let upper_layer = path(own.remove("upper-layer")).transpose()?.unwrap_or_default();
    let remount_hook = path(own.remove("remount-hook")).transpose()?;
    let check_mount = own.remove("check-mount").map_or(Ok(true), |value| boolean("check-mount", &value))?;
    let mut config = local_config(context, None, &own)?;
    let lower_store = super::open(&lower, context)?;
    let lower = match (lower_store.local, lower_store.store) {
        (Some(local), _) => LowerConfig::Local(Box::new(local.config().clone())),
        (None, store) => {
            let real_store_dir = store.as_local_fs().map(|files| files.real_store_dir().to_owned());
            let real_store_dir = real_store_dir.ok_or_else(|| {
                CliError::failed(format!(
                    "the lower store '{lower}' of an overlay does not have its files on this machine"
                ))
            })?;
            LowerConfig::Other { store, real_store_dir }
        }
    };
    config.overlay = Some(OverlayConfig { lower, upper_layer, check_mount, remount_hook });
    config.uri = StoreUri { kind: specified("local-overlay"), params: params.clone() }.render();
    opened(LocalStore::new(config, Arc::clone(&context.logger)), params)
}

/// `dummy://`.
pub fn open_dummy(context: &Context, params: &BTreeMap<String, String>) -> CliResult<Opened> {
    let dir = store_dir(&context.settings, params.get("store"))?;
    let read_only = match params.get("read-only") {
        Some(value) => boolean("read-only", value)?,
        None => true,
    };
    let store = match read_only {
        true => firn_store::MemoryStore::read_only(dir),
        false => firn_store::MemoryStore::new(dir),
    };
    let store = store.with_uri(StoreUri { kind: specified("dummy"), params: params.clone() }.render());
    Ok(Opened { store: Arc::new(store), local: None, build: None, system_features: None, build_dir: None })
}

/// The user's own chroot store where there is no other, else the local store; asked where neither the local store nor
/// a daemon can be used.
pub fn open_rootless(
    context: &Context,
    state: &Path,
    params: &BTreeMap<String, String>,
) -> CliResult<LocalStore> {
    let settings = &context.settings;
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

/// A local store with its parameters from settings, environment and URI, the last being the strongest.
fn local_store(
    context: &Context,
    root: Option<&Path>,
    params: &BTreeMap<String, String>,
) -> CliResult<LocalStore> {
    Ok(LocalStore::new(local_config(context, root, params)?, Arc::clone(&context.logger)))
}

fn local_config(
    context: &Context,
    root: Option<&Path>,
    params: &BTreeMap<String, String>,
) -> CliResult<LocalStoreConfig> {
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
    config.properties = super::remote::properties(params)?;
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
            "use-roots-daemon" => {
                config.use_roots_daemon = boolean(name, value)?;
                if config.use_roots_daemon {
                    context.require(ExperimentalFeature::LocalOverlayStore)?;
                }
            }
            // The others steer builds and substitution, which read them from the URI themselves.
            _ => {}
        }
    }
    let kind = if params.is_empty() { StoreKind::Local } else { specified("local") };
    config.uri = StoreUri { kind, params: params.clone() }.render();
    Ok(config)
}

fn specified(scheme: &str) -> StoreKind {
    StoreKind::Specified { scheme: scheme.to_owned(), authority: String::new() }
}

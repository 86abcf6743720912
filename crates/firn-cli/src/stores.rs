//! The composition root: which store stands behind the traits. Each family of store URIs has a file of its own.

mod caches;
mod local;
pub mod remote;

pub use caches::opener as cache_opener;

use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::manual::{Wrong, check_parameter};
use firn_core::StoreDir;
use firn_settings::{ExperimentalFeature, Settings};
use firn_store::{BuildStore, Store, StoreKind, StoreUri};
use firn_store_local::LocalStore;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open store.
#[derive(Clone)]
pub struct Opened {
    pub store: Arc<dyn Store>,
    /// The same, if it is a store on this machine that this process works on itself.
    pub local: Option<LocalStore>,
    /// The same, if it builds by itself: a daemon does.
    pub build: Option<Arc<dyn BuildStore>>,
    /// What builds into it can do, where its URI says so.
    pub system_features: Option<BTreeSet<String>>,
    /// Where builds into it have their directories, where its URI says so; the setting is stronger.
    pub build_dir: Option<PathBuf>,
}

impl Opened {
    fn local(store: LocalStore) -> Opened {
        Opened {
            store: Arc::new(store.clone()),
            local: Some(store),
            build: None,
            system_features: None,
            build_dir: None,
        }
    }
}

/// Opens the store `uri`. Nothing is touched on disk, and no connection is made, before the store is used.
pub fn open(uri: &str, context: &Context) -> CliResult<Opened> {
    let current_dir = std::env::current_dir().unwrap_or_default();
    let parsed = StoreUri::parse(uri, &current_dir.to_string_lossy())?;
    let params = &parsed.params;
    let (scheme, authority) = match &parsed.kind {
        StoreKind::Auto => return auto(context, params),
        StoreKind::Local => ("local", ""),
        StoreKind::Daemon => ("unix", ""),
        StoreKind::Specified { scheme, authority } => (scheme.as_str(), authority.as_str()),
    };
    let known = || known_params(context, scheme, params);
    match scheme {
        "local" => local::open(context, authority, &known()?),
        "dummy" if authority.is_empty() => local::open_dummy(context, &known()?),
        "unix" => remote::open_unix(&surroundings(context), authority, &known()?),
        "ssh" => remote::open_ssh(&surroundings(context), authority, &known()?),
        "ssh-ng" => remote::open_ssh_ng(&surroundings(context), authority, &known()?, false),
        "mounted-ssh-ng" => {
            context.require(ExperimentalFeature::MountedSshStore)?;
            remote::open_ssh_ng(&surroundings(context), authority, &known()?, true)
        }
        // These know which of their parameters depend on more than the scheme.
        "http" | "https" | "file" | "s3" => caches::open(context, scheme, authority, params),
        "local-overlay" => local::open_overlay(context, &known()?),
        _ => Err(CliError::failed(format!("don't know how to open Nix store with scheme '{scheme}'"))),
    }
}

/// The parameters that stores of a kind have; others are told, and stand in the store's URI no longer.
fn known_params(
    context: &Context,
    scheme: &str,
    params: &BTreeMap<String, String>,
) -> CliResult<BTreeMap<String, String>> {
    let mut known = BTreeMap::new();
    for (name, value) in params {
        match check_parameter(scheme, name, value) {
            Ok(()) => drop(known.insert(name.clone(), value.clone())),
            Err(Wrong::Unknown) => context.logger.warn(&format!("unknown setting '{name}'")),
            Err(Wrong::Value(error)) => return Err(error),
        }
    }
    Ok(known)
}

/// The local store where its state can be written, else the daemon's, else the user's own.
fn auto(context: &Context, params: &BTreeMap<String, String>) -> CliResult<Opened> {
    let state = params.get("state").map_or(context.settings.dirs.state.clone(), PathBuf::from);
    let access = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    if rustix::fs::access(&state, access).is_ok() {
        return local::open(context, "", &known_params(context, "local", params)?);
    }
    if context.settings.dirs.daemon_socket.exists() {
        return remote::open_unix(&surroundings(context), "", &known_params(context, "unix", params)?);
    }
    local::open_rootless(context, &state, &known_params(context, "local", params)?).map(Opened::local)
}

fn surroundings(context: &Context) -> remote::Surroundings<'_> {
    remote::Surroundings {
        settings: &context.settings,
        logger: &context.logger,
        log: context.remote_log.clone(),
    }
}

pub(crate) fn store_dir(settings: &Settings, param: Option<&String>) -> CliResult<StoreDir> {
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
        false => Err(CliError::failed(format!("not an absolute path: \"{dir}\""))),
    }
}

pub(crate) fn absolute(path: &Path) -> CliResult<PathBuf> {
    std::path::absolute(path).map_err(CliError::io("resolving", path))
}

pub(crate) fn integer(name: &str, value: &str) -> CliResult<i128> {
    firn_core::units::parse_integer(value).map_err(|_| invalid("setting", name, value))
}

fn invalid(what: &str, name: &str, value: &str) -> CliError {
    CliError::failed(format!("{what} '{name}' has invalid value '{value}'"))
}

pub(crate) fn boolean(name: &str, value: &str) -> CliResult<bool> {
    match value {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(invalid("Boolean setting", name, value)),
    }
}

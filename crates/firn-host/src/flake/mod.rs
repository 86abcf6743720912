//! Flakes: their `flake.nix` as the lock file's keeper wants to know it, and their sources for the call of their outputs.

mod door;
mod literal;
mod origin;
mod read;

pub(crate) use origin::Origin;

use crate::{HostResult, StoreHost};
use door::{Door, Trouble};
use firn_core::StoreDir;
use firn_core::flake_ref::FlakeRef;
use firn_eval::{ErrorKind, EvalError, FlakeNode, FlakeSources};
use firn_flake::{ConfigValue, LockFile, LockFlags, LockSettings, LockedFlake, lock_flake};

/// Takes the settings of a flake; the error is the whole text for the user.
pub type ApplyConfig = Box<dyn Fn(&[(String, ConfigValue)]) -> Result<(), String> + Send + Sync>;

/// What the settings say of flakes.
#[derive(Default)]
pub struct FlakeRules {
    pub settings: LockSettings,
    /// Nothing but what was fetched may be looked at.
    pub pure: bool,
    /// The flakes' own settings go here.
    pub apply_config: Option<ApplyConfig>,
}

impl StoreHost {
    /// Fetches a flake and brings its lock file up to date.
    pub fn lock(&self, reference: &FlakeRef, flags: &LockFlags) -> Result<LockedFlake, EvalError> {
        let rules = &self.parts.flakes.settings;
        lock_flake(&Door { host: self }, rules, reference, flags).map_err(|Trouble(error)| error)
    }

    /// What a flake says of itself, without a look at its inputs.
    pub fn flake(&self, reference: &FlakeRef) -> Result<firn_flake::Flake, EvalError> {
        firn_flake::get_flake(&Door { host: self }, reference).map_err(|Trouble(error)| error)
    }

    /// The settings of locking.
    pub fn lock_settings(&self) -> &LockSettings {
        &self.parts.flakes.settings
    }

    pub(crate) fn sources_of(&self, reference: &FlakeRef, pure: bool) -> Result<FlakeSources, EvalError> {
        let use_registries = !pure && self.parts.flakes.settings.use_registries;
        let flags = LockFlags {
            update: false,
            write: false,
            use_registries: Some(use_registries),
            allow_unlocked: !pure,
            ..LockFlags::default()
        };
        let locked = self.lock(reference, &flags)?;
        sources(self.parts.store.store_dir(), &locked)
            .map_err(|error| EvalError::new(ErrorKind::Host { exit: error.exit }, error.message))
    }
}

/// What the call of a flake needs to know.
pub fn sources(store_dir: &StoreDir, locked: &LockedFlake) -> HostResult<FlakeSources> {
    let (_, keys) = locked.lock.to_json();
    let mut nodes = Vec::new();
    for (id, place) in &locked.dirs {
        let text = String::from_utf8_lossy(place);
        let (path, below) =
            store_dir.split(&text).map_err(|error| firn_eval::HostError::new(error.to_string()))?;
        let Some(key) = keys.get(id) else { continue };
        let node = locked.lock.node(*id).locked.as_ref();
        let reference = node.map_or(&locked.flake.locked, |node| &node.locked);
        nodes.push(FlakeNode {
            key: key.clone(),
            path,
            attrs: reference.input.attrs.clone(),
            dir: below.trim_start_matches('/').as_bytes().to_vec(),
            dirty: node.is_none() && locked.flake.force_dirty,
        });
    }
    let root = keys.get(&LockFile::ROOT).cloned().unwrap_or_default();
    Ok(FlakeSources { lock: locked.lock.to_text(), nodes, root })
}

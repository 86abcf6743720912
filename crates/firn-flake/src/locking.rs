//! Bringing a lock file up to date with what a flake asks for.

mod inputs;
mod save;

use crate::host::{Failure, FlakeHost, Registries};
use crate::lock_file::{LockFile, NodeId, ReadRules};
use crate::{ConfigValue, InputPath};
use firn_core::flake_ref::{Attr, Attrs, FlakeRef};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What a `flake.nix` says of an input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputSpec {
    pub reference: Option<FlakeRef>,
    /// It has no `flake = false`.
    pub is_flake: IsFlake,
    /// The path from the root to the input that this one is.
    pub follows: Option<InputPath>,
    /// What inputs of this input are instead.
    pub overrides: BTreeMap<String, InputSpec>,
}

/// Whether an input is a flake itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IsFlake {
    #[default]
    Yes,
    No,
}

/// What a `flake.nix` says, but for its outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlakeSpec {
    pub description: Option<Vec<u8>>,
    pub inputs: BTreeMap<String, InputSpec>,
    /// `inputs.self`: how the flake itself is to be fetched.
    pub self_attrs: Attrs,
    pub config: Vec<(String, ConfigValue)>,
}

/// A flake that was fetched.
#[derive(Debug, Clone)]
pub struct Flake {
    /// As it was asked for.
    pub original: FlakeRef,
    /// As registries know it.
    pub resolved: FlakeRef,
    /// As it is now.
    pub locked: FlakeRef,
    /// The folder of its `flake.nix` in the store.
    pub dir: Vec<u8>,
    pub spec: FlakeSpec,
    /// It is not what its commit says: its lock file would be another one.
    pub force_dirty: bool,
}

/// Settings that locking depends on.
#[derive(Debug, Clone, Default)]
pub struct LockSettings {
    pub trust_forges: bool,
    pub allow_dirty: bool,
    pub allow_dirty_locks: bool,
    pub warn_dirty: bool,
    pub use_registries: bool,
    /// The first line of the message when a lock file is committed; empty for one of our own.
    pub commit_summary: String,
}

/// What is wanted of the lock file.
#[derive(Debug, Clone)]
pub struct LockFlags {
    /// Forget what is locked already.
    pub recreate: bool,
    /// Changes are allowed at all.
    pub update: bool,
    /// Changes are written.
    pub write: bool,
    /// An input that cannot be locked is an error.
    pub fail_on_unlocked: bool,
    /// In place of the setting.
    pub use_registries: Option<bool>,
    /// Take the settings that the flake has.
    pub apply_config: bool,
    /// New inputs need not be locked already.
    pub allow_unlocked: bool,
    pub commit: bool,
    /// Read in place of the flake's own.
    pub reference_file: Option<PathBuf>,
    /// Written in place of the flake's own.
    pub output_file: Option<PathBuf>,
    pub overrides: BTreeMap<InputPath, FlakeRef>,
    /// Inputs whose locks are forgotten.
    pub updates: BTreeSet<InputPath>,
}

impl Default for LockFlags {
    fn default() -> LockFlags {
        LockFlags {
            recreate: false,
            update: true,
            write: true,
            fail_on_unlocked: false,
            use_registries: None,
            apply_config: false,
            allow_unlocked: true,
            commit: false,
            reference_file: None,
            output_file: None,
            overrides: BTreeMap::new(),
            updates: BTreeSet::new(),
        }
    }
}

/// A flake with all its inputs.
#[derive(Debug, Clone)]
pub struct LockedFlake {
    pub flake: Flake,
    pub lock: LockFile,
    /// The folders of nodes that were fetched on the way.
    pub dirs: BTreeMap<NodeId, Vec<u8>>,
}

pub(crate) fn join(dir: &[u8], below: &[u8]) -> Vec<u8> {
    match below.is_empty() {
        true => dir.to_vec(),
        false => [dir, b"/", below].concat(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads the lock file in the folder of a flake.
fn read_lock<H: FlakeHost>(host: &H, settings: &LockSettings, dir: &[u8]) -> Result<LockFile, H::Error> {
    let path = join(dir, b"flake.lock");
    match host.read_file(&path)? {
        Some(contents) => parse_lock(host, settings, &contents, &text(&path)),
        None => Ok(LockFile::default()),
    }
}

fn parse_lock<H: FlakeHost>(
    host: &H,
    settings: &LockSettings,
    contents: &[u8],
    path: &str,
) -> Result<LockFile, H::Error> {
    let mut rules = ReadRules {
        trust_forges: settings.trust_forges,
        has_feature: &|name| host.has_feature(name),
        warn: &mut |message| host.warn(message),
    };
    LockFile::parse(contents, path, &mut rules).map_err(|error| Failure::new(error.to_string(), 1))
}

/// Fetches a flake and reads its `flake.nix`.
pub(crate) fn fetch_flake<H: FlakeHost>(
    host: &H,
    reference: &FlakeRef,
    registries: Registries,
    prefix: &InputPath,
    locked: bool,
) -> Result<Flake, H::Error> {
    let (input, dir) = match reference.input.is_direct() {
        true => (reference.input.clone(), None),
        false if registries == Registries::None => {
            return Err(Failure::new(
                format!(
                    "'{}' is an indirect flake reference, but registry lookups are not allowed",
                    reference.shown()
                ),
                1,
            ));
        }
        false => host.look_up(&reference.input, registries)?,
    };
    let subdir = dir.unwrap_or_else(|| reference.subdir.clone());
    let resolved = FlakeRef { input, subdir };
    let tree = host.fetch(&resolved.input, locked)?;
    let locate = |root: &[u8]| join(root, &resolved.subdir);
    let mut dir = locate(&tree.root);
    let mut locked = FlakeRef { input: tree.input, subdir: resolved.subdir.clone() };
    let mut spec = host.read_flake(&dir, &resolved, prefix)?;
    let again = apply_self(&locked, &spec).map_err(|message| Failure::new(message, 1))?;
    if again != locked {
        host.debug(&format!("refetching input '{}' due to self attribute", again.shown()));
        let mut input = again.input;
        input.attrs.remove("narHash");
        let tree = host.fetch(&input, false)?;
        dir = locate(&tree.root);
        locked = FlakeRef { input: tree.input, subdir: again.subdir };
        spec = host.read_flake(&dir, &resolved, prefix)?;
    }
    Ok(Flake { original: reference.clone(), resolved, locked, dir, spec, force_dirty: false })
}

/// The reference with what the flake says of how it is to be fetched.
fn apply_self(reference: &FlakeRef, spec: &FlakeSpec) -> Result<FlakeRef, String> {
    let mut out = reference.clone();
    for (name, value) in &spec.self_attrs {
        if !matches!(name.as_str(), "submodules" | "lfs") {
            return Err(format!("flake 'self' attribute '{name}' is not supported"));
        }
        // What is off need not be said.
        let is_off = *value == Attr::Bool(false) && !out.input.attrs.contains_key(name);
        if !is_off {
            out.input.attrs.insert(name.clone(), value.clone());
        }
    }
    Ok(out)
}

/// Fetches a flake and reads its `flake.nix`, without a look at its inputs.
pub fn get_flake<H: FlakeHost>(host: &H, reference: &FlakeRef) -> Result<Flake, H::Error> {
    fetch_flake(host, reference, Registries::All, &InputPath::default(), false)
}

/// Fetches a flake, brings its lock file up to date, and writes that as far as `flags` allow.
///
/// # Errors
/// What cannot be fetched or read, inputs that are in each other in a circle, changes that are not allowed.
pub fn lock_flake<H: FlakeHost>(
    host: &H,
    settings: &LockSettings,
    reference: &FlakeRef,
    flags: &LockFlags,
) -> Result<LockedFlake, H::Error> {
    let (top, below) = match flags.use_registries.unwrap_or(settings.use_registries) {
        true => (Registries::All, Registries::Limited),
        false => (Registries::None, Registries::None),
    };
    let flake = fetch_flake(host, reference, top, &InputPath::default(), false)?;
    if flags.apply_config {
        host.apply_config(&flake.spec.config)?;
    }
    let shown = flake.locked.shown();
    lock(host, settings, reference, flags, flake, (top, below)).map_err(|error: H::Error| {
        error.while_doing(format!("while updating the lock file of flake '{shown}'"))
    })
}

fn lock<H: FlakeHost>(
    host: &H,
    settings: &LockSettings,
    reference: &FlakeRef,
    flags: &LockFlags,
    flake: Flake,
    (top, below): (Registries, Registries),
) -> Result<LockedFlake, H::Error> {
    if flags.reference_file.is_some() && !settings.allow_dirty {
        let message = "reference lock file was provided, but the `allow-dirty` setting is set to false";
        return Err(Failure::new(message.to_owned(), 1));
    }
    let old = match &flags.reference_file {
        None => read_lock(host, settings, &flake.dir)?,
        Some(path) => match host.read_own_file(path)? {
            Some(contents) => parse_lock(host, settings, &contents, &path.display().to_string())?,
            None => LockFile::default(),
        },
    };
    let (new, dirs) = inputs::compute(host, settings, flags, &flake, &old, below)?;
    new.check().map_err(|message| Failure::new(message, 1))?;
    let mut locked = LockedFlake { flake, lock: new, dirs };
    if locked.lock != old || flags.output_file.is_some() {
        save::save(host, settings, reference, flags, &old, &mut locked, top)?;
    }
    Ok(locked)
}

#[cfg(test)]
mod tests;

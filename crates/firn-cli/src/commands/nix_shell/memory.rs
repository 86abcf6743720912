//! Environments that were evaluated and built before: as long as nothing changed that evaluation looked at, a shell starts
//! without evaluating again.
//!
//! Each is a file in the user's cache, with a root beside it for all that the shell needs. Those that were not used for a
//! month are forgotten, and `nix-collect-garbage -d` forgets them all. `FIRN_SHELL_CACHE=off` turns it off.

use super::{Flags, Shell};
use crate::args::AutoArg;
use crate::context::Context;
use crate::error::CliResult;
use crate::evaluation::Evaluation;
use firn_core::{DerivedPath, Hash, HashAlgo, HashFormat, SingleDerivedPath, StorePath};
use firn_host::Observations;
use firn_settings::SETTINGS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Entries of other versions are not read.
const FORMAT: u32 = 1;

/// How long an environment is kept that nobody uses.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many are kept.
const MOST: usize = 100;

/// What is in a file of the cache.
#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    observations: Observations,
    /// The derivation that the shell is for.
    drv: String,
    /// The derivation of the bash that is started, if it came from evaluation.
    bash: Option<String>,
    /// A file in the store that refers to all that the shell needs.
    needs: String,
}

/// The place of one environment.
pub struct Memory {
    file: PathBuf,
    root: PathBuf,
}

/// An environment that still holds.
pub struct Known {
    pub drv: StorePath,
    pub bash: Option<StorePath>,
}

/// The folder of all of them; nothing where there is no place or it was turned off.
fn folder(context: &Context) -> Option<PathBuf> {
    let off = std::env::var_os("FIRN_SHELL_CACHE").is_some_and(|value| value == "off" || value == "0");
    let cache = context.settings.dirs.cache_home.as_ref()?;
    (!off).then(|| cache.join("firn/shells"))
}

/// Forgets all environments of this user, so that what they need can be collected.
pub fn forget_all(context: &Context) {
    let Some(folder) = folder(context) else { return };
    // Best effort: what stays is only kept for longer.
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
}

impl Memory {
    /// Where the environment for this command line is kept; nothing if it cannot be used again.
    pub fn of(context: &Context, flags: &Flags, evaluation: &Evaluation) -> Option<Self> {
        let args = &flags.eval_args;
        let reads_more =
            args.auto_args.iter().any(|(_, arg)| matches!(arg, AutoArg::File(_) | AutoArg::Stdin));
        if reads_more || args.debugger || flags.from_stdin || flags.repair || flags.dry_run {
            return None;
        }
        let folder = folder(context)?;
        let mut text = Vec::new();
        let mut part = |bytes: &[u8]| {
            text.extend_from_slice(bytes.len().to_string().as_bytes());
            text.push(b':');
            text.extend_from_slice(bytes);
        };
        part(env!("CARGO_PKG_VERSION").as_bytes());
        part(evaluation.current_dir());
        part(format!("{args:?}").as_bytes());
        let script = flags.script.as_ref().map(|script| script.path.clone());
        part(format!("{script:?} {:?} {:?}", flags.args, flags.attrs).as_bytes());
        part(format!("{} {}", flags.packages, flags.from_args).as_bytes());
        let exclude: Vec<_> = flags.exclude.iter().map(|regex| format!("{regex:?}")).collect();
        part(exclude.join(" ").as_bytes());
        // Without it bash is evaluated too.
        part(format!("{}", std::env::var_os("NIX_BUILD_SHELL").is_some()).as_bytes());
        let dirs = &context.settings.dirs;
        for folder in [Some(&dirs.store), Some(&dirs.state), dirs.home.as_ref()].into_iter().flatten() {
            part(folder.as_os_str().as_bytes());
        }
        for setting in SETTINGS {
            part(setting.name.as_bytes());
            part(&setting.render(&context.settings));
        }
        let key = Hash::of(HashAlgo::Sha256, &text).to_base(HashFormat::Nix32);
        Some(Self { file: folder.join(format!("{key}.json")), root: folder.join(format!("{key}.root")) })
    }

    /// The environment, if it was kept and still holds.
    pub fn recall(&self, context: &Context, evaluation: &Evaluation) -> CliResult<Option<Known>> {
        let Ok(text) = std::fs::read(&self.file) else { return Ok(None) };
        let Ok(entry) = serde_json::from_slice::<Entry>(&text) else { return Ok(None) };
        let store = context.eval_store()?;
        let dir = store.store_dir();
        let parse = |text: &str| dir.parse(text).ok();
        let (Some(drv), Some(needs)) = (parse(&entry.drv), parse(&entry.needs)) else { return Ok(None) };
        let bash = match entry.bash.as_deref().map(parse) {
            Some(None) => return Ok(None),
            other => other.flatten(),
        };
        if entry.format != FORMAT || !entry.observations.still_hold(evaluation.host()) {
            return Ok(None);
        }
        // What refers to all is valid only if all are.
        context.block_on(store.add_temp_root(&needs))??;
        if !context.block_on(store.is_valid_path(&needs))?? {
            return Ok(None);
        }
        // When it was used last; if that cannot be written down, it is forgotten sooner.
        if let Ok(file) = std::fs::File::options().append(true).open(&self.file) {
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(Some(Known { drv, bash }))
    }

    /// Keeps an environment, with `requests` being what was built for it. What cannot be kept is no error.
    pub fn keep(
        &self,
        context: &Context,
        evaluation: &Evaluation,
        drv: &StorePath,
        shell: &Shell,
        requests: &[DerivedPath],
    ) -> CliResult<()> {
        let Some(observations) = evaluation.observations() else { return Ok(()) };
        let bash = match shell {
            Shell::Built(bash) => Some(bash.clone()),
            Shell::Named(_) if std::env::var_os("NIX_BUILD_SHELL").is_some() => None,
            // Why there is none has to be said the next time too.
            Shell::Named(_) => return Ok(()),
        };
        let store = context.eval_store()?;
        if context.separate_eval_store().is_some() {
            return Ok(());
        }
        let Some(local) = store.as_local_fs() else { return Ok(()) };
        let mut needs: BTreeSet<StorePath> = [drv.clone()].into();
        needs.extend(bash.clone());
        for request in requests {
            match request {
                DerivedPath::Opaque(path) => drop(needs.insert(path.clone())),
                DerivedPath::Built { drv, outputs } => {
                    let SingleDerivedPath::Opaque(drv) = &**drv else { return Ok(()) };
                    needs.insert(drv.clone());
                    for (name, path) in context.block_on(store.query_derivation_outputs(drv))?? {
                        if outputs.contains(&name) {
                            let Some(path) = path else { return Ok(()) };
                            needs.insert(path);
                        }
                    }
                }
            }
        }
        let show = |path: &StorePath| store.store_dir().display(path);
        let text: String = needs.iter().map(|path| show(path) + "\n").collect();
        let needs = context.block_on(store.add_text("nix-shell-needs", text.as_bytes(), &needs, false))??;
        let entry = Entry {
            format: FORMAT,
            observations,
            drv: show(drv),
            bash: bash.as_ref().map(show),
            needs: show(&needs),
        };
        let Some(folder) = self.file.parent() else { return Ok(()) };
        if std::fs::create_dir_all(folder).is_err() {
            return Ok(());
        }
        prune(folder);
        if local.add_indirect_root(&needs, &self.root).is_ok() {
            let part = self.file.with_extension(format!("{}.new", std::process::id()));
            let text = serde_json::to_vec(&entry).unwrap_or_default();
            let written = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &self.file));
            if written.is_err() {
                let _ = std::fs::remove_file(&part);
            }
        }
        Ok(())
    }
}

/// Removes what was not used for long, and the oldest of too many.
fn prune(folder: &Path) {
    let mut entries: Vec<(SystemTime, PathBuf)> = folder
        .read_dir()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .filter(|(_, path)| path.extension().is_some_and(|extension| extension != "root"))
        .collect();
    entries.sort();
    let too_many = entries.len().saturating_sub(MOST);
    for (index, (used, path)) in entries.iter().enumerate() {
        if index < too_many || used.elapsed().is_ok_and(|age| age > KEPT) {
            let _ = std::fs::remove_file(path.with_extension("root"));
            let _ = std::fs::remove_file(path);
        }
    }
}

//! Environments that were evaluated and built before: as long as nothing changed that evaluation looked at, a shell starts
//! without evaluating again.
//!
//! Each is a file in the user's cache, with a root beside it for all that the shell needs. Those that were not used for a
//! month are forgotten, and `nix-collect-garbage -d` forgets them all. `FIRN_SHELL_CACHE=off` turns it off.

use crate::args::{AutoArg, EvalArgs};
use crate::context::Context;
use crate::error::CliResult;
use crate::evaluation::Evaluation;
use firn_core::{Hash, HashAlgo, HashFormat, StorePath};
use firn_host::Observations;
use firn_settings::SETTINGS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Entries of other versions are not read.
const FORMAT: u32 = 2;

/// How long an environment is kept that nobody uses.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many are kept.
const MOST: usize = 100;

/// The bash that is started, as evaluation found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bash {
    /// Nobody looked for one.
    NotAsked,
    /// A store path that has it, or stands for what has it.
    At(StorePath),
    /// Looking for it failed, as is to be said each time; it is looked for again after this time, in seconds since 1970.
    Missing { message: String, until: i64 },
}

#[derive(Serialize, Deserialize)]
enum BashEntry {
    NotAsked,
    At(String),
    Missing { message: String, until: i64 },
}

/// What is in a file of the cache.
#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    /// None where the key says all that the result depends on.
    observations: Option<Observations>,
    /// What the shell is for.
    path: String,
    bash: BashEntry,
    /// A file in the store that refers to all that the shell needs.
    needs: String,
}

/// An environment that still holds.
pub struct Known {
    pub path: StorePath,
    pub bash: Bash,
}

pub fn seconds_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
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

/// What tells one environment from all others.
pub struct Key {
    folder: PathBuf,
    text: Vec<u8>,
}

impl Key {
    /// The start of a key: the settings and what evaluation is told. Nothing if the result could not be used again.
    pub fn new(context: &Context, command: &str, args: &EvalArgs, current_dir: &[u8]) -> Option<Self> {
        let reads_more =
            args.auto_args.iter().any(|(_, arg)| matches!(arg, AutoArg::File(_) | AutoArg::Stdin));
        if reads_more || args.debugger || args.repair {
            return None;
        }
        let mut key = Self { folder: folder(context)?, text: Vec::new() };
        key.part(env!("CARGO_PKG_VERSION"));
        key.part(command);
        key.part(current_dir);
        key.part(format!("{args:?}"));
        let dirs = &context.settings.dirs;
        for folder in [Some(&dirs.store), Some(&dirs.state), dirs.home.as_ref()].into_iter().flatten() {
            key.part(folder.as_os_str().as_encoded_bytes());
        }
        for setting in SETTINGS {
            key.part(setting.name);
            key.part(setting.render(&context.settings));
        }
        Some(key)
    }

    /// One more thing that the result depends on.
    pub fn part(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.text.extend_from_slice(bytes.len().to_string().as_bytes());
        self.text.push(b':');
        self.text.extend_from_slice(bytes);
    }

    /// Where the environment is kept.
    pub fn memory(self) -> Memory {
        let key = Hash::of(HashAlgo::Sha256, &self.text).to_base(HashFormat::Nix32);
        Memory {
            file: self.folder.join(format!("{key}.json")),
            root: self.folder.join(format!("{key}.root")),
        }
    }
}

/// The place of one environment.
pub struct Memory {
    file: PathBuf,
    root: PathBuf,
}

impl Memory {
    /// The environment, if it was kept and still holds.
    pub fn recall(&self, context: &Context, evaluation: &Evaluation) -> CliResult<Option<Known>> {
        let Ok(text) = std::fs::read(&self.file) else { return Ok(None) };
        let Ok(entry) = serde_json::from_slice::<Entry>(&text) else { return Ok(None) };
        let store = context.eval_store()?;
        let dir = store.store_dir();
        let parse = |text: &str| dir.parse(text).ok();
        let (Some(path), Some(needs)) = (parse(&entry.path), parse(&entry.needs)) else { return Ok(None) };
        let bash = match entry.bash {
            BashEntry::NotAsked => Bash::NotAsked,
            BashEntry::At(text) => match parse(&text) {
                Some(path) => Bash::At(path),
                None => return Ok(None),
            },
            BashEntry::Missing { until, .. } if until <= seconds_now() => return Ok(None),
            BashEntry::Missing { message, until } => Bash::Missing { message, until },
        };
        let holds = |seen: &Observations| seen.still_hold(evaluation.host());
        if entry.format != FORMAT || !entry.observations.as_ref().is_none_or(holds) {
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
        Ok(Some(Known { path, bash }))
    }

    /// Keeps an environment that needs the paths `needs`. Without `observations` the key has to say all that it depends
    /// on. What cannot be kept is no error.
    pub fn keep(
        &self,
        context: &Context,
        observations: Option<Observations>,
        known: &Known,
        needs: &BTreeSet<StorePath>,
    ) -> CliResult<()> {
        let store = context.eval_store()?;
        if context.separate_eval_store().is_some() {
            return Ok(());
        }
        let Some(local) = store.as_local_fs() else { return Ok(()) };
        let show = |path: &StorePath| store.store_dir().display(path);
        let text: String = needs.iter().map(|path| show(path) + "\n").collect();
        let needs = context.block_on(store.add_text("nix-shell-needs", text.as_bytes(), needs, false))??;
        let entry = Entry {
            format: FORMAT,
            observations,
            path: show(&known.path),
            bash: match &known.bash {
                Bash::NotAsked => BashEntry::NotAsked,
                Bash::At(path) => BashEntry::At(show(path)),
                Bash::Missing { message, until } => {
                    BashEntry::Missing { message: message.clone(), until: *until }
                }
            },
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

//! Making the database anew from what is on the disk, after it was lost or torn.
//!
//! What can be read of the old database is believed where the contents agree with it. Beyond that a derivation, a
//! source or a fixed output proves its own path. Of other outputs the disk only says that they are there: they are
//! registered with what was found in them, and listed as uncertain. What was never finished is left out, and what
//! refers to it.

mod evidence;
mod salvage;

use crate::config::LocalStoreConfig;
use crate::layout;
use crate::register::Registration;
use crate::store::LocalStore;
use crate::temp_roots::open_gc_lock;
use evidence::{Evidence, Looked};
use firn_core::{StorePath, ValidPathInfo};
use firn_store::locks::flock::{self, Kind};
use firn_store::{StoreError, StoreResult};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct RebuildReport {
    /// Where the old database is now, if there was one.
    pub old_database: Option<PathBuf>,
    /// Paths whose contents the old database, or their own names, vouch for.
    pub certain: BTreeSet<StorePath>,
    /// Paths that are valid again although nothing vouches for their contents, with the reason.
    pub uncertain: BTreeMap<StorePath, String>,
    /// Paths that are on the disk and are not valid, with the reason.
    pub left_out: BTreeMap<StorePath, String>,
}

impl LocalStore {
    /// Rebuilds the database. Nobody else may use the store meanwhile, and this handle must not have used it yet.
    pub fn rebuild_database(&self) -> StoreResult<RebuildReport> {
        let config = &self.inner.config;
        self.ensure_untouched()?;
        layout::create(config, &*self.inner.logger)?;
        let big_lock = flock::open_lock_file(&config.db_dir().join("big-lock"))?;
        let gc_lock = open_gc_lock(&config.state_dir)?;
        for lock in [&big_lock, &gc_lock] {
            flock::lock(lock, Kind::Exclusive, &|| {
                self.say("waiting for exclusive access to the Nix store...")
            })
            .map_err(|e| StoreError::io("locking", config.db_dir())(e.into()))?;
        }
        let mut report = RebuildReport { old_database: set_aside(config)?, ..RebuildReport::default() };
        let salvaged = match &report.old_database {
            Some(old) => salvage::read(self, old),
            None => BTreeMap::new(),
        };
        self.say(format!("{} paths are known from the old database", salvaged.len()));
        let looked = evidence::look_at_all(self)?;
        let infos = judge(self, looked, &salvaged, &mut report);
        flock::unlock(&big_lock).map_err(|e| StoreError::io("unlocking", config.db_dir())(e.into()))?;
        let registrations =
            infos.iter().map(|(info, outputs)| Registration { info, outputs: outputs.clone() }).collect();
        self.register(registrations)?;
        drop(gc_lock);
        Ok(report)
    }
}

type Registrable = Vec<(ValidPathInfo, Option<BTreeMap<String, StorePath>>)>;

/// Decides what becomes valid.
fn judge(
    store: &LocalStore,
    looked: BTreeMap<StorePath, Looked>,
    salvaged: &BTreeMap<StorePath, ValidPathInfo>,
    report: &mut RebuildReport,
) -> Registrable {
    let makers = evidence::makers(&looked);
    let mut infos: BTreeMap<StorePath, (ValidPathInfo, Option<BTreeMap<String, StorePath>>)> =
        BTreeMap::new();
    for (path, looked) in &looked {
        match looked.judge(store, path, salvaged.get(path), &makers) {
            Evidence::Certain(info) => {
                report.certain.insert(path.clone());
                infos.insert(path.clone(), (*info, looked.outputs.clone()));
            }
            Evidence::Uncertain(info, reason) => {
                report.uncertain.insert(path.clone(), reason);
                infos.insert(path.clone(), (*info, looked.outputs.clone()));
            }
            Evidence::Unfit(reason) => {
                report.left_out.insert(path.clone(), reason);
            }
        }
    }
    // What refers to something that is not valid cannot be valid.
    loop {
        let broken: Vec<(StorePath, StorePath)> = infos
            .iter()
            .filter_map(|(path, (info, _))| {
                let missing = info.references.iter().find(|reference| !infos.contains_key(*reference))?;
                Some((path.clone(), missing.clone()))
            })
            .collect();
        if broken.is_empty() {
            break;
        }
        for (path, missing) in broken {
            infos.remove(&path);
            report.certain.remove(&path);
            report.uncertain.remove(&path);
            let reason = format!("it refers to '{}', which is not valid", store.display(&missing));
            report.left_out.insert(path, reason);
        }
    }
    infos.into_values().collect()
}

/// Moves the old database out of the way; where it is then.
fn set_aside(config: &LocalStoreConfig) -> StoreResult<Option<PathBuf>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let old = config.db_dir().join(format!("old-{now}-{}", std::process::id()));
    let mut any = false;
    for name in ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm"] {
        let from = config.db_dir().join(name);
        if from.exists() {
            layout::make_dirs(&old)?;
            std::fs::rename(&from, old.join(name)).map_err(StoreError::io("moving away", &from))?;
            any = true;
        }
    }
    let schema = config.db_dir().join("schema");
    match std::fs::remove_file(&schema) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::io("removing", schema)(e));
        }
        _ => {}
    }
    Ok(any.then_some(old))
}

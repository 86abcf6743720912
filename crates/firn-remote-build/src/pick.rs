//! Choosing a machine and taking one of its slots.
//!
//! A slot is a file `current-load/<machine>-<number>` that is locked while it is used; `main-lock` is held while
//! somebody chooses.

use crate::machines::Machine;
use firn_store::locks::flock::{self, Kind};
use firn_store::{StoreError, StoreResult};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What a build needs.
#[derive(Debug, Clone)]
pub struct Demand {
    pub system: String,
    pub features: BTreeSet<String>,
}

/// A slot of a machine; it is free again when dropped.
#[derive(Debug)]
pub struct Slot {
    /// Index of the machine.
    pub machine: usize,
    pub number: u32,
    _lock: OwnedFd,
}

#[derive(Debug)]
pub enum Pick {
    Slot(Slot),
    /// There are machines, but all of their slots are taken.
    Busy,
    /// No machine can build this.
    Unsuitable,
}

/// The folder of locks below a state directory.
pub fn current_load(state_dir: &Path) -> PathBuf {
    state_dir.join("current-load")
}

/// The name of a machine's lock files.
pub(crate) fn escape_uri(uri: &str) -> String {
    uri.replace('/', "_")
}

/// Opens a lock file, making its folder where that is missing.
pub(crate) fn lock_file(path: &Path) -> StoreResult<OwnedFd> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(StoreError::io("creating directory", folder))?;
    }
    flock::open_lock_file(path)
}

/// Takes the best free slot among the machines that `enabled` says may be used. Blocks only while others choose.
pub fn pick(
    folder: &Path,
    machines: &[Machine],
    enabled: &dyn Fn(usize) -> bool,
    demand: &Demand,
) -> StoreResult<Pick> {
    let suitable: Vec<usize> = (0..machines.len())
        .filter(|index| enabled(*index) && machines[*index].suits(&demand.system, &demand.features))
        .collect();
    if suitable.is_empty() {
        return Ok(Pick::Unsuitable);
    }
    let main = folder.join("main-lock");
    let main_lock = lock_file(&main)?;
    let failed = |e: rustix::io::Errno| StoreError::io("locking", &main)(e.into());
    flock::lock(&main_lock, Kind::Exclusive, &|| ()).map_err(failed)?;
    let mut best: Option<(Slot, u32)> = None;
    for index in suitable {
        let machine = &machines[index];
        let mut free = None;
        let mut load = 0;
        for number in 0..machine.max_jobs {
            let path = folder.join(format!("{}-{number}", escape_uri(&machine.uri)));
            let lock = lock_file(&path)?;
            match flock::try_lock(&lock, Kind::Exclusive) {
                Ok(true) if free.is_none() => free = Some(Slot { machine: index, number, _lock: lock }),
                Ok(true) => {}
                Ok(false) => load += 1,
                Err(e) => return Err(StoreError::io("locking", path)(e.into())),
            }
        }
        let Some(slot) = free else { continue };
        let better = match &best {
            None => true,
            Some((other, other_load)) => {
                let other = &machines[other.machine];
                let (ours, theirs) =
                    (load as f32 / machine.speed_factor, *other_load as f32 / other.speed_factor);
                if ours != theirs {
                    ours < theirs
                } else if machine.speed_factor != other.speed_factor {
                    machine.speed_factor > other.speed_factor
                } else {
                    load < *other_load
                }
            }
        };
        if better {
            best = Some((slot, load));
        }
    }
    Ok(match best {
        Some((slot, _)) => Pick::Slot(slot),
        None => Pick::Busy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::parse_machines;

    #[test]
    fn slots_are_shared_out_by_speed_and_load() {
        let folder = tempfile::tempdir().unwrap();
        let machines = parse_machines("slow - - 2 1; fast - - 2 3; kvm - - 1 9 - kvm", "s").unwrap();
        let demand = Demand { system: "s".into(), features: BTreeSet::new() };
        let mut held = Vec::new();
        let mut order = Vec::new();
        while let Pick::Slot(slot) = pick(folder.path(), &machines, &|_| true, &demand).unwrap() {
            order.push(slot.machine);
            held.push(slot);
        }
        // The fast one first; then the idle one; then by load and speed.
        assert_eq!(order, [1, 0, 1, 0]);
        assert!(matches!(pick(folder.path(), &machines, &|_| true, &demand).unwrap(), Pick::Busy));
        held.remove(0);
        assert!(matches!(pick(folder.path(), &machines, &|i| i != 1, &demand).unwrap(), Pick::Busy));
        assert!(matches!(pick(folder.path(), &machines, &|_| true, &demand).unwrap(), Pick::Slot(_)));
        let other = Demand { system: "t".into(), features: BTreeSet::new() };
        assert!(matches!(pick(folder.path(), &machines, &|_| true, &other).unwrap(), Pick::Unsuitable));
    }
}

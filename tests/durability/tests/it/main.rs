//! The store on a disk that fails: after any cut, no valid path is wrong, nothing that has a root is missing, and what
//! was interrupted can be done again.
//!
//! A few hundred cuts at fixed places run always. `FIRN_DURABILITY_ROUNDS=N` adds N at random places;
//! `FIRN_DURABILITY_SEED` starts them elsewhere. A failure names the workload, the fault and the cut to try again.

mod lab;
mod workloads;

use firn_tests_durability::disk::Dice;
use firn_tests_durability::{Cut, Fault, can_mount};
use lab::Lab;
use workloads::WORKLOADS;

/// Faults and what is lost with them.
fn kinds(seed: u64) -> Vec<(Fault, Cut)> {
    let mut kinds =
        vec![(Fault::Power, Cut::Unsynced), (Fault::Power, Cut::Nothing), (Fault::Power, Cut::Random(seed))];
    for error in [libc::ENOSPC, libc::EIO, libc::EDQUOT] {
        kinds.push((Fault::Once(error), Cut::Nothing));
    }
    kinds.push((Fault::From(libc::ENOSPC), Cut::Nothing));
    kinds
}

fn skip() -> bool {
    let skip = !can_mount();
    if skip {
        eprintln!("NOT TESTED: durability needs /dev/fuse and root");
    }
    skip
}

/// Each workload at places spread over it, with all kinds of faults in turn.
fn spread(name: &str, places: u64) {
    if skip() {
        return;
    }
    let workload = WORKLOADS.iter().find(|workload| workload.name == name).expect("a workload");
    let lab = Lab::new();
    let prepared = lab.prepare(workload);
    let mut struck = 0;
    for place in 0..places {
        let at = 1 + place * prepared.operations / places;
        let kinds = kinds(place * 7919 + 1);
        let (fault, cut) = kinds[place as usize % kinds.len()];
        struck += u64::from(lab.round(workload, &prepared, at, fault, cut));
    }
    for cut in [Cut::Unsynced, Cut::Random(1), Cut::Random(3)] {
        lab.round(workload, &prepared, u64::MAX, Fault::Power, cut);
    }
    println!("{name}: {struck} of {places} faults at {} operations", prepared.operations);
    // Work that runs on several threads does not count the same each time.
    assert!(struck > places / 2, "faults did not strike");
}

#[test]
fn adding() {
    spread("add", 21);
}

#[test]
fn adding_what_does_not_fit_in_memory() {
    spread("add-large", 14);
}

#[test]
fn importing() {
    spread("import", 14);
}

#[test]
fn writing_derivations() {
    spread("instantiate", 14);
}

#[test]
fn building() {
    spread("build", 14);
}

#[test]
fn collecting() {
    spread("gc", 14);
}

#[test]
fn deleting() {
    spread("delete", 7);
}

#[test]
fn optimising() {
    spread("optimise", 14);
}

#[test]
fn rooting() {
    spread("root", 7);
}

#[test]
fn switching_profiles() {
    spread("profile", 14);
}

#[test]
fn making_a_store() {
    spread("init", 14);
}

/// The long run.
#[test]
fn at_random() {
    let Some(rounds) = std::env::var("FIRN_DURABILITY_ROUNDS").ok().and_then(|text| text.parse::<u64>().ok())
    else {
        return;
    };
    if skip() {
        return;
    }
    let seed = std::env::var("FIRN_DURABILITY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut dice = Dice(seed);
    let lab = Lab::new();
    let prepared: Vec<_> = WORKLOADS.iter().map(|workload| lab.prepare(workload)).collect();
    let mut failures = 0;
    for round in 0..rounds {
        let which = dice.roll(WORKLOADS.len() as u64) as usize;
        let at = 1 + dice.roll(prepared[which].operations + 5);
        let kinds = kinds(dice.roll(1 << 32));
        // Power cuts are what matters most.
        let kind = if dice.roll(3) > 0 { dice.roll(3) } else { dice.roll(kinds.len() as u64) };
        let (fault, cut) = kinds[kind as usize];
        // All that fails is told, not only the first.
        let round_ends = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lab.round(&WORKLOADS[which], &prepared[which], at, fault, cut)
        }));
        failures += u64::from(round_ends.is_err());
        if round % 100 == 99 {
            eprintln!("{} rounds, {failures} failures", round + 1);
        }
    }
    assert_eq!(failures, 0);
}

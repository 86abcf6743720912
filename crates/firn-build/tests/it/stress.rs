//! R7: thousands of builds from a process whose threads are busy. With `FIRN_STRESS=1` it is 5,000 builds, 32 at a time, five
//! times over; without, as many as take seconds.

use crate::world::World;
use firn_store::BuildMode;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const THREADS: usize = 16;

/// What builds must not leave behind in this process and its surroundings. Lock files, chroots and build directories are
/// looked for by [`World::check_consistent`]; locks on users are descriptors.
#[derive(Debug, PartialEq)]
struct Held {
    descriptors: Vec<PathBuf>,
    children: BTreeSet<String>,
    /// Below the world's folder: other programs mount and unmount elsewhere.
    mounts: Vec<String>,
    cgroups: BTreeSet<PathBuf>,
}

impl Held {
    fn now(world: &World) -> Held {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut descriptors: Vec<PathBuf> =
            fds.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
        descriptors.sort();
        // The store opens its database a second time when both its readers and its writer are busy at once.
        descriptors.dedup_by(|a, b| a == b && a.to_string_lossy().contains("/db/db.sqlite"));
        let mut children = BTreeSet::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.extend(list.split_ascii_whitespace().map(str::to_owned));
        }
        let own = std::fs::canonicalize(world.dir.path()).unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let is_own = |line: &&str| {
            line.split(' ').nth(4).is_some_and(|place| std::path::Path::new(place).starts_with(&own))
        };
        let mounts = mounts.lines().filter(is_own).map(str::to_owned).collect();
        let mut cgroups = BTreeSet::new();
        find_cgroups("/sys/fs/cgroup".as_ref(), &mut cgroups);
        Held { descriptors, children, mounts, cgroups }
    }
}

/// The cgroups of this process's builds below a folder.
fn find_cgroups(folder: &std::path::Path, found: &mut BTreeSet<PathBuf>) {
    let own = format!("nix-build-pid-{}-", std::process::id());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().starts_with(&own) {
                found.insert(entry.path());
            }
            find_cgroups(&entry.path(), found);
        }
    }
}

/// Threads that allocate, take locks and look up users all the time, as those of a program may.
fn busy(stop: &AtomicBool) {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        kept.push(vec![1; 4096]);
        if kept.len() > 64 {
            kept.clear();
        }
        std::hint::black_box(std::env::var_os("HOME"));
        let _ = std::hint::black_box(std::fs::metadata("/"));
        // The builds are to have some of the processors too.
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn stress(mut world: World) {
    let full = std::env::var_os("FIRN_STRESS").is_some();
    let (builds, rounds) = if full { (5000, 5) } else { (100, 2) };
    world.schedule.max_jobs = 32;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| busy(&stop));
        }
        let mut before = Held::now(&world);
        for round in 0..=rounds {
            let begun = Instant::now();
            // The first few open what stays open, such as the database.
            let builds = if round == 0 { 40 } else { builds };
            let drvs: Vec<_> = (0..builds)
                .map(|n| world.write(world.script(&format!("r{round}-{n}"), "echo $name > $out")))
                .collect();
            world.try_build(&drvs, BuildMode::Normal).unwrap();
            let limit = Duration::from_secs(60) + Duration::from_millis(200) * u32::try_from(builds).unwrap();
            assert!(begun.elapsed() < limit, "round {round} took {:?}", begun.elapsed());
            if round == 0 {
                before = Held::now(&world);
            }
        }
        stop.store(true, Ordering::Relaxed);
        let after = Held::now(&world);
        assert_eq!(after, before, "something is left");
    });
    world.check_consistent();
}

#[test]
fn many_builds_beside_busy_threads() {
    stress(World::new());
}

#[test]
fn many_sandboxed_builds_beside_busy_threads() {
    let world = World::sandboxed();
    let first = world.write(world.script("first", "echo > $out"));
    match world.try_build(&[first], BuildMode::Normal) {
        Err((_, message)) if message.contains("namespaces") => println!("SKIPPED: {message}"),
        other => {
            other.unwrap();
            stress(world);
        }
    }
}

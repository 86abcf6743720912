//! Builds at once, in one process and in several.

use crate::world::World;
use firn_core::{DerivedPath, OutputsSpec};
use firn_store::{BuildMode, BuildStatus, BuildStore};
use std::time::{Duration, Instant};

#[test]
fn jobs_run_at_once() {
    let mut world = World::new();
    world.schedule.max_jobs = 4;
    let drvs: Vec<_> =
        (0..4).map(|n| world.write(world.script(&format!("s{n}"), "sleep 1; echo > $out"))).collect();
    let start = Instant::now();
    world.try_build(&drvs, BuildMode::Normal).unwrap();
    assert!(start.elapsed() < Duration::from_millis(3500), "{:?}", start.elapsed());
}

#[test]
fn one_job_at_a_time() {
    let world = World::new();
    let script = "test ! -e $lock; echo > $lock; sleep 0.1; rm $lock; echo > $out";
    let drvs: Vec<_> = (0..5)
        .map(|n| {
            let mut drv = world.script(&format!("s{n}"), script);
            let lock = world.dir.path().join("lock").display().to_string();
            drv.env.insert(b"lock".to_vec(), lock.into_bytes());
            world.write(drv)
        })
        .collect();
    world.try_build(&drvs, BuildMode::Normal).unwrap();
}

#[test]
fn two_schedulers_build_once() {
    let world = World::new();
    let mut drv = world.script("once", "echo x >> $count; sleep 1; echo > $out");
    let count = world.dir.path().join("count");
    drv.env.insert(b"count".to_vec(), count.display().to_string().into_bytes());
    let drv = world.write(drv);
    let request = [DerivedPath::built(drv, OutputsSpec::All)];
    let (a, b) = (world.scheduler(), world.scheduler());
    let (a, b) = world.block(async {
        tokio::join!(a.build_paths(&request, BuildMode::Normal), b.build_paths(&request, BuildMode::Normal))
    });
    let mut statuses = [a.unwrap()[0].status, b.unwrap()[0].status];
    statuses.sort_by_key(|s| *s as u8);
    assert_eq!(statuses, [BuildStatus::Built, BuildStatus::AlreadyValid]);
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
    world.check_consistent();
}

#[test]
fn a_deep_chain() {
    let mut world = World::new();
    world.schedule.max_jobs = 2;
    let mut last = world.write(world.script("chain", "echo > $out"));
    for _ in 0..30 {
        let mut next = world.script("chain", "cat $input > $out; echo x >> $out");
        world.depend(&mut next, "input", &last);
        last = world.write(next);
    }
    let out = world.build(&last)["out"].clone();
    assert_eq!(std::fs::read_to_string(world.real(&out)).unwrap().len(), 1 + 2 * 30);
}

#[test]
fn missing_paths() {
    let world = World::new();
    let a = world.write(world.script("a", "echo > $out"));
    let mut b = world.script("b", "echo > $out");
    world.depend(&mut b, "a", &a);
    let b = world.write(b);
    let scheduler = world.scheduler();
    let request = [DerivedPath::built(b.clone(), OutputsSpec::All)];
    let missing = world.block(scheduler.query_missing(&request)).unwrap();
    assert_eq!(missing.will_build, [a, b.clone()].into());
    world.build(&b);
    let missing = world.block(scheduler.query_missing(&request)).unwrap();
    assert!(missing.will_build.is_empty());
}

/// The order in which builds began, by name, with so many at once.
fn begun(jobs: u32) -> Vec<String> {
    let mut world = World::new();
    world.schedule.max_jobs = jobs;
    // More than are handed to the executor at once, and a chain whose name comes last.
    let mut drvs: Vec<_> =
        (10..60).map(|n| world.write(world.script(&format!("a{n}"), "echo > $out"))).collect();
    let mut last = world.write(world.script("z0", "echo > $out"));
    for n in 1..4 {
        let mut next = world.script(&format!("z{n}"), "cat $input > $out");
        world.depend(&mut next, "input", &last);
        last = world.write(next);
    }
    drvs.push(last);
    world.try_build(&drvs, BuildMode::Normal).unwrap();
    let said = world.said();
    let names = said.lines().filter(|line| line.starts_with("building"));
    names.filter_map(|line| Some(line.split(".drv").next()?.rsplit('-').next()?.to_owned())).collect()
}

#[test]
fn what_most_wait_for_begins_first() {
    let order = begun(2);
    let place = |name: &str| order.iter().position(|other| other == name).unwrap();
    assert_eq!(place("z0"), 0, "{order:?}");
    // Nobody waits for the last of them.
    assert!(place("z2") < 30, "{order:?}");
    // One after the other, names decide.
    let order = begun(1);
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order.first().map(String::as_str), Some("a10"));
    assert_eq!(order.last().map(String::as_str), Some("z3"));
}

#[test]
fn of_builders_that_cannot_run_the_first_fails_first() {
    for _ in 0..10 {
        let mut world = World::new();
        world.schedule.max_jobs = 4;
        let drvs: Vec<_> = (0..4)
            .map(|n| {
                let mut drv = world.script(&format!("n{n}"), "");
                drv.builder = b"/no/such/program".to_vec();
                world.write(drv)
            })
            .collect();
        let (_, error) = world.try_build(&drvs, BuildMode::Normal).unwrap_err();
        assert!(error.contains("-n0.drv"), "{error}");
    }
}

#[test]
fn after_a_failure_nothing_else_begins() {
    for _ in 0..10 {
        let world = World::new();
        let drvs =
            [world.write(world.script("n0", "exit 3")), world.write(world.script("n1", "echo > $out"))];
        world.try_build(&drvs, BuildMode::Normal).unwrap_err();
        assert!(!world.said().contains("-n1.drv"), "{}", world.said());
    }
}

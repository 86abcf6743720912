//! Builders that fail, hang, flood, lie.

use crate::world::World;
use firn_build::SandboxMode;
use firn_store::BuildMode;
use std::time::{Duration, Instant};

#[test]
fn exit_code() {
    let world = World::new();
    let drv = world.write(world.script("fail", "echo hello; exit 3"));
    world.check_failure(
        &drv,
        100,
        "Cannot build 'DRV'.\nReason: builder failed with exit code 3.\nOutput paths:\n  OUT",
    );
    assert!(world.said().ends_with("hello\n"));
}

#[test]
fn log_tail_where_logs_are_not_shown() {
    let mut world = World::new();
    world.record = std::sync::Arc::new(crate::world::Record { hides_logs: true, ..Default::default() });
    world.build.log_lines = 2;
    let drv = world.write(world.script("fail", "echo one; echo two; echo three; exit 1"));
    world.check_failure(
        &drv,
        100,
        "Cannot build 'DRV'.\nReason: builder failed with exit code 1.\nOutput paths:\n  OUT\n\
         Last 2 log lines:\n> two\n> three\nFor full logs, run:\n  nix-store -l DRV",
    );
    assert_eq!(world.store.read_build_log(&drv).unwrap().unwrap(), b"one\ntwo\nthree\n");
}

#[test]
fn signal() {
    let world = World::new();
    let drv = world.write(world.script("signal", "kill -SEGV $$"));
    world.check_failure(
        &drv,
        100,
        "Cannot build 'DRV'.\nReason: builder failed due to signal 11 (Segmentation fault).\nOutput paths:\n  OUT",
    );
}

#[test]
fn no_output() {
    let world = World::new();
    let drv = world.write(world.script("none", "true"));
    world.check_failure(
        &drv,
        1,
        "builder for 'DRV' failed to produce output path for output 'out' at \"OUT\"",
    );
}

#[test]
fn timeouts() {
    let mut world = World::new();
    let drv = world.write(world.script("slow", "while true; do echo; sleep 0.1; done"));
    world.build.timeout = Some(Duration::from_secs(1));
    world.check_failure(&drv, 101, "timed out after 1 seconds");
    let drv = world.write(world.script("silent", "trap '' TERM; sleep 100"));
    world.build.timeout = None;
    world.build.max_silent_time = Some(Duration::from_secs(1));
    world.check_failure(&drv, 101, "timed out after 1 seconds");
}

#[test]
fn flood() {
    let mut world = World::new();
    world.build.max_build_log_size = 1000;
    let drv = world.write(world.script("flood", "yes"));
    world.check_failure(
        &drv,
        1,
        "building derivation 'DRV' killed after writing more than 1000 bytes of log output",
    );
}

#[test]
fn suspicious_permissions() {
    let world = World::new();
    let drv = world.write(world.script("open", "mkdir $out; chmod 777 $out"));
    world.check_failure(
        &drv,
        1,
        "suspicious ownership or permission on \"OUT\" for output 'out'; rejecting this build output",
    );
}

#[test]
fn forbidden_references() {
    let world = World::new();
    let mut drv = world.script("refers", "echo $out > $out");
    drv.env.insert(b"allowedReferences".to_vec(), Vec::new());
    let drv = world.write(drv);
    world.check_failure(&drv, 1, "output 'OUT' is not allowed to refer to the following paths:\n  OUT");
}

#[test]
fn forbidden_requisites_show_the_way() {
    let world = World::new();
    let secret = world.write(world.script("secret", "echo > $out"));
    let mut middle = world.script("middle", "echo $secret > $out");
    world.depend(&mut middle, "secret", &secret);
    let middle = world.write(middle);
    let mut top = world.script("top", "echo $middle > $out");
    world.depend(&mut top, "middle", &middle);
    let secret_out = world.dir().display(&world.out(&secret));
    top.env.insert(b"disallowedRequisites".to_vec(), secret_out.clone().into_bytes());
    let top = world.write(top);
    let middle_out = world.dir().display(&world.out(&middle));
    world.check_failure(
        &top,
        1,
        &format!(
            "output 'OUT' is not allowed to refer to the following paths:\n  {secret_out}\n\
             Shown is how the first of them is reached:\n  OUT\n    {middle_out}\n      {secret_out}"
        ),
    );
}

#[test]
fn failure_of_a_dependency() {
    let world = World::new();
    let a = world.write(world.script("a", "exit 1"));
    let mut b = world.script("b", "echo > $out");
    world.depend(&mut b, "a", &a);
    let b = world.write(b);
    world.check_failure(&b, 100, "Cannot build 'DRV'.\nReason: 1 dependency failed.\nOutput paths:\n  OUT");
    assert!(world.said().contains("error: Cannot build"));
}

#[test]
fn keep_going() {
    let mut world = World::new();
    world.schedule.keep_going = true;
    let a = world.write(world.script("a", "exit 1"));
    let b = world.write(world.script("b", "kill -KILL $$"));
    let c = world.write(world.script("c", "echo > $out"));
    let error = world.try_build(&[a.clone(), b.clone(), c.clone()], BuildMode::Normal).unwrap_err();
    let dir = world.dir();
    let mut names = [dir.display(&a), dir.display(&b)];
    names.sort();
    assert_eq!(error, (100, format!("build of '{}', '{}' failed", names[0], names[1])));
    assert!(world.store.is_valid(&world.out(&c)).unwrap());
}

#[test]
fn wrong_machine() {
    let world = World::new();
    let mut drv = world.script("foreign", "");
    drv.platform = b"pdp11-unix".to_vec();
    drv.env.insert(b"requiredSystemFeatures".to_vec(), b"warp".to_vec());
    let drv = world.write(drv);
    world.check_failure(
        &drv,
        100,
        &format!(
            "Cannot build 'DRV'.\nReason: platform mismatch\nRequired system: 'pdp11-unix'\nCurrent system: '{}'\n\
             Reason: missing system features\nRequired features: {{warp}}\nAvailable features: {{}}",
            world.build.system
        ),
    );
}

#[test]
fn no_chroot_is_refused() {
    let mut world = World::new();
    world.build.sandbox = SandboxMode::Enabled;
    let mut drv = world.script("free", "echo > $out");
    drv.env.insert(b"__noChroot".to_vec(), b"1".to_vec());
    let drv = world.write(drv);
    world.check_failure(
        &drv,
        1,
        "derivation 'DRV' has '__noChroot' set, but that's not allowed when 'sandbox' is 'true'",
    );
    world.build.sandbox = SandboxMode::Relaxed;
    world.build(&drv);
}

#[test]
fn kept_directories() {
    let mut world = World::new();
    world.build.keep_failed = true;
    let drv = world.write(world.script("kept", "echo evidence > file; exit 1"));
    world.try_build(&[drv], BuildMode::Normal).unwrap_err();
    let said = world.said();
    let dir = said.split("note: keeping build directory \"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(std::fs::read_to_string(format!("{dir}/file")).unwrap(), "evidence\n");
}

#[test]
fn cancellation_kills_builders() {
    let world = World::new();
    let drv =
        world.write(world.script("endless", "trap '' INT TERM; echo started; sleep 100 & wait; sleep 100"));
    let scheduler = world.scheduler();
    let cancel = scheduler.cancellation().clone();
    let start = Instant::now();
    let request = [firn_core::DerivedPath::built(drv, firn_core::OutputsSpec::All)];
    let result = world.block(async {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cancel.cancel();
        });
        scheduler.run(&request, BuildMode::Normal).await
    });
    assert!(matches!(result, Err(firn_store::StoreError::Interrupted)));
    assert!(start.elapsed() < Duration::from_secs(10));
    world.check_consistent();
}

#[test]
fn hard_link_to_somebody_elses_file() {
    let world = World::new();
    if !rustix::process::geteuid().is_root() {
        return println!("SKIPPED: needs root");
    }
    // A builder that links a file of the store into its output gets a file that is ours, which is fine; the store's
    // file must not change.
    let a = world.write(world.script("a", "echo a > $out"));
    let mut b = world.script("b", "ln $a $out");
    world.depend(&mut b, "a", &a);
    let b = world.write(b);
    let _ = world.try_build(&[b], BuildMode::Normal);
    assert_eq!(std::fs::read_to_string(world.real(&world.out(&a))).unwrap(), "a\n");
    world.check_consistent();
}

#[test]
fn nothing_is_left_of_a_failed_builds_outputs() {
    let world = World::new();
    let drv = world.write(world.script("partial", "echo half > $out; exit 1"));
    world.try_build(std::slice::from_ref(&drv), BuildMode::Normal).unwrap_err();
    assert!(!world.real(&world.out(&drv)).exists());
    world.check_consistent();
}

//! What a build sees, and how its end is reported.

use crate::world::{World, check, is_root};
use firn_sandbox::{Event, ExitStatus, Program, SandboxError};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

#[test]
fn identity_and_place() {
    check("id -u; id -g; pwd; hostname; echo $$; whoami", "1000\n100\n/build\nlocalhost\n1\nnixbld\n");
}

#[test]
fn environment_is_only_what_was_given() {
    check("env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD=", "PATH=/usr/bin:/bin:/usr/sbin:/sbin\n");
}

#[test]
fn root_directory_is_bare() {
    check(
        "ls -1A / /etc /dev",
        "/:\nbin\nbuild\ndev\netc\nlib\nlib64\nnix\nproc\ntmp\nusr\n\n/dev:\nfd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n\n/etc:\ngroup\npasswd\n",
    );
}

#[test]
fn places_to_write() {
    check(
        "echo x > /build/x; echo x > /tmp/x; echo x > /dev/shm/x; echo x > /nix/store/x; cat /build/x",
        "x\n",
    );
    check("echo x 2>/dev/null > /etc/x || echo refused", "refused\n");
}

#[test]
fn streams() {
    check(
        "test -t 2 && test -t 1 && echo terminal; read x || echo eof; echo error >&2",
        "terminal\neof\nerror\n",
    );
}

#[test]
fn signals_are_as_new() {
    // SIGPIPE, which Rust programs ignore, has its default effect again.
    check(
        "yes 2>&1 | head -n 1; grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t'",
        "y\nSigBlk:0000000000000000\nSigIgn:0000000000000000\n",
    );
}

#[test]
fn no_descriptors_leak() {
    check("ls /proc/self/fd | tr '\\n' ' '", "0 1 2 3 ");
}

#[test]
fn statuses() {
    let run = |script: &str| World::unsandboxed(script).run().unwrap().status;
    assert_eq!(run("exit 0"), ExitStatus::Code(0));
    assert_eq!(run("exit 7"), ExitStatus::Code(7));
    assert_eq!(run("kill -SEGV $$"), ExitStatus::Signal(11));
    assert_eq!(run("exit 7").to_string(), "failed with exit code 7");
    assert_eq!(run("kill -KILL $$").to_string(), "failed due to signal 9 (Killed)");
}

#[test]
fn missing_builder() {
    let mut world = World::unsandboxed("");
    world.spec.program = Program::Execute { path: b"/no/such".to_vec(), args: vec![b"such".to_vec()] };
    let outcome = world.run().unwrap();
    assert_eq!(outcome.status, ExitStatus::Code(1));
    assert_eq!(outcome.log, "error: executing '/no/such': No such file or directory\n");
}

#[test]
fn setup_errors_name_what_and_where() {
    let mut world = World::sandboxed("true");
    world.isolation().mounts.push(firn_sandbox::Mount {
        source: b"/no/such".to_vec(),
        target: b"/such".to_vec(),
        optional: false,
    });
    match world.try_run() {
        Err(SandboxError::Setup(text)) => {
            assert_eq!(text, "getting attributes of path '/no/such': No such file or directory");
        }
        Err(SandboxError::NoNamespaces(why)) => println!("SKIPPED: {why}"),
        other => panic!("{:?}", other.map(|o| o.log)),
    }
}

#[test]
fn large_output_is_complete() {
    let outcome = World::unsandboxed("head -c 3000000 /dev/zero | tr '\\0' x").run().unwrap();
    assert_eq!(outcome.log.len(), 3_000_000);
}

#[test]
fn background_processes_die_with_the_builder() {
    let world = World::unsandboxed("(setsid sh -c 'sleep 1; echo alive > witness' &) ; exit 0");
    assert_eq!(world.run().unwrap().status, ExitStatus::Code(0));
    std::thread::sleep(Duration::from_millis(1300));
    assert!(!world.dir.path().join("witness").exists());
}

#[track_caller]
fn check_killed(world: World) {
    let mut sandbox = World::spawner().spawn(&world.spec).unwrap();
    match sandbox.wait_started() {
        Err(SandboxError::NoNamespaces(why)) => return println!("SKIPPED: {why}"),
        result => result.unwrap(),
    }
    let start = Instant::now();
    let event = sandbox.next_event(&mut [0; 10], None, Some(Duration::from_millis(50))).unwrap();
    assert_eq!(event, Event::Timeout);
    sandbox.kill();
    assert_eq!(sandbox.wait().unwrap(), ExitStatus::Signal(9));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn killing() {
    let script = "trap '' TERM INT HUP; sleep 100 & sleep 100";
    check_killed(World::unsandboxed(script));
    check_killed(World::sandboxed(script));
}

#[test]
fn hard_links_of_the_store_view_are_the_builds_own() {
    let world = World::sandboxed("mkdir /nix/store/out && echo x > /nix/store/out/file");
    let Some(outcome) = world.run() else { return };
    assert_eq!(outcome.status, ExitStatus::Code(0), "{}", outcome.log);
    let meta = std::fs::metadata(world.dir.path().join("root/nix/store/out/file")).unwrap();
    assert_eq!(meta.uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn build_user_outside_the_sandbox() {
    if !is_root() {
        return println!("SKIPPED: needs root");
    }
    let world = World::unsandboxed("id -u; id -g; grep NoNewPrivs /proc/self/status").by_user(61235);
    let outcome = world.run().unwrap();
    assert_eq!(outcome.log, "61235\n61235\nNoNewPrivs:\t1\n");
}

#[test]
fn all_processes_of_a_build_user_die() {
    if !is_root() {
        return println!("SKIPPED: needs root");
    }
    let world = World::unsandboxed("setsid sh -c 'sleep 100' >/dev/null 2>&1 & exit 0").by_user(61236);
    world.run().unwrap();
    let alive = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| e.ok()?.metadata().ok())
        .any(|meta| meta.uid() == 61236);
    assert!(!alive);
}

#[test]
fn starting_costs_milliseconds() {
    let world = World::sandboxed("exit 0");
    if world.run().is_none() {
        return;
    }
    let start = Instant::now();
    for _ in 0..10 {
        World::sandboxed("exit 0").run();
    }
    let each = start.elapsed() / 10;
    println!("a sandboxed build takes {each:?}");
    assert!(each < Duration::from_millis(500), "{each:?}");
}

#[test]
fn a_builder_that_closes_its_log_is_killed() {
    let world = World::unsandboxed("echo before; exec > /dev/null 2>&1; sleep 100");
    let outcome = world.run().unwrap();
    assert_eq!((outcome.log.as_str(), outcome.status), ("before\n", ExitStatus::Signal(9)));
}

#[test]
fn the_end_of_the_log_does_not_change_the_status() {
    for _ in 0..50 {
        let outcome = World::unsandboxed("echo x; exit 5").run().unwrap();
        assert_eq!(outcome.status, ExitStatus::Code(5));
    }
}

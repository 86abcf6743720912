//! Builds that are cut short by something else than their builders: killed programs, full disks, floods of output.
//! Whatever happens, nothing is left, and the next build works.

use firn_testkit::{World, can_sandbox};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Names in a directory; none where there is no such directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose command line holds `word`.
fn processes(word: &str) -> Vec<String> {
    let pids = names(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    })
    .collect()
}

/// A build that says that it runs by a file, leaves a bit of everything, and stays unless told to end.
fn start_build(world: &World, meeting: &Path, seconds: &str) -> Child {
    world.expression(&format!(
        r#"make "cut" ''
            if [ -e {0}/end ]; then echo whole > $out; exit 0; fi
            mkdir $out; echo part > $out/file; echo part > file
            sleep {seconds} & sleep {seconds} & echo > {0}/runs
            sleep {seconds}
        ''"#,
        meeting.display()
    ));
    let mut command = world.command("nix-build");
    command.arg("--no-out-link").stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("nix-build starts")
}

fn meeting(world: &World) -> PathBuf {
    let meeting = world.path("meeting");
    fs::create_dir(&meeting).expect("a folder");
    meeting
}

fn killed_in_the_middle(world: &World, seconds: &str) {
    let meeting = world.path("meeting");
    for _ in 0..2 {
        let mut build = start_build(world, &meeting, seconds);
        wait_until("the build runs", || meeting.join("runs").exists());
        build.kill().expect("nix-build is killed");
        build.wait().expect("nix-build ends");
        wait_until("its processes are gone", || processes(&format!("sleep\0{seconds}")).is_empty());
        fs::remove_file(meeting.join("runs")).expect("the file is removed");
    }
    fs::write(meeting.join("end"), "").expect("a file");
    world.run("nix-build", &["--no-out-link"]).success();
    let left = names(&world.path("store"));
    let whole = |name: &String| name == ".links" || name.ends_with("-cut") || name.ends_with("-cut.drv");
    assert!(left.iter().all(whole), "{left:?}");
    assert_eq!(names(&world.path("var/nix/builds")), [""; 0]);
}

#[test]
fn a_program_that_is_killed_in_the_middle() {
    let world = World::new().conf("sandbox = false");
    meeting(&world);
    killed_in_the_middle(&world, "86401");
}

#[test]
fn a_program_that_is_killed_in_the_middle_of_a_sandbox() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    let meeting = meeting(&world);
    let path = format!("extra-sandbox-paths = {}", meeting.display());
    killed_in_the_middle(&world.conf(&path), "86402");
}

/// What a killed program leaves is garbage where the build does not come again.
#[test]
fn a_collection_takes_what_was_left() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    let meeting = meeting(&world);
    let world = world.conf(&format!("extra-sandbox-paths = {}", meeting.display()));
    let mut build = start_build(&world, &meeting, "86403");
    wait_until("the build runs", || meeting.join("runs").exists());
    build.kill().expect("nix-build is killed");
    build.wait().expect("nix-build ends");
    wait_until("its processes are gone", || processes("sleep\x0086403").is_empty());
    world.run("nix-store", &["--gc"]).success();
    assert_eq!(names(&world.path("store")), [".links"]);
}

#[test]
fn a_kept_directory_outlives_the_next_program() {
    let world = World::new().conf("sandbox = false");
    world.try_build(r#"make "kept" "echo > kept; exit 1""#, &["--keep-failed"]).fails(100);
    let kept = names(&world.path("var/nix/builds"));
    assert_eq!(kept.len(), 1);
    world.build(r#"make "next" "echo > $out""#);
    assert_eq!(names(&world.path("var/nix/builds")), kept);
}

/// Runs a shell script with a small file system on the store.
#[track_caller]
fn on_a_small_disk(conf: &str, size: &str, script: &str) -> String {
    let world = World::new().conf(conf);
    world.expression(
        r#"let
          zeros = name: count: make name "dd if=/dev/zero of=$out bs=1M count=${toString count} 2>&1";
          in {
            large = zeros "large" 100;
            small = make "small" "echo small > $out";
            some = builtins.genList (i: zeros "some${toString i}" 8) 12;
            loud = make "loud" "head -c 100000000 /dev/urandom; echo > $out";
          }"#,
    );
    let world = world.with_full_disk(size);
    let run = world.run("/bin/sh", &["-euc", script]).success();
    format!("{}{}", run.stdout_text(), run.stderr_text())
}

fn can_mount() -> bool {
    let may = rustix::process::geteuid().is_root();
    if !may {
        println!("SKIPPED: only root can mount");
    }
    may
}

#[test]
fn a_disk_that_is_full_in_the_middle() {
    if !can_mount() {
        return;
    }
    let mut worlds = vec!["sandbox = false".to_owned()];
    if can_sandbox() {
        worlds.push("sandbox = true\nsandbox-paths = /bin? /lib? /lib64? /usr?".to_owned());
    }
    for conf in worlds {
        let said = on_a_small_disk(
            &conf,
            "24m",
            "if nix-build --no-out-link -A large; then exit 3; fi
            nix-build --no-out-link -A small
            ls -A $NIX_STORE_DIR | sed s/^/left:/
            ls -A $NIX_STATE_DIR/builds | sed s/^/left:/",
        );
        assert!(said.contains("may have been caused by lack of free disk space"), "{said}");
        let left: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("left:")).collect();
        assert!(left.iter().all(|name| !name.ends_with("-large")), "{left:?}");
        let transient =
            |name: &&&str| name.ends_with(".lock") || name.ends_with(".chroot") || name.starts_with("nix-");
        assert_eq!(left.iter().find(transient), None, "{left:?}");
    }
}

#[test]
fn a_log_that_does_not_fit() {
    if !can_mount() {
        return;
    }
    let said = on_a_small_disk(
        "sandbox = false",
        "24m",
        "export NIX_LOG_DIR=$NIX_STORE_DIR/log
        if nix-build --no-out-link -A loud -Q; then exit 3; fi
        rm -r $NIX_LOG_DIR
        nix-build --no-out-link -A small",
    );
    assert!(said.contains("No space left on device"), "{said}");
}

#[test]
fn garbage_is_collected_while_builds_need_room() {
    if !can_mount() {
        return;
    }
    let conf = "sandbox = false\nmin-free = 20000000\nmax-free = 30000000\nmin-free-check-interval = 0";
    let said = on_a_small_disk(
        conf,
        "48m",
        "for i in 0 1 2 3 4 5 6 7 8 9 10 11; do nix-build --no-out-link -E \
           'let a = (import ./.).some; in builtins.elemAt a '$i; done
        ls $NIX_STORE_DIR | sed s/^/left:/",
    );
    assert!(said.contains("running auto-GC to free"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("left:") && line.ends_with("-some11")), "{said}");
}

/// Memory does not grow with the log, and all of it is there.
#[test]
fn a_log_of_fifty_megabytes() {
    let world = World::new().conf("sandbox = false");
    world.expression(r#"make "flood" "seq 8000000 | head -c 50000000; echo > $out""#);
    let script = "nix-build --no-out-link -Q > out &
        most=0
        while kill -0 $! 2>/dev/null; do
          now=$(sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$!/status 2>/dev/null)
          most=${now:-$most}; sleep 0.05
        done
        wait $! && echo most:$most
        nix-store --read-log $(cat out) | cksum
        seq 8000000 | head -c 50000000 | cksum";
    let run = world.run("/bin/sh", &["-c", script]).success();
    let text = run.stdout_text();
    let most: u64 = text.lines().find_map(|l| l.strip_prefix("most:")?.parse().ok()).expect("a figure");
    // Four blocks are compressed at once at most, each with nine times its size.
    assert!(most < 130_000, "{most} KiB");
    let sums: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("most:")).skip(1).collect();
    assert_eq!(sums.len(), 2, "{text}");
    assert_eq!(sums[0], sums[1]);
}

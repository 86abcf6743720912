//! Builds in cgroups of their own: nothing outlives them, and running out of memory ends the build alone.

use firn_testkit::{World, can_sandbox};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Where cgroups of version 2 are mounted, where builds may have some: for root.
fn mounted() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts are read");
    let mut words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let at = words.find_map(|words| (words.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(words[1])));
    let at = at.filter(|at| rustix::process::geteuid().is_root() && can_make_one(at));
    if at.is_none() {
        println!("SKIPPED: no cgroups of version 2 that can be written to");
    }
    at
}

fn can_make_one(parent: &Path) -> bool {
    let tried = parent.join(format!("firn-test-{}", std::process::id()));
    fs::create_dir(&tried).is_ok() && fs::remove_dir(&tried).is_ok()
}

/// Cgroups of builds anywhere below the mount.
fn left(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().starts_with("nix-build-") {
                found.push(entry.path());
            }
            found.extend(left(&entry.path()));
        }
    }
    found
}

fn world(conf: &str) -> World {
    let features = "experimental-features = nix-command auto-allocate-uids cgroups\nuse-cgroups = true\n";
    World::new().sandboxed().conf(&format!("{features}{conf}"))
}

#[test]
fn a_build_is_in_one_of_its_own_and_nothing_outlives_it() {
    let Some(mount) = mounted() else { return };
    if !can_sandbox() {
        return;
    }
    let world = world("").conf("sandbox = false");
    let script =
        r#"make "in" "grep ^0:: /proc/self/cgroup > $out; setsid sleep 86411 & setsid sleep 86411 &""#;
    let text = world.build_text(script);
    assert!(text.contains("/nix-build-"), "{text}");
    let name = text.trim_end().rsplit('/').next().unwrap_or_default();
    assert!(left(&mount).iter().all(|path| !path.ends_with(name)), "{name}");
}

/// What it took is what everything in it took, also what nobody waited for.
#[test]
fn processor_time_is_that_of_the_cgroup() {
    if mounted().is_none() || !can_sandbox() {
        return;
    }
    for sandbox in ["sandbox = false", "sandbox = true"] {
        let world = world(sandbox);
        world.expression(
            r#"make "busy" ''
              setsid sh -c 'i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; echo > $out' &
              while [ ! -e $out ]; do sleep 0.05; done
            ''"#,
        );
        let told = world.run("nix", &["build", "-f", ".", "--no-link", "--json"]).success().stdout_text();
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        // The kernel shares the time out between both by what it saw at ticks of the clock.
        let (user, system) = (told[0]["cpuUser"].as_f64(), told[0]["cpuSystem"].as_f64());
        let both = user.zip(system).map(|(user, system)| user + system);
        assert!(both.is_some_and(|time| (0.1..60.0).contains(&time)), "{told}");
    }
}

/// A daemon goes into a cgroup of its own, beside which those of its builds are, so that controllers can be theirs.
#[test]
fn a_daemon_has_a_cgroup_of_its_own() {
    let Some(mount) = mounted() else { return };
    let name = format!("firn-test-daemon-{}", std::process::id());
    let dir = mount.join(&name);
    fs::create_dir(&dir).expect("a cgroup");
    let world = world("sandbox = false");
    let script = format!(
        "echo $$ > {}/cgroup.procs; nix-daemon & daemon=$!; for i in $(seq 100); do [ -e $NIX_STATE_DIR/daemon-socket/socket ] && break; sleep 0.1; done
         cat /proc/$daemon/cgroup; echo $$ > {}/cgroup.procs; NIX_REMOTE=daemon nix-build --no-out-link; kill $daemon; wait $daemon",
        dir.display(),
        mount.display(),
    );
    world.expression(r#"make "in" "grep ^0:: /proc/self/cgroup > $out""#);
    let run = world.run("/bin/sh", &["-c", &script]);
    let text = run.stdout_text();
    assert!(text.contains(&format!("/{name}/nix-daemon\n")), "{run:?}");
    let out = text.lines().last().unwrap_or_default();
    let seen = fs::read_to_string(out).unwrap_or_default();
    assert!(seen.contains(&format!("/{name}/nix-build-")), "{seen}{run:?}");
    // The connection's process may be about to end.
    for _ in 0..100 {
        let _ = fs::remove_dir(dir.join("nix-daemon"));
        if fs::remove_dir(&dir).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("something is left in {}", dir.display());
}

#[test]
fn a_range_of_users() {
    if mounted().is_none() || !can_sandbox() {
        return;
    }
    let conf =
        "auto-allocate-uids = true\nsystem-features = uid-range\nstart-id = 910000000\nid-count = 655360\n";
    let world = world(conf).with_build_users();
    let script = r#"makeWith "range" { requiredSystemFeatures = [ "uid-range" ]; } ''
      set -e
      id -u > $out
      awk '{ print $1, $3 }' /proc/self/uid_map >> $out
      touch file; chown 1000:1000 file; stat -c %u file >> $out
      mkdir cgroup; grep -c cgroup2 /proc/self/mounts >> $out || true
    ''"#;
    let text = world.build_text(script);
    assert!(text.starts_with("0\n0 65536\n1000\n"), "{text}");
}

/// A program that is killed leaves its cgroup, which the next one removes.
#[test]
fn what_was_left_is_removed() {
    let Some(mount) = mounted() else { return };
    let world = world("").conf("sandbox = false");
    let here = world.path("here");
    world.expression(&format!(r#"make "long" "echo > {}; sleep 86412""#, here.display()));
    let mut command = world.command("nix-build");
    command.arg("--no-out-link").stdout(Stdio::null()).stderr(Stdio::null());
    let mut build = command.spawn().expect("nix-build starts");
    let begun = Instant::now();
    while !here.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    let name = format!("nix-build-pid-{}-0", build.id());
    let is_left = || left(&mount).iter().any(|path| path.ends_with(&name));
    assert!(is_left());
    build.kill().expect("nix-build is killed");
    build.wait().expect("nix-build ends");
    // Its processes are killed by the kernel; only then can the cgroup go.
    let begun = Instant::now();
    while is_left() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        world.run("nix-build", &["--no-out-link", "-E", &format!(
            r#"derivation {{ name = "next{}"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }}"#,
            begun.elapsed().as_millis()
        )]).success();
    }
}

/// Where a cgroup with little memory can be made: its directory, the file of the limit, and that of its processes.
fn small_memory(name: &str) -> Option<(PathBuf, &'static str)> {
    let old = Path::new("/sys/fs/cgroup/memory");
    let mut tries = vec![(old.to_owned(), "memory.limit_in_bytes")];
    if let Some(at) = mounted() {
        tries.push((at, "memory.max"));
    }
    for (parent, limit) in tries {
        let dir = parent.join(name);
        if fs::create_dir(&dir).is_ok() {
            if fs::write(dir.join(limit), "200000000").is_ok() {
                return Some((dir, limit));
            }
            let _ = fs::remove_dir(&dir);
        }
    }
    println!("SKIPPED: no cgroup whose memory can be limited");
    None
}

#[test]
fn a_builder_without_memory() {
    let name = format!("firn-test-memory-{}", std::process::id());
    let Some((dir, _)) = small_memory(&name) else { return };
    let world = World::new().conf("sandbox = false");
    world.expression(
        r#"{
          greedy = make "greedy" "x=$(head -c 1000000000 /dev/zero | tr '\\0' x); echo $x > $out";
          next = make "next" "echo > $out";
        }"#,
    );
    let script = format!(
        "echo $$ > {}/cgroup.procs; nix-build --no-out-link -A greedy; echo code:$?; nix-build --no-out-link -A next",
        dir.display()
    );
    let run = world.run("/bin/sh", &["-c", &script]);
    let _ = fs::remove_dir(&dir);
    let run = run.success();
    assert!(run.stdout_text().contains("code:100"), "{run:?}");
    assert!(run.stderr_text().contains("builder failed"), "{run:?}");
    assert_eq!(fs::read_dir(world.path("var/nix/builds")).map_or(0, Iterator::count), 0);
}

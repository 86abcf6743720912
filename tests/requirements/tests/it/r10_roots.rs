//! R10: roots are symlinks, indirect symlinks, and regular files whose name is a store path.

use firn_testkit::World;
use std::path::Path;
use std::process::{Command, Stdio};

fn add(world: &World, name: &str) -> String {
    world.write(name, name);
    world.run("nix-store", &["--add", name]).success().stdout_text().trim_end().to_owned()
}

#[test]
fn all_three_kinds() {
    let world = World::new();
    let [direct, indirect, file, free] = ["direct", "indirect", "file", "free"].map(|name| add(&world, name));
    let roots = world.path("var/nix/gcroots");
    let hydra = roots.join("per-user/hydra/hydra-roots");
    std::fs::create_dir_all(&hydra).expect("a folder");
    std::os::unix::fs::symlink(&direct, roots.join("direct")).expect("a link");
    world.run("nix-store", &["--realise", &indirect, "--add-root", "link", "--indirect"]).success();
    let base = file.rsplit('/').next().expect("a name");
    std::fs::write(hydra.join(base), "").expect("a file");

    world.run("nix-store", &["--gc"]).success();
    for path in [&direct, &indirect, &file] {
        assert!(std::path::Path::new(path).exists(), "{path} was collected");
    }
    assert!(!std::path::Path::new(&free).exists(), "{free} was kept");

    std::fs::remove_file(hydra.join(base)).expect("a file is removed");
    std::fs::remove_file(world.work_dir().join("link")).expect("a link is removed");
    world.run("nix-store", &["--gc"]).success();
    assert!(!std::path::Path::new(&file).exists() && !std::path::Path::new(&indirect).exists());
}

#[test]
fn tens_of_thousands_of_files() {
    let world = World::new();
    let kept = add(&world, "kept");
    let base = kept.rsplit('/').next().expect("a name");
    let dir = world.path("var/nix/gcroots/per-user/hydra/hydra-roots");
    std::fs::create_dir_all(&dir).expect("a folder");
    for number in 0..40_000 {
        // Nix's base 32 has no e, o, t and u; digits are always good.
        std::fs::write(dir.join(format!("{number:032}-gone")), "").expect("a file");
    }
    std::fs::write(dir.join(base), "").expect("a file");
    let start = std::time::Instant::now();
    world.run("nix-store", &["--gc"]).success();
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    assert!(std::path::Path::new(&kept).exists());
}

#[test]
fn running_programs() {
    let world = World::new().conf("sandbox = false");
    let path = world.build(r#"make "sleeper" "mkdir $out; cp /bin/sleep $out/sleep""#);
    let unused = world.build(r#"make "unused" "echo > $out""#);
    let mut running = world.command(&format!("{path}/sleep")).arg("600").spawn().expect("it runs");
    world.run("nix-store", &["--gc"]).success();
    let kept = std::path::Path::new(&path).exists();
    running.kill().expect("it ends");
    running.wait().expect("it ended");
    assert!(kept, "collected while it ran");
    assert!(!std::path::Path::new(&unused).exists());
    world.run("nix-store", &["--gc"]).success();
    assert!(!std::path::Path::new(&path).exists());
}

/// A collector without rights asks a daemon of root's, which sees what root's programs use.
#[test]
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn a_daemon_tells_what_others_use() {
    let world = World::new().conf("extra-experimental-features = local-overlay-store");
    if !world.is_root() {
        return;
    }
    let world = world.unprivileged();
    let [used, unused] = ["used", "unused"].map(|name| add(&world, name));
    let as_root = |program: &str| {
        let mut command = Command::new(world.path("programs").join(program));
        command.env_clear().current_dir(world.path("etc")).stdin(Stdio::null());
        for (name, value) in world.command(program).get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
    };
    // What root has open, no other user can know.
    let mut user = Command::new("sleep")
        .arg("600")
        .stdin(std::fs::File::open(&used).expect("the path"))
        .spawn()
        .expect("it runs");
    let collect = ["--store", "local?use-roots-daemon=true", "--gc"];
    let refused = world.run("nix-store", &collect).fails(1).stderr_text();
    assert!(refused.contains("asking the roots daemon at"), "{refused}");
    assert!(Path::new(&used).exists() && Path::new(&unused).exists(), "nothing goes without an answer");

    let socket = world.path("var/nix/gc-roots-socket/socket");
    let mut daemon = as_root("nix").args(["store", "roots-daemon"]).spawn().expect("the daemon starts");
    let started = std::time::Instant::now();
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(started.elapsed().as_secs() < 20, "the daemon does not answer");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // Some that do not wait for their answer, and some at once.
    for _ in 0..20 {
        drop(std::os::unix::net::UnixStream::connect(&socket));
    }
    let roots = world.run("nix-store", &["--store", "local?use-roots-daemon=true", "--gc", "--print-roots"]);
    let shown = roots.success().stdout_text();
    assert!(shown.contains(&used) && !shown.contains(&unused), "{shown}");
    world.run("nix-store", &collect).success();
    assert!(Path::new(&used).exists(), "what root uses was collected");
    assert!(!Path::new(&unused).exists(), "garbage was kept");

    user.kill().expect("it ends");
    user.wait().expect("it ends");
    world.run("nix-store", &collect).success();
    daemon.kill().expect("it ends");
    daemon.wait().expect("it ends");
    assert!(!Path::new(&used).exists(), "garbage was kept");
    // The socket of a daemon that was killed is no hindrance to the next one, and no answer.
    let refused = world.run("nix-store", &collect).fails(1).stderr_text();
    assert!(refused.contains("asking the roots daemon at"), "{refused}");
    // Only where there is a local store, and only with the feature.
    let remote = as_root("nix").args(["--store", "dummy://", "store", "roots-daemon"]).output();
    let said = String::from_utf8_lossy(&remote.expect("it runs").stderr).into_owned();
    assert!(said.contains("Roots daemon only functions with a local store, not 'dummy://'"), "{said}");
    let plain = as_root("nix")
        .args(["--experimental-features", "nix-command", "store", "roots-daemon"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert!(said.contains("experimental Nix feature 'local-overlay-store' is disabled"), "{said}");
}

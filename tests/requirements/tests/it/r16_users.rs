//! R16: builds run as build users, as users of an automatic range, or in a rootless user namespace.

use firn_testkit::servers::has_program;
use firn_testkit::{Make, World, can_sandbox};

/// Who a builder is, seen by itself and by those outside.
const WHO: &str = r#"make "who" "id -u > $out; cat /proc/self/uid_map >> $out""#;

/// The builder's uid inside, and the uid outside that it is mapped to.
#[track_caller]
fn who(world: &World) -> (u32, u32) {
    let text = world.build_text(WHO);
    let numbers: Vec<u32> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [inside, _, outside, _] = numbers[..] else { panic!("{text}") };
    (inside, outside)
}

#[test]
fn build_users() {
    let world = World::new();
    if !world.is_root() || !can_sandbox() {
        return;
    }
    let (inside, outside) = who(&world.sandboxed().with_build_users());
    assert_eq!(inside, 1000);
    assert!([54_401, 54_402].contains(&outside), "{outside}");
}

#[test]
fn automatic_ranges() {
    let world = World::new();
    if !world.is_root() || !can_sandbox() {
        return;
    }
    let world = world.sandboxed().with_build_users().conf(
        "extra-experimental-features = auto-allocate-uids\nauto-allocate-uids = true\n\
         start-id = 900000000\nid-count = 655360",
    );
    let (inside, outside) = who(&world);
    assert_eq!(inside, 1000);
    assert!((900_000_000..900_655_360).contains(&outside), "{outside}");
    // Without a sandbox there is no user namespace: the group is that of the build users.
    let world = world.conf("sandbox = false");
    let ids = world.build_text(r#"make "ids" "echo $(id -u) $(id -g) $(id -G) > $out""#);
    let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().expect("a number")).collect();
    assert!((900_000_000..900_655_360).contains(&ids[0]), "{ids:?}");
    assert_eq!(ids[1..], [54_400, 54_400]);
}

#[test]
fn rootless() {
    let world = World::new();
    if !world.is_root() || !can_sandbox() {
        return;
    }
    let world = world.sandboxed();
    world.expression(WHO);
    let world = world.unprivileged();
    let built = world.run("nix-build", &["--no-out-link"]).success().stdout_text();
    let text = std::fs::read_to_string(built.trim_end()).expect("the output");
    assert!(text.starts_with("1000\n"), "{text}");
    assert!(text.contains("54321"), "{text}");
}

#[test]
fn build_users_of_a_daemon() {
    let world = World::new();
    if !world.is_root() || !can_sandbox() {
        return;
    }
    let world = world.sandboxed().with_build_users();
    world.expression(WHO);
    let _daemon = world.start_daemon(Make::Firn, &[]);
    let file = world.path("work/default.nix").display().to_string();
    // Whoever asks, a build user builds.
    let built = world.client(Make::Firn, Some(54_600), "nix-build", &["--no-out-link", &file]).success();
    let text = std::fs::read_to_string(built.stdout_text().trim_end()).expect("the output");
    let outside = text.split_whitespace().nth(2).expect("the uid map");
    assert!(["54401", "54402"].contains(&outside), "{text}");
}

/// A machine where root may lend itself users: what programs look at is in a mount namespace of the test's own.
fn lending(world: &World, script: &str) -> Option<firn_testkit::Run> {
    if !world.is_root() || !can_sandbox() || !has_program("newuidmap") || !has_program("newgidmap") {
        return None;
    }
    let lent = world.write("lent", "root:872415232:100000\n").display().to_string();
    let script = format!(
        "mount --bind {lent} /etc/subuid && mount --bind {lent} /etc/subgid && exec nix-nswrapper {script}"
    );
    for file in ["/etc/subuid", "/etc/subgid"] {
        if !std::path::Path::new(file).exists() {
            return None;
        }
    }
    Some(world.run("/usr/bin/unshare", &["--mount", "/bin/sh", "-c", &script]))
}

#[test]
fn root_of_users_that_are_lent() {
    let world = World::new();
    let look =
        "id -u; id -G; cat /proc/self/uid_map /proc/self/gid_map; grep -c ' /dev/pts ' /proc/mounts; exit 7";
    let Some(run) = lending(&world, &format!("872415232 100000 /bin/sh -c \"{look}\"")) else { return };
    let said = run.stdout_text();
    let words: Vec<&str> = said.split_whitespace().collect();
    let map = ["0", "0", "1", "872415232", "872415232", "100000"];
    assert_eq!(words[..14], [&["0", "0"][..], &map, &map].concat(), "{said}");
    assert_eq!(run.code(), Some(7));
    // The terminals are new ones.
    let before = std::fs::read_to_string("/proc/mounts").unwrap().matches(" /dev/pts ").count();
    assert_eq!(words[14], (before + 1).to_string());
}

#[test]
fn builds_as_users_that_are_lent() {
    let world = World::new();
    if !world.is_root() || !can_sandbox() {
        return;
    }
    // For the folder that builds are in; the users are others.
    let world = world.sandboxed().with_build_users().conf(
        "build-users-group =\nextra-experimental-features = auto-allocate-uids\n\
         auto-allocate-uids = true\nstart-id = 872415232\nid-count = 65536",
    );
    world.expression(WHO);
    let Some(run) = lending(&world, "872415232 100000 nix-build --no-out-link") else { return };
    let text = std::fs::read_to_string(run.success().stdout_text().trim()).unwrap();
    assert!(text.starts_with("1000\n"), "{text}");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[1..], ["1000", "872415232", "1"], "{text}");
}

#[test]
fn users_that_cannot_be_lent() {
    let world = World::new();
    for (args, expected) in [
        ("1 2", "error: Usage: nix-nswrapper first_uid num_uids command [args...]"),
        ("x 5 id", "error: Not a valid integer"),
        ("5 0 id", "error: Must have at least 1 extra UID"),
        ("4294967290 10 id", "error: Extra UIDs must not wrap"),
    ] {
        let run = world.run("nix-nswrapper", &args.split(' ').collect::<Vec<_>>());
        let said = run.stderr_text();
        assert!(run.code() == Some(1) && said.replace(&*programs(), "").starts_with(expected), "{said}");
    }
    let Some(run) = lending(&world, "1000000000 10 id") else { return };
    let said = run.stderr_text();
    let expected =
        "error: program 'newuidmap' failed with exit code 1\nerror: adding uids/gids to namespace\n";
    assert!(run.code() == Some(1) && said.ends_with(expected), "{said}");
}

/// The folder of the programs, as it stands before their names.
fn programs() -> String {
    format!("{}/", firn_testkit::program_dir().display())
}

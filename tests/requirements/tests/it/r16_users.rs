//! R16: builds run as build users, as users of an automatic range, or in a rootless user namespace.

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

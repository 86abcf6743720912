//! R13: names that differ only in case get a suffix when they are unpacked, and lose it when packed.

use firn_testkit::World;

#[test]
fn round_trip() {
    let world = World::new();
    world.write("tree/xt_CONNMARK.h", "upper");
    world.write("tree/xt_connmark.h", "lower");
    let dump = world.run("nix-store", &["--dump", "tree"]).success();
    std::fs::write(world.work_dir().join("tree.nar"), dump.stdout()).expect("a file");
    let world = world.conf("use-case-hack = true");
    let restore = |name: &str| {
        let nar = std::fs::File::open(world.work_dir().join("tree.nar")).expect("the archive");
        world.command("nix-store").args(["--restore", name]).stdin(nar).output().expect("it runs")
    };
    assert!(restore("restored").status.success());
    let found = |name: &str| std::fs::read_to_string(world.work_dir().join("restored").join(name)).ok();
    assert_eq!(found("xt_CONNMARK.h").as_deref(), Some("upper"));
    assert_eq!(found("xt_connmark.h~nix~case~hack~1").as_deref(), Some("lower"));
    assert_eq!(world.run("nix-store", &["--dump", "restored"]).success().stdout(), dump.stdout());

    world.write("bad/name~nix~case~hack~1", "");
    let world = world.conf("use-case-hack = false");
    let dump = world.run("nix-store", &["--dump", "bad"]).success();
    std::fs::write(world.work_dir().join("tree.nar"), dump.stdout()).expect("a file");
    let world = world.conf("use-case-hack = true");
    let nar = std::fs::File::open(world.work_dir().join("tree.nar")).expect("the archive");
    let failed =
        world.command("nix-store").args(["--restore", "again"]).stdin(nar).output().expect("it runs");
    let why = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{why}");
    assert!(why.contains("name~nix~case~hack~1"), "{why}");
}

//! A disk without any space, or without room for another file: what is there can be read and verified, and garbage
//! collected.

use firn_testkit::{World, servers::has_program};
use std::process::Command;

/// `make` sets up a small file system `$M`, on which the whole store will be; `fill` takes what is left of it, and
/// `make_room` gives back as much as a collection needs besides its reserve.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn check(make: &str, fill: &str, make_room: &str) {
    let world = World::new();
    if !world.is_root() || !has_program("mkfs.ext4") {
        return;
    }
    let script = format!(
        r#"
        set -eu
        M=$W/disk; mkdir $M; {make}
        export NIX_STORE_DIR=$M/store NIX_STATE_DIR=$M/var NIX_LOG_DIR=$M/log
        echo hello > hello; p=$(nix-store --add hello)
        echo other > other; q=$(nix-store --add other)
        nix-store --realise --add-root $W/root $p
        dd if=/dev/zero of=$M/fill bs=4k 2>/dev/null || true
        dd if=/dev/zero of=$M/more bs=512 2>/dev/null || true
        {fill}
        [ ! -e $M/var/db/db.sqlite-wal ] && [ -e $M/var/db/reserved ]
        ( exec 9<$M/var/db/db.sqlite
          test "$(nix-store --query --size $p)" = 120
          test "$(nix-store --query --requisites $p)" = $p
          test "$(nix-store --query --hash $q | cut -c1-7)" = sha256:
          nix-store --check-validity $p $q
          nix path-info --json $p >/dev/null 2>&1
          test "$(nix-store --gc --print-dead 2>/dev/null)" = $q
          nix-store --gc --print-roots | grep -q $p
          nix-store --dump $p | cmp - hello.nar
          # Several at once wait for each other.
          for i in 1 2 3 4 5 6; do nix-store --query --hash $p & done | uniq -c | grep -q '^ *6 '
        )
        nix-store --verify --check-contents
        if nix-store --add hello2 2>err; then echo "there was space" >&2; exit 1; fi
        grep -q 'No space left on device' err || {{ cat err >&2; exit 1; }}
        # A damaged file is found, too.
        chmod u+w $q; printf othex > $q 2>/dev/null || true
        if nix-store --verify --check-contents 2>err; then exit 1; fi
        grep -q "was modified" err || {{ cat err >&2; exit 1; }}
        {make_room}
        nix-store --gc 2>err || {{ cat err >&2; exit 1; }}
        test ! -e $q
        nix-store --add hello2 >/dev/null
        nix-store --verify --check-contents
        rm -f $M/fill $M/more
        nix-store --add err >/dev/null
        # The reserve is there for the next time.
        test "$(stat -c %s $M/var/db/reserved)" = 8388608
        "#
    );
    world.write("hello2", &"another\n".repeat(100));
    world.write("hello", "hello\n");
    let nar = world.run("nix-store", &["--dump", "hello"]).success();
    std::fs::write(world.work_dir().join("hello.nar"), nar.stdout()).expect("a file");
    let ours = world.command("nix-store");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).current_dir(world.work_dir()).env("W", world.work_dir());
    for (name, value) in ours.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let output = command.output().expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("mount") && !output.status.success() && said.contains("ermi") {
        println!("SKIPPED: nothing can be mounted here: {said}");
        return;
    }
    assert!(output.status.success(), "{said}");
}

#[test]
fn tmpfs() {
    check("mount -t tmpfs -o size=32m none $M", "", "");
}

#[test]
fn ext4() {
    check("truncate -s 48m $W/img; mkfs.ext4 -q -m0 $W/img; mount -o loop $W/img $M", "", "");
}

#[test]
fn no_room_for_files() {
    check(
        "mount -t tmpfs -o size=64m,nr_inodes=80 none $M",
        "i=0; while ( : > $M/f$i ) 2>/dev/null; do i=$((i+1)); done",
        "rm $M/f?",
    );
}

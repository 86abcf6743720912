//! R17: the same behaviour where the store is not the one that the program works on itself: through a daemon, by
//! `ssh-ng`, and in stores with another root.

use firn_testkit::{Make, World, can_sandbox};

/// A reference that is not allowed (R8), and the error that says so.
const FORBIDDEN: &str = r#"let dep = make "dep" "echo > $out"; in
    makeWith "bad" { disallowedReferences = [ dep ]; inherit dep; } "echo $dep > $out""#;

/// Runs `nix-build` with these flags on the forbidden reference and on a sandboxed build that sees no host files.
#[track_caller]
fn check(world: &World, flags: &[&str], env: &[(&str, &str)]) {
    let build = |text: &str| {
        world.expression(text);
        let mut command = world.command("nix-build");
        command.args(["--no-out-link"]).args(flags);
        for (name, value) in env {
            command.env(name, value);
        }
        command.output().unwrap()
    };
    let output = build(FORBIDDEN);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("is not allowed to refer to the following paths"),
        "{said}"
    );
    // R1: nothing of the host but what was let in.
    let output = build(r#"make "seen" "test ! -e /home; echo fine > $out""#);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // R9: a log line without control sequences.
    let output = build(r#"make "log" "printf 'a\\033[1p@nix\\033[qb\\n'; echo > $out""#);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn through_a_daemon() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    let _daemon = world.start_daemon(Make::Firn, &[]);
    check(&world, &[], &[("NIX_REMOTE", "daemon")]);
}

#[test]
fn in_another_root() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    let root = world.path("root").display().to_string();
    check(&world, &["--store", &format!("local?root={root}")], &[]);
}

#[test]
fn by_ssh_ng() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    // The host `localhost` is this machine without ssh.
    check(&world, &["--store", "ssh-ng://localhost", "--eval-store", "auto"], &[]);
}

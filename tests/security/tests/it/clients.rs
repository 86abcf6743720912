//! Clients of a daemon that nobody trusts change nothing that others would feel.

use firn_testkit::{Make, World};
use std::fs;

/// Any user that owns nothing.
const SOMEBODY: u32 = 54_600;

#[test]
fn settings_of_others_do_not_hold() {
    let world = World::new();
    if !world.is_root() {
        return;
    }
    let world = world.conf("sandbox = false\nsubstituters =").with_build_users();
    let hook = world.write("hook", "#!/bin/sh\ntouch hooked\n");
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let marker = world.path("work/hooked");
    let text = format!("#!/bin/sh\ntouch {}\n", marker.display());
    fs::write(&hook, text).unwrap();
    world.expression(r#"make "x" "id -u > $out""#);
    let _daemon = world.start_daemon(Make::Firn, &[]);
    let hook = hook.display().to_string();
    let file = world.path("work/default.nix").display().to_string();
    let args = [
        "--no-out-link",
        &file,
        "--option",
        "post-build-hook",
        &hook,
        "--option",
        "pre-build-hook",
        &hook,
        "--option",
        "diff-hook",
        &hook,
        "--option",
        "build-hook",
        &hook,
        "--option",
        "build-users-group",
        "",
        "--option",
        "builders",
        "ssh://evil",
        "--option",
        "substituters",
        "file:///tmp/evil",
        "--option",
        "secret-key-files",
        "/etc/shadow",
        "--option",
        "netrc-file",
        "/etc/shadow",
    ];
    let run = world.client(Make::Firn, Some(SOMEBODY), "nix-build", &args).success();
    assert!(!marker.exists(), "{run:?}");
    assert!(run.stderr_text().contains("not a trusted user"), "{run:?}");
    let builder = fs::read_to_string(run.stdout_text().trim()).unwrap();
    assert!(["54401\n", "54402\n"].contains(&builder.as_str()), "{builder}");
}

#[test]
fn paths_without_signatures_are_not_added() {
    let world = World::new();
    if !world.is_root() {
        return;
    }
    let world = world.conf("sandbox = false\nsubstituters =").with_build_users();
    let there = World::new().conf("sandbox = false");
    let there = there.env("NIX_STORE_DIR", &world.path("store").display().to_string());
    let made = there.build(r#"make "evil" "echo evil > $out""#);
    let exported = there.command("nix-store").args(["--export", &made]).output().unwrap().stdout;
    fs::remove_dir_all(world.path("store")).ok();
    fs::create_dir_all(world.path("store")).unwrap();
    fs::write(world.path("work/evil.export"), exported).unwrap();
    let _daemon = world.start_daemon(Make::Firn, &[]);
    let mut import = world.client_command(Make::Firn, Some(SOMEBODY), "nix-store");
    import.arg("--import").stdin(fs::File::open(world.path("work/evil.export")).unwrap());
    let output = import.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("signature"), "{said}");
    world.client(Make::Firn, Some(SOMEBODY), "nix-store", &["--check-validity", &made]).fails(1);
}

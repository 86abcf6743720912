//! Directories of builds: nobody else gets in, their names cannot be guessed, and nothing that a builder makes of its
//! root leads out of it.

use firn_testkit::{World, can_sandbox};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

#[test]
fn nobody_else_gets_in() {
    let world = World::new();
    if !world.is_root() || !can_sandbox() {
        return;
    }
    let world = world.sandboxed().with_build_users();
    let show = ["--extra-experimental-features", "nix-command", "config", "show", "build-dir"];
    let build_dir = world.run("nix", &show).success().stdout_text().trim().to_owned();
    world.expression(r#"make "slow" "touch here; sleep 2; echo > $out""#);
    let mut modes = Vec::new();
    // A world beside this one may have the same build user, and begin by killing all that it finds of it.
    for _ in 0..5 {
        let mut build = world.command("nix-build").arg("--no-out-link").spawn().unwrap();
        for _ in 0..200 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let builds = fs::read_dir(&build_dir).into_iter().flatten().flatten();
            let begun = builds.filter(|entry| entry.path().join("build/here").exists());
            let now: Vec<(u32, u32)> =
                begun.filter_map(|e| e.metadata().ok()).map(|m| (m.mode() & 0o7777, m.uid())).collect();
            if !now.is_empty() {
                modes = now;
                break;
            }
        }
        if build.wait().unwrap().success() {
            break;
        }
    }
    // Only root's, whoever builds in it.
    assert_eq!(modes, [(0o700, 0)]);
}

#[test]
fn names_cannot_be_guessed() {
    let world = World::new().conf("sandbox = false");
    let names: Vec<String> = (0..3)
        .map(|n| world.build_text(&format!(r#"make "where-{n}" "echo $NIX_BUILD_TOP > $out""#)))
        .map(|path| path.trim().rsplit('-').next().unwrap_or_default().to_owned())
        .collect();
    assert!(names.iter().all(|name| name.len() >= 8), "{names:?}");
    assert!(names[0] != names[1] && names[1] != names[2], "{names:?}");
}

#[test]
fn a_kept_directory_is_the_users() {
    let world = World::new().conf("sandbox = false");
    let run = world.try_build(r#"make "bad" "echo > file; chmod 4777 file; false""#, &["--keep-failed"]);
    let said = run.fails(100).stderr_text();
    let start = said.find("keeping build directory").expect("a kept directory");
    let path = said[start..].split(['"', '\'']).nth(1).expect("its name").to_owned();
    let file = Path::new(&path).join("file");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7000, 0, "{mode:o}");
    fs::remove_dir_all(&path).unwrap();
}

#[test]
fn a_store_directory_that_was_replaced_leads_nowhere() {
    let world = World::new();
    if !world.is_root() || !can_sandbox() {
        return;
    }
    // Without build users the builder owns its root, and may do with it what it likes.
    let world = world.sandboxed();
    let victim = world.path("victim");
    fs::create_dir(&victim).unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o777)).unwrap();
    world.expression(&format!(
        r#"make "evil" ''
          echo fine > $out
          store=$(dirname $out)
          mv $store $store.real; ln -s {victim} $store
          mkdir -p {victim} 2>/dev/null; touch {victim}/touched 2>/dev/null
          true
        ''"#,
        victim = victim.display()
    ));
    let world = world.unprivileged();
    let run = world.run("nix-build", &["--no-out-link"]);
    if run.code() == Some(0) {
        // It was reached through the directory that was there before.
        assert_eq!(fs::read_to_string(run.stdout_text().trim()).unwrap(), "fine\n");
    }
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{run:?}");
    let after = world.run("nix-build", &["--no-out-link", "-E", "derivation { name = \"next\"; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" \"echo > $out\" ]; }"]);
    after.success();
}

//! `nix-env` on profiles: installing, upgrading, flags, generations, and what happens when it is stopped.

use firn_testkit::World;
use std::path::Path;

/// Packages with a program each; `foo` in several versions, one of a lower priority.
const PACKAGES: &str = r#"
let
  make = name: version: meta: derivation {
    name = "${name}-${version}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "/bin/mkdir -p $out/bin; echo ${name}-${version} > $out/bin/${name}; echo ${name} > $out/bin/.hidden" ];
  } // { inherit meta; };
in {
  foo1 = make "foo" "1.0" { description = "a \"quoted\" text"; };
  foo2 = make "foo" "2.0" { priority = 7; list = [ 1 true "x" ]; };
  old = make "foo" "0.1" { priority = 10; };
  bar = make "bar" "0.1" { };
}
"#;

fn world() -> World {
    let world = World::new().conf("sandbox = false");
    world.write("packages.nix", PACKAGES);
    world
}

#[track_caller]
fn env(world: &World, args: &[&str]) -> String {
    let run = world.run("nix-env", &[&["-f", "packages.nix", "-p", "profile"], args].concat()).success();
    run.stdout_text() + &run.stderr_text()
}

#[track_caller]
fn installed(world: &World, expected: &[&str]) {
    let names = world.run("nix-env", &["-p", "profile", "-q"]).success().stdout_text();
    assert_eq!(names.lines().collect::<Vec<_>>(), expected);
}

fn read(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.work_dir().join("profile").join(name)).unwrap_or_default()
}

#[test]
fn install_upgrade_and_remove() {
    let world = world();
    env(&world, &["-i", "foo-1.0", "bar"]);
    installed(&world, &["bar-0.1", "foo-1.0"]);
    assert_eq!((read(&world, "bin/foo"), read(&world, "bin/bar")), ("foo-1.0\n".into(), "bar-0.1\n".into()));
    let manifest = read(&world, "manifest.nix");
    assert!(
        manifest.contains(r#"meta = { description = "a \"quoted\" text"; }; name = "foo-1.0";"#),
        "{manifest}"
    );
    // 2.0 is of a lower priority, so it is not an upgrade.
    env(&world, &["-u"]);
    installed(&world, &["bar-0.1", "foo-1.0"]);
    let said = env(&world, &["-i", "-A", "foo2"]);
    assert!(said.contains("replacing old 'foo-1.0'") && said.contains("installing 'foo-2.0'"), "{said}");
    installed(&world, &["bar-0.1", "foo-2.0"]);
    let said = env(&world, &["-u", "--always"]);
    assert!(said.contains("downgrading 'foo-2.0' to 'foo-1.0'"), "{said}");
    env(&world, &["--set-flag", "keep", "true", "foo"]);
    env(&world, &["-u", "--always"]);
    env(&world, &["-e", "bar"]);
    installed(&world, &["foo-1.0"]);
    let warned = env(&world, &["-e", "bar"]);
    assert!(warned.contains("warning: selector 'bar' matched no installed derivations"), "{warned}");
    let before = std::fs::read_link(world.work_dir().join("profile")).unwrap();
    let said = env(&world, &["-i", "bar", "--dry-run"]);
    assert!(
        said.contains("(dry run; not doing anything)") && said.contains("installing 'bar-0.1'"),
        "{said}"
    );
    assert_eq!(std::fs::read_link(world.work_dir().join("profile")).unwrap(), before);
}

#[test]
fn collisions_and_priorities() {
    let world = world();
    env(&world, &["-i", "-A", "foo1"]);
    let args = ["-f", "packages.nix", "-p", "profile", "-i", "-P", "-A", "foo1"];
    // The same package twice is the same tree.
    world.run("nix-env", &args).success();
    env(&world, &["-i", "-P", "-A", "old"]);
    assert_eq!(read(&world, "bin/foo"), "foo-1.0\n");
    env(&world, &["--set-flag", "priority", "1", "foo-0.1"]);
    assert_eq!(read(&world, "bin/foo"), "foo-0.1\n");
    let args = ["-f", "packages.nix", "-p", "profile", "-i", "-P", "--priority", "1", "-A", "foo2"];
    let text = world.run("nix-env", &args).fails(100).stderr_text();
    assert!(text.contains("Unable to build profile. There is a conflict for the following files"), "{text}");
    assert_eq!(read(&world, "bin/foo"), "foo-0.1\n");
    env(&world, &["--set-flag", "active", "false", "foo-0.1"]);
    assert_eq!(read(&world, "bin/foo"), "foo-1.0\n");
    for (args, message) in [
        (&["-i", "nothing"][..], "selector 'nothing' matches no derivations"),
        (&["-i", "--priority", "x", "bar"], "'--priority' requires an integer argument"),
        (&["-i", "-A", "nothing"], "attribute 'nothing' in selection path 'nothing' not found"),
        (&["--set-flag", "x"], "not enough arguments to '--set-flag'"),
        (&["--set-flag", "x", "y", "zzz"], "selector 'zzz' matches no derivations"),
        (&["--set", "foo", "bar"], "--set requires exactly one derivation"),
        (&["-i", "-u", "foo"], "only one operation may be specified"),
        (&["-e", "--frobnicate"], "unknown flag '--frobnicate'"),
        (&["--rollback", "x"], "no arguments expected"),
        (&["-G", "x"], "expected a generation number"),
        (&["-G", "99"], "profile version 99 does not exist"),
    ] {
        let all = [&["-f", "packages.nix", "-p", "profile"], args].concat();
        let text = world.run("nix-env", &all).fails(1).stderr_text();
        assert!(text.contains(message), "{args:?}: {text}");
    }
}

#[test]
fn generations() {
    let world = world();
    for package in ["foo1", "bar", "foo2"] {
        env(&world, &["-i", "-A", package]);
    }
    let list = env(&world, &["--list-generations"]);
    let shape: Vec<(&str, bool)> =
        list.lines().map(|line| (line[..4].trim(), line.ends_with("(current)"))).collect();
    assert_eq!(shape, [("1", false), ("2", false), ("3", true)], "{list}");
    assert!(list.lines().all(|line| line.len() >= 29 && &line[4..7] == "   "), "{list}");
    assert!(env(&world, &["--rollback"]).contains("switching profile from version 3 to 2"));
    installed(&world, &["bar-0.1", "foo-1.0"]);
    env(&world, &["-G", "1"]);
    installed(&world, &["foo-1.0"]);
    // The same environment again is the same generation only if it is the newest.
    env(&world, &["-i", "-A", "bar"]);
    assert_eq!(env(&world, &["--list-generations"]).lines().count(), 4);
    env(&world, &["-i", "-A", "bar"]);
    assert_eq!(env(&world, &["--list-generations"]).lines().count(), 4);
    let kept = ["-p", "profile", "--delete-generations", "4"];
    let text = world.run("nix-env", &kept).fails(1).stderr_text();
    assert!(text.contains("cannot delete current version of profile"), "{text}");
    assert!(
        env(&world, &["--delete-generations", "+1", "--dry-run"]).contains("would remove profile version 3")
    );
    env(&world, &["--delete-generations", "1", "2"]);
    world.run("nix-collect-garbage", &[]).success();
    installed(&world, &["bar-0.1", "foo-1.0"]);
    env(&world, &["--rollback"]);
    installed(&world, &["bar-0.1", "foo-2.0"]);
    env(&world, &["--delete-generations", "old"]);
    assert_eq!(env(&world, &["--list-generations"]).lines().count(), 1);
}

#[test]
fn default_profile_and_expression() {
    let world = world();
    let home = world.path("home");
    world.run("nix-env", &["-f", "packages.nix", "-i", "bar"]).success();
    let link = home.join(".nix-profile");
    assert_eq!(std::fs::read_to_string(link.join("bin/bar")).unwrap(), "bar-0.1\n");
    assert!(home.join(".nix-defexpr/channels").is_symlink());
    world.run("nix-env", &["--switch-profile", "other"]).success();
    assert_eq!(std::fs::read_link(&link).unwrap(), world.work_dir().join("other"));
    assert_eq!(world.run("nix-env", &["-q"]).success().stdout_text(), "");
    let path = world.work_dir().join("packages.nix");
    std::os::unix::fs::symlink(path, home.join(".nix-defexpr/mine.nix")).unwrap();
    world.run("nix-env", &["-iA", "mine.foo2"]).success();
    assert_eq!(world.run("nix-env", &["-q"]).success().stdout_text(), "foo-2.0\n");
    assert!(Path::new(&world.work_dir().join("other-1-link")).is_symlink());
}

/// However early it is killed, the profile is the old one or the new one.
#[test]
fn killed_while_switching() {
    let world = world();
    env(&world, &["-i", "-A", "foo1"]);
    env(&world, &["-i", "-A", "bar"]);
    let args = ["-f", "packages.nix", "-p", "profile", "-e", "bar"];
    for delay in (0..60).step_by(3) {
        let mut child = world.command("nix-env").args(args).spawn().expect("the program starts");
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let _ = child.kill();
        child.wait().expect("it ends");
        assert_eq!(read(&world, "bin/foo"), "foo-1.0\n", "after {delay} ms");
        let names = world.run("nix-env", &["-p", "profile", "-q"]).success().stdout_text();
        assert!(names == "foo-1.0\n" || names == "bar-0.1\nfoo-1.0\n", "{names}");
        env(&world, &["-i", "-A", "bar"]);
    }
}

/// Two at once: both changes are there afterwards.
#[test]
fn two_at_once() {
    let world = world();
    let start = |attr: &str| {
        let args = ["-f", "packages.nix", "-p", "profile", "-i", "-A", attr];
        world.command("nix-env").args(args).spawn().expect("the program starts")
    };
    let mut children = [start("foo1"), start("bar")];
    for child in &mut children {
        assert!(child.wait().expect("it ends").success());
    }
    installed(&world, &["bar-0.1", "foo-1.0"]);
}

#[test]
fn collecting_old_generations() {
    let world = world();
    let profiles = world.path("var/nix/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    let profile = profiles.join("p").to_string_lossy().into_owned();
    for package in ["foo1", "bar"] {
        world.run("nix-env", &["-f", "packages.nix", "-p", &profile, "-i", "-A", package]).success();
    }
    let text = world.run("nix-collect-garbage", &["-d", "--dry-run"]).success().stderr_text();
    assert!(text.contains("would remove profile version 1"), "{text}");
    world.run("nix-collect-garbage", &["--delete-older-than", "30d"]).success();
    assert!(profiles.join("p-1-link").is_symlink());
    world.run("nix-collect-garbage", &["-d"]).success();
    assert!(!profiles.join("p-1-link").is_symlink() && profiles.join("p-2-link").exists());
    let text = world.run("nix-collect-garbage", &["--delete-older-than", "3"]).fails(1).stderr_text();
    assert!(text.contains("invalid number of days specifier '3', expected something like '14d'"), "{text}");
}

#[test]
fn bad_outputs_are_told_of_when_all_is_built() {
    let world = world();
    world.write(
        "bad.nix",
        r#"let make = more: derivation {
             name = "bad-1"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "/bin/mkdir -p $out" ];
           } // more; in {
             missing = make { meta.outputsToInstall = [ "doc" ]; };
             wrong = make { outputSpecified = "yes"; };
           }"#,
    );
    let try_install = |attr: &str| {
        let run = world.run("nix-env", &["-f", "bad.nix", "-p", "profile", "-iA", attr]).fails(1);
        let said = run.stderr_text();
        assert!(said.starts_with("installing 'bad-1'\n"), "{said}");
        said
    };
    let said = try_install("missing");
    assert!(said.contains("building '"), "{said}");
    assert!(said.ends_with("error: this derivation has bad 'meta.outputsToInstall'\n"), "{said}");
    let said = try_install("wrong");
    assert!(
        said.contains("expected a Boolean but found a string: \"yes\"") && said.contains("bad.nix:5:"),
        "{said}"
    );
    assert!(!world.work_dir().join("profile").is_symlink());
}

/// The folder of profiles is made anew where somebody removed it.
#[test]
fn folder_of_profiles_that_was_removed() {
    let world = world();
    world.run("nix-store", &["--init"]).success();
    let profiles = world.path("var/nix/profiles");
    std::fs::remove_dir_all(&profiles).expect("it is there");
    let profile = profiles.join("mine");
    world.run("nix-env", &["-f", "packages.nix", "-p", profile.to_str().unwrap(), "-iA", "foo1"]).success();
    assert!(profile.join("bin/foo").exists());
}

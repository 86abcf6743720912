//! `nix upgrade-nix`: the newest release in place of the one in a profile.

use firn_testkit::{Run, World};
use std::os::unix::fs::{PermissionsExt, symlink};

const SYSTEM: &str = "x86_64-linux";

/// A store that has releases, and what is said to be the newest one.
struct Releases {
    world: World,
    list: String,
}

impl Releases {
    fn new() -> Releases {
        let conf = format!("system = {SYSTEM}\nsubstituters =\nsandbox = false");
        let world = World::new().conf(&conf);
        let list = format!("file://{}", world.work_dir().join("list.nix").display());
        Releases { world, list }
    }

    /// A release with a `nix-env` that says what is given; its path.
    fn add(&self, version: &str, says: &str) -> String {
        let name = format!("nix-{version}");
        let program = self.world.write(&format!("{name}/bin/nix-env"), &format!("#!/bin/sh\n{says}\n"));
        std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
        let run = self.world.run("nix-store", &["--add", &format!("./{name}")]).success();
        run.stdout_text().trim().to_owned()
    }

    fn say_newest(&self, value: &str) {
        self.world.write("list.nix", &format!("{{ {SYSTEM} = {value}; }}\n"));
    }

    fn upgrade(&self, args: &[&str]) -> Run {
        let all = ["upgrade-nix", "--nix-store-paths-url", &self.list];
        self.world.run("nix", &[&all[..], args].concat())
    }

    fn installed(&self, profile: &str) -> String {
        let profile = self.world.work_dir().join(profile).display().to_string();
        self.world.run("nix-env", &["-p", &profile, "-q"]).success().stdout_text()
    }
}

#[test]
fn a_profile_that_is_named() {
    let releases = Releases::new();
    let old = releases.add("2.1", "echo nix-env '(Nix)' 2.1");
    let new = releases.add("2.34.8", "echo nix-env '(Nix)' 2.34.8");
    releases.say_newest(&format!("{new:?}"));
    releases.world.run("nix-env", &["-p", "./profile", "-i", &old]).success();
    let said = releases.upgrade(&["-p", "./profile", "--dry-run"]).success().stderr_text();
    assert!(said.ends_with("warning: would upgrade to version 2.34.8\n"), "{said}");
    assert_eq!(releases.installed("profile"), "nix-2.1\n");
    let said = releases.upgrade(&["--profile", "./profile"]).success().stderr_text();
    assert!(said.starts_with("upgrading Nix in profile \"./profile\"\n"), "{said}");
    for line in ["replacing old 'nix-2.1'", "installing 'nix-2.34.8'", "upgrade to version 2.34.8 done"] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(releases.installed("profile"), "nix-2.34.8\n");
    releases.world.run("nix-env", &["-p", "./profile", "--rollback"]).success();
    assert_eq!(releases.installed("profile"), "nix-2.1\n");
}

#[test]
fn what_cannot_be_the_newest_changes_nothing() {
    let releases = Releases::new();
    let old = releases.add("2.1", "echo nix-env '(Nix)' 2.1");
    let mute = releases.add("3", "echo something else");
    let broken = releases.add("4", "exit 3");
    releases.world.run("nix-env", &["-p", "./profile", "-i", &old]).success();
    let store = releases.world.path("store").display().to_string();
    let missing = format!("{store}/00000000000000000000000000000000-nix-9");
    for (value, expected) in [
        (format!("{mute:?}"), format!("could not verify that '{mute}/bin/nix-env' works")),
        (format!("{broken:?}"), format!("program '{broken}/bin/nix-env' failed with exit code 3")),
        (
            format!("{missing:?}"),
            format!("path '{missing}' is required, but there is no substituter that can build it"),
        ),
        ("1".to_owned(), "expected a string but found an integer: 1".to_owned()),
        ("builtins.readFile /etc/passwd".to_owned(), "is forbidden in pure evaluation mode".to_owned()),
    ] {
        releases.say_newest(&value);
        let said = releases.upgrade(&["-p", "./profile"]).fails(1).stderr_text();
        assert!(said.contains(&expected), "{said}");
        assert_eq!(releases.installed("profile"), "nix-2.1\n");
    }
    releases.world.write("list.nix", "{ }");
    let said = releases.upgrade(&["-p", "./profile"]).fails(1).stderr_text();
    assert!(said.contains("attribute 'x86_64-linux' in selection path 'x86_64-linux' not found"), "{said}");
}

/// Without a name it is the one that `nix-env` of `PATH` is in.
#[test]
fn the_profile_of_the_program() {
    let mut releases = Releases::new();
    let old = releases.add("2.1", "echo nix-env '(Nix)' 2.1");
    let new = releases.add("2.34.8", "echo nix-env '(Nix)' 2.34.8");
    releases.say_newest(&format!("{new:?}"));
    let dir = |releases: &Releases, name: &str| releases.world.work_dir().join(name).display().to_string();
    releases.world.write("profiles/here", "");
    let install = |releases: &Releases, profile: &str| {
        releases.world.run("nix-env", &["-p", profile, "-i", &old]).success();
    };
    // A link in a home leads to it.
    let profile = dir(&releases, "profiles/default");
    install(&releases, &profile);
    symlink(&profile, releases.world.work_dir().join("link")).unwrap();
    let bin = dir(&releases, "link/bin");
    releases.world = releases.world.env("PATH", &bin);
    let said = releases.upgrade(&[]).success().stderr_text();
    assert!(said.starts_with(&format!("found Nix in \"{bin}\"\nfound profile \"{profile}\"\n")), "{said}");
    assert_eq!(releases.installed("profiles/default"), "nix-2.34.8\n");
    assert_eq!(std::fs::read_link(dir(&releases, "link")).unwrap().display().to_string(), profile);
    // What is not in a profile of its kind stays as it is.
    let elsewhere = dir(&releases, "nix-2.1/bin");
    releases.world = releases.world.env("PATH", &elsewhere);
    let said = releases.upgrade(&[]).fails(1).stderr_text();
    assert!(said.contains("nix-2.1\" does not appear to be part of a Nix profile"), "{said}");
    let other = dir(&releases, "other");
    releases.world = releases.world.conf("extra-experimental-features = nix-command");
    releases.world.run("nix", &["profile", "add", "--profile", &other, &old]).success();
    releases.world = releases.world.env("PATH", &format!("{other}/bin"));
    let said = releases.upgrade(&[]).fails(1).stderr_text();
    assert!(said.contains("is managed by 'nix profile' and currently cannot be upgraded"), "{said}");
    releases.world = releases.world.env("PATH", "/nowhere");
    let said = releases.upgrade(&[]).fails(1).stderr_text();
    assert!(said.contains("couldn't figure out how Nix is installed"), "{said}");
}

/// The releases that everybody knows are Nix: they do not take the place of firn unasked.
#[test]
fn firn_is_not_replaced_by_nix() {
    let releases = Releases::new();
    let firn = releases.add("2.34.8", "echo nix-env '(Nix)' 2.34.8");
    releases.world.write("named/bin/firn", "");
    symlink("firn", releases.world.work_dir().join("named/bin/nix-env")).unwrap();
    let run = releases.world.run("nix-store", &["--add", "./named"]).success();
    let named = run.stdout_text().trim().to_owned();
    releases.world.run("nix-env", &["-p", "./profile", "-i", &named]).success();
    let failed = releases.world.run("nix", &["upgrade-nix", "-p", "./profile"]);
    assert_eq!(failed.code(), Some(1));
    assert!(failed.stderr_text().contains("profile \"./profile\" has firn, and the releases that"));
    releases.say_newest(&format!("{firn:?}"));
    let said = releases.upgrade(&["-p", "./profile", "--dry-run"]).success().stderr_text();
    assert!(said.contains("would upgrade to version 2.34.8"), "{said}");
}

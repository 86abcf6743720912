//! `nix profile`.

use firn_testkit::{Run, World};

const PACKAGES: &str = r#"
let
  make = name: version: priority: derivation {
    name = "${name}-${version}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "/bin/mkdir -p $out/bin; echo ${name}-${version} > $out/bin/${name}" ];
  } // { meta.priority = priority; };
in {
  foo1 = make "foo" "1" 5;
  foo2 = make "foo" "2" 5;
  low = make "foo" "3" 9;
  bar = make "bar" "1" 5;
}
"#;

fn world() -> World {
    let world = World::new().conf("sandbox = false");
    world.write("packages.nix", PACKAGES);
    world
}

fn profile(world: &World, command: &str, args: &[&str]) -> Run {
    world.run("nix", &[&["profile", command, "--profile", "p"], args].concat())
}

fn add(world: &World, args: &[&str]) -> Run {
    profile(world, "add", &[&["-f", "packages.nix"], args].concat())
}

fn read(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.work_dir().join("p").join(name)).unwrap_or_default()
}

#[test]
fn add_list_and_remove() {
    let world = world();
    add(&world, &["foo1", "bar"]).success();
    assert_eq!((read(&world, "bin/foo"), read(&world, "bin/bar")), ("foo-1\n".into(), "bar-1\n".into()));
    let list = profile(&world, "list", &[]).success().stdout_text();
    assert!(list.starts_with("Name:               \x1b[1mbar\x1b[0m\nStore paths:        /"), "{list}");
    let manifest = read(&world, "manifest.json");
    assert!(
        manifest.starts_with(r#"{"elements":{"bar":{"active":true,"priority":5,"storePaths":["#),
        "{manifest}"
    );
    assert!(manifest.ends_with(r#""version":3}"#), "{manifest}");
    let json = profile(&world, "list", &["--json"]).success().stdout_text();
    assert_eq!(json.trim_end(), manifest);
    // A package of a lower priority does not take the place of another.
    add(&world, &["low"]).success();
    assert_eq!(read(&world, "bin/foo"), "foo-1\n");
    let text = add(&world, &["foo2"]).fails(1).stderr_text();
    assert!(text.contains("An existing package already provides the following file:"), "{text}");
    assert!(text.contains("nix profile remove foo\n") && text.contains("--priority 4"), "{text}");
    add(&world, &["foo2", "--priority", "1"]).success();
    assert_eq!(read(&world, "bin/foo"), "foo-2\n");
    let text = profile(&world, "remove", &["foo-2"]).success().stderr_text();
    assert!(text.contains("removing 'foo'"), "{text}");
    assert_eq!(read(&world, "bin/foo"), "foo-1\n");
    let text = profile(&world, "remove", &["nothing"]).success().stderr_text();
    assert!(text.contains("Package name 'nothing' does not match any packages in the profile."), "{text}");
    profile(&world, "remove", &["--regex", "FO+"]).success();
    assert_eq!(read(&world, "bin/foo"), "");
    let path = world.run("nix", &["build", "-f", "packages.nix", "bar", "--no-link", "--print-out-paths"]);
    profile(&world, "remove", &[path.success().stdout_text().trim()]).success();
    let text = profile(&world, "remove", &["--all"]).success().stderr_text();
    assert!(text.contains("There are no packages in the profile."), "{text}");
    for (args, message) in [
        (&["remove"][..], "No packages specified."),
        (&["remove", "--all", "x"], "--all cannot be used with package names or regular expressions."),
        (&["remove", "3"], "'nix profile' no longer supports indices ('3')"),
    ] {
        let text = profile(&world, args[0], &args[1..]).fails(1).stderr_text();
        assert!(text.contains(message), "{args:?}: {text}");
    }
}

#[test]
fn versions() {
    let world = world();
    add(&world, &["foo1"]).success();
    add(&world, &["bar"]).success();
    let history = profile(&world, "history", &[]).success().stdout_text();
    assert!(history.contains("):\n  foo: ∅ -> 1\n\nVersion \x1b[32;1m2\x1b[0m ("), "{history}");
    assert!(history.ends_with(" <- 1:\n  bar: ∅ -> 1\n"), "{history}");
    profile(&world, "diff-closures", &[]).success();
    let text = profile(&world, "rollback", &["--dry-run"]).success().stderr_text();
    assert!(text.contains("switching profile from version 2 to 1") && !read(&world, "bin/bar").is_empty());
    profile(&world, "rollback", &[]).success();
    assert_eq!(read(&world, "bin/bar"), "");
    profile(&world, "rollback", &["--to", "2"]).success();
    assert_eq!(read(&world, "bin/bar"), "bar-1\n");
    let text = profile(&world, "wipe-history", &["--older-than", "1d"]).success().stderr_text();
    assert!(!text.contains("removing"), "{text}");
    let text = profile(&world, "wipe-history", &[]).success().stderr_text();
    assert!(text.contains("removing profile version 1"), "{text}");
    world.run("nix-collect-garbage", &[]).success();
    assert_eq!((read(&world, "bin/foo"), read(&world, "bin/bar")), ("foo-1\n".into(), "bar-1\n".into()));
}

/// Profiles of `nix-env` are taken over; those of `nix profile` are not for `nix-env` any more.
#[test]
fn with_nix_env() {
    let world = world();
    world.run("nix-env", &["-f", "packages.nix", "-p", "p", "-iA", "foo1"]).success();
    let list = profile(&world, "list", &[]).success().stdout_text();
    assert!(list.contains("\x1b[1mfoo\x1b[0m"), "{list}");
    add(&world, &["bar"]).success();
    assert_eq!((read(&world, "bin/foo"), read(&world, "bin/bar")), ("foo-1\n".into(), "bar-1\n".into()));
    let text = world.run("nix-env", &["-p", "p", "-e", "foo"]).fails(1).stderr_text();
    assert!(text.contains("is incompatible with 'nix-env'; please use 'nix profile' instead"), "{text}");
    let link = world.work_dir().join("broken");
    std::fs::create_dir(&link).unwrap();
    for (manifest, message) in [("{", "EOF while parsing"), ("{\"version\": 9}", "unsupported version 9")] {
        std::fs::write(link.join("manifest.json"), manifest).unwrap();
        let text = world.run("nix", &["profile", "list", "--profile", "broken"]).fails(1).stderr_text();
        assert!(text.contains(message), "{text}");
    }
}

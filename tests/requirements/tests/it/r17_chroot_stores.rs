//! R17: what works on the local store works on chroot stores, by path and by URI, and on read-only ones.

use firn_testkit::{Make, World};
use std::path::Path;

#[test]
fn adding_querying_and_collecting_in_a_chroot_store() {
    for form in ["{}", "local?root={}", "local://{}"] {
        let world = World::new();
        let root = world.path("root");
        let uri = form.replace("{}", &root.display().to_string());
        let on = |args: &[&str]| {
            let mut all = vec!["--store", &uri];
            all.extend(args);
            world.run("nix-store", &all)
        };
        world.write("file", "text");
        let path = on(&["--add", "file"]).success().stdout_text().trim_end().to_owned();
        let name = Path::new(&path).file_name().expect("a name");
        let real = root.join("nix/store").join(name);
        assert_eq!(std::fs::read_to_string(&real).expect("the file"), "text", "{uri}");
        on(&["--verify", "--check-contents"]).success();
        on(&["--check-validity", &path]).success();
        // Roots of all kinds count there too (R10).
        let roots = root.join("nix/var/nix/gcroots");
        std::fs::write(roots.join(name), "").expect("a root");
        on(&["--gc"]).success();
        assert!(real.exists(), "{uri}");
        std::fs::remove_file(roots.join(name)).expect("the root goes");
        on(&["--gc"]).success();
        assert!(!real.exists(), "{uri}");
    }
}

#[test]
fn a_read_only_store_answers_and_refuses() {
    let world = World::new().conf("experimental-features = nix-command read-only-local-store");
    world.write("file", "text");
    let path = world.run("nix-store", &["--add", "file"]).success().stdout_text().trim_end().to_owned();
    let on = |args: &[&str]| {
        let mut all = vec!["--store", "local?read-only=true"];
        all.extend(args);
        world.run("nix-store", &all)
    };
    on(&["--check-validity", &path]).success();
    on(&["--query", "--references", &path]).success();
    world.write("other", "other");
    on(&["--add", "other"]).fails(1);
}

#[test]
fn expressions_in_the_machines_store_are_evaluated_for_a_chroot_store() {
    let world = World::new();
    world.write("folder/default.nix", "builtins.filterSource (path: type: baseNameOf path != \"no\") ./.");
    world.write("folder/no", "");
    let path = world.run("nix-store", &["--add", "folder"]).success().stdout_text().trim_end().to_owned();
    let root = world.path("root").display().to_string();
    let here = world.run("nix-instantiate", &["--eval", &path]).success().stdout_text();
    let there = || world.run("nix-instantiate", &["--eval", &path, "--store", &root]).success().stdout_text();
    assert_eq!(there(), here);
    // The same once the other store has it.
    world.run("nix-store", &["--add", "folder", "--store", &root]).success();
    assert_eq!(there(), here);
    let missing = format!("{path}-not");
    let said = world.run("nix-instantiate", &["--eval", &missing, "--store", &root]).fails(1).stderr_text();
    assert!(said.contains(&format!("path '{missing}' does not exist")), "{said}");
}

/// `nixos-install` takes what the installer's own store has: it is signed by nobody, and trusted.
#[test]
fn a_trusted_store_of_this_machine_needs_no_signatures_as_a_substituter() {
    let world = World::new().conf("sandbox = false");
    let path = world.build(r#"make "built" "echo text > $out""#);
    let fetch = |root: &str, from: &str| {
        let root = world.path(root).display().to_string();
        world.run("nix-store", &["--store", &root, "--substituters", from, "--realise", &path])
    };
    let said = fetch("new", "auto").fails(1).stderr_text();
    assert!(said.contains("not signed by any of the keys"), "{said}");
    fetch("new", "auto?trusted=0").fails(1);
    for (number, from) in ["auto?trusted=1", "local?trusted=true", "daemon?trusted=1"].iter().enumerate() {
        let daemon = from.starts_with("daemon").then(|| world.start_daemon(Make::Firn, &[]));
        fetch(&format!("root{number}"), from).success();
        drop(daemon);
    }
    fetch("other", "auto?trusted=perhaps").fails(1);
}

#[test]
fn builds_have_their_directories_where_the_store_s_uri_says() {
    let world = World::new().conf("sandbox = false");
    let there = world.path("there").display().to_string();
    let build = |name: &str, more: &[&str]| {
        let store = format!("local?build-dir={there}");
        let args = [&["--store", &store], more].concat();
        let path = world.try_build(&format!(r#"make "{name}" "pwd > $out""#), &args).success().stdout_text();
        std::fs::read_to_string(path.trim_end()).expect("the output is read")
    };
    let dir = build("one", &[]);
    assert!(dir.starts_with(&format!("{there}/nix-")), "{dir}");
    // The setting is stronger.
    let settings = world.path("settings").display().to_string();
    let dir = build("two", &["--option", "build-dir", &settings]);
    assert!(dir.starts_with(&format!("{settings}/nix-")), "{dir}");
}

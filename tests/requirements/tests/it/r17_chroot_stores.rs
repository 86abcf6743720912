//! R17: what works on the local store works on chroot stores, by path and by URI, and on read-only ones.

use firn_testkit::World;
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

//! `nix store …`, `nix path-info`: what they print.

use firn_testkit::World;

/// A store with one folder in it, and its path.
fn with_folder() -> (World, String) {
    let world = World::new();
    world.write("folder/hello.txt", "hello\n");
    world.write("folder/sub/empty", "");
    let added = world.run("nix", &["store", "add", "folder"]).success().stdout_text();
    let path = added.trim_end().to_owned();
    assert!(path.ends_with("-folder"), "{path}");
    (world, path)
}

#[test]
fn add_knows_the_path_before_it_adds() {
    let world = World::new();
    world.write("file", "text");
    for command in ["add", "add-file", "add-path"] {
        let planned = world.run("nix", &["store", command, "--dry-run", "file"]).success().stdout_text();
        let added = world.run("nix", &["store", command, "file"]).success().stdout_text();
        assert_eq!(planned, added, "{command}");
    }
    let older = world.run("nix-store", &["--add-fixed", "sha256", "file"]).success().stdout_text();
    assert_eq!(world.run("nix", &["store", "add", "--mode", "flat", "file"]).success().stdout_text(), older);
}

#[test]
fn ls_and_cat() {
    let (world, path) = with_folder();
    let list = |args: &[&str]| {
        world.run("nix", &[&["store", "ls"], args, &[path.as_str()]].concat()).success().stdout_text()
    };
    assert_eq!(list(&[]), "./hello.txt\n./sub\n");
    assert_eq!(list(&["-R"]), "./hello.txt\n./sub\n./sub/empty\n");
    assert_eq!(list(&["-d"]), ".\n");
    let long = "-r--r--r--                    6 ./hello.txt\ndr-xr-xr-x                    0 ./sub\n";
    assert_eq!(list(&["-l"]), long);
    let json = r#"{"entries":{"hello.txt":{},"sub":{}},"type":"directory"}"#;
    assert_eq!(list(&["--json"]), format!("{json}\n"));
    let file = format!("{path}/hello.txt");
    assert_eq!(world.run("nix", &["store", "cat", &file]).success().stdout_text(), "hello\n");
    let failed = world.run("nix", &["store", "cat", &path]).fails(1).stderr_text();
    assert_eq!(failed, format!("error: path '{path}' is not a regular file\n"));
    let missing = format!("{path}/../{}", "x");
    assert!(world.run("nix", &["store", "cat", &missing]).fails(1).stderr_text().contains("does not exist"));
}

#[test]
fn path_info() {
    let (world, path) = with_folder();
    assert_eq!(world.run("nix", &["path-info", &path]).success().stdout_text(), format!("{path}\n"));
    let json =
        world.run("nix", &["path-info", "--json", "--json-format", "2", &path]).success().stdout_text();
    let base = path.rsplit('/').next().unwrap_or_default();
    assert!(json.starts_with(&format!(r#"{{"info":{{"{base}":{{"ca":{{"hash":"sha256-"#)), "{json}");
    assert!(json.contains(r#""deriver":null,"narHash":"sha256-"#), "{json}");
    let hash_part = base.split('-').next().unwrap_or_default();
    let found = world.run("nix", &["store", "path-from-hash-part", hash_part]).success().stdout_text();
    assert_eq!(found, format!("{path}\n"));
}

#[test]
fn delete_and_collect() {
    let (world, path) = with_folder();
    let would = world.run("nix-collect-garbage", &["--dry-run"]).success().stdout_text();
    assert_eq!(would, "1 store paths would be deleted\n");
    let deleted = world.run("nix", &["store", "delete", &path]).success().stdout_text();
    assert!(deleted.starts_with("1 store paths deleted, "), "{deleted}");
    world.run("nix", &["path-info", &path]).fails(1);
    let nothing = world.run("nix-collect-garbage", &[]).success().stdout_text();
    assert!(nothing.starts_with("0 store paths deleted, "), "{nothing}");
}

/// What is freed is what files hold, not what their directories take.
#[test]
fn deleting_and_optimising_tell_what_they_do() {
    let (world, path) = with_folder();
    world.write("large/a/b/file", &"x".repeat(3 * 1024));
    let large = world.run("nix-store", &["--add", "large"]).success().stdout_text();
    let told = world.run("nix-store", &["--optimise", "-v"]).success().stderr_text();
    assert!(told.contains("loaded 0 hash inodes\n"), "{told}");
    assert!(told.contains(&format!("optimising path '{path}'...\n")), "{told}");
    let told = world.run("nix-store", &["--delete", large.trim_end()]).success().stdout_text();
    assert!(told.ends_with("1 store paths deleted, 3.0 KiB freed\n"), "{told}");
}

#[test]
fn what_is_realised_for_a_question_has_no_root() {
    let world = World::new().conf("sandbox = false");
    let expression = r#"derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }"#;
    let drv = world.run("nix-instantiate", &["-E", expression]).success().stdout_text();
    let run = world.run("nix-store", &["-q", "--use-output", "--force-realise", drv.trim_end()]).success();
    assert!(run.stderr_text().contains("warning: you did not specify '--add-root'; "), "{run:?}");
    assert!(run.stdout_text().trim_end().ends_with("-x"), "{run:?}");
}

#[test]
fn what_is_missing_is_told_before_questions_fail() {
    let world = World::new().conf("sandbox = false");
    world.expression(r#"make "not-built" "echo > $out""#);
    let drv = world.run("nix-instantiate", &[]).success().stdout_text().trim_end().to_owned();
    let absent = format!("{}-not", drv.strip_suffix(".drv").unwrap());
    for (command, code) in [(&["path-info"][..], 1), (&["store", "verify"], 4), (&["store", "repair"], 1)] {
        // It is told however quiet one is.
        let run = |what: &[&str]| {
            let quiet = ["--quiet", "--quiet", "--offline"];
            world.run("nix", &[command, &quiet, what].concat()).fails(code).stderr_text()
        };
        let said = run(&["--file", "default.nix"]);
        assert!(
            said.starts_with(&format!("this derivation will be built:\n  {drv}\n")),
            "{command:?}: {said}"
        );
        let said = run(&[&absent]);
        let told = format!("don't know how to build these paths:\n  {absent}\n");
        assert!(said.starts_with(&told), "{command:?}: {said}");
        assert!(said.ends_with(&format!("error: path '{absent}' is not valid\n")), "{command:?}: {said}");
    }
    let said = world.run("nix-store", &["--repair-path", &absent]).fails(1).stderr_text();
    assert_eq!(said, format!("error: path '{absent}' is not valid\n"));
}

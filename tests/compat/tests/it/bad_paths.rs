//! What is said of texts that are no store paths, and of paths that are not there.

use firn_testkit::World;

#[test]
fn paths_that_cannot_be() {
    let world = World::new().conf("extra-experimental-features = nix-command\nsubstituters =");
    let store = world.path("store").display().to_string();
    let zeros = "0".repeat(32);
    for (name, expected) in [
        ("x".to_owned(), "'x' is too short to be a valid store path".to_owned()),
        (zeros.clone(), format!("'{zeros}' is too short to be a valid store path")),
        (format!("{zeros}-"), format!("path '{zeros}-' is not a valid store path: name must not be empty")),
        (
            format!("e{}-x", &zeros[1..]),
            format!("store path 'e{}-x' contains illegal base-32 character 'e'", &zeros[1..]),
        ),
        (
            format!("{zeros}x-a"),
            format!("path '{zeros}x-a' is not a valid store path: no dash follows its hash part"),
        ),
    ] {
        let path = format!("{store}/{name}");
        let calls: [(&str, &[&str]); 6] = [
            ("nix-store", &["-r"]),
            ("nix-store", &["-q", "--references"]),
            ("nix-store", &["--delete"]),
            ("nix-store", &["--verify-path"]),
            ("nix", &["store", "ls"]),
            ("nix", &["store", "cat"]),
        ];
        for (program, args) in calls {
            let said = world.run(program, &[args, &[&path]].concat()).fails(1).stderr_text();
            assert_eq!(said, format!("error: {expected}\n"), "{program} {args:?}");
        }
    }
}

#[test]
fn paths_that_are_not_there_are_deleted() {
    let world = World::new().conf("extra-experimental-features = nix-command");
    let path = world.path("store").join(format!("{}-x", "0".repeat(32))).display().to_string();
    for (program, args) in [("nix-store", &["--delete"][..]), ("nix", &["store", "delete"])] {
        let said = world.run(program, &[args, &[&path]].concat()).success().stderr_text();
        assert!(said.contains(&format!("deleting '{path}'\n")), "{said}");
    }
}

#[test]
fn nothing_refers_to_paths_that_are_not_there() {
    let world = World::new();
    let path = world.path("store").join(format!("{}-x", "0".repeat(32))).display().to_string();
    let query = |what: &str| world.run("nix-store", &["--query", what, &path]);
    assert_eq!(query("--referrers").success().stdout_text(), "");
    assert_eq!(query("--referrers-closure").success().stdout_text(), format!("{path}\n"));
    assert_eq!(query("--roots").success().stdout_text(), "");
    let said = query("--requisites").fails(1).stderr_text();
    assert_eq!(said, format!("error: path '{path}' is not valid\n"));
}

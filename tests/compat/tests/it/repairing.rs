//! What is damaged and comes again.

use firn_testkit::World;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// `--repair` while evaluating: derivations and sources that are damaged or gone are written again, others are not.
#[test]
fn evaluation_repairs() {
    let world = World::new().conf("sandbox = false");
    world.write("source/file", "content");
    let expression = r#"derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh";
        args = [ "-c" "echo hello > $out" ]; src = ./source; text = builtins.toFile "t" "text"; }"#;
    world.write("default.nix", expression);
    let drv = world.run("nix-instantiate", &["default.nix"]).success().stdout_text().trim_end().to_owned();
    let inputs = world.run("nix-store", &["--query", "--references", &drv]).success().stdout_text();
    let find = |end: &str| inputs.lines().find(|path| path.ends_with(end)).expect("an input").to_owned();
    let (source, text) = (find("-source"), find("-t"));
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("a file"));
    let commands: [&[&str]; 5] = [
        &["nix-instantiate", "default.nix", "--repair"],
        &["nix", "build", "--file", "default.nix", "--no-link", "--repair"],
        &["nix", "path-info", "--derivation", "--file", "default.nix", "--repair"],
        &["nix", "eval", "--raw", "--file", "default.nix", "drvPath", "--repair"],
        &["nix-build", "default.nix", "--no-out-link", "--repair"],
    ];
    for command in commands {
        for path in [&drv, &text, &format!("{source}/file")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("it is opened up");
            fs::write(path, "damage").expect("it is damaged");
        }
        world.run(command[0], &command[1..]).success();
        world.run("nix-store", &["--verify", "--check-contents"]).success();
        assert_eq!(fs::read_to_string(&text).expect("the text"), "text", "{command:?}");
        let before = [&drv, &text, &source].map(|path| inode(path));
        world.run(command[0], &command[1..]).success();
        assert_eq!([&drv, &text, &source].map(|path| inode(path)), before, "{command:?}");
    }
    fs::remove_file(&text).expect("it is taken away");
    world.run("nix-instantiate", &["default.nix"]).success();
    assert!(!Path::new(&text).exists(), "without the flag what the database says counts");
    world.run("nix-instantiate", &["default.nix", "--repair"]).success();
    assert_eq!(fs::read_to_string(&text).expect("the text"), "text");
}

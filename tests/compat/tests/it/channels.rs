//! `nix-channel` with channels in folders.

use firn_testkit::World;
use std::process::Command;

/// Puts a channel with one package into a folder.
fn publish(world: &World, version: &str) -> String {
    world.write("src/foo/nested/value.nix", &format!("\"{version}\""));
    world.write(
        "src/foo/default.nix",
        r#"{ }: { hello = derivation {
            name = "hello-${import ./nested/value.nix}"; system = builtins.currentSystem;
            builder = "/bin/sh"; args = [ "-c" "/bin/mkdir -p $out" ];
        }; }"#,
    );
    let folder = world.work_dir().join("served");
    std::fs::create_dir_all(&folder).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test makes an archive")]
    let status = Command::new("tar")
        .arg("-C")
        .arg(world.work_dir().join("src"))
        .arg("-cJf")
        .arg(folder.join("nixexprs.tar.xz"))
        .arg("foo")
        .status()
        .unwrap();
    assert!(status.success());
    format!("file://{}", folder.display())
}

#[test]
fn add_update_roll_back_and_remove() {
    // Unpacking is a build in the sandbox here.
    let world = World::new().sandboxed();
    let channel = |args: &[&str]| {
        let run = world.run("nix-channel", args).success();
        run.stdout_text()
    };
    let version = || {
        let run = world.run("nix-instantiate", &["--eval", "-E", "(import <foo> { }).hello.name"]).success();
        run.stdout_text()
    };
    let url = publish(&world, "1");
    channel(&["--add", &url, "foo"]);
    channel(&["--add", "https://example.org/channels/nixos-23.05-stable/"]);
    assert_eq!(
        channel(&["--list"]),
        format!("foo {url}\nnixos-23.05 https://example.org/channels/nixos-23.05-stable\n")
    );
    channel(&["--remove", "nixos-23.05"]);
    channel(&["--update"]);
    assert_eq!(version(), "\"hello-1\"\n");
    let names = world.run("nix-env", &["-qa"]).success().stdout_text();
    assert_eq!(names, "hello-1\n");

    publish(&world, "2");
    channel(&["--update", "foo"]);
    assert_eq!(version(), "\"hello-2\"\n");
    assert!(channel(&["--list-generations"]).contains("(current)"));
    channel(&["--rollback"]);
    assert_eq!(version(), "\"hello-1\"\n");

    channel(&["--remove", "foo"]);
    assert_eq!(channel(&["--list"]), "");
    let error = world.run("nix-instantiate", &["--eval", "-E", "<foo>"]).fails(1).stderr_text();
    assert!(error.contains("file 'foo' was not found in the Nix search path"), "{error}");
    let error = world.run("nix-channel", &["--add", "ftp://x/y"]).fails(1).stderr_text();
    assert!(error.contains("invalid channel URL 'ftp://x/y'"), "{error}");
}

//! Builders of the program's own run in the sandbox, as the build's user.

use firn_testkit::{World, can_sandbox};

#[track_caller]
fn refused(world: &World, expression: &str) {
    let run = world.try_build(expression, &[]);
    assert!(run.code() != Some(0), "{run:?}");
    assert!(!run.stdout_text().contains("store"), "{run:?}");
}

#[test]
fn they_do_not_see_the_hosts_files() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    let secret = world.write("secret", "secret").display().to_string();
    let hash = world.run("nix-hash", &["--type", "sha256", "--flat", "secret"]).success().stdout_text();
    refused(
        &world,
        &format!(
            r#"derivation {{ name = "secret"; system = "builtin"; builder = "builtin:fetchurl"; url = "file://{secret}";
               outputHash = "{}"; outputHashAlgo = "sha256"; outputHashMode = "flat"; }}"#,
            hash.trim()
        ),
    );
    refused(
        &world,
        &format!(
            r#"derivation {{ name = "channel"; system = "builtin"; builder = "builtin:unpack-channel"; src = "{secret}";
               channelName = "x"; }}"#
        ),
    );
}

#[test]
fn downloads_do_not_happen_where_the_output_is_not_fixed() {
    let world = World::new().conf("sandbox = false");
    let file = world.write("file", "content").display().to_string();
    refused(
        &world,
        &format!(
            r#"derivation {{ name = "x"; system = "builtin"; builder = "builtin:fetchurl"; url = "file://{file}"; }}"#
        ),
    );
}

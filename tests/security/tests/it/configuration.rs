//! Configuration files that are wrong or hostile end in an error, never in a hang or a crash.

use firn_testkit::World;

#[test]
fn a_file_that_includes_itself() {
    let world = World::new().conf("include nix.conf");
    let failed = world.run("nix-store", &["--version"]).fails(1);
    assert!(failed.stderr_text().contains("includes are nested more than"), "{failed:?}");
}

#[test]
fn bytes_that_are_no_text() {
    let world = World::new().conf_bytes(b"builders = \xff\xfe\n");
    let failed = world.run("nix-store", &["--version"]).fails(1);
    assert!(
        failed.stderr_text().contains("setting 'builders' has a value that is not valid UTF-8"),
        "{failed:?}"
    );
}

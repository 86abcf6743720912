//! R1: the setting `sandbox` and its older names, with the values true, false and relaxed.

use firn_testkit::World;

#[test]
fn all_names_and_values() {
    let world = World::new();
    for name in ["sandbox", "build-use-chroot", "build-use-sandbox"] {
        for value in ["true", "false", "relaxed"] {
            let shown = world.run("nix", &["config", "show", "sandbox", "--option", name, value]);
            assert_eq!(shown.success().stdout_text(), format!("{value}\n"), "{name} = {value}");
        }
    }
}

#[test]
fn flags() {
    let world = World::new();
    for (flag, value) in [("--sandbox", "true"), ("--no-sandbox", "false"), ("--relaxed-sandbox", "relaxed")]
    {
        assert_eq!(
            world.run("nix", &["config", "show", "sandbox", flag]).success().stdout_text(),
            format!("{value}\n")
        );
    }
}

#[test]
fn a_wrong_value_names_the_setting() {
    let world = World::new().conf("sandbox = maybe");
    let failed = world.run("nix", &["config", "show"]).fails(1);
    assert!(failed.stderr_text().contains("error: option 'sandbox' has invalid value 'maybe'"), "{failed:?}");
}

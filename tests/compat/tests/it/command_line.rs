//! The command line of all programs.

use firn_testkit::World;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

const PROGRAMS: [&str; 12] = [
    "nix",
    "nix-build",
    "nix-channel",
    "nix-collect-garbage",
    "nix-copy-closure",
    "nix-daemon",
    "nix-env",
    "nix-hash",
    "nix-instantiate",
    "nix-prefetch-url",
    "nix-shell",
    "nix-store",
];

#[test]
fn version_is_where_scripts_look() {
    let world = World::new();
    for program in PROGRAMS {
        let shown = world.run(program, &["--version"]).success();
        assert_eq!(shown.stdout_text(), format!("{program} (Nix) 2.34.8\n"));
    }
}

#[test]
fn unknown_flags_and_commands() {
    let world = World::new();
    let failed = world.run("nix", &["--nonsense"]).fails(1);
    let text = failed.stderr_text();
    assert!(text.contains("error: unrecognised flag '--nonsense'\n"), "{text}");
    // The program is named as it was called.
    assert!(text.contains("Try '") && text.contains("/nix --help' for more information.\n"), "{text}");
    let failed = world.run("nix", &["confgi"]).fails(1);
    let text = failed.stderr_text();
    assert!(
        text.contains("error: 'confgi' is not a recognised command\n       Did you mean config?\n"),
        "{text}"
    );
}

#[test]
fn unknown_settings_are_warned_of() {
    let world = World::new().conf("no-such-setting = 1");
    let shown = world.run("nix", &["config", "show", "cores", "--option", "nor-this", "1"]).success();
    assert_eq!(shown.stdout_text(), "0\n");
    let text = shown.stderr_text();
    assert!(text.contains("warning: unknown setting 'no-such-setting'\n"), "{text}");
    assert!(text.contains("warning: unknown setting 'nor-this'\n"), "{text}");
}

#[test]
fn commands_of_nix_need_the_feature() {
    let world = World::new().conf("experimental-features =");
    let failed = world.run("nix", &["config", "show"]).fails(1);
    let text = failed.stderr_text();
    assert!(text.contains("error: experimental Nix feature 'nix-command' is disabled; add '--extra-experimental-features nix-command' to enable it\n"), "{text}");
}

/// Where there is no terminal, a search tells line by line what it looks at.
#[test]
fn searches_tell_where_they_are() {
    let world = World::new();
    world.write(
        "default.nix",
        "{ a = { type = \"derivation\"; name = \"a-1\"; }; b = { c = throw \"not looked at\"; }; }",
    );
    let found = world.run("nix", &["search", "-f", "default.nix", "", "a"]).success();
    assert!(found.stdout_text().contains("(1)"), "{found:?}");
    assert_eq!(found.stderr_text(), "evaluating ''...\nevaluating 'a'...\nevaluating 'b'...\n");
}

#[test]
fn paths_of_settings_are_absolute() {
    let world = World::new();
    let run = |args: &[&str]| world.run("nix", &[&["config", "show", "netrc-file"], args].concat());
    let said = run(&["--option", "netrc-file", "rel"]).fails(1).stderr_text();
    assert_eq!(said, "error: not an absolute path: \"rel\"\n");
    // That there is none is a warning.
    let said = run(&["--option", "netrc-file", ""]).success().stderr_text();
    assert!(said.contains("setting 'netrc-file' is a path and paths cannot be empty"), "{said}");
}

/// Arguments are bytes, whatever the program looks for among them first.
#[test]
fn a_first_argument_that_is_no_text() {
    let world = World::new();
    for program in
        ["nix", "nix-store", "nix-instantiate", "nix-env", "nix-hash", "nix-daemon", "nix-nswrapper"]
    {
        let output = world.command(program).arg(OsStr::from_bytes(b"\xff")).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{program}: {said}");
        assert!(said.starts_with("error: "), "{program}: {said}");
    }
}

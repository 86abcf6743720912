//! R1: the setting `sandbox` and its older names, with the values true, false and relaxed.

use firn_testkit::{World, can_sandbox};

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

#[test]
fn namespaces_of_its_own() {
    if !can_sandbox() {
        return;
    }
    let kinds = ["mnt", "pid", "ipc", "uts", "net", "user"];
    let script = format!("for kind in {}; do readlink /proc/self/ns/$kind; done > $out", kinds.join(" "));
    let inside = World::new().sandboxed().build_text(&format!(r#"make "namespaces" "{script}""#));
    assert_eq!(inside.lines().count(), kinds.len(), "{inside}");
    for (kind, found) in kinds.iter().zip(inside.lines()) {
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("our namespace");
        assert_ne!(outside.to_str(), Some(found));
    }
}

#[test]
fn only_the_input_closure_is_in_the_store() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    let seen = world.build_text(
        r#"let
          inner = make "inner" "echo > $out";
          outer = make "outer" "echo ${inner} > $out";
          other = make "other" "echo > $out";
        in make "top" ''
          # ${other.name} is there, but no input
          ls "$NIX_STORE" | cut -d- -f2- > list; echo ${outer} >> list; mv list $out
        ''"#,
    );
    let names: Vec<&str> = seen.lines().collect();
    let [first, second, path] = names[..] else { panic!("{seen}") };
    // The listing is in the order of hashes, which depend on where the store is.
    let mut listed = [first, second];
    listed.sort();
    assert_eq!(listed, ["inner", "outer"]);
    assert!(path.ends_with("-outer"));
}

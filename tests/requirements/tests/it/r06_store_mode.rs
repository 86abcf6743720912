//! R6: with build users the store has mode 1737: what is known can be read there, but not what else there is.

use firn_testkit::{World, can_sandbox};
use std::os::unix::fs::PermissionsExt;

const LISTS: &str = r#"let input = make "input" "echo input > $out";
  in make "lists" ''
    { cat ${input}; ls "$NIX_STORE" > /dev/null 2>&1 && echo listed || echo refused; id -u; } > seen; cat seen > $out
  ''"#;

#[test]
fn names_are_for_those_who_know_them() {
    let world = World::new();
    if !world.is_root() || !can_sandbox() {
        return;
    }
    let world = world.sandboxed().with_build_users();
    let seen = world.build_text(LISTS);
    assert!(seen.starts_with("input\nlisted\n"), "sandboxed: {seen}");
    let mode = std::fs::metadata(world.path("store")).expect("the store").permissions().mode();
    assert_eq!(mode & 0o7777, 0o1737);

    let world = world.conf("sandbox = false");
    let seen = world.build_text(&LISTS.replace("lists", "lists-outside"));
    assert!(seen.starts_with("input\nrefused\n"), "not sandboxed: {seen}");
    assert!(!seen.ends_with("\n0\n"), "the builder is root");
}

//! R9: control sequences that stdenv marks its log with are never shown.

use firn_testkit::World;

#[test]
fn marks_of_stdenv_are_not_shown() {
    let world = World::new().conf("sandbox = false");
    let built = world.try_build(
        r#"make "log" ''
          printf '\033[3pnested\033[q\n\033[4slevel\033[0a\033[1b\n'
          printf '\033[3'; printf 'pcut in two\n'
          printf '\033[31mred\033[0m\n'
          printf 'unfinished\033[3'
          echo > $out
        ''"#,
        &[],
    );
    let log = built.success().stderr_text();
    for line in ["nested", "level", "cut in two", "red"] {
        assert!(log.lines().any(|found| found == line), "no line {line:?} in {log:?}");
    }
    assert!(log.lines().any(|line| line.starts_with("unfinished")), "{log:?}");
    assert!(!log.contains('\x1b'), "{log:?}");
}

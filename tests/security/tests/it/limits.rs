//! Builds that want too much: processes, output, time.

use firn_testkit::{World, can_sandbox};

#[test]
fn processes_are_limited() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    let limit = world.build_text(r#"make "limit" "bash -c 'ulimit -u' > $out""#);
    assert!(limit.trim().parse::<u32>().is_ok_and(|limit| limit <= 16384), "{limit}");
}

#[test]
fn processes_without_end_end_with_the_build() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    // Each starts another one and goes: no parent is left to ask. Few at a time, so that the machine does not suffer.
    let script = r#"make "bomb" ''
      bash -c '
        ulimit -u 200
        bomb() { while :; do (bomb &); sleep 0.01; done; }
        bomb & sleep 1; bomb & sleep 1' 2>/dev/null
      echo end >&2; exit 3
    ''"#;
    let begun = std::time::Instant::now();
    let run = world.try_build(script, &["--timeout", "4"]);
    assert!(run.code() != Some(0), "{run:?}");
    assert!(begun.elapsed().as_secs() < 60, "{run:?}");
    world.build(r#"make "next" "echo > $out""#);
}

#[test]
fn output_without_end_is_cut() {
    let world = World::new().conf("sandbox = false\nmax-build-log-size = 100000");
    let run = world.try_build(r#"make "loud" "yes; echo > $out""#, &["-Q"]);
    assert!(run.code() == Some(100) || run.code() == Some(1), "{run:?}");
    assert!(run.stderr_text().contains("more than 100000 bytes of log output"), "{run:?}");
}

#[test]
fn a_builder_that_closes_its_output_and_stays() {
    let world = World::new().conf("sandbox = false");
    let begun = std::time::Instant::now();
    let run = world.try_build(r#"make "mute" "exec >&- 2>&-; sleep 600""#, &[]);
    assert!(run.code() != Some(0), "{run:?}");
    assert!(begun.elapsed().as_secs() < 60);
    world.build(r#"make "next" "echo > $out""#);
}

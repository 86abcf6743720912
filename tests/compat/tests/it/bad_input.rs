//! Bad input and bad machines: what is said, the exit code, and that the next run goes on.

use firn_testkit::{World, can_sandbox};
use std::fs;
use std::time::Instant;

fn world() -> World {
    World::new().conf("sandbox = false")
}

/// Evaluating ends with exit code 1 and a message with these words.
#[track_caller]
fn check_eval(expression: &str, wanted: &[&str]) {
    let world = world();
    let failed = world.run("nix-instantiate", &["--eval", "--strict", "-E", expression]).fails(1);
    for words in wanted {
        assert!(failed.stderr_text().contains(words), "no {words:?} in {}", failed.stderr_text());
    }
    assert_eq!(failed.stdout_text(), "");
}

/// Building ends with this exit code and a message with these words, and nothing is left of it.
#[track_caller]
fn check_build(world: &World, expression: &str, flags: &[&str], code: i32, wanted: &[&str]) {
    let failed = world.try_build(expression, flags).fails(code);
    for words in wanted {
        assert!(failed.stderr_text().contains(words), "no {words:?} in {}", failed.stderr_text());
    }
    check_clean(world);
    assert_eq!(world.build_text(r#"make "next" "echo goes on > $out""#), "goes on\n");
}

/// No locks, no roots of sandboxes, no build directories.
#[track_caller]
fn check_clean(world: &World) {
    for entry in fs::read_dir(world.path("store")).expect("the store") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        assert!(!name.ends_with(".lock") && !name.ends_with(".chroot"), "{name} is left");
    }
    if let Ok(builds) = fs::read_dir(world.path("var/nix/builds")) {
        assert_eq!(builds.count(), 0, "build directories are left");
    }
}

#[test]
fn syntax() {
    check_eval("let a = ; in a", &["error: syntax error, unexpected ';'", "at «string»:1:9:"]);
    check_eval("\"${", &["error: syntax error", "end of file"]);
    check_eval("{ a = 1; a = 2; }", &["attribute 'a' already defined"]);
    check_eval("a", &["undefined variable 'a'"]);
    check_eval(&"(".repeat(20_000), &["error: "]);
}

#[test]
fn files() {
    let world = world();
    let failed = world.run("nix-instantiate", &["--eval", "missing.nix"]).fails(1).stderr_text();
    assert!(failed.contains("missing.nix' does not exist"), "{failed}");
    fs::write(world.work_dir().join("nul.nix"), b"\x00\x01").expect("a file");
    let failed = world.run("nix-instantiate", &["--eval", "nul.nix"]).fails(1).stderr_text();
    assert!(failed.contains("nul.nix:1:1:"), "{failed}");
    fs::write(world.work_dir().join("bytes.nix"), b"\"\xff\xfe\"").expect("a file");
    let bytes = world.run("nix", &["eval", "--raw", "-f", "bytes.nix"]).success();
    assert_eq!(bytes.stdout(), b"\xff\xfe");
}

#[test]
fn values() {
    check_eval("1 + \"a\"", &["cannot add a string to an integer"]);
    check_eval("{ }.a", &["attribute 'a' missing"]);
    check_eval("builtins.fromJSON \"{\"", &["while decoding a JSON string"]);
    check_eval("throw \"why\"", &["error: why"]);
    check_eval("assert false; 1", &["assertion"]);
}

#[test]
fn recursion() {
    check_eval("let x = x; in x", &["infinite recursion encountered", "at «string»:1:9:"]);
    check_eval("let f = x: 1 + f x; in f 1", &["stack overflow; max-call-depth exceeded"]);
    check_eval("builtins.foldl' (a: b: a + b) 0 (let f = n: [ (f (n + 1)) ]; in f 0)", &["error: "]);
}

#[test]
fn builders() {
    let world = world();
    check_build(&world, r#"make "x" "exit 3""#, &[], 100, &["-x.drv'", "builder failed with exit code 3"]);
    check_build(&world, r#"make "x" "kill -9 $$""#, &[], 100, &["builder failed due to signal 9"]);
    check_build(&world, r#"make "x" "true""#, &[], 1, &["failed to produce output path for output 'out'"]);
    let missing = r#"makeWith "x" { builder = "/no/such"; } "" "#;
    check_build(&world, missing, &[], 100, &["executing '/no/such': No such file or directory"]);
    let foreign = r#"makeWith "x" { system = "vax-vms"; } "" "#;
    check_build(&world, foreign, &[], 100, &["Required system: 'vax-vms'"]);
    let fixed = r#"makeWith "x" { outputHashAlgo = "sha256"; outputHash =
        "0000000000000000000000000000000000000000000000000000"; } "echo > $out""#;
    check_build(&world, fixed, &[], 102, &["hash mismatch in fixed-output derivation"]);
}

#[test]
fn hanging_builders() {
    let world = world();
    let start = Instant::now();
    check_build(&world, r#"make "x" "sleep 600""#, &["--timeout", "1"], 101, &["timed out after 1 seconds"]);
    let silent = ["--max-silent-time", "1"];
    check_build(&world, r#"make "y" "sleep 600""#, &silent, 101, &["timed out after 1 seconds"]);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn corrupt_derivations() {
    let world = world();
    world.expression(r#"make "x" "echo > $out""#);
    let drv = world.run("nix-instantiate", &[]).success().stdout_text();
    let drv = drv.trim_end();
    let good = fs::read(drv).expect("the derivation");
    let replace = |bytes: &[u8]| {
        fs::remove_file(drv).expect("removed");
        fs::write(drv, bytes).expect("written");
    };
    let middle = good.len() / 2;
    for bad in [&b""[..], &good[..50], &good[..good.len() - 1], &[&good[..middle], b"\x00\xff"].concat()] {
        replace(bad);
        let failed = world.run("nix-store", &["--realise", drv]).fails(1).stderr_text();
        assert!(failed.contains(&format!("error parsing derivation '{drv}'")), "{failed}");
    }
    replace(&good);
    world.run("nix-store", &["--realise", drv]).success();
}

#[test]
fn newer_schema() {
    let world = world();
    let path = world.build(r#"make "x" "echo > $out""#);
    let schema = world.path("var/nix/db/schema");
    let query = ["-q", "--references", path.as_str()];
    fs::write(&schema, "11\n").expect("written");
    let failed = world.run("nix-store", &query).fails(1).stderr_text();
    assert!(failed.contains("schema is version 11, but I only support 10"), "{failed}");
    fs::write(&schema, "x\n").expect("written");
    let failed = world.run("nix-store", &query).fails(1).stderr_text();
    assert!(failed.contains("db/schema' is corrupt"), "{failed}");
    fs::write(&schema, "10").expect("written");
    world.run("nix-store", &query).success();
}

#[test]
fn store_of_another_user() {
    let world = world();
    if !world.is_root() {
        return;
    }
    let path = world.build(r#"make "x" "echo text > $out""#);
    let (store, state) = (world.path("store"), world.path("var/nix"));
    let world = world.unprivileged();
    for dir in [&store, &state, &state.join("db")] {
        std::os::unix::fs::chown(dir, Some(0), Some(0)).expect("root's again");
    }
    let failed = world.try_build(r#"make "y" "echo > $out""#, &[]).fails(1).stderr_text();
    assert!(failed.contains("ermission denied") || failed.contains("readonly database"), "{failed}");
    assert_eq!(fs::read_to_string(path).expect("still there"), "text\n");
}

#[test]
fn full_disk() {
    let world = World::new();
    if !world.is_root() || !can_sandbox() {
        return;
    }
    let world = world.conf("sandbox = false").with_full_disk("8m");
    world.expression(
        r#"{ big = make "x" "dd if=/dev/zero of=$out bs=1M count=64"; small = make "y" "echo goes on > $out"; }"#,
    );
    // Both in one run of the shell, so that they have the same disk.
    let script =
        "nix-build --no-out-link -A big; echo $?; cat $(nix-build --no-out-link -A small); ls $NIX_STORE_DIR";
    let ran = world.run("/bin/sh", &["-c", script]).success();
    assert!(ran.stderr_text().contains("lack of free disk space"), "{ran:?}");
    let said = ran.stdout_text();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.get(..2), Some(&["1", "goes on"][..]), "{ran:?}");
    assert!(!said.contains(".lock") && !said.contains("-x\n"), "{said}");
}

/// Language servers and farms limit what a process may have: values get half of it, stacks less.
#[test]
fn little_memory() {
    for limit in ["-d 300000", "-v 600000"] {
        let script = format!("ulimit {limit}; exec \"$@\"");
        let world = World::new().wrapped(&["sh", "-c", &script, "sh"]);
        let eval = |expression: &str| world.run("nix-instantiate", &["--eval", "-E", expression]);
        let sum = "builtins.foldl' (a: b: a + b) 0 (builtins.genList (x: x) 100000)";
        assert_eq!(eval(sum).success().stdout_text(), "4999950000\n");
        let deep = eval("let f = x: 1 + f x; in f 1").fails(1).stderr_text();
        assert!(deep.contains("error: stack overflow; max-call-depth exceeded"), "{deep}");
        let long = eval("builtins.length (builtins.genList (x: x) 100000000)").fails(1).stderr_text();
        assert!(long.contains("error: out of memory: a list of 100000000 elements"), "{limit}: {long}");
    }
}

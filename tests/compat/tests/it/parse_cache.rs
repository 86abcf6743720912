//! Trees of parsed files are kept, and nobody can tell but by the time it takes.

use firn_testkit::World;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// Longer than the time in which changes of a file may look alike.
const SETTLED: Duration = Duration::from_millis(3100);

fn kept(world: &World) -> Vec<PathBuf> {
    let dir = world.path("home/.cache/nix/parsed-files");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.file_name().is_some_and(|name| name != "lock")).collect()
}

fn eval(world: &World, flags: &[&str]) -> (String, String) {
    let run = world.run("nix-instantiate", &[&["--eval", "--strict", "file.nix"], flags].concat());
    (run.stdout_text(), run.stderr_text())
}

fn padded(text: &str) -> String {
    format!("# {}\n{text}", "x".repeat(200))
}

#[test]
fn what_changed_is_read_again() {
    let world = World::new();
    let file = world.write("file.nix", &padded("[ 1 { a = 2; } ]"));
    let times = fs::metadata(&file).expect("there").modified().expect("a time");
    std::thread::sleep(SETTLED);
    for _ in 0..3 {
        assert_eq!(eval(&world, &[]).0, "[ 1 { a = 2; } ]\n");
    }
    assert_eq!(kept(&world).len(), 1);
    // As long as before, and dated back.
    fs::write(&file, padded("[ 1 { a = 3; } ]")).expect("writable");
    fs::File::options().write(true).open(&file).and_then(|file| file.set_modified(times)).expect("a time");
    assert_eq!(eval(&world, &[]).0, "[ 1 { a = 3; } ]\n");
    assert_eq!(eval(&world, &[]).0, "[ 1 { a = 3; } ]\n");
    // Another file in its place.
    fs::write(world.path("work/other"), padded("[ 1 { a = 4; } ]")).expect("writable");
    fs::rename(world.path("work/other"), &file).expect("ours");
    assert_eq!(eval(&world, &[]).0, "[ 1 { a = 4; } ]\n");
    fs::remove_file(&file).expect("ours");
    assert!(eval(&world, &[]).1.contains("does not exist"));
}

#[test]
fn errors_and_warnings_are_those_of_the_first_time() {
    let world = World::new();
    let cases = [
        "let f = x: x.y;\nin {\n  a = f { };\n}",
        "{ b = 1;\n  c = undefined; }",
        "with { };\n [ undefined ]",
        "{ a, b }: a\n",
        "[ (builtins.unsafeGetAttrPos \"x\" {\n x = 1; }) __curPos ]",
        "let f = x: x; in [ f or ]",
        "assert 1 ==\n 2; 3",
    ];
    for (i, case) in cases.iter().enumerate() {
        let file = world.write("file.nix", &padded(case));
        std::thread::sleep(if i == 0 { SETTLED } else { Duration::ZERO });
        let without = eval(&world, &["--show-trace", "--option", "parse-cache", "false"]);
        let first = eval(&world, &["--show-trace"]);
        let second = eval(&world, &["--show-trace"]);
        assert_eq!((&first, &second), (&without, &without), "{}", file.display());
    }
    // What a lint finds is found each time.
    world.write("file.nix", &padded("[ http://example.org/ ]"));
    assert_eq!(eval(&world, &[]).0, "[ \"http://example.org/\" ]\n");
    for _ in 0..2 {
        let (_, warning) = eval(&world, &["--option", "lint-url-literals", "warn"]);
        assert!(warning.contains("URL literals are discouraged"), "{warning}");
    }
    // How it is parsed counts.
    world.write("file.nix", &padded("1 |> (x: x)"));
    let on = ["--extra-experimental-features", "pipe-operators"];
    for _ in 0..2 {
        assert_eq!(eval(&world, &on).0, "1\n");
        assert!(eval(&world, &[]).1.contains("pipe-operators"));
    }
}

#[test]
fn it_can_be_off_and_need_not_be_writable() {
    let world = World::new();
    world.write("file.nix", &padded("[ 5 ]"));
    assert_eq!(eval(&world, &["--option", "parse-cache", "false"]).0, "[ 5 ]\n");
    assert!(kept(&world).is_empty());
    assert_eq!(eval(&world, &[]).0, "[ 5 ]\n");
    let [file] = &kept(&world)[..] else { panic!("{:?}", kept(&world)) };
    fs::write(file, "no segment").expect("ours");
    assert_eq!(eval(&world, &[]), ("[ 5 ]\n".to_owned(), String::new()));
    fs::remove_dir_all(world.path("home/.cache")).expect("ours");
    fs::write(world.path("home/.cache"), "").expect("ours");
    assert_eq!(eval(&world, &[]), ("[ 5 ]\n".to_owned(), String::new()));
}

#[test]
fn printing_trees_uses_it_too() {
    let world = World::new();
    world.write("file.nix", &padded("{ a ? 1, ... }: rec { b = a; inherit (b) c; ${b} = 2; }"));
    let print = || world.run("nix-instantiate", &["--parse", "file.nix"]).success().stdout_text();
    let first = print();
    assert_eq!(kept(&world).len(), 1);
    assert_eq!(print(), first);
    assert_eq!(first, "({ a ? 1, ... }: rec { inherit (b) c; b = a; \"${b}\" = 2; })\n");
}

#[test]
fn several_at_once() {
    let world = World::new();
    for n in 0..40 {
        world.write(&format!("{n}.nix"), &padded(&format!("{{ value = {n}; }}")));
    }
    let text = "builtins.foldl' (sum: n: sum + (import (./. + \"/${toString n}.nix\")).value) 0 (builtins.genList (n: n) 40)";
    world.write("file.nix", text);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(eval(&world, &[]), ("780\n".to_owned(), String::new()));
                }
            });
        }
    });
    let files = kept(&world);
    // As many as are left alone, and what each of the last eight made while another one was cleaning up.
    assert!((1..=16).contains(&files.len()), "{files:?}");
    let mode = |path: &PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert!(files.iter().all(|file| mode(file) == 0o600));
}

#[test]
fn a_file_that_is_cut_short_in_use_is_an_error_once() {
    let world = World::new();
    let entry = |i| format!("x{i} = {{ y = [ {} ]; }};\n", format!("{{ z = \"{i}\"; }} ").repeat(800));
    let entries: String = (0..300).map(entry).collect();
    world.write("large.nix", &format!("{{ a = 1;\n{entries} }}"));
    world.write(
        "file.nix",
        "let large = import ./large.nix; in builtins.seq large.a (builtins.seq (builtins.readFile ./pipe) large.x150.y)",
    );
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, world.path("work/pipe"), kind, mode, 0).expect("a pipe");
    let while_it_waits = |act: fn(&World)| {
        std::thread::scope(|scope| {
            // Opening ends when the other side is opened.
            scope.spawn(|| {
                let pipe = fs::File::options().write(true).open(world.path("work/pipe"));
                act(&world);
                drop(pipe);
            });
            eval(&world, &[])
        })
    };
    let (shown, _) = while_it_waits(|_| ());
    assert!(shown.starts_with("[ { z = \"150\"; } {"), "{shown}");
    let (_, error) = while_it_waits(|world| {
        for file in kept(world) {
            fs::File::options().write(true).open(file).and_then(|file| file.set_len(2000)).expect("ours");
        }
    });
    assert!(error.contains("error: a file of the cache of parsed files was cut short"), "{error}");
    assert_eq!(while_it_waits(|_| ()), (shown, String::new()));
}

//! Builds during evaluation, and evaluation in a store of its own.

use firn_testkit::World;

const EXPRESSION: &str = r#"
let
  make = name: text: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" text ];
  };
  source = builtins.toFile "source" "from a file\n";
in
rec {
  input = make "input" "read line < ${source}; echo \"$line\" > $out";
  result = make "result" "read line < ${input}; echo \"got $line\" > $out";
  imported = builtins.readFile input;
  twice = builtins.readFile input + builtins.readFile result;
}
"#;

fn world() -> World {
    let world = World::new().conf("sandbox = false");
    world.write("default.nix", EXPRESSION);
    world
}

/// Names in a folder without their hashes, but for links and locks.
fn names(world: &World, dir: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(world.path(dir)) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .map(|name| name.split_once('-').map_or(name.clone(), |(_, name)| name.to_owned()))
        .collect();
    names.sort();
    names
}

#[test]
fn import_from_derivation() {
    let world = world();
    let eval =
        |flags: &[&str]| world.run("nix-instantiate", &[&["--eval", "-A", "imported"], flags].concat());
    let refused = eval(&["--no-allow-import-from-derivation"]).fails(1).stderr_text();
    let message = "during evaluation because the option 'allow-import-from-derivation' is disabled";
    assert!(refused.contains("error: cannot build '") && refused.contains(message), "{refused}");
    assert!(refused.contains("-input.drv^out'"), "{refused}");
    // Nothing can be built of a derivation that is not written.
    eval(&["--readonly-mode"]).fails(1);
    let traced = eval(&["--read-write-mode", "--trace-import-from-derivation"]).success();
    assert_eq!(traced.stdout_text(), "\"from a file\\n\"\n");
    let line = "-input.drv^out' during evaluation due to an import from derivation";
    assert_eq!(traced.stderr_text().matches(line).count(), 1, "{traced:?}");
}

#[test]
fn derivations_stay_in_the_eval_store() {
    let world = world();
    let eval_store = world.path("eval");
    let eval_store = eval_store.to_str().expect("text");
    let drv = world.run("nix-instantiate", &["-A", "result", "--eval-store", eval_store]).success();
    assert!(names(&world, "store").is_empty(), "{:?}", names(&world, "store"));
    assert_eq!(names(&world, "eval/nix/store"), ["input.drv", "result.drv", "source"]);
    let drv = drv.stdout_text();
    for command in [
        vec!["nix-build", "-A", "result", "--no-out-link"],
        vec!["nix-build", drv.trim(), "--no-out-link"],
        vec!["nix", "build", "-f", "default.nix", "result", "--no-link", "--print-out-paths"],
    ] {
        let (program, args) = command.split_first().expect("a program");
        let run = world.run(program, &[args, &["--eval-store", eval_store]].concat()).success();
        let text = std::fs::read_to_string(run.stdout_text().trim()).expect("an output");
        assert_eq!(text, "got from a file\n");
        assert_eq!(names(&world, "store"), ["input", "result", "source"]);
    }
    assert_eq!(names(&world, "eval/nix/store"), ["input.drv", "result.drv", "source"]);
}

#[test]
fn what_is_built_for_evaluation_comes_back() {
    let world = world();
    let eval_store = format!("{}?require-sigs=false", world.path("eval").display());
    let args = ["eval", "--raw", "-f", "default.nix", "twice", "--eval-store", &eval_store];
    assert_eq!(world.run("nix", &args).success().stdout_text(), "from a file\ngot from a file\n");
    assert_eq!(names(&world, "store"), ["input", "result", "source"]);
    assert_eq!(names(&world, "eval/nix/store"), ["input", "input.drv", "result", "result.drv", "source"]);
}

#[test]
fn an_eval_store_in_memory() {
    let world = world();
    let refused = world.run("nix-instantiate", &["-A", "input", "--eval-store", "dummy://"]).fails(1);
    let message = "operation 'addToStore' is not supported by store 'dummy://'";
    assert!(refused.stderr_text().contains(message), "{refused:?}");
    world.run("nix-instantiate", &["-A", "input", "--eval-store", "dummy://?read-only=false"]).success();
    assert!(names(&world, "store").is_empty());
}

/// What is evaluated may lie in the store that is there, while another one is worked on.
#[test]
fn files_of_the_store_beside_another_one() {
    let world = world();
    world.write("folder/default.nix", "{ x = import ./part.nix; y = builtins.readDir ./.; }");
    world.write("folder/part.nix", "1 + 1");
    let added = world.run("nix-store", &["--add", "folder"]).success().stdout_text();
    let elsewhere = world.path("elsewhere");
    let store = ["--store", elsewhere.to_str().expect("text")];
    let eval = |what: &str| {
        let run = world.run("nix-instantiate", &[&["--eval", added.trim(), "-A", what], &store[..]].concat());
        run.success().stdout_text()
    };
    assert_eq!(eval("x"), "2\n");
    // What only the other store has is found as well.
    let other = world.run("nix-store", &[&["--add", "folder/part.nix"], &store[..]].concat()).success();
    let expression = format!("import {}", other.stdout_text().trim());
    let run = world.run("nix-instantiate", &[&["--eval", "-E", &expression], &store[..]].concat());
    assert_eq!(run.success().stdout_text(), "2\n");
    assert_eq!(eval("x"), "2\n");
}

//! Profilers, statistics, the debugger, and what programs that watch an evaluation's files read.

use firn_testkit::World;
use std::io::Write;
use std::process::Stdio;

#[test]
fn calls_are_traced() {
    let world = World::new();
    let text = world
        .run("nix-instantiate", &["--trace-function-calls", "--eval", "-E", "builtins.tryEval (throw \"x\")"])
        .success()
        .stderr_text();
    let places: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("function-trace "))
        .filter_map(|line| line.rsplit_once(" at ").map(|(what, _)| what))
        .collect();
    let (outer, inner) = ("«string»:1:1", "«string»:1:19");
    let expected = [("entered", outer), ("entered", inner), ("exited", inner), ("exited", outer)]
        .map(|(w, p)| format!("{w} {p}"));
    assert_eq!(places, expected);
}

#[track_caller]
fn check_profile(expression: &str, expected: &str) {
    let world = World::new();
    let flags =
        ["--eval-profiler", "flamegraph", "--eval-profiler-frequency", "0", "--eval-profile-file", "out"];
    world.run("nix-instantiate", &[&flags[..], &["--eval", "-E", expression]].concat());
    let text = std::fs::read_to_string(world.work_dir().join("out")).expect("a profile");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.join("\n"), expected, "{expression}");
}

#[test]
fn stacks_are_sampled() {
    check_profile("let f = x: x; in f 1", "«string»:1:18:f 1");
    check_profile("(x: x) (builtins.head [ 1 ])", "«string»:1:1 1\n«string»:1:1;«string»:1:9:primop head 1");
    // An operator is a call, too.
    check_profile("3 - 2", "«string»:1:3:primop sub 1");
    check_profile(
        "{ __functor = self: x: x; } 1",
        "«string»:1:1:functor 1\n«string»:1:1:functor;«string»:1:3 1",
    );
    check_profile(
        "builtins.derivationStrict { name = \"here\"; }",
        "«string»:1:1:primop derivationStrict:here 1",
    );
}

#[test]
fn statistics() {
    let world = World::new().env("NIX_SHOW_STATS", "1").env("NIX_COUNT_CALLS", "1");
    let expression = "let f = x: y: x - y; in map (f 1) [ 1 2 ]";
    let run = world.run("nix-instantiate", &["--eval", "--strict", "-E", expression]).success();
    let text = run.stderr_text();
    for part in [
        "\"nrFunctionCalls\": 3,\n",
        "\"primops\": {\n    \"map\": 1,\n    \"sub\": 2\n  },\n",
        "    {\n      \"column\": 12,\n      \"count\": 2,\n      \"line\": 1,\n      \"name\": \"f\"\n    }\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let world = World::new().env("NIX_SHOW_STATS", "1").env("NIX_SHOW_STATS_PATH", "stats.json");
    let run = world.run("nix-instantiate", &["--eval", "-E", "1"]).success();
    assert_eq!(run.stderr_text(), "");
    let text = std::fs::read_to_string(world.work_dir().join("stats.json")).expect("statistics");
    assert!(text.starts_with("{\n  \"cpuTime\": ") && !text.contains("\"primops\""), "{text}");
}

/// Runs `nix eval --debugger` with `input` typed; answers with the exit code and what was printed on both streams,
/// without colours.
fn debug(flags: &[&str], expression: &str, input: &str) -> (Option<i32>, String) {
    let world = World::new().conf("sandbox = false");
    let mut command = world.command("nix");
    command.args(["eval", "--debugger"]).args(flags).args(["--expr", expression]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("input is read");
    let output = child.wait_with_output().expect("the program ends");
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stdout));
    let mut plain = String::new();
    let mut parts = text.split('\x1b');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    (output.status.code(), plain)
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

const FAILING: &str = "let
  x.a = 1;
  f = { y, z ? 2 }: with x; builtins.seq a (throw \"oh ${toString (y + z)}\");
in f { y = 40; }";

#[test]
fn the_debugger_stops_at_errors() {
    let input = ":env\n:bt\n:st 2\ny\na + z\nq = y + 1\nq\n:t x\n:p \"te\\txt\"\n:nope\n1 +\n2\n:q\n";
    let (code, text) = debug(&[], FAILING, input);
    assert_eq!(code, Some(1));
    contains(
        &text,
        &[
            "error: oh 42\n\nNix 2.34.8 debugger\nType :? for help.\n",
            "nix-repl> :env\nEnv level 0\nstatic: \nwith: a \n\nEnv level 1\nstatic: y z \n\nEnv level 2\nstatic: x f \n\nEnv level 3\n",
            "\n0: error: oh 42\n«string»:3:45\n",
            "\n1: while calling a function\n«string»:3:45\n",
            "\n3: while calling 'f'\n«string»:3:7\n\n     2|   x.a = 1;\n",
            "nix-repl> y\n40\n\n",
            "nix-repl> a + z\n3\n\n",
            "nix-repl> q\n41\n\n",
            "nix-repl> :t x\na set\n\n",
            ":p \"te\\txt\"\nte\txt\n\n",
            "error: unknown command ':nope'",
            "nix-repl> 1 +\n        > 2\n3\n\n",
            "… while calling the 'throw' builtin",
        ],
    );
    // The end of the input ends evaluation, too.
    assert_eq!(debug(&[], FAILING, "").0, Some(1));
    // Where there is nothing to look at, errors are only errors.
    let (code, text) = debug(&[], "1 + nothing", "");
    assert_eq!(code, Some(1));
    assert!(!text.contains("nix-repl>"), "{text}");
}

#[test]
fn the_debugger_has_the_commands_of_the_prompt() {
    let file = std::env::temp_dir().join(format!("firn-debugger-{}.nix", std::process::id()));
    std::fs::write(&file, "{ loaded = 7; twice = x: x * 2; }").expect("the file is written");
    let shown = file.display();
    let input = format!(
        ":l {shown}\nloaded + y\ntwice y\n:ll\n:doc builtins.head\n:b 1\n:b derivation {{ name = \"d\"; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" \"echo ${{toString y}} > $out\" ]; }}\n\"{{\nx\"\n:r\nloaded\n:?\n:q\n"
    );
    let (code, text) = debug(
        &["--impure"],
        FAILING.replace("f { y = 40; }", "let y = 40; in f { inherit y; }").as_str(),
        &input,
    );
    std::fs::remove_file(&file).expect("the file is there");
    assert_eq!(code, Some(1));
    contains(
        &text,
        &[
            &format!("nix-repl> :l {shown}\nAdded 2 variables.\n\n"),
            "nix-repl> loaded + y\n47\n\n",
            "nix-repl> twice y\n80\n\n",
            "nix-repl> :ll\nloaded\ntwice\n\n",
            "The first element of *list*.",
            "error: expression does not evaluate to a derivation, so I can't build it",
            "This derivation produced the following outputs:\n  out -> ",
            "        > x\"\n\"{\\nx\"\n\n",
            &format!("nix-repl> :r\nLoading \"{shown}\"...\nAdded 2 variables.\n\nnix-repl> loaded\n7\n\n"),
            ":bt, :backtrace  Show trace stack\n",
        ],
    );
}

#[test]
fn the_debugger_loads_flakes() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = "{ outputs = { self }: { loaded = 7; twice = x: x * 2; }; }";
    std::fs::write(dir.path().join("flake.nix"), text).expect("a flake");
    let reference = format!("path:{}", dir.path().display());
    let flags = ["--extra-experimental-features", "flakes", "--impure"];
    let input = format!(":lf {reference}\nloaded + y\ntwice y\n:r\n:lf\n:q\n");
    let (code, text) = debug(&flags, "let y = 40; in builtins.break y", &input);
    assert_eq!(code, Some(1), "{text}");
    contains(
        &text,
        &[
            &format!("nix-repl> :lf {reference}\nAdded 10 variables.\n\n"),
            "nix-repl> loaded + y\n47\n\n",
            "nix-repl> twice y\n80\n\n",
            &format!("nix-repl> :r\nLoading flake '{reference}'...\nAdded 10 variables.\n\n"),
            "error: cannot use ':load-flake' without a path specified.",
        ],
    );
    // Names of flakes that change are nothing for pure evaluation.
    let (_, text) = debug(&flags[..2], "builtins.break 1", &format!(":lf {reference}\n:q\n"));
    contains(&text, &["error: cannot use ':load-flake' on locked flake reference"]);
}

#[test]
fn the_debugger_stops_where_it_is_told_to() {
    let (code, text) = debug(&[], "let y = 3; in builtins.break y + 1", "y\n:c\n");
    assert_eq!((code, text.contains("nix-repl> y\n3\n\nnix-repl> :c\n4\n")), (Some(0), true), "{text}");
    contains(&text, &["info: breakpoint reached\n"]);
    let (code, text) = debug(&[], "builtins.break 1", ":q\n");
    assert_eq!(code, Some(1));
    contains(&text, &["error: breakpoint reached"]);
    let steps = "let f = x: x; g = x: f (x + 1); in builtins.break 1 + g 1";
    let (code, text) = debug(&[], steps, ":s\n:st\n:s\n:s\n:st\n:c\n");
    assert_eq!(code, Some(0));
    contains(
        &text,
        &["\n0: while calling a function\n«string»:1:55\n", "\n0: while calling a function\n«string»:1:22\n"],
    );
    for flag in ["--debugger-on-trace", "--debugger-on-warn"] {
        let (code, text) = debug(&[flag], "let y = 3; in builtins.warn \"careful\" y", "y\n:q\n");
        assert_eq!(code, Some(0), "{text}");
        contains(&text, &["nix-repl> y\n3\n"]);
    }
}

#[test]
fn the_debugger_and_try_eval() {
    let expression = "let f = x: throw \"caught\"; in builtins.tryEval (f 1)";
    let (code, text) = debug(&[], expression, ":c\n");
    assert_eq!(code, Some(0));
    contains(&text, &["occurred in a 'tryEval' call", "{ success = false; value = false; }"]);
    let (code, text) = debug(&["--ignore-try"], expression, "");
    assert_eq!((code, text.as_str()), (Some(0), "{ success = false; value = false; }\n"));
    // What the user ended is not caught.
    assert_eq!(debug(&[], expression, ":q\n").0, Some(1));
}

#[test]
fn errors_inside_are_printed() {
    let world = World::new();
    let run = world.run("nix", &["eval", "--expr", "{ a = throw \"x\"; b = [ (abort \"y\") ]; }"]).success();
    let y = "evaluation aborted with the following error message: 'y'";
    assert_eq!(run.stdout_text(), format!("{{ a = «error: x»; b = [ «error: {y}» ]; }}\n"));
    world.run("nix", &["eval", "--expr", "throw \"x\""]).fails(1);
    // Derivations that say no path.
    for (path, error) in [("throw \"y\"", "y"), ("\"x\"", "path 'x' is not in the Nix store")] {
        let expression = format!("{{ type = \"derivation\"; drvPath = {path}; }}");
        let run = world.run("nix", &["eval", "--expr", &expression]).success();
        assert_eq!(run.stdout_text(), format!("«error: {error}»\n"));
    }
}

/// Programs that evaluate again when a file changes learn from these lines which ones were used.
#[test]
fn files_that_were_used_are_told_of() {
    let world = World::new();
    world.write("one.nix", "import ./two.nix");
    world.write(
        "two.nix",
        "derivation { name = \"x\"; system = \"y\"; builder = ./three; args = [ ./three ]; }",
    );
    world.write("three", "");
    let run = world.run("nix-instantiate", &["-vv", "one.nix"]).success();
    let (told, derivation) = (run.stderr_text(), run.stdout_text());
    let dir = world.work_dir().display().to_string();
    let copied = format!("copied source '{dir}/three' -> '{}/", world.path("store").display());
    let lines = [
        format!("evaluating file '{dir}/two.nix'"),
        format!("copying '{dir}/three' to the store..."),
        format!("instantiated 'x' -> '{}'", derivation.trim()),
    ];
    for line in lines {
        assert!(told.lines().any(|other| other == line), "{line}: {told}");
    }
    // Once, however often it is used.
    assert_eq!(told.lines().filter(|line| line.starts_with(&copied)).count(), 1, "{told}");
    let told = world.run("nix-instantiate", &["-v", "one.nix"]).success().stderr_text();
    assert!(!told.contains("copied source") && !told.contains("instantiated"), "{told}");
}

//! `nix repl`: with lines from a pipe, and on a terminal.

use firn_testkit::{Terminal, World};
use std::io::{BufRead, Write};
use std::process::Stdio;
use std::time::Duration;

/// What the prompt prints for lines that come from a pipe.
fn session(world: &World, args: &[&str], lines: &str) -> String {
    let mut command = world.command("nix");
    command.arg("repl").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("lines are read");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[track_caller]
fn check(lines: &str, expected: &str) {
    let world = World::new().conf("sandbox = false");
    world.write("set.nix", "{ one = 1; two = { deep = [ 1 { a = 2; } ]; }; }");
    world.write("drv.nix", "{ d = derivation { name = \"d\"; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" \"echo made; echo x > $out\" ]; }; }");
    let said = session(&world, &[], lines);
    assert!(said.contains(expected), "{lines:?} gave:\n{said}");
}

#[test]
fn expressions_and_bindings() {
    check("1 + 1", "2\n");
    check("a = 1; b = a", "error: undefined variable 'a'");
    check("a = 1\na = a + 1\na", "2\n");
    check("x.y = 1;\ninherit (x) y\ny", "1\n");
    check("{ a = { b = 1; }; l = [ 1 ]; }", "{\n  a = { ... };\n  l = [ ... ];\n}\n");
    check(
        ":p { a = { b = 1; }; l = [ 1 2 ]; e = throw \"no\"; }",
        "{\n  a = { b = 1; };\n  e = «error: no»;\n  l = [\n    1\n    2\n  ];\n}\n",
    );
    check("[\n1\n2\n]", "[\n  1\n  2\n]\n");
    check("s = ''\n  two\n  lines\n''\ns", "\"two\\nlines\\n\"\n");
    check(":p \"a\\nb\"", "a\nb\n");
    check("1 +* 2", "error: syntax error, unexpected '*'");
    check("f = x: throw x\nf \"gone\"\n1 + 2", "3\n");
}

#[test]
fn commands() {
    check(":?", ":doc <expr>");
    check(":nothing", "error: unknown command ':nothing'");
    check(":a { a = 5; \"b c\" = 6; }\na", "Added 2 variables.\na, \"b c\"\n");
    check(":l set.nix\none + 1", "2\n");
    check(":ll", "error: nothing has been loaded yet");
    check(":l set.nix\n:ll", "one\ntwo\n");
    check(":l missing.nix\n1 + 1", "2\n");
    check(":t [ ]", "a list\n");
    check(":t x: x", "a function\n");
    check(":te\n:te", "showing error traces\n\nnot showing error traces\n");
    check(":te maybe", "error: unexpected argument 'maybe' to :te");
    check(":l drv.nix\n:b d", "This derivation produced the following outputs:\n  out -> /");
    check(":l drv.nix\n:bl d\nbuiltins.readFile ./repl-result-out", "\"x\\n\"\n");
    check(":l drv.nix\n:b d\n:log d", "made\n");
    check(":b 1", "error: expression does not evaluate to a derivation, so I can't build it");
    check(":doc builtins.map", "**Synopsis:** `builtins.map` *f* *list*");
    check("f = /** Says it. */ x: x\n:doc f", "Function `f`\\\n  … defined at «string»:1:");
    check("f = /** Says it. */ x: x\n:doc f", "Says it.");
    check(":doc 1", "error: value does not have documentation");
    check(":q\n1 + 1", "");
    check(":lf nothing", "error: experimental Nix feature 'flakes' is disabled");
    check(":r\none", "error: undefined variable 'one'");
}

#[test]
fn what_no_editor_can_open() {
    check(
        ":e derivation",
        "error: cannot open '«nix-internal»/derivation-internal.nix' in an editor because it has no physical path",
    );
    check(
        ":e <nix/fetchurl.nix>",
        "error: cannot open '<nix/fetchurl.nix>' in an editor because it has no physical path",
    );
}

#[test]
fn a_flake_that_has_changed_is_loaded_again() {
    let world = World::new().conf("experimental-features = nix-command flakes");
    let flake = |text: &str| {
        world.write("flake.nix", &format!("{{ outputs = {{ self }}: {{ what = \"{text}\"; }}; }}"));
    };
    flake("before");
    let mut command = world.command("nix");
    command.args(["repl", "."]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut prompt = child.stdin.take().expect("a pipe");
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut wait_for = |text: &str| lines.by_ref().map_while(Result::ok).any(|line| line.contains(text));
    prompt.write_all(b"what\n").unwrap();
    assert!(wait_for("\"before\""));
    flake("after");
    prompt.write_all(b":r\nwhat\n").unwrap();
    drop(prompt);
    assert!(wait_for("\"after\""));
    assert!(child.wait().unwrap().success());
}

#[test]
fn start_up() {
    let world = World::new();
    world.write("set.nix", "{ x ? 1 }: { inherit x; y.z = 2; }");
    let said = session(&world, &["--file", "set.nix"], "x\n");
    assert!(said.contains("Loading installable ''...") && said.contains("1\n"), "{said}");
    let said = session(&world, &["--file", "set.nix", "--argstr", "x", "t"], "x\n");
    assert!(said.contains("\"t\"\n"), "{said}");
    let said = session(&world, &["--expr", "{ a.b = 3; }", "a"], "b\n");
    assert!(said.contains("3\n"), "{said}");
    let changed = "x\n:r\n";
    assert!(session(&world, &["--file", "set.nix"], changed).matches("Loading installable").count() == 2);
    let text = world.run("nix", &["repl", "set.nix"]).fails(1).stderr_text();
    assert!(text.contains("is not a flake"), "{text}");
    let pure = session(&world, &["--option", "pure-eval", "true"], "builtins.currentSystem\n");
    assert!(pure.contains("attribute 'currentSystem' missing"), "{pure}");
}

/// A session on a terminal; keys come in steps, each when the text before and the next prompt were seen: what is typed
/// while the editor is off is the terminal's, and it would take Ctrl-C and Ctrl-D for its own.
#[test]
fn on_a_terminal() {
    const PROMPT: &str = "nix-repl> ";
    let world = World::new();
    world.write("some-file.nix", "{ loaded = 12345; }");
    let mut terminal = Terminal::start(&world, "nix", &["repl"]);
    terminal.wait_for(PROMPT);
    let mut step = |keys: &str, expected: &str| {
        terminal.press(keys);
        terminal.wait_for(expected);
        terminal.wait_for(PROMPT);
    };
    step("builtins.langVers\t + 1000\r", "1006");
    step(":l ./some-fi\t\r", "Added 1 variables");
    step("load\t + 1\r", "12346");
    // Enter goes on where the expression does.
    step("[ 1\r 2 ]\r", "2\x1b[0m\r\n]");
    // Ctrl-C ends what is evaluated, and the values in it can be evaluated again. The editor goes off, and on again
    // for the next line.
    let slow = "builtins.genList (x: builtins.foldl' (a: b: a + b) x (builtins.genList (y: y) 100000)) 4000";
    step(&format!("slow = {slow}\r"), "\x1b[?2004l");
    terminal.press("builtins.deepSeq slow 1\r");
    terminal.wait_for("\x1b[?2004l");
    std::thread::sleep(Duration::from_millis(500));
    let mut step = |keys: &str, expected: &str| {
        terminal.press(keys);
        terminal.wait_for(expected);
        terminal.wait_for(PROMPT);
    };
    step("\x03", "interrupted by the user");
    step("builtins.head slow + 4\r", "4999950004");
    // Ctrl-C while typing forgets the line.
    step("1 + \x03", "\x1b[?2004l");
    step("5000 + 5\r", "5005");
    terminal.press("\x04");
    let status = terminal.end();
    assert!(status.success(), "{status:?}");
    let history = std::fs::read_to_string(world.path("home/.local/share/nix/repl-history"));
    assert!(history.is_ok_and(|text| text.contains("5000 + 5")));
}

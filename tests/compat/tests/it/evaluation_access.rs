//! What pure and restricted evaluation may look at.

use firn_testkit::World;

/// A world with `in`, which is allowed, beside `out`, which is not.
fn world() -> World {
    let world = World::new();
    world.write("in/file", "allowed");
    world.write("in/value.nix", "{ x = 1 + 1; }");
    world.write("out/secret", "hidden");
    for (link, target) in [("link", "../out/secret"), ("folder", "../out"), ("chain", "link")] {
        std::os::unix::fs::symlink(target, world.work_dir().join("in").join(link)).expect("a link");
    }
    world
}

fn restricted(world: &World, expression: &str) -> Result<String, String> {
    let entry = format!("in={}", world.work_dir().join("in").display());
    let run = world.run("nix-instantiate", &["--restrict-eval", "-I", &entry, "--eval", "-E", expression]);
    match run.code() {
        Some(0) => Ok(run.stdout_text().trim_end().to_owned()),
        _ => Err(run.stderr_text()),
    }
}

#[track_caller]
fn forbidden(world: &World, expression: &str, place: &str) {
    let place = world.work_dir().join(place);
    let text = restricted(world, expression).expect_err("an error");
    let message = format!("access to absolute path '{}' is forbidden in restricted mode", place.display());
    assert!(text.contains(&message), "{expression}: {text}");
}

#[test]
fn the_search_path_is_allowed() {
    let world = world();
    assert_eq!(restricted(&world, "builtins.readFile <in/file>").as_deref(), Ok("\"allowed\""));
    assert_eq!(restricted(&world, "(import <in/value.nix>).x").as_deref(), Ok("2"));
    assert_eq!(restricted(&world, "builtins.nixPath == [ ]").as_deref(), Ok("false"));
    assert_eq!(restricted(&world, "builtins.readDir ./.").as_deref(), Ok("{ \"in\" = \"directory\"; }"));
    let text = restricted(&world, "builtins.readFile <in/nothing>").expect_err("an error");
    assert!(text.contains("file 'in/nothing' was not found in the Nix search path"), "{text}");
}

#[test]
fn everything_else_is_forbidden() {
    let world = world();
    forbidden(&world, "builtins.readFile ./out/secret", "out/secret");
    forbidden(&world, "builtins.readDir ./out", "out");
    forbidden(&world, "builtins.readFileType ./out", "out");
    forbidden(&world, "import ./out", "out");
    forbidden(&world, "\"${./out}\"", "out");
    forbidden(&world, "builtins.path { path = ./out; }", "out");
    forbidden(&world, "builtins.fetchurl \"file://${toString ./out/secret}\"", "out/secret");
    forbidden(&world, "let __nixPath = [ { path = ./out; } ]; in <secret>", "out");
    assert_eq!(restricted(&world, "builtins.pathExists ./out").as_deref(), Ok("false"));
    assert_eq!(restricted(&world, "builtins.getEnv \"HOME\"").as_deref(), Ok("\"\""));
    let text = restricted(&world, "builtins.fetchurl \"https://e.org/x\"").expect_err("an error");
    assert!(text.contains("access to URI 'https://e.org/x' is forbidden in restricted mode"), "{text}");
    // Not a failure that expressions can catch.
    forbidden(&world, "builtins.tryEval (builtins.readFile ./out/secret)", "out/secret");
}

#[test]
fn symlinks_lead_nowhere_else() {
    let world = world();
    forbidden(&world, "builtins.readFile <in/chain>", "out/secret");
    forbidden(&world, "builtins.readFile (./in/folder + \"/secret\")", "out/secret");
    forbidden(&world, "builtins.readDir ./in/folder", "out");
    assert_eq!(restricted(&world, "builtins.pathExists ./in/link").as_deref(), Ok("true"));
    assert_eq!(restricted(&world, "builtins.pathExists (./in/folder + \"/secret\")").as_deref(), Ok("false"));
}

#[test]
fn what_evaluation_makes_is_allowed() {
    let world = world();
    let eval = |expression: &str| {
        world.run("nix", &["eval", "--impure", "--restrict-eval", "-I", "in", "--expr", expression]).success()
    };
    let text = eval("builtins.readFile (builtins.toFile \"x\" \"made\")").stdout_text();
    assert_eq!(text, "\"made\"\n");
    // Of a folder above what is allowed only that is copied.
    let text = eval("builtins.readDir (builtins.path { path = ./.; name = \"x\"; })").stdout_text();
    assert_eq!(text, "{ \"in\" = \"directory\"; }\n");
}

#[test]
fn pure_evaluation() {
    let world = world();
    let pure = |expression: &str| world.run("nix", &["eval", "--expr", expression]);
    assert_eq!(pure("assert 1 + 2 == 3; [ builtins.nixPath ]").success().stdout_text(), "[ [ ] ]\n");
    for (expression, message) in [
        ("builtins.readFile ./in/file", "is forbidden in pure evaluation mode (use '--impure' to override)"),
        ("<nixpkgs>", "cannot look up '<nixpkgs>' in pure evaluation mode (use '--impure' to override)"),
        ("builtins.currentTime", "attribute 'currentTime' missing"),
        ("builtins.currentSystem", "attribute 'currentSystem' missing"),
        ("builtins.storePath /x", "'builtins.storePath' is not allowed in pure evaluation mode"),
        ("builtins.fetchurl \"https://e.org/x\"", "'fetchurl' requires a 'sha256' argument"),
        ("~/x", "the path '~/x' can not be resolved in pure mode"),
    ] {
        let text = pure(expression).fails(1).stderr_text();
        assert!(text.contains(message), "{expression}: {text}");
    }
    assert_eq!(pure("builtins.pathExists ./in/file").success().stdout_text(), "false\n");
    assert_eq!(pure("import (builtins.toFile \"x\" \"1 + 1\")").success().stdout_text(), "2\n");
    let impure = world.run("nix", &["eval", "--impure", "--expr", "builtins.readFile ./in/file"]);
    assert_eq!(impure.success().stdout_text(), "\"allowed\"\n");
    assert_eq!(world.run("nix", &["eval", "--file", "in/value.nix", "x"]).success().stdout_text(), "2\n");
    let both = world.run("nix", &["eval", "--pure-eval", "--file", "in/value.nix", "x"]).fails(1);
    assert!(both.stderr_text().contains("'--file' is not compatible with '--pure-eval'"), "{both:?}");
}

#[test]
fn results_of_builds_are_allowed() {
    let world = world().conf("sandbox = false");
    let expression = "builtins.readFile (derivation {
        name = \"built\"; system = builtins.currentSystem; builder = \"/bin/sh\";
        args = [ \"-c\" \"echo made > $out\" ];
      })";
    let run = world.run("nix", &["eval", "--impure", "--restrict-eval", "--raw", "--expr", expression]);
    assert_eq!(run.success().stdout_text(), "made\n");
}

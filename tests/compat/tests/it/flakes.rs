//! Flakes: lock files and values that Nix gives too, and flakes that are malformed.

use firn_testkit::{World, has_reference};

const SYSTEM: &str = "x86_64-linux";

fn world() -> World {
    World::new().conf(
        "sandbox = false\nsubstituters =\nflake-registry =\nextra-experimental-features = nix-command flakes\n\
         warn-dirty = false",
    )
}

/// A flake with a package, and one that follows it.
fn two_flakes(world: &World) {
    let dir = world.work_dir().display().to_string();
    world.write(
        "lib/flake.nix",
        "{ description = \"A library\"; outputs = { self }: { value = \"one\"; narHash2 = self.narHash; }; }",
    );
    world.write(
        "top/flake.nix",
        &format!(
            "{{
  inputs.lib.url = \"path:{dir}/lib\";
  inputs.same.follows = \"lib\";
  inputs.data = {{ url = \"path:{dir}/lib\"; flake = false; }};
  outputs = {{ self, lib, same, data }}: {{
    value = lib.value + same.value;
    file = builtins.readFile (data + \"/flake.nix\");
    packages.{SYSTEM}.default = derivation {{
      name = \"hello\"; system = \"{SYSTEM}\"; builder = \"/bin/sh\"; args = [ \"-c\" \"echo hello > $out\" ];
    }};
  }};
}}"
        ),
    );
}

#[test]
fn lock_files_are_those_of_nix() {
    if !has_reference() {
        return;
    }
    let world = world();
    two_flakes(&world);
    world.run("nix", &["flake", "lock", "path:./top"]).success();
    let lock = world.work_dir().join("top/flake.lock");
    let ours = std::fs::read_to_string(&lock).unwrap();
    std::fs::remove_file(&lock).unwrap();
    let output = world.command("/usr/bin/nix").args(["flake", "lock", "path:./top"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(ours, std::fs::read_to_string(&lock).unwrap());
    // Each takes what the other wrote.
    for program in ["nix", "/usr/bin/nix"] {
        let output = world.command(program).args(["eval", "--raw", "path:./top#value"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "oneone", "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("lock file"), "{output:?}");
    }
    let json = |program: &str, args: &[&str]| -> serde_json::Value {
        let output = world.command(program).args(args).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let args = ["flake", "metadata", "--json", "path:./top"];
    let (ours, theirs) = (json("nix", &args), json("/usr/bin/nix", &args));
    for member in ["lastModified", "locks", "path"] {
        assert_eq!(ours[member], theirs[member], "{member}");
    }
}

#[test]
fn outputs_are_installables() {
    let world = world();
    two_flakes(&world);
    let out = world.run("nix", &["build", "--print-out-paths", "--no-link", "path:./top"]).success();
    let out = out.stdout_text().trim().to_owned();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "hello\n");
    for name in ["path:./top#default", "path:./top#.packages.x86_64-linux.default", "path:./top#default^out"]
    {
        let found = world.run("nix", &["path-info", name]).success().stdout_text();
        assert_eq!(found.trim(), out, "{name}");
    }
    let shown = world.run("nix", &["flake", "show", "--json", "path:./top"]).success().stdout_text();
    assert!(shown.contains(r#""default":{"description":"","name":"hello","type":"derivation"}"#), "{shown}");
    let failed = world.run("nix", &["build", "path:./top#defautl"]).fails(1).stderr_text();
    assert!(failed.contains("does not provide attribute 'packages.x86_64-linux.defautl'"), "{failed}");
    assert!(failed.contains("Did you mean default?"), "{failed}");
    // The second time nothing is evaluated.
    let again =
        world.command("nix").args(["build", "--no-link", "path:./top"]).env("NIX_ALLOW_EVAL", "0").output();
    let again = again.unwrap();
    assert!(again.status.success(), "{again:?}");
    let other =
        world.command("nix").args(["eval", "path:./top#value"]).env("NIX_ALLOW_EVAL", "0").output().unwrap();
    assert!(String::from_utf8_lossy(&other.stderr).contains("evaluation is not allowed"), "{other:?}");
    // Without the feature, or in pure evaluation without a lock.
    let off = ["build", "path:./top", "--experimental-features", "nix-command"];
    let failed = world.run("nix", &off).fails(1).stderr_text();
    assert!(failed.contains("experimental Nix feature 'flakes' is disabled"), "{failed}");
    let expression = format!("(builtins.getFlake \"{}/top\").value", world.work_dir().display());
    let failed = world.run("nix", &["eval", "--expr", &expression]).fails(1).stderr_text();
    assert!(failed.contains("cannot call 'getFlake' on unlocked flake reference"), "{failed}");
    let value = world.run("nix", &["eval", "--impure", "--raw", "--expr", &expression]).success();
    assert_eq!(value.stdout_text(), "oneone");
}

#[test]
fn malformed_flakes() {
    let world = world();
    let check = |text: &str, expected: &str| {
        world.write("bad/flake.nix", text);
        let failed = world.run("nix", &["flake", "metadata", "path:./bad"]).fails(1).stderr_text();
        assert!(failed.contains(expected), "{text}: {failed}");
        assert!(!world.work_dir().join("bad/flake.lock").exists());
    };
    check("", "syntax error, unexpected end of file");
    check("{ outputs = _: { }; ", "syntax error");
    check("let x = 1; in { }", "must be an attribute set");
    check("{ }", "lacks attribute 'outputs'");
    check("{ outputs = 1; }", "expected a function but got an integer at ");
    check("{ outputs = if true then _: { } else _: { }; }", "expected a function but got a thunk at ");
    check("{ description = \"a\" + \"b\"; outputs = _: { }; }", "expected a string but got a thunk at ");
    check("{ inputs = [ ]; outputs = _: { }; }", "expected a set but got a list at ");
    check("{ inputs.a.url = 1; outputs = _: { }; }", "expected a string or a path but got an integer at ");
    check("{ inputs.a.flake = \"no\"; outputs = _: { }; }", "expected a Boolean but got a string at ");
    check(
        "{ inputs.a.follows = \"x/../y\"; outputs = _: { }; }",
        "invalid flake input attribute path element '..'",
    );
    check("{ inputs.a.foo = 1; outputs = _: { }; }", "unexpected flake input attribute 'foo'");
    check(
        "{ inputs.a = { url = \"path:/a\"; follows = \"b\"; }; outputs = _: { }; }",
        "both a flake reference and a follows",
    );
    check("{ inputs.a.inputs.self.url = \"x\"; outputs = _: { }; }", "'self' input attribute not allowed");
    check("{ inputs.self.foo = true; outputs = _: { }; }", "flake 'self' attribute 'foo' is not supported");
    check("{ inputs.a.url = \"nonsense://x\"; outputs = _: { }; }", "input 'nonsense://x' is unsupported");
    check("{ inputs.a.url = \"path:/nowhere/at/all\"; outputs = _: { }; }", "/nowhere/at/all");
    check("{ inputs.a.follows = \"b\"; outputs = _: { }; }", "input 'a' follows a non-existent input 'b'");
    check("{ outputs = _: { }; extra = 1; }", "has an unsupported attribute 'extra', at ");
    check("{ nixConfig.x = { }; outputs = _: { }; }", "flake configuration setting 'x' is a set");
    check("{ outputs = { unknown }: { }; }", "cannot find flake 'flake:unknown' in the flake registries");
    check(
        "{ inputs.a.url = \"path:../../../x\"; outputs = _: { }; }",
        "is forbidden in pure evaluation mode",
    );
    let failed = world.run("nix", &["flake", "metadata", "path:./none"]).fails(1).stderr_text();
    assert!(failed.contains("none"), "{failed}");
    // Lock files.
    world.write("bad/flake.nix", "{ outputs = _: { x = 1; }; }");
    for (text, expected) in [
        ("<<<<<<<", "Could not parse '"),
        ("{\"version\": 8}", "has unsupported version 8"),
        (
            "{\"version\": 7, \"root\": \"r\", \"nodes\": {\"r\": {\"inputs\": {\"a\": \"b\"}}}}",
            "missing node 'b'",
        ),
    ] {
        world.write("bad/flake.lock", text);
        let failed = world.run("nix", &["eval", "path:./bad#x"]).fails(1).stderr_text();
        assert!(failed.contains(expected), "{text}: {failed}");
    }
}

#[test]
fn registries() {
    let world = world();
    two_flakes(&world);
    let file = world.path("registry.json").display().to_string();
    let lib = format!("path:{}/lib", world.work_dir().display());
    world.run("nix", &["registry", "add", "--registry", &file, "lib", &lib]).success();
    let flag = ["--flake-registry", file.as_str()];
    let resolved = world.run("nix", &[&["registry", "resolve", "lib"], &flag[..]].concat()).success();
    assert_eq!(resolved.stdout_text().trim(), lib);
    let value = world.run("nix", &[&["eval", "--raw", "lib#value"], &flag[..]].concat()).success();
    assert_eq!(value.stdout_text(), "one");
    let other =
        ["eval", "--raw", "lib#value", "--no-write-lock-file", "--override-flake", "lib", "path:./top"];
    assert_eq!(world.run("nix", &other).success().stdout_text(), "oneone");
    world.run("nix", &["registry", "add", "mine", &lib]).success();
    assert_eq!(
        world.run("nix", &["registry", "list"]).success().stdout_text(),
        format!("user   flake:mine {lib}\n")
    );
    world.run("nix", &["registry", "remove", "mine"]).success();
    assert_eq!(world.run("nix", &["registry", "list"]).success().stdout_text(), "");
    let failed = world.run("nix", &["eval", "lib#value"]).fails(1).stderr_text();
    assert!(failed.contains("cannot find flake 'flake:lib' in the flake registries"), "{failed}");
    world.write("broken.json", "{ \"version\": 2, \"flakes\": [ 1 ] }");
    let broken = world.work_dir().join("broken.json").display().to_string();
    let said = world.run("nix", &["registry", "list", "--flake-registry", &broken]).success().stderr_text();
    assert!(said.contains("cannot read flake registry"), "{said}");
}

#[test]
fn packages_of_flakes_in_profiles() {
    let world = world();
    two_flakes(&world);
    let profile = world.path("profile").display().to_string();
    let run = |args: &[&str]| world.run("nix", &[args, &["--profile", &profile]].concat());
    run(&["profile", "add", "path:./top"]).success();
    let said = run(&["profile", "add", "path:./top"]).success().stderr_text();
    assert!(said.contains("'top' is already added"), "{said}");
    let listed = run(&["profile", "list"]).success().stdout_text();
    assert!(listed.contains("Flake attribute:    packages.x86_64-linux.default"), "{listed}");
    let text = std::fs::read_to_string(world.work_dir().join("top/flake.nix")).unwrap();
    world.write("top/flake.nix", &text.replace("echo hello", "echo other"));
    let said = run(&["profile", "upgrade", "top"]).success().stderr_text();
    assert!(said.contains("upgrading 'packages.x86_64-linux.default'"), "{said}");
    let listed = run(&["profile", "list", "--json"]).success().stdout_text();
    let value: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let path = value["elements"]["top"]["storePaths"][0].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "other\n");
}

#[test]
fn searching_again_does_not_evaluate() {
    let world = world();
    world.write(
        "flake.nix",
        r#"{ outputs = { self }: {
            packages.x86_64-linux.hello = derivation { name = "hello-1.2"; system = "x"; builder = "b"; } // { meta.description = "Says\nhello"; };
            legacyPackages.x86_64-linux = {
              failing = throw "no";
              wrong = { type = "derivation"; name = 1; };
              list = [ 1 ];
              text = "text";
              "a.b" = derivation { name = "dotted"; system = "x"; builder = "b"; };
              set = { recurseForDerivations = true; inner = derivation { name = "inner-3"; system = "x"; builder = "b"; }; };
              other = { inner = abort "not looked at"; };
            };
          }; }"#,
    );
    let json = |env: &str| {
        let mut command = world.command("nix");
        let command = command.args(["search", "path:.", "^", "--json"]).env("NIX_ALLOW_EVAL", env);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let expected = concat!(
        r#"{"packages.x86_64-linux.hello":{"pname":"hello","version":"1.2","description":"Says hello"},"#,
        r#""legacyPackages.x86_64-linux.a.b":{"pname":"dotted","version":"","description":""},"#,
        r#""legacyPackages.x86_64-linux.set.inner":{"pname":"inner","version":"3","description":""}}"#,
    );
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parse(&json("1")), parse(expected));
    assert_eq!(parse(&json("0")), parse(expected));
    // A change is another flake.
    world.write("flake.nix", "{ outputs = { self }: { packages.x86_64-linux.x = derivation { name = \"x\"; system = \"x\"; builder = \"b\"; }; }; }");
    assert!(json("1").starts_with(r#"{"packages.x86_64-linux.x":"#));
}

/// The copy in the store is nothing that anybody has heard of.
#[test]
fn messages_name_the_files_of_the_working_tree() {
    let world = world();
    let tree = world.work_dir().join("tree").display().to_string();
    let git = |args: &[&str]| {
        let done = world.command("/usr/bin/git").args(["-C", &tree]).args(args).output().expect("git runs");
        assert!(done.status.success(), "{done:?}");
    };
    std::fs::create_dir(&tree).unwrap();
    git(&["init", "--quiet"]);
    let told = |text: &str, attribute: &str| {
        world.write("tree/flake.nix", text);
        git(&["add", "."]);
        let run = world.run("nix", &["eval", &format!("./tree#{attribute}")]);
        format!("{}{}", run.stdout_text(), run.stderr_text())
    };
    let check = |text: &str, expected: &[&str]| {
        let text = format!("{{ outputs = {{ self }}: {{ a = {text}; }}; }}");
        let told = told(&text, "a");
        for expected in expected {
            assert!(told.contains(&expected.replace("HERE", &tree)), "{text}: {expected}\n{told}");
        }
        assert!(!told.contains("-source/"), "{text}: {told}");
    };
    // The file itself, which is read before anything is evaluated: with the place and the line.
    check(
        "1; b = ",
        &["syntax error", "at HERE/flake.nix:1:36:\n", "1| { outputs = { self }: { a = 1; b = ; }; }"],
    );
    check("1; a = 2", &["'a' already defined at HERE/flake.nix:1:25", "at HERE/flake.nix:1:32:\n", "1| {"]);
    check("nothing", &["error: undefined variable 'nothing'\n       at HERE/flake.nix:1:29:\n"]);
    // Values and what happens while one is evaluated.
    check("x: x", &["«lambda a @ HERE/flake.nix:1:29»"]);
    check("let n = \"b\"; in { b = 1; ${n} = 2; }", &["'b' already defined at HERE/flake.nix:1:47"]);
    check(
        "(derivation { name = \"x\"; system = \"x\"; builder = { }; }).drvPath",
        &["whose name attribute is located at HERE/flake.nix:1:43"],
    );
    let missing = "Path 'no' does not exist in Git repository \"HERE\".";
    check("builtins.readDir ./no", &[missing]);
    check("\"${./no}\"", &[missing]);
    check("builtins.path { path = ./no; }", &[missing, "while adding path 'HERE/no'"]);
    std::fs::write(world.work_dir().join("tree/.gitignore"), "unknown").unwrap();
    world.write("tree/unknown/file", "");
    check("builtins.readDir ./unknown", &["is not tracked by Git", "git -C \"HERE\" add \"unknown\""]);
    let said = told("{ inputs = 1; outputs = { self }: { }; }", "a");
    assert!(said.contains(&format!("expected a set but got an integer at {tree}/flake.nix:1:3")), "{said}");
    let said = told("{ extra = 1; outputs = { self }: { }; }", "a");
    assert!(said.contains(&format!("attribute 'extra', at {tree}/flake.nix:1:3")), "{said}");
    let said = told("{ inputs.x.url = 1; outputs = { self, x }: { }; }", "a");
    let step = format!(
        "while evaluating flake attribute 'url'\n         at {tree}/flake.nix:1:3:\n            1| {{ "
    );
    assert!(said.contains(&step), "{said}");
}

#[test]
fn paths_that_are_built_are_copied_as_source() {
    let world = world();
    world.write("top/flake.nix", "{ outputs = { self }: { file = ./file; all = ./.; }; }");
    world.write("top/file", "text");
    world.write("set.nix", "{ file = ./top/file; }");
    let build = |args: &[&str]| {
        let args = [&["build", "--no-link", "--print-out-paths"], args].concat();
        world.run("nix", &args).success().stdout_text().trim_end().to_owned()
    };
    let file = build(&["path:./top#file"]);
    assert!(file.ends_with("-source"), "{file}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    assert_eq!(build(&["--file", "set.nix", "file"]), file);
    let all = build(&["path:./top#all"]);
    let tree = world.run("nix", &["flake", "metadata", "--json", "path:./top"]).success().stdout_text();
    assert!(tree.contains(&format!("\"path\":\"{all}\"")), "{all}: {tree}");
}

#[test]
fn checks_tell_of_each_job() {
    let world = world();
    let job = format!("derivation {{ name = \"x\"; system = \"{SYSTEM}\"; builder = \"x\"; }}");
    world.write("jobs/flake.nix", &format!("{{ outputs = {{ self }}: {{ hydraJobs.a.b = {job}; }}; }}"));
    let said = world.run("nix", &["flake", "check", "--no-build", "path:./jobs"]).success().stderr_text();
    let lines: Vec<&str> =
        said.lines().filter(|line| line.contains("Hydra") || line.contains("derivation")).collect();
    let expected = [
        "checking Hydra job 'hydraJobs'...",
        "checking Hydra job 'hydraJobs.a'...",
        "checking Hydra job 'hydraJobs.a.b'...",
        "checking derivation hydraJobs.a.b...",
    ];
    assert_eq!(&lines[..4], expected, "{said}");
}

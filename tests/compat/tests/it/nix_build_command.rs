//! `nix build` on files and expressions.

use firn_testkit::World;

const EXPRESSION: &str = r#"
let
  make = name: text: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" text ];
    outputs = [ "out" "dev" ];
  };
in
{
  good = make "good" "echo out > $out; echo dev > $dev";
  bad = make "bad" "echo about to fail; exit 3";
}
"#;

fn world() -> World {
    let world = World::new().conf("sandbox = false");
    world.write("default.nix", EXPRESSION);
    world
}

#[test]
fn links_and_paths() {
    let world = world();
    let built = world.run("nix", &["build", "-f", "default.nix", "good", "--print-out-paths"]).success();
    let text = built.stdout_text();
    let [dev, out] = &text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(dev.ends_with("-good-dev") && out.ends_with("-good"), "{text}");
    for (link, target) in [("result", out), ("result-dev", dev)] {
        let found = std::fs::read_link(world.work_dir().join(link)).expect("a link");
        assert_eq!(found.to_str(), Some(*target));
    }
    let only =
        world.run("nix", &["build", "-f", "default.nix", "good^dev", "--no-link", "--print-out-paths"]);
    assert_eq!(only.success().stdout_text(), format!("{dev}\n"));
    let log = world.run("nix", &["log", out]).success();
    assert_eq!(log.stdout_text(), "");
}

#[test]
fn plans_without_building() {
    let world = world();
    let planned = world.run("nix", &["build", "-f", "default.nix", "good", "--dry-run", "--json"]).success();
    assert!(planned.stderr_text().contains("this derivation will be built:\n"), "{planned:?}");
    assert!(planned.stdout_text().starts_with(r#"[{"drvPath":"#), "{planned:?}");
    assert!(!world.work_dir().join("result").exists());
}

#[test]
fn failures() {
    let world = world();
    let failed = world.run("nix", &["build", "-f", "default.nix", "bad"]).fails(1).stderr_text();
    assert!(failed.contains("-bad.drv'") && failed.contains("exit code 3"), "{failed}");
    let failed = world.run("nix", &["build", "-f", "default.nix", "nothing"]).fails(1).stderr_text();
    assert!(failed.contains("attribute 'nothing'"), "{failed}");
    let failed = world.run("nix", &["build", "nixpkgs#hello"]).fails(1).stderr_text();
    assert!(failed.contains("experimental Nix feature 'flakes' is disabled"), "{failed}");
}

/// What depends on content-addressed outputs is built as what it resolves to, and its log is that of it.
#[test]
fn logs_of_what_is_resolved() {
    let world =
        World::new().conf("sandbox = false\nexperimental-features = nix-command flakes ca-derivations");
    world.write(
        "default.nix",
        r#"
        let
          make = name: text: more: derivation ({
            inherit name;
            system = builtins.currentSystem;
            builder = "/bin/sh";
            args = [ "-c" "echo builds ${name}; ${text}" ];
          } // more);
          floating = { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
        in
        rec {
          a = make "a" "echo > $out" floating;
          b = make "b" "echo ${a} > $out" floating;
          c = make "c" "echo ${b} > $out" { };
        }
        "#,
    );
    world.run("nix", &["build", "-f", "default.nix", "c", "--no-link"]).success();
    for name in ["a", "b", "c"] {
        let log = world.run("nix", &["log", "-f", "default.nix", name]).success();
        assert_eq!(log.stdout_text(), format!("builds {name}\n"), "{log:?}");
        assert!(log.stderr_text().contains(&format!("got build log for '{name}' from 'local'")), "{log:?}");
        let drv = world.run("nix-instantiate", &["-A", name]).success().stdout_text();
        let log = world.run("nix-store", &["--read-log", drv.trim()]).success();
        assert_eq!(log.stdout_text(), format!("builds {name}\n"), "{log:?}");
    }
    // To another place it goes under the name that was asked for.
    let cache = format!("file://{}", world.path("cache").display());
    world.run("nix", &["store", "copy-log", "-f", "default.nix", "--to", &cache, "c"]).success();
    let drv = world.run("nix-instantiate", &["-A", "c"]).success().stdout_text();
    let log = world.run("nix", &["log", "--store", &cache, drv.trim()]).success();
    assert_eq!(log.stdout_text(), "builds c\n");
}

/// Messages name installables as they were understood.
#[test]
fn names_of_installables() {
    let world = world().conf("experimental-features = nix-command flakes");
    let text = world.run("nix", &["log", "-f", "default.nix", "bad^dev"]).fails(1).stderr_text();
    assert!(text.contains("error: build log of 'bad' is not available"), "{text}");
    let text = world.run("nix", &["log", "-f", "default.nix"]).fails(1).stderr_text();
    let message = "error: installable '' evaluates to 2 derivations, where only one is expected";
    assert!(text.contains(message), "{text}");
    let text = world.run("nix", &["edit", "-f", "default.nix", "good"]).fails(1).stderr_text();
    assert!(text.contains("error: cannot find position information for 'good"), "{text}");

    let built = world.run("nix", &["build", "-f", "default.nix", "good", "--print-out-paths"]).success();
    let built = built.stdout_text();
    let [dev, out] = &built.lines().collect::<Vec<_>>()[..] else { panic!("{built}") };
    let two = world.run("nix", &["why-depends", "-f", "default.nix", "good^out", "good^dev"]).success();
    assert!(two.stderr_text().ends_with("'good' does not depend on 'good'\n"), "{two:?}");
    let two = world.run("nix", &["why-depends", "./result", "./result-dev"]).success();
    let text = two.stderr_text();
    assert!(text.ends_with(&format!("'{out}' does not depend on '{dev}'\n")), "{text}");

    world.write("flake/flake.nix", "{ outputs = _: { x = import ./default.nix; }; }");
    world.write("flake/default.nix", &EXPRESSION.replace("builtins.currentSystem", "\"x86_64-linux\""));
    let place = world.work_dir().join("flake");
    let flake = format!("path:{}", place.display());
    let text = world.run("nix", &["log", &format!("{flake}#x.bad")]).fails(1).stderr_text();
    assert!(text.contains(&format!("build log of '{flake}#x.bad' is not available")), "{text}");
    let text = world.run("nix", &["edit", "./flake#x.bad"]).fails(1).stderr_text();
    assert!(text.contains(&format!("cannot find position information for '{flake}#x.bad")), "{text}");
}

/// Commands that build nothing say what is not there.
#[test]
fn what_is_not_there_is_told() {
    let world = world();
    let text = world.run("nix", &["path-info", "-f", "default.nix", "good"]).fails(1).stderr_text();
    let drv = world.run("nix-instantiate", &["-A", "good"]).success().stdout_text();
    assert!(text.starts_with(&format!("this derivation will be built:\n  {}", drv)), "{text}");
    let missing = format!("{}/00000000000000000000000000000000-x", world.path("store").display());
    for command in [&["path-info"][..], &["store", "verify"], &["store", "delete"]] {
        let args = [command, &[&missing]].concat();
        let text = world.run("nix", &args).stderr_text();
        assert!(text.contains(&format!("don't know how to build these paths:\n  {missing}\n")), "{text}");
    }
}

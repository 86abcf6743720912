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

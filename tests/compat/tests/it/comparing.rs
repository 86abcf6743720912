//! Commands of firn's own that show what changed and what a closure is made of.

use firn_testkit::{Terminal, World};

/// `top` needs `big` and `small`, which both need `low`.
const PACKAGES: &str = r#"
let
  make = name: bytes: inputs: derivation {
    inherit name inputs;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "/bin/mkdir $out; echo $inputs > $out/inputs; /usr/bin/head -c ${toString bytes} /dev/zero > $out/data" ];
  };
  low = derivation {
    name = "low-VERSION";
    version = "VERSION";
    lines = "LINES";
    source = ./source;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "/bin/mkdir $out; /usr/bin/head -c 100000 /dev/zero > $out/data" ];
  };
  big = make "big" 300000 [ low ];
  small = make "small" 2000 [ low ];
in make "top" 10 [ big small ]
"#;

fn world() -> World {
    let world = World::new().conf("sandbox = false\nextra-experimental-features = nix-command");
    write(&world, "1.0", "a\\nb\\nc\\n");
    world.write("source", "first");
    world
}

fn write(world: &World, version: &str, lines: &str) {
    let text = PACKAGES.replace("VERSION", version).replace("LINES", lines);
    world.write("default.nix", &text);
}

fn build(world: &World) -> String {
    world.run("nix-build", &["--no-out-link"]).success().stdout_text().trim().to_owned()
}

#[test]
fn closures_as_trees() {
    let world = world();
    let top = build(&world);
    let text = world.run("nix", &["store", "tree", &top]).success().stdout_text();
    let lines: Vec<&str> = text.lines().collect();
    let names: Vec<&str> =
        lines[1..].iter().filter_map(|line| Some(line.rsplit_once('/')?.1.split_once('-')?.1)).collect();
    assert_eq!(names, ["top", "big", "low-1.0", "small", "low-1.0"], "{text}");
    assert!(lines[1].contains("394.") && lines[2].contains("├───"), "{text}");
    assert!(lines.last().unwrap().ends_with(" KiB in 4 paths"), "{text}");
    let shallow = world.run("nix", &["store", "tree", "--depth", "1", &top]).success().stdout_text();
    assert_eq!(shallow.lines().count(), 5, "{shallow}");
    assert_eq!(shallow.matches(" ...").count(), 2, "{shallow}");
    let flat = world.run("nix", &["store", "tree", "--flat", "--sort", "name", &top]).success().stdout_text();
    let names: Vec<&str> =
        flat.lines().filter_map(|line| Some(line.rsplit_once('/')?.1.split_once('-')?.1)).collect();
    assert_eq!(names, ["big", "low-1.0", "small", "top"]);
    let json = world.run("nix", &["store", "tree", "--json", &top]).success().stdout_text();
    assert!(json.contains("\"aloneSize\"") && json.starts_with("{\"paths\":["), "{json}");
    let error = world.run("nix", &["store", "tree", "--sort", "age", &top]).fails(1).stderr_text();
    assert!(error.contains("there are 'closure', 'own', 'alone' and 'name'"), "{error}");
}

#[test]
fn trees_are_folded_on_a_terminal() {
    let world = world();
    let top = build(&world);
    let mut terminal = Terminal::start(&world, "nix", &["store", "tree", &top]);
    terminal.wait_for("q: quit");
    terminal.press("\x1b[B\x1b[C");
    terminal.wait_for("-low-1.0");
    terminal.press("q");
    assert!(terminal.end().success());
}

#[test]
fn differences_of_derivations_are_explained_where_they_begin() {
    let world = world();
    let drv = || world.run("nix-instantiate", &[]).success().stdout_text().trim().to_owned();
    let before = drv();
    write(&world, "1.1", "a\\nB\\nc\\n");
    world.write("source", "second");
    let after = drv();
    let text = world.run("nix", &["derivation", "diff", &before, &after]).success().stdout_text();
    assert!(text.starts_with("top -> big -> low-1.0\n"), "{text}");
    for line in ["- 1.0", "+ 1.1", "- b", "+ B", "  a", "source source:"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("variable inputs"), "what follows from inputs is no reason: {text}");
    let json = world.run("nix", &["derivation", "diff", "--json", &before, &after]).success().stdout_text();
    assert!(json.contains(r#""what":"variable""#), "{json}");
    let same = world.run("nix", &["derivation", "diff", &before, &before]).success().stdout_text();
    assert_eq!(same, "The derivations are the same.\n");
    world.run("nix", &["derivation", "diff", &before]).fails(1);
}

#[test]
fn a_verbose_switch_tells_what_changed() {
    let world = world();
    world.run("nix-env", &["-p", "profile", "-f", "default.nix", "-i", "-A", ""]).success();
    write(&world, "2.0", "");
    let args = ["-p", "profile", "-f", "default.nix", "-i", "-A", "", "-v"];
    let said = world.run("nix-env", &args).success().stderr_text();
    let row = said.lines().find(|line| line.starts_with("low")).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["low", "1.0", "2.0", "+0.0", "KiB"], "{said}");
    let quiet = world.run("nix-env", &["-p", "profile", "--rollback"]).success().stderr_text();
    assert!(!quiet.contains("package"), "{quiet}");
}

//! Evaluation on several cores and with a heap that is collected all the time: what is printed, in which order, and
//! how it ends do not depend on either.

use firn_testkit::World;

/// Packages that need each other, tell of themselves, fail, and go in circles.
const PACKAGES: &str = r#"
let
  package = n: inputs: derivation {
    name = "p${toString n}-1.${toString n}";
    system = "x86_64-linux";
    builder = "/bin/sh";
    text = builtins.concatStringsSep " " (builtins.genList (i: "${toString (i * n)}") 200);
    buildInputs = inputs;
  };
  name = n: "p${toString n}";
  all = builtins.listToAttrs (builtins.genList (n: {
    name = name n;
    value =
      if n - n / 97 * 97 == 50 then builtins.trace "at ${toString n}" (package n [ ])
      else package n (map (i: all.${name (n / i)}) (if n > 8 then [ 2 3 5 7 ] else [ ]));
  }) 700);
in
all // {
  failing = package 1000 [ all.p1 (throw "no inputs") ];
  circle = let a = package 1001 [ b ]; b = package 1002 [ a ]; in a;
  # Everybody waits for the first ones of these, from both ends.
  chain =
    let
      slow = package (builtins.foldl' (sum: i: sum + i) 0 (builtins.genList (i: i) 200000)) [ ];
      links = builtins.listToAttrs (builtins.genList (n: {
        name = name n;
        value = package (2000 + n) (if n == 0 then [ slow ] else [ links.${name (n - 1)} slow ]);
      }) 300);
      inOrder = builtins.attrValues links;
    in
    package 1003 (inOrder ++ builtins.sort (a: b: a.name > b.name) inOrder);
  # The same, but the last ones need the first one, which fails.
  broken =
    let
      links = builtins.listToAttrs (builtins.genList (n: {
        name = name n;
        value = package (3000 + n) (if n == 0 then [ (throw "the first one") ] else [ links.${name (n - 1)} ]);
      }) 100);
    in
    package 1004 (builtins.attrValues links);
}
"#;

/// How a command ended and all that it said.
fn outcome(world: &World, cores: &str, args: &[&str]) -> String {
    let flags = ["--readonly-mode", "--option", "eval-cores", cores];
    let run = world.run(args[0], &[&args[1..], &flags].concat());
    format!("{:?}\n{}\n{}", run.code(), run.stdout_text(), run.stderr_text())
}

#[track_caller]
fn check(args: &[&str]) {
    let mut world = World::new().env("FIRN_GC_GROWTH", "5");
    world.write("p.nix", PACKAGES);
    let expected = outcome(&world, "1", args);
    for heap in ["1G", "1M", "1M"] {
        world = world.env("GC_INITIAL_HEAP_SIZE", heap);
        for cores in ["1", "2", "8"] {
            let got = outcome(&world, cores, args);
            // Not `assert_eq`: the texts are long.
            let differs = got.lines().zip(expected.lines()).find(|(a, b)| a != b);
            assert!(got == expected, "{args:?} with {cores} cores and a heap of {heap}: {differs:?}");
        }
    }
}

#[test]
fn packages_are_the_same() {
    check(&["nix-env", "-f", "p.nix", "-qaP", "--drv-path", "p.*"]);
}

#[test]
fn errors_are_the_same() {
    check(&["nix-instantiate", "p.nix", "-A", "failing"]);
    check(&["nix-instantiate", "p.nix", "-A", "circle"]);
    check(&["nix-instantiate", "p.nix", "-A", "broken"]);
    check(&["nix-instantiate", "p.nix"]);
}

#[test]
fn what_all_wait_for_is_the_same() {
    check(&["nix-instantiate", "p.nix", "-A", "chain"]);
}

#[test]
fn values_are_the_same() {
    let walk = "builtins.mapAttrs (n: p: builtins.tryEval p.drvPath) \
        (removeAttrs (import ./p.nix) [ \"circle\" ])";
    check(&["nix-instantiate", "--eval", "--strict", "--json", "-E", walk]);
}

/// Long lists and large sets that are all evaluated: each element takes a while and needs others, some fail, some go in
/// circles, and of two lists each fails after it has offered the other.
#[test]
fn elements_are_the_same() {
    let elements = "let
        sum = n: builtins.foldl' (a: i: a + i) n (builtins.genList (i: i) 2000);
        elements = builtins.genList (n:
          if n == bad then throw \"element ${toString n}\"
          else if n == circle then builtins.elemAt elements circle
          else if n == traced then builtins.trace \"at ${toString n}\" \"t\"
          else toString (sum n + (if n > 4 then builtins.stringLength (builtins.elemAt elements (n / 2)) else 0))) 400;
        nested = builtins.genList (n: { a = builtins.elemAt elements n; b = [ (builtins.elemAt elements (399 - n)) ]; }) 400;
        set = builtins.listToAttrs (builtins.genList (n: { name = \"x${toString n}\"; value = builtins.elemAt nested n; }) 400);
        one = builtins.genList (n: builtins.concatStringsSep \"\" other + throw \"one ${toString n}\") 100;
        other = builtins.genList (n: if n < 90 then toString n else builtins.toJSON one) 100;
        derived = derivation { name = \"d\"; system = \"s\"; builder = \"b\"; list = elements; };";
    for (bad, circle, traced) in [(-1, -1, 70), (250, 20, 131)] {
        for what in [
            "nested",
            "builtins.concatStringsSep \" \" elements",
            "builtins.toJSON nested",
            "derived.drvPath",
            "set",
            "builtins.deepSeq set (builtins.stringLength (builtins.toJSON set))",
            "other",
        ] {
            let expr = format!("{elements} bad = {bad}; circle = {circle}; traced = {traced}; in {what}");
            check(&["nix-instantiate", "--eval", "--strict", "--json", "-E", &expr]);
        }
    }
}

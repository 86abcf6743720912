//! Builds that call Nix see their inputs, and what they add; through the sandbox's wall nothing else.

use firn_testkit::{World, can_sandbox, program_dir};
use std::fs;

/// A world whose builds find the programs.
fn world(sandboxed: bool) -> World {
    let world = World::new().conf("extra-experimental-features = nix-command recursive-nix\nsubstituters =");
    // Where the programs are may be hidden by what a sandbox has there.
    let folder = world.path("bin");
    fs::create_dir(&folder).unwrap();
    fs::copy(program_dir().join("firn"), folder.join("firn")).unwrap();
    for name in ["nix", "nix-store", "nix-build"] {
        std::os::unix::fs::symlink("firn", folder.join(name)).unwrap();
    }
    let folder = folder.display().to_string();
    let world = match sandboxed {
        true => world.sandboxed().conf(&format!("extra-sandbox-paths = {folder}")),
        false => world.conf("sandbox = false"),
    };
    world.env("FIRN_TEST_PROGRAMS", &folder)
}

/// A script that has the programs, and Nix's settings.
fn script(text: &str) -> String {
    format!(
        r#"
let programs = builtins.getEnv "FIRN_TEST_PROGRAMS"; in
makeWith "nested" {{ requiredSystemFeatures = [ "recursive-nix" ]; PATH = "${{programs}}:/usr/bin:/bin";
  NIX_CONFIG = "extra-experimental-features = nix-command"; HOME = "/homeless"; }} ''
    export HOME=$PWD
    {text}
  ''"#
    )
}

fn each(test: impl Fn(&World, bool)) {
    test(&world(false), false);
    if can_sandbox() {
        test(&world(true), true);
    }
}

#[test]
fn what_a_build_adds_it_can_use() {
    each(|world, _| {
        let path = world.build(&script(
            r#"
            mkdir tree; echo tree > tree/file
            tree=$(nix store add-path ./tree)
            read text < $tree/file; test "$text" = tree
            inner=$(nix-build --no-out-link -E 'derivation { name = "inner"; system = builtins.currentSystem;
              builder = "/bin/sh"; args = [ "-c" "echo inner > $out" ]; }')
            read text < $inner; test "$text" = inner
            test $(nix path-info --all | wc -l) = 3
            mkdir $out; ln -s $inner $tree $out/"#,
        ));
        let references = world.run("nix-store", &["--query", "--references", &path]).success().stdout_text();
        let mut names: Vec<&str> = references.lines().filter_map(|line| line.rsplit('-').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["inner", "tree"]);
    });
}

#[test]
fn others_paths_are_not_there() {
    each(|world, sandboxed| {
        world.write("secret", "secret");
        let secret = world.run("nix-store", &["--add", "secret"]).success().stdout_text();
        let secret = secret.trim();
        let hash = &secret.rsplit('/').next().expect("a name")[..32];
        let path = world.build_text(&script(&format!(
            r#"
            tried() {{ "$@" > said 2>&1 && echo "yes: $*" >> result || echo no >> result; }}
            tried nix path-info {secret}
            tried nix-store --check-validity {secret}
            tried nix-store --dump {secret}
            tried nix-store --realise {secret}
            tried nix-store --query --references {secret}
            tried nix-store --gc
            echo 'x' > r; tried nix-store --query --referrers {secret}
            nix-store --gc --print-roots | grep -c secret >> result || true
            mv result $out; true # {hash}"#
        )));
        // Without a sandbox the file itself can be read.
        let allowed = ["--gc", "--query --referrers", "--dump"];
        for line in path.lines().filter(|line| line.starts_with("yes")) {
            assert!(allowed.iter().any(|known| line.contains(known)), "{path}");
            assert!(!line.contains("--dump") || !sandboxed, "{path}");
        }
        assert!(std::path::Path::new(secret).exists());
    });
}

#[test]
fn without_the_feature_there_is_no_socket() {
    let world = world(false);
    let run = world.try_build(r#"make "plain" "test -z $NIX_REMOTE && ls -a > $out""#, &[]).success();
    let listing = std::fs::read_to_string(run.stdout_text().trim()).unwrap();
    assert!(!listing.contains("socket"), "{listing}");
    let world = World::new().conf("sandbox = false");
    let needs = r#"makeWith "x" { requiredSystemFeatures = [ "recursive-nix" ]; } "echo > $out""#;
    let run = world.try_build(needs, &[]);
    assert!(run.stderr_text().contains("missing system features"), "{run:?}");
}

//! `nix-env --query`: columns, selection, structured output, and what is passed over.

use firn_testkit::World;

const PACKAGES: &str = r#"
{ suffix ? "" }:
let package = attrs: derivation ({ system = "x86_64-linux"; builder = "/bin/sh"; } // attrs); in rec {
  a = package { name = "Foo-1.0"; outputs = [ "out" "dev" ]; } // { meta.description = "two\nlines"; };
  b = package { name = "bar-2.0${suffix}"; system = "i686-linux"; };
  broken = assert false; a;
  same = a;
  fake = { type = "derivation"; name = "fake-1"; system = "x86_64-linux"; meta.wrong = x: x; };
  late = package { name = "late-1"; builder = throw "not for this system"; };
  set = { recurseForDerivations = true; c = package { name = "foo-2.0pre1"; }; };
  other.d = package { name = "hidden-1"; };
}
"#;

fn world() -> World {
    let world = World::new();
    world.write("p.nix", PACKAGES);
    world
}

fn query(world: &World, args: &[&str]) -> String {
    world.run("nix-env", &[&["-f", "p.nix", "-qa"], args].concat()).success().stdout_text()
}

#[test]
fn columns() {
    let world = world();
    assert_eq!(query(&world, &[]), "bar-2.0\nfake-1\nFoo-1.0\nfoo-2.0pre1\nlate-1\n");
    let expected = "b      bar-2.0\nfake   fake-1\na      Foo-1.0\nset.c  foo-2.0pre1\nlate   late-1\n";
    assert_eq!(query(&world, &["-P"]), expected);
    assert_eq!(query(&world, &["--no-name", "--system", "bar"]), "i686-linux\n");
    assert_eq!(query(&world, &["--description", "Foo"]), "Foo-1.0  two lines\n");
    assert_eq!(query(&world, &["--drv-path", "fake"]), "fake-1  -\n");
    assert_eq!(query(&world, &["-c", "fake"]), "fake-1  - ?\n");
    let outputs = query(&world, &["--no-name", "--out-path", "Foo"]);
    assert!(outputs.starts_with("dev=/") && outputs.contains("-Foo-1.0-dev;/"), "{outputs}");
    // What throws when its path is asked for is left out.
    assert!(!query(&world, &["--drv-path"]).contains("late"));
}

#[test]
fn selection() {
    let world = world();
    assert_eq!(query(&world, &["Foo-1.0", "b.*"]), "bar-2.0\nFoo-1.0\n");
    assert_eq!(query(&world, &["*-2.0"]), "bar-2.0\n");
    assert_eq!(query(&world, &["-A", "set", "-P"]), "set.c  foo-2.0pre1\n");
    assert_eq!(query(&world, &["--system-filter", "i686-linux"]), "bar-2.0\n");
    assert_eq!(query(&world, &["--argstr", "suffix", "7", "bar"]), "bar-2.07\n");
    let failed = world.run("nix-env", &["-f", "p.nix", "-qa", "fo"]).fails(1).stderr_text();
    assert_eq!(failed, "error: selector 'fo' matches no derivations, maybe you meant:\n       foo\n");
}

#[test]
fn structured() {
    let world = world();
    let json = "{\n  \"a\": {\n    \"meta\": {\n      \"description\": \"two\\nlines\"\n    },\n    \"name\": \"Foo-1.0\",\n    \
                \"outputName\": \"out\",\n    \"outputs\": {\n      \"dev\": null,\n      \"out\": null\n    },\n    \
                \"pname\": \"Foo\",\n    \"system\": \"x86_64-linux\",\n    \"version\": \"1.0\"\n  }\n}\n";
    assert_eq!(query(&world, &["--json", "--meta", "Foo"]), json);
    let xml = "<?xml version='1.0' encoding='utf-8'?>\n<items>\n  <item attrPath=\"a\" name=\"Foo-1.0\" \
               outputName=\"out\" pname=\"Foo\" system=\"x86_64-linux\" version=\"1.0\">\n    <output name=\"dev\" />\n    \
               <output name=\"out\" />\n    <meta name=\"description\" type=\"string\" value=\"two&#xA;lines\" />\n  \
               </item>\n</items>\n";
    assert_eq!(query(&world, &["--xml", "--meta", "Foo"]), xml);
    let warned = world.run("nix-env", &["-f", "p.nix", "-qa", "--json", "--meta", "fake"]).success();
    assert!(warned.stderr_text().contains("derivation 'fake-1' has invalid meta attribute 'wrong'"));
}

#[test]
fn folders_are_sets() {
    let world = World::new();
    let package =
        |name: &str| format!("derivation {{ name = \"{name}\"; system = \"x\"; builder = \"/b\"; }}");
    world.write("all/one.nix", &package("one"));
    world.write("all/deeper/two.nix", &package("two"));
    world.write("all/three/default.nix", &package("three"));
    world.write("all/manifest.nix", "throw \"not read\"");
    world.write("all/readme", "no expression");
    let found = world.run("nix-env", &["-f", "all", "-qaP"]).success().stdout_text();
    assert_eq!(found, "one    one\nthree  three\ntwo    two\n");
}

#[test]
fn profiles() {
    let world = world();
    let element = |name: &str| {
        let path = format!("/nix/store/00000000000000000000000000000000-{name}");
        format!(
            "{{ name = \"{name}\"; type = \"derivation\"; system = \"x\"; outPath = \"{path}\"; meta = {{}}; }}"
        )
    };
    world.write("profile/manifest.nix", &format!("[ {} {} ]", element("Foo-0.9"), element("bar-3")));
    let run = |args: &[&str]| {
        let args = [&["-f", "p.nix", "-p", "profile"], args].concat();
        world.run("nix-env", &args).success().stdout_text()
    };
    assert_eq!(run(&["-q"]), "bar-3\nFoo-0.9\n");
    assert_eq!(run(&["-qc"]), "bar-3    > 2.0\nFoo-0.9  < 1.0\n");
    assert_eq!(run(&["-qac", "Foo"]), "Foo-1.0  > 0.9\n");
    world.write("new/manifest.json", "{}");
    assert!(world.run("nix-env", &["-p", "new", "-q"]).fails(1).stderr_text().contains("incompatible"));
}

#[test]
fn what_is_wrong_is_said() {
    let world = world();
    let failed = |args: &[&str]| world.run("nix-env", args).fails(1).stderr_text();
    assert!(failed(&["-q", "--foo"]).contains("unknown flag '--foo'"));
    assert!(failed(&["-qP"]).contains("only works with --available"));
    assert!(failed(&[]).contains("no operation specified"));
    assert!(failed(&["-q", "-i"]).contains("only one operation may be specified"));
    assert!(failed(&["--rollback"]).contains("no profile version older than the current (0) exists"));
}

//! `nix-shell`, `nix develop`, `nix print-dev-env`, `nix shell` and `nix run`.

use firn_testkit::{Run, World};
use std::os::unix::fs::PermissionsExt;

/// A small package set in the manner of nixpkgs, with the machine's bash.
const PACKAGES: &str = r#"
{ inNixShell ? false, word ? "hello" }:
let
  bash = "/bin/bash";
  setup = builtins.toFile "setup" ''
    export FROM_SETUP=yes
    for package in $buildInputs; do export PATH=$PATH:$package/bin; done
    declare -a list=(1 '2 3') later
    declare -A table
    declare -i number=3
    export unset_yet
    function runHook() { if [ "$(type -t $1)" = function ]; then $1; else eval "''${!1}"; fi; }
    buildPhase() { echo built with $flag; }
  '';
  make = attrs: derivation ({
    system = builtins.currentSystem;
    builder = bash;
    args = [ "-c" "export PATH=/bin:/usr/bin; eval \"$command\"" ];
    stdenv = stdenv;
  } // attrs) // { meta.mainProgram = "tool"; };
  stdenv = derivation {
    name = "stdenv";
    system = builtins.currentSystem;
    builder = bash;
    args = [ "-c" "/bin/mkdir $out; /bin/ln -s ${setup} $out/setup" ];
  };
  program = name: text: make {
    inherit name;
    command = "mkdir -p $out/bin; printf '#!/bin/sh\\n%s\\n' '${text}' > $out/bin/${name}; chmod +x $out/bin/${name}";
  };
  pkgs = rec {
  inherit pkgs;
  shell = make {
    name = "shell";
    command = "mkdir $out";
    flag = "value";
    big = "some text";
    passAsFile = [ "big" ];
    inShell = if inNixShell then "yes" else "no";
    shellHook = "echo hook";
    buildInputs = [ tool ];
    outputs = [ "out" "dev" ];
  };
  tool = program "tool" "echo ${word} \"$@\"";
  other = program "other" "echo other";
  runCommand = name: attrs: command: make (attrs // { inherit name command; });
  bashInteractive = make { name = "bash"; command = "mkdir -p $out/bin; ln -s /bin/bash $out/bin/bash"; };
  structured = make { name = "structured"; __structuredAttrs = true; command = "true"; my.list = [ 1 2 ]; };
  notBash = derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; };
  two = [ tool other ];
  };
in pkgs
"#;

fn world() -> World {
    let world = World::new().conf("sandbox = false").env("NIX_PATH", "nixpkgs=packages.nix");
    world.write("packages.nix", PACKAGES);
    world
}

#[track_caller]
fn shell(world: &World, args: &[&str]) -> Run {
    world.run("nix-shell", args)
}

#[test]
fn environment_of_a_derivation() {
    let world = world().env("OUTER", "outer").env("KEPT", "kept");
    let args = |more: &[&str], command: &str| {
        let all = [&["packages.nix", "-A", "shell"], more, &["--run", command]].concat();
        shell(&world, &all).success().stdout_text()
    };
    let echo = "echo $flag $FROM_SETUP $inShell $OUTER $IN_NIX_SHELL; cat $bigPath; tool x";
    assert_eq!(args(&[], echo), "hook\nvalue yes yes outer impure\nsome texthello x\n");
    assert_eq!(args(&["--argstr", "word", "bye"], "tool"), "hook\nbye\n");
    assert_eq!(args(&["--pure"], "echo $OUTER,$KEPT,$IN_NIX_SHELL,$flag"), "hook\n,,pure,value\n");
    assert_eq!(args(&["--pure", "--keep", "KEPT"], "echo $OUTER,$KEPT"), "hook\n,kept\n");
    // The folder for temporary files is there, private, and goes with the shell.
    let folder = args(&[], "echo $NIX_BUILD_TOP; stat -c %a $NIX_BUILD_TOP");
    let lines: Vec<&str> = folder.lines().collect();
    assert_eq!(lines[2], "700", "{folder}");
    assert!(!std::path::Path::new(lines[1]).exists(), "{folder}");
    let failing = ["packages.nix", "-A", "shell", "--run", "exit 17"];
    shell(&world, &failing).fails(17);
    // A derivation in the store.
    let drv = world.run("nix-instantiate", &["packages.nix", "-A", "shell"]).success().stdout_text();
    let drv = drv.trim().trim_end_matches("!out");
    assert_eq!(shell(&world, &[drv, "--run", "echo $inShell"]).success().stdout_text(), "hook\nno\n");
    let attrs = ["packages.nix", "-A", "structured", "--run", "declare -p my; cat $NIX_ATTRS_JSON_FILE"];
    let text = shell(&world, &attrs).success().stdout_text();
    assert!(text.contains("declare -A my=([list]") || text.contains("\"my\":{\"list\":[1,2]}"), "{text}");
}

#[test]
fn packages_and_files() {
    let world = world();
    assert_eq!(
        shell(&world, &["-p", "tool", "other", "--run", "tool; other"]).success().stdout_text(),
        "hello\nother\n"
    );
    let text = shell(&world, &["-p", "tool", "-E", "1"]).fails(1).stderr_text();
    assert!(text.contains("'-p' and '-E' are mutually exclusive"), "{text}");
    let text = shell(&world, &[]).fails(1).stderr_text();
    assert!(
        text.contains(
            "no argument specified and no 'shell.nix' or 'default.nix' file found in the working directory"
        ),
        "{text}"
    );
    let text = shell(&world, &["packages.nix", "-A", "two"]).fails(1).stderr_text();
    assert!(text.contains("nix-shell requires a single derivation"), "{text}");
    let text = shell(&world, &["."]).fails(1).stderr_text();
    assert!(text.contains("neither 'shell.nix' nor 'default.nix' found in"), "{text}");
    world.write("default.nix", "abort \"not this\"");
    world.write("shell.nix", "(import ./packages.nix { }).shell");
    assert_eq!(shell(&world, &["--run", "echo $flag"]).success().stdout_text(), "hook\nvalue\n");
    let text = shell(&world, &["--dry-run"]).success();
    assert_eq!(text.stdout_text(), "");
    // What is left out is not built.
    let world = World::new().conf("sandbox = false").env("NIX_BUILD_SHELL", "bash");
    world.write("packages.nix", PACKAGES);
    let excluded = ["packages.nix", "-A", "shell", "--exclude", "tool$|-tool.drv", "--run", "tool || true"];
    let text = shell(&world, &excluded).success().stderr_text();
    assert!(text.contains("tool: command not found") && !text.contains("-tool.drv"), "{text}");
}

#[test]
fn scripts() {
    let world = world();
    let nix_shell = firn_testkit::program_dir().join("nix-shell");
    std::fs::create_dir(world.work_dir().join("sub")).unwrap();
    let script = |name: &str, lines: &str| {
        let path = world.write(name, &format!("#!{}\n{lines}", nix_shell.display()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let path = script(
        "a script",
        "#! nix-shell -i bash -p tool\n#! nix-shell --argstr word 'good day'\ntool $1 \"$2\"\n",
    );
    let run = world.run(path.to_str().unwrap(), &["1", "2  3"]).success();
    assert_eq!(run.stdout_text(), "good day 1 2  3\n");
    // Files are named from the script's folder.
    let path = script("sub/script", "#! nix-shell -i bash ../packages.nix -A shell\necho $flag\n");
    assert_eq!(world.run(path.to_str().unwrap(), &[]).success().stdout_text(), "hook\nvalue\n");
    let path = script("quotes", "#! nix-shell -i 'bash -p tool\n");
    let text = world.run(path.to_str().unwrap(), &[]).fails(1).stderr_text();
    assert!(text.contains("unterminated quote in shebang line"), "{text}");
}

#[test]
fn develop_and_print_dev_env() {
    let world = world();
    let develop = |args: &[&str]| world.run("nix", &[&["develop", "-f", "packages.nix"], args].concat());
    let run = develop(&["shell", "-c", "bash", "-c", "echo $flag $FROM_SETUP ${#list[@]} $NIX_GCROOT; tool"]);
    let text = run.success().stdout_text();
    assert!(text.starts_with("hook\nvalue yes") && text.ends_with("hello\n"), "{text}");
    assert!(text.contains("-shell-env"), "{text}");
    assert_eq!(develop(&["shell", "--build"]).success().stdout_text(), "hook\nbuilt with value\n");
    develop(&["shell", "-c", "sh", "-c", "exit 9"]).fails(9);
    let text = develop(&["shell", "--build", "-c", "true"]).fails(1).stderr_text();
    assert!(text.contains("you cannot use both '--command' and '--phase'"), "{text}");
    let text = develop(&["notBash"]).fails(1).stderr_text();
    assert!(
        text.contains("'nix develop' only works on derivations that use 'bash' as their builder"),
        "{text}"
    );
    // What made a path is not asked.
    let path = world.write("file", "text");
    let path = world.run("nix-store", &["--add", path.to_str().unwrap()]).success().stdout_text();
    let text = world.run("nix", &["develop", path.trim_end()]).fails(1).stderr_text();
    assert!(
        text.contains(&format!("argument '{}' did not evaluate to a derivation", path.trim_end())),
        "{text}"
    );
    let text = develop(&["-k", "X", "shell", "-c", "true"]).fails(1).stderr_text();
    assert!(text.contains("--keep-env-var does not make sense without --ignore-env"), "{text}");
    let kept = develop(&["-i", "-s", "NEW", "x y", "shell", "-c", "/bin/sh", "-c", "echo $HOME,$NEW"]);
    assert_eq!(kept.success().stdout_text(), "hook\n,x y\n");

    let print = ["print-dev-env", "-f", "packages.nix", "shell"];
    let script = world.run("nix", &print).success().stdout_text();
    assert!(
        script.contains("flag='value'\nexport flag\n") && script.contains("declare -a list=('1' '2 3' )"),
        "{script}"
    );
    let outputs = world.work_dir().join("outputs/out");
    assert!(script.contains(&format!("out='{}'", outputs.display())), "{script}");
    let json = world.run("nix", &[&print[..], &["--json"]].concat()).success().stdout_text();
    assert!(json.contains(r#""flag":{"type":"exported","value":"value"}"#), "{json}");
    // Bodies of functions are what stands between their braces.
    assert!(json.contains(r#""bashFunctions":{"buildPhase":" \n    echo built"#), "{json}");
    // What is declared stays declared, also without a value; numbers and the shell's own numbers do not pass for text.
    for variable in [
        r#""later":{"type":"array","value":[]}"#,
        r#""table":{"type":"associative","value":{}}"#,
        r#""unset_yet":{"type":"exported","value":""}"#,
    ] {
        assert!(json.contains(variable), "{variable}: {json}");
    }
    for name in ["number", "BASHPID", "OPTIND"] {
        assert!(!json.contains(&format!("\"{name}\":")), "{name}: {json}");
    }
    let redirect = [&print[..], &["--redirect", "tool", "elsewhere"]].concat();
    let script = world.run("nix", &redirect).success().stdout_text();
    assert!(script.contains(&format!("buildInputs='{}/elsewhere'", world.work_dir().display())), "{script}");
    world.run("nix", &[&print[..], &["--profile", "env"]].concat()).success();
    assert!(world.work_dir().join("env-1-link").exists());
    let structured = ["print-dev-env", "-f", "packages.nix", "structured", "--json"];
    let json = world.run("nix", &structured).success().stdout_text();
    assert!(json.contains(r#""structuredAttrs":{".attrs.json":"#), "{json}");
}

#[test]
fn shell_and_run() {
    let world = world();
    let nix = |args: &[&str]| world.run("nix", args);
    let run = nix(&["shell", "-f", "packages.nix", "tool", "other", "-c", "sh", "-c", "tool a; other"]);
    assert_eq!(run.success().stdout_text(), "hello a\nother\n");
    assert_eq!(
        nix(&["run", "-f", "packages.nix", "tool", "--", "--version", "x"]).success().stdout_text(),
        "hello --version x\n"
    );
    let built =
        nix(&["build", "-f", "packages.nix", "tool", "--no-link", "--print-out-paths", "--profile", "p"]);
    let path = built.success().stdout_text();
    assert_eq!(std::fs::read_link(world.work_dir().join("p-1-link")).unwrap().to_str().unwrap(), path.trim());
    assert_eq!(nix(&["shell", path.trim(), "-c", "tool"]).success().stdout_text(), "hello\n");
    let text = nix(&["shell", path.trim(), "-c", "nothing-of-this-name"]).fails(1).stderr_text();
    assert!(text.contains("unable to execute 'nothing-of-this-name': No such file or directory"), "{text}");
    let text = nix(&["run", "--expr", "1"]).fails(1).stderr_text();
    assert!(text.contains("the value is neither an app nor a derivation"), "{text}");
    let text =
        nix(&["build", "-f", "packages.nix", "two", "--no-link", "--profile", "p"]).fails(1).stderr_text();
    assert!(
        text.contains("'--profile' requires that the arguments produce a single store path, but there are 2"),
        "{text}"
    );
}

/// Programs of a store that lies elsewhere see it in its place.
#[test]
fn programs_of_a_chroot_store() {
    let world = world().conf("sandbox-paths = /bin? /lib? /lib64? /usr?");
    let root = world.path("elsewhere");
    let args = [
        "shell",
        "--store",
        root.to_str().unwrap(),
        "-f",
        "packages.nix",
        "tool",
        "-c",
        "sh",
        "-c",
        "tool; command -v tool",
    ];
    let run = world.run("nix", &args);
    let text = run.stderr_text();
    if text.contains("mount namespace") || text.contains("unshare") {
        eprintln!("NOT TESTED: no mount namespaces here: {text}");
        return;
    }
    let text = run.success().stdout_text();
    assert!(text.starts_with("hello\n") && text.contains("/store/"), "{text}");
}

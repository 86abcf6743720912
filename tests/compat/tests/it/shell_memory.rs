//! `nix-shell` starts again without evaluating, for as long as nothing changed that evaluation looked at.

use firn_testkit::World;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Everything that evaluation can look at has a part in the variable `V`.
const SHELL: &str = r#"
derivation {
  name = "shell";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  input = derivation { name = "input"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo x > $out" ]; };
  V = builtins.concatStringsSep " " [
    (builtins.readFile ./file)
    (import ./value.nix)
    (toString (builtins.attrNames (builtins.readDir ./folder)))
    (builtins.getEnv "VARIABLE")
    (builtins.readFile (builtins.path { path = ./tree; name = "tree"; } + "/leaf"))
    (if builtins.pathExists ./maybe then "there" else "missing")
    (builtins.readFile ./link)
  ];
}
"#;

struct Shell {
    world: World,
}

impl Shell {
    fn new() -> Self {
        let world = World::new()
            .conf("sandbox = false\nextra-experimental-features = flakes\nflake-registry =")
            .env("NIX_BUILD_SHELL", "bash");
        world.write("shell.nix", SHELL);
        for (name, text) in
            [("file", "file1"), ("value.nix", "\"value1\""), ("folder/a", ""), ("tree/leaf", "leaf1")]
        {
            world.write(name, text);
        }
        world.write("target1", "link1");
        world.write("target2", "link2");
        std::os::unix::fs::symlink("target1", world.work_dir().join("link")).unwrap();
        Self { world }
    }

    #[track_caller]
    fn start(&self) -> String {
        self.world.run("nix-shell", &["--run", "echo $V"]).success().stdout_text().trim_end().to_owned()
    }

    /// The files of the memory, by name and inode: a new inode tells of an evaluation.
    fn kept(&self) -> Vec<(PathBuf, u64)> {
        let folder = self.world.path("home/.cache/nix/firn/shells");
        let entries = folder.read_dir().into_iter().flatten().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
            .map(|entry| (entry.path(), entry.metadata().unwrap().ino()))
            .collect();
        files.sort();
        files
    }

    #[track_caller]
    fn is_remembered(&self, expected: &str) {
        let before = self.kept();
        assert_eq!(before.len(), 1, "{before:?}");
        assert_eq!(self.start(), expected);
        assert_eq!(self.kept(), before, "it was evaluated again");
    }

    #[track_caller]
    fn is_made_anew(&self, expected: &str) {
        let before = self.kept();
        assert_eq!(self.start(), expected);
        assert_ne!(self.kept(), before, "it was not evaluated again");
    }
}

#[test]
fn every_change_that_evaluation_sees_makes_it_new() {
    let shell = Shell::new();
    let write = |name: &str, text: &str| drop(shell.world.write(name, text));
    // Trees that are copied are not trusted while they are fresh.
    std::thread::sleep(std::time::Duration::from_secs(3));
    shell.is_made_anew("file1 value1 a leaf1 missing link1");
    shell.is_remembered("file1 value1 a leaf1 missing link1");
    write("file", "file2");
    shell.is_made_anew("file2 value1 a leaf1 missing link1");
    write("value.nix", "\"value2\"");
    shell.is_made_anew("file2 value2 a leaf1 missing link1");
    write("folder/b", "");
    shell.is_made_anew("file2 value2 a b leaf1 missing link1");
    write("maybe", "");
    shell.is_made_anew("file2 value2 a b leaf1 there link1");
    // Of files that are read only the content counts.
    write("file", "file2");
    shell.is_remembered("file2 value2 a b leaf1 there link1");
    let link = shell.world.work_dir().join("link");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("target2", &link).unwrap();
    shell.is_made_anew("file2 value2 a b leaf1 there link2");
    write("tree/leaf", "leaf2");
    assert_eq!(shell.start(), "file2 value2 a b leaf2 there link2");
    let run =
        shell.world.command("nix-shell").args(["--run", "echo $V"]).env("VARIABLE", "set").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stdout), "file2 value2 a b set leaf2 there link2\n");
    write("shell.nix", &SHELL.replace("\"VARIABLE\"", "\"OTHER\""));
    assert_eq!(shell.start(), "file2 value2 a b leaf2 there link2");
}

#[test]
fn what_it_needs_is_kept_until_it_is_forgotten() {
    let shell = Shell::new();
    shell.world.write("shell.nix", &SHELL.replace("(builtins.readFile (builtins.path", "(toString [ ]) #"));
    let first = shell.start();
    shell.world.run("nix-store", &["--gc"]).success();
    shell.is_remembered(&first);
    shell.world.run("nix-collect-garbage", &["--delete-older-than", "1d"]).success();
    shell.is_remembered(&first);
    shell.world.run("nix-collect-garbage", &["-d"]).success();
    assert_eq!(shell.kept(), []);
    shell.is_made_anew(&first);
    // The root alone is lost, and with it what it kept.
    let root = shell.kept()[0].0.with_extension("root");
    std::fs::remove_file(root).unwrap();
    shell.world.run("nix-store", &["--gc"]).success();
    shell.is_made_anew(&first);
}

#[test]
fn what_cannot_be_looked_at_again_is_not_kept() {
    let shell = Shell::new();
    let simple = |v: &str| {
        format!(
            "derivation {{ name = \"s\"; system = builtins.currentSystem; builder = \"/bin/sh\"; V = {v}; }}"
        )
    };
    for v in
        ["toString builtins.currentTime", "builtins.trace \"said\" \"x\"", "builtins.warn \"said\" \"x\""]
    {
        shell.world.write("shell.nix", &simple(v));
        shell.start();
        assert_eq!(shell.kept(), [], "{v}");
    }
    shell.world.write("shell.nix", &simple("\"x\""));
    let off =
        shell.world.command("nix-shell").args(["--run", "echo $V"]).env("FIRN_SHELL_CACHE", "off").output();
    assert_eq!(off.unwrap().stdout, b"x\n");
    assert_eq!(shell.kept(), []);
    assert_eq!(shell.start(), "x");
    shell.is_remembered("x");
    // A file that was torn or is of another version is made anew.
    std::fs::write(&shell.kept()[0].0, "{\"format\":").unwrap();
    shell.is_made_anew("x");
    // Other arguments are another environment.
    shell.world.run("nix-shell", &["--argstr", "a", "b", "--run", "echo $V"]).success();
    assert_eq!(shell.kept().len(), 2);
}

/// A shell of bash's own making, as `nix develop` wants it.
fn dev_shell(v: &str) -> String {
    format!(
        "let make = attrs: derivation ({{ system = \"x86_64-linux\"; builder = \"/bin/bash\"; }} // attrs); in {{
           bashInteractive = make {{ name = \"bash\"; args = [ \"-c\" \"/bin/mkdir -p $out/bin; /bin/ln -s /bin/bash $out/bin/bash\" ]; }};
           shell = make {{ name = \"dev\"; outputs = [ \"out\" ]; stdenv = make {{ name = \"stdenv\"; outputs = [ \"out\" ]; args = [ \"-c\" \"/bin/mkdir $out; echo > $out/setup\" ]; }}; V = {v}; }};
         }}"
    )
}

fn develop(shell: &Shell, args: &[&str], command: &str) -> String {
    let run = shell.world.run("nix", &[&["develop"], args, &["-c", "sh", "-c", command]].concat());
    run.success().stdout_text().trim_end().to_owned()
}

#[test]
fn environments_of_nix_develop_are_kept_too() {
    let shell = Shell::new();
    shell.world.write("dev.nix", &dev_shell("builtins.readFile ./file + builtins.getEnv \"VARIABLE\""));
    let args = ["-f", "dev.nix", "shell"];
    let start = || develop(&shell, &args, "echo $V");
    assert_eq!(start(), "file1");
    let first = shell.kept();
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(start(), "file1");
    // What prints the environment uses the same, which is still there after a collection.
    shell.world.run("nix-store", &["--gc"]).success();
    let printed = shell.world.run("nix", &["print-dev-env", "-f", "dev.nix", "shell"]).success();
    assert!(printed.stdout_text().contains("V='file1'"), "{printed:?}");
    assert_eq!(shell.kept(), first, "it was evaluated again");
    shell.world.write("file", "file2");
    assert_eq!(start(), "file2");
    let second = shell.kept();
    assert_ne!(second, first);
    let mut run = shell.world.command("nix");
    let run = run.env("VARIABLE", "set").arg("develop").args(args);
    let run = run.args(["-c", "sh", "-c", "echo $V"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stdout), "file2set\n");
    // Another expression at the same place, and another attribute.
    shell.world.write("dev.nix", &dev_shell("\"other\""));
    assert_eq!(start(), "other");
    assert_eq!(develop(&shell, &["-f", "dev.nix", "shell.stdenv"], "echo $V"), "");
    // What came from the standard input or was said while evaluating is not kept.
    let count = shell.kept().len();
    shell.world.write("dev.nix", &dev_shell("builtins.trace \"said\" \"x\""));
    shell.world.run("nix-collect-garbage", &["-d"]).success();
    assert_eq!(start(), "x");
    assert_eq!((shell.kept().len(), count), (0, 2));
}

#[test]
fn environments_of_flakes_are_kept_by_what_they_are_locked_to() {
    let shell = Shell::new();
    let world = &shell.world;
    let flake = |v: &str| {
        world.write("fl/set.nix", &dev_shell(v));
        world.write("fl/word", "word1");
    };
    world.write("np/set.nix", &dev_shell("\"np\""));
    world.write("np/flake.nix", "{ outputs = _: { legacyPackages.x86_64-linux = import ./set.nix; }; }");
    world.write(
        "fl/flake.nix",
        &format!(
            "{{ inputs.nixpkgs.url = \"path:{}\"; outputs = {{ self, nixpkgs }}: {{
                 devShells.x86_64-linux.default = (import ./set.nix).shell; }}; }}",
            world.work_dir().join("np").display()
        ),
    );
    flake("builtins.readFile ./word + (builtins.getEnv \"VARIABLE\")");
    let place = world.work_dir().join("fl");
    let place = format!("path:{}", place.display());
    assert_eq!(develop(&shell, &[&place], "echo $V"), "word1");
    let first = shell.kept();
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(develop(&shell, &[&place], "echo $V"), "word1");
    assert_eq!(shell.kept(), first, "it was evaluated again");
    // What evaluation may look at with `--impure` is looked at again.
    let impure = |value: &str| {
        let args = ["develop", &place, "--impure", "-c", "sh", "-c", "echo $V"];
        let run = world.command("nix").env("VARIABLE", value).args(args).output().unwrap();
        String::from_utf8_lossy(&run.stdout).into_owned()
    };
    assert_eq!([impure("a"), impure("a"), impure("b")], ["word1a\n", "word1a\n", "word1b\n"]);
    assert_eq!(develop(&shell, &[&place], "echo $V"), "word1");
    world.write("fl/word", "word2");
    assert_eq!(develop(&shell, &[&place], "echo $V"), "word2");
    // The shell at a prompt is the bash of the flake's nixpkgs.
    let mut terminal = firn_testkit::Terminal::start(world, "nix", &["develop", &place]);
    terminal.press("echo \"<$SHELL $V>\"\n");
    terminal.wait_for("-bash/bin/bash word2>");
    terminal.press("exit 3\n");
    assert_eq!(terminal.end().code(), Some(3));
    // Phases run beside the sources.
    world.write("fl/set.nix", &dev_shell("\"\"; shellHook = \"runHook() { pwd; }\""));
    let run = world.run("nix", &["develop", &place, "--phase", "x"]).success().stdout_text();
    assert_eq!(run.trim_end(), world.work_dir().join("fl").to_str().unwrap());
}

//! A user's session at a terminal, with real software: three GNU and other packages, built with the machine's own tools, are
//! installed, upgraded, rolled back and used; nothing gets lost on the way. They are built as `FIRN_TEST_NIXPKGS` says, a
//! package set of 2014 whose native stdenv is used, or else by a small builder of this test's own.

use firn_testkit::{Terminal, World};
use std::path::PathBuf;
use std::time::Duration;

/// The sources, as Debian's mirrors have them. `tests/run` fetches them.
const SOURCES: [&str; 4] =
    ["hello_2.10.orig.tar.gz", "patch_2.7.6.orig.tar.xz", "patch_2.8.orig.tar.xz", "tree_2.1.0.orig.tar.gz"];

/// A small package set. The versions of `old` and `new` differ in one package.
const PACKAGES: &str = r#"
let
  tools = @TOOLS@;
  package = name: version: suffix: attrs: tools.mkDerivation ({
    name = "${name}-${version}";
    src = @SOURCES@ + "/${name}_${version}.orig.tar.${suffix}";
    # No documentation: not every machine has what makes it.
    MAKEINFO = "true";
    meta.description = "The program ${name}";
  } // attrs);
  both = {
    hello = package "hello" "2.10" "gz" { doCheck = true; };
    tree = package "tree" "2.1.0" "gz" {
      configurePhase = "true";
      installPhase = "mkdir -p $out/bin; cp tree $out/bin";
    };
  };
in {
  old = both // { recurseForDerivations = true; patch = package "patch" "2.7.6" "xz" { }; };
  new = both // { recurseForDerivations = true; patch = package "patch" "2.8" "xz" { }; };
}
"#;

/// What builds packages with the tools of a package set.
const NATIVE: &str = r#"(import (@NIXPKGS@ + "/pkgs/stdenv/native") {
    system = builtins.currentSystem;
    allPackages = throw "only the native stdenv is used";
    config = { };
  }).stdenvBoot1"#;

/// What builds packages of the usual kind without one: phases that attributes replace, in a script that `nix-shell` reads, too.
const OWN: &str = r#"rec {
    system = builtins.currentSystem;
    setup = builtins.toFile "setup" ''
      export PATH=/usr/local/bin:/usr/bin:/bin
      unpackPhase() { tar xf "$src"; sourceRoot=$(tar tf "$src" | sed -n '1s,/.*,,p'); }
      configurePhase() { ./configure --prefix="$out"; }
      buildPhase() { make; }
      checkPhase() { make check; }
      installPhase() { make install; }
      phase() { if [ -n "''${!1}" ]; then eval "''${!1}"; else "$1"; fi; }
      genericBuild() {
        phase unpackPhase
        cd "$sourceRoot"
        phase configurePhase
        phase buildPhase
        if [ -n "$doCheck" ]; then phase checkPhase; fi
        phase installPhase
      }
    '';
    stdenv = derivation {
      inherit system setup;
      name = "stdenv";
      builder = "/bin/bash";
      args = [ "-ec" "PATH=/usr/bin:/bin; mkdir $out; cp $setup $out/setup" ];
    };
    builder = builtins.toFile "builder.sh" "source $stdenv/setup; genericBuild";
    mkDerivation = attrs: derivation (removeAttrs attrs [ "meta" ] // {
      inherit system stdenv;
      builder = "/bin/bash";
      args = [ "-e" builder ];
    }) // { inherit (attrs) meta; };
  }"#;

/// How long builds may take on a busy machine.
const BUILDS: Duration = Duration::from_secs(900);

/// The folder of the sources; nothing if one is missing.
fn sources() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("FIRN_TEST_SOURCES")?);
    SOURCES.iter().all(|name| folder.join(name).is_file()).then_some(folder)
}

struct Session(Terminal);

impl Session {
    fn start(world: &World) -> Session {
        let mut terminal = Terminal::start(world, "/bin/bash", &["--norc", "-i"]);
        // The prompt tells how the last command ended.
        terminal.press("PS1='<'$((0))'$?>' PROMPT_COMMAND=\r");
        terminal.wait_for("<00>");
        Session(terminal)
    }

    /// Types a command, which says `texts` one after the other and succeeds.
    #[track_caller]
    fn run(&mut self, command: &str, texts: &[&str]) {
        println!("$ {command}");
        self.0.press(&format!("{command}\r"));
        // What was typed is on the screen, too.
        self.0.wait_for(&command[command.len().saturating_sub(20)..]);
        for text in texts {
            self.0.wait_within(BUILDS, text);
        }
        self.0.wait_within(BUILDS, "<00>");
    }
}

#[test]
fn a_user_lives_with_real_packages() {
    let Some(sources) = sources() else {
        println!("SKIPPED: FIRN_TEST_SOURCES names no folder with {SOURCES:?}; tests/run fetches them");
        return;
    };
    let world = World::new().conf("sandbox = false\nmax-jobs = 2").env("NIX_BUILD_SHELL", "bash");
    let tools = match std::env::var("FIRN_TEST_NIXPKGS") {
        Ok(nixpkgs) => NATIVE.replace("@NIXPKGS@", &nixpkgs),
        Err(_) => OWN.to_owned(),
    };
    let set = PACKAGES.replace("@TOOLS@", &tools).replace("@SOURCES@", sources.to_str().unwrap());
    let set = world.write("packages.nix", &set);
    let link = world.path("home/.nix-profile");
    let mut user = Session::start(&world);
    user.run("mkdir -p ~/.nix-defexpr", &[]);
    user.run(&format!("ln -s {} ~/.nix-defexpr/set", set.display()), &[]);
    user.run(&format!("PATH={}/bin:$PATH", link.display()), &[]);

    // Installed by attribute: all three are built, with the new one beside them for later.
    user.run("nix-build packages.nix -A new.patch -o later && rm later", &["/store/", "-patch-2.8"]);
    user.run("nix-env -iA set.old.hello set.old.patch set.old.tree", &["installing 'hello-2.10'"]);
    user.run("hello", &["Hello, world!"]);
    user.run("patch --version | head -n1", &["GNU patch 2.7.6"]);
    user.run("tree --version", &["tree v2.1.0"]);
    user.run("printf 'a\\nb\\n' > x; printf '2c2\\n< b\\n---\\n> c\\n' | patch x; tr '\\n' , < x", &["a,c,"]);
    user.run("nix-env -q --description", &["hello-2.10", "The program hello", "patch-2.7.6", "tree-2.1.0"]);
    user.run("nix-env -qaP patch", &["set.old.patch", "patch-2.7.6", "set.new.patch", "patch-2.8"]);

    // Upgraded, taken back, and forward again.
    user.run("nix-env -u patch", &["upgrading 'patch-2.7.6' to 'patch-2.8'"]);
    user.run("patch --version | head -n1", &["GNU patch 2.8"]);
    user.run("nix-env --rollback", &["switching profile from version 2 to 1"]);
    user.run("patch --version | head -n1", &["GNU patch 2.7.6"]);
    user.run("nix-env --switch-generation 2", &["switching profile from version 1 to 2"]);
    user.run("nix-env -e tree", &["uninstalling 'tree-2.1.0'"]);
    user.run("nix-env --list-generations", &["   1 ", "   2 ", "   3 ", "(current)"]);

    // What old generations alone need goes; a collection keeps the rest.
    let (hello, tree) = (path_of(&world, "old.hello"), path_of(&world, "old.tree"));
    user.run("nix-collect-garbage", &["store paths deleted"]);
    assert!(tree.exists() && hello.exists());
    user.run("nix-env --delete-generations old", &["removing profile version 1"]);
    user.run("nix-collect-garbage", &["store paths deleted"]);
    assert!(!tree.exists() && hello.exists());
    user.run("hello; patch --version | head -n1", &["Hello, world!", "GNU patch 2.8"]);

    // In a shell with the environment of a build, and at the language's prompt.
    user.0.press("nix-shell packages.nix -A old.hello\r");
    user.0.wait_within(BUILDS, "[nix-shell:");
    user.0.press("echo $name $(type -t unpackPhase) $NIX_BUILD_TOP\r");
    user.0.wait_for("hello-2.10 function /");
    user.0.press("unpackPhase > /dev/null && ls $sourceRoot/src/hello.c; rm -rf $sourceRoot; exit\r");
    user.0.wait_for("hello-2.10/src/hello.c");
    user.0.wait_for("<00>");
    user.0.press("nix repl -f packages.nix\r");
    user.0.wait_for("nix-repl>");
    user.0.press("old.tr\t.name\r");
    user.0.wait_for("\"tree-2.1.0\"");
    user.0.press(":b new.patch\r");
    user.0.wait_within(BUILDS, "out -> ");
    user.0.press(":q\r");
    user.0.wait_for("<00>");

    // Nothing was lost, and what went comes back as it was.
    user.run("nix-store --verify --check-contents", &[]);
    user.run("nix-env -i tree-2.1.0", &["installing 'tree-2.1.0'"]);
    assert!(tree.exists());
    user.run("tree --noreport .", &["packages.nix"]);
    user.run("nix-env -q", &["hello-2.10", "patch-2.8", "tree-2.1.0"]);
    user.0.press("exit\r");
    assert_eq!(user.0.end().code(), Some(0));
}

/// The output path of a package.
fn path_of(world: &World, attribute: &str) -> PathBuf {
    let args = ["eval", "--raw", "-f", "packages.nix", &format!("{attribute}.outPath")];
    world.run("nix", &args).success().stdout_text().into()
}

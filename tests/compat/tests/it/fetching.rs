//! `fetchGit` and `fetchTree`: the trees that Nix makes too, and repositories that mean harm.

use firn_testkit::{World, has_reference};
use std::io::Write;
use std::process::{Command, Stdio};

struct Repository {
    world: World,
}

impl Repository {
    fn new() -> Self {
        let world = World::new().conf("extra-experimental-features = nix-command flakes fetch-tree");
        let repository = Self { world };
        repository.git(&["init", "-q", "-b", "main", "."]);
        repository.git(&["config", "user.email", "a@b"]);
        repository.git(&["config", "user.name", "A"]);
        repository.world.write("repo/file", "first\n");
        repository.world.write("repo/dir/script", "#!/bin/sh\n");
        std::os::unix::fs::symlink("file", repository.dir().join("link")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(repository.dir().join("dir/script"), mode).unwrap();
        repository.git(&["add", "."]);
        repository.git(&["commit", "-qm", "one"]);
        repository
    }

    fn dir(&self) -> std::path::PathBuf {
        self.world.work_dir().join("repo")
    }

    fn command(&self, args: &[&str]) -> Command {
        std::fs::create_dir_all(self.dir()).unwrap();
        let mut command = self.world.command("/usr/bin/git");
        let time = "2020-01-02T03:04:05Z";
        command
            .current_dir(self.dir())
            .args(args)
            .env("GIT_AUTHOR_DATE", time)
            .env("GIT_COMMITTER_DATE", time);
        command
    }

    fn git(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A member of what a call gives.
    #[track_caller]
    fn get(&self, call: &str, member: &str) -> String {
        let expression = format!("toString ({call}).{member}");
        let run = self.world.run("nix", &["eval", "--impure", "--raw", "--expr", &expression]);
        run.success().stdout_text()
    }

    #[track_caller]
    fn fails(&self, call: &str, expected: &str) {
        let run =
            self.world.run("nix", &["eval", "--impure", "--raw", "--expr", &format!("({call}).outPath")]);
        let said = run.stderr_text();
        assert!(run.code() != Some(0) && said.contains(expected), "{said}");
    }
}

#[test]
fn commits_and_working_trees() {
    let repository = Repository::new();
    let rev = repository.git(&["rev-parse", "HEAD"]);
    let tree = "builtins.fetchGit ./repo";
    assert_eq!(repository.get(tree, "rev"), rev);
    assert_eq!(repository.get(tree, "shortRev"), rev[..7]);
    assert_eq!(
        (repository.get(tree, "revCount"), repository.get(tree, "lastModifiedDate")),
        ("1".into(), "20200102030405".into())
    );
    let clean = repository.get(tree, "outPath");
    assert_eq!(std::fs::read_link(format!("{clean}/link")).unwrap(), std::path::Path::new("file"));
    // Changes that Git tracks count, other files do not.
    repository.world.write("repo/file", "second\n");
    repository.world.write("repo/untracked", "x");
    let dirty = repository.get(tree, "outPath");
    assert_ne!(dirty, clean);
    assert_eq!(std::fs::read_to_string(format!("{dirty}/file")).unwrap(), "second\n");
    assert!(!std::path::Path::new(&dirty).join("untracked").exists());
    assert_eq!(repository.get(tree, "dirtyRev"), format!("{rev}-dirty"));
    assert_eq!(repository.get(tree, "rev"), "0".repeat(40));
    let by_rev = format!("builtins.fetchGit {{ url = ./repo; rev = \"{rev}\"; }}");
    assert_eq!(repository.get(&by_rev, "outPath"), clean);
    // The same from a bare repository, which is fetched from, and through fetchTree.
    repository.git(&["clone", "-q", "--bare", ".", "../bare.git"]);
    let url = format!("file://{}/bare.git", repository.world.work_dir().display());
    assert_eq!(repository.get(&format!("builtins.fetchGit \"{url}\""), "outPath"), clean);
    let of_tree = format!("builtins.fetchTree {{ type = \"git\"; url = \"{url}\"; ref = \"main\"; }}");
    assert_eq!(repository.get(&of_tree, "outPath"), clean);
    let nowhere = "0123456789012345678901234567890123456789";
    repository.fails(&format!("builtins.fetchGit {{ url = ./repo; rev = \"{nowhere}\"; }}"), nowhere);
    let hash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let wrong = format!("builtins.fetchGit {{ url = ./repo; rev = \"{rev}\"; narHash = \"{hash}\"; }}");
    repository.fails(&wrong, "NAR hash mismatch in input");
    let option = [
        "eval",
        "--impure",
        "--raw",
        "--allow-dirty",
        "--no-allow-dirty",
        "--expr",
        "(fetchGit ./repo).outPath",
    ];
    let said = repository.world.run("nix", &option).fails(1).stderr_text();
    assert!(said.contains("is dirty"), "{said}");
}

#[test]
fn files_that_are_not_exported() {
    let repository = Repository::new();
    repository.world.write("repo/.gitattributes", "dir export-ignore\n");
    repository.git(&["config", "core.splitIndex", "true"]);
    repository.git(&["add", "."]);
    repository.git(&["commit", "-qm", "two"]);
    repository.git(&["clone", "-q", "--bare", ".", "../bare.git"]);
    let rev = repository.git(&["rev-parse", "HEAD"]);
    let before: Vec<_> = std::fs::read_dir(repository.dir().join(".git")).unwrap().collect();
    let bare = format!("\"file://{}/bare.git\"", repository.world.work_dir().display());
    for url in ["./repo", &bare] {
        let tree = |more: &str| {
            let call = format!("builtins.fetchGit {{ url = {url}; rev = \"{rev}\"; {more} }}");
            std::path::PathBuf::from(repository.get(&call, "outPath"))
        };
        assert!(tree("").join("file").exists() && !tree("").join("dir").exists());
        assert!(tree("exportIgnore = false;").join("dir/script").exists());
    }
    assert_eq!(std::fs::read_dir(repository.dir().join(".git")).unwrap().count(), before.len());
}

#[test]
fn nix_makes_the_same_trees() {
    if !has_reference() {
        println!("SKIPPED: there is no Nix to compare with");
        return;
    }
    let repository = Repository::new();
    repository.world.write("repo/.gitattributes", "* text=auto eol=crlf\n*.id ident\n");
    repository.world.write("repo/x.id", "$Id$\n");
    repository.git(&["add", "."]);
    repository.git(&["commit", "-qm", "two"]);
    let rev = repository.git(&["rev-parse", "HEAD"]);
    let call =
        format!("builtins.fetchTree {{ type = \"path\"; path = \"{}/dir\"; }}", repository.dir().display());
    for (call, member) in [
        (call.as_str(), "outPath"),
        (call.as_str(), "narHash"),
        (&format!("builtins.fetchGit {{ url = ./repo; rev = \"{rev}\"; }}"), "revCount"),
        (&format!("builtins.fetchGit {{ url = ./repo; rev = \"{rev}\"; }}"), "lastModifiedDate"),
    ] {
        let ours = repository.get(call, member);
        let output = repository
            .world
            .command("/usr/bin/nix")
            .args(["eval", "--impure", "--raw", "--expr", &format!("toString ({call}).{member}")])
            .output()
            .unwrap();
        assert_eq!(ours, String::from_utf8_lossy(&output.stdout), "{call}: {output:?}");
    }
    // Older versions let Git change the ends of lines; newer ones take what is in the repository, as firn does.
    let path = repository.get(&format!("builtins.fetchGit {{ url = ./repo; rev = \"{rev}\"; }}"), "outPath");
    assert_eq!(std::fs::read_to_string(format!("{path}/x.id")).unwrap(), "$Id$\n");
}

#[test]
fn repositories_cannot_write_elsewhere() {
    let repository = Repository::new();
    let object = |kind: &str, content: &[u8]| {
        let mut child = repository
            .command(&["hash-object", "-t", kind, "-w", "--literally", "--stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let raw = |hash: &str| -> Vec<u8> {
        (0..20).map(|at| u8::from_str_radix(&hash[at * 2..at * 2 + 2], 16).unwrap()).collect()
    };
    let entry =
        |mode: &str, name: &str, hash: &str| [format!("{mode} {name}\0").into_bytes(), raw(hash)].concat();
    let blob = object("blob", b"written by the tree");
    let outside = object("blob", repository.world.work_dir().to_string_lossy().as_bytes());
    let inner = object("tree", &entry("100644", "harm", &blob));
    for (tree, expected) in [
        ([entry("120000", "a", &outside), entry("40000", "a", &inner)].concat(), "below a symlink"),
        (entry("40000", "..", &inner), "forbidden name"),
        (entry("40000", ".git", &inner), "forbidden name"),
    ] {
        let tree = object("tree", &tree);
        let commit = repository.git(&["commit-tree", "-m", "x", &tree]);
        repository.fails(&format!("builtins.fetchGit {{ url = ./repo; rev = \"{commit}\"; }}"), expected);
        assert!(!repository.world.work_dir().join("harm").exists());
    }
}

/// What expressions that work with and without flakes look for.
#[test]
fn builtins_of_features_that_are_off() {
    let world = World::new();
    let text = |features: &str, expression: &str| {
        let run =
            world.run("nix-instantiate", &["--experimental-features", features, "--eval", "-E", expression]);
        format!("{}{}", run.stdout_text(), run.stderr_text().lines().last().unwrap_or_default())
    };
    assert_eq!(text("", "builtins ? fetchTree"), "false\n");
    assert_eq!(text("fetch-tree", "builtins ? fetchTree"), "true\n");
    assert_eq!(text("flakes", "builtins ? fetchTree"), "true\n");
    // Those about flakes are there, and say what they lack when they are called.
    let off = "       error: experimental Nix feature 'flakes' is disabled; add '--extra-experimental-features flakes' to enable it";
    assert_eq!(text("", "builtins ? getFlake && builtins ? parseFlakeRef"), "true\n");
    assert_eq!(text("", "builtins.getFlake \"git+file:///none\""), off);
    assert_eq!(text("", "builtins.parseFlakeRef \"github:a/b\""), off);
    assert_eq!(text("", "(builtins.parseFlakeRef \"git+file:///none\").type"), "\"git\"\n");
    // As are inputs whose attributes may still change.
    for input in ["type = \"path\"; path = \"/none\"", "type = \"github\"; owner = \"a\"; repo = \"b\""] {
        assert_eq!(text("fetch-tree", &format!("builtins.fetchTree {{ {input}; }}")), off, "{input}");
    }
}

/// Names mean what flags and the global registry say, and nothing of the user's own.
#[test]
fn names_of_registries() {
    let repository = Repository::new();
    let world = &repository.world;
    let dir = repository.dir().display().to_string();
    let registry = |to: &str| {
        format!(r#"{{"version":2,"flakes":[{{"from":{{"type":"indirect","id":"known"}},"to":{to}}}]}}"#)
    };
    world.write("global.json", &registry(&format!(r#"{{"type":"git","url":"file://{dir}"}}"#)));
    let own = registry(&format!(r#"{{"type":"path","path":"{dir}/dir"}}"#)).replace("known", "mine");
    world.write("home/.config/nix/registry.json", &own);
    let global = world.work_dir().join("global.json").display().to_string();
    let eval = |args: &[&str], expression: &str| {
        let all = ["eval", "--raw", "--flake-registry", &global, "--expr", expression];
        world.run("nix", &[&all[..], args].concat())
    };
    let rev = repository.git(&["rev-parse", "HEAD"]);
    for call in [
        r#"{ type = "indirect"; id = "known"; }"#,
        r#""flake:known""#,
        r#""flake:known/main""#,
        &format!(r#"{{ type = "indirect"; id = "known"; ref = "main"; rev = "{rev}"; }}"#),
    ] {
        let run = eval(&["--impure"], &format!("(builtins.fetchTree {call}).rev")).success();
        assert_eq!(run.stdout_text(), rev, "{call}");
    }
    let flag = ["--impure", "--override-flake", "other", &format!("path:{dir}/dir")];
    let run = eval(&flag, r#"builtins.readFile (builtins.fetchTree "flake:other" + "/script")"#).success();
    assert_eq!(run.stdout_text(), "#!/bin/sh\n");
    let fails = |args: &[&str], call: &str, expected: &str| {
        let said = eval(args, &format!("(builtins.fetchTree {call}).outPath")).stderr_text();
        assert_eq!(said.lines().last().unwrap_or_default().trim_start(), expected, "{call}");
    };
    for name in ["mine", "unknown"] {
        let expected = format!("error: cannot find flake 'flake:{name}' in the flake registries");
        fails(&["--impure"], &format!(r#""flake:{name}""#), &expected);
    }
    let pure = "error: in pure evaluation mode, 'fetchTree' doesn't fetch unlocked input 'flake:known'";
    fails(&[], r#"{ type = "indirect"; id = "known"; }"#, pure);
    // Where little is allowed, what counts is where a name leads.
    let uri = format!("git+file://{dir}");
    let restricted = |uri| ["--impure", "--restrict-eval", "--allowed-uris", uri];
    eval(&restricted(&uri), r#"(builtins.fetchTree "flake:known").rev"#).success();
    let forbidden = format!("error: access to URI '{uri}' is forbidden in restricted mode");
    fails(&restricted("flake:known"), r#""flake:known""#, &forbidden);
    // A text is a URL, and not what people type.
    for text in ["known", "./repo", &dir] {
        fails(&["--impure"], &format!("{text:?}"), &format!("error: '{text}' doesn't have a scheme"));
    }
}

#[test]
fn commits_are_hashes() {
    let repository = Repository::new();
    let url = format!("file://{}", repository.dir().display());
    let length = |rev: &str| format!("error: hash '{rev}' has wrong length for hash algorithm 'sha1'");
    for rev in ["", "main", "refs/heads/main", "abcdef0123"] {
        let git = format!("builtins.fetchGit {{ url = \"{url}\"; rev = \"{rev}\"; }}");
        repository.fails(&git, &length(rev));
        let tree = format!("builtins.fetchTree {{ type = \"path\"; path = \"/none\"; rev = \"{rev}\"; }}");
        repository.fails(&tree, &length(rev));
        let input = format!("git+{url}?rev={rev}");
        let run = repository.world.run("nix", &["flake", "prefetch", "--flake-registry", "", &input]);
        assert!(run.stderr_text().contains(&length(rev)), "{}", run.stderr_text());
    }
}

/// Repositories may name what they hold by SHA-256.
#[test]
fn commits_with_long_names() {
    let repository = Repository::new();
    std::fs::remove_dir_all(repository.dir().join(".git")).unwrap();
    repository.git(&["init", "-q", "-b", "main", "--object-format=sha256", "."]);
    repository.git(&["add", "."]);
    repository.git(&["-c", "user.email=a@b", "-c", "user.name=A", "commit", "-qm", "one"]);
    let rev = repository.git(&["rev-parse", "HEAD"]);
    let url = format!("file://{}", repository.dir().display());
    for more in [String::new(), "ref = \"main\";".into(), format!("rev = \"{rev}\";")] {
        assert_eq!(
            repository.get(&format!("builtins.fetchGit {{ url = \"{url}\"; {more} }}"), "rev"),
            rev,
            "{more}"
        );
    }
}

#[test]
fn nobody_says_that_an_input_is_final() {
    let repository = Repository::new();
    let dir = repository.dir().display().to_string();
    repository.fails(
        &format!("builtins.fetchGit {{ url = \"file://{dir}\"; __final = true; }}"),
        &format!(
            "error: input 'git+file://{dir}?exportIgnore=1' is not allowed to use the '__final' attribute"
        ),
    );
    let path = |value: &str| {
        format!("builtins.fetchTree {{ type = \"path\"; path = \"{dir}\"; __final = {value}; }}")
    };
    repository.fails(
        &path("true"),
        &format!("error: input 'path:{dir}' is not allowed to use the '__final' attribute"),
    );
    repository.fails(&path("1"), "error: input attribute '__final' is not a Boolean");
    repository.get(&path("false"), "outPath");
}

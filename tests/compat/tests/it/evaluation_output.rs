//! What evaluation prints: values as JSON, positions, warnings.

use firn_testkit::World;

#[test]
fn json_of_nix_instantiate() {
    let world = World::new();
    world.write("file", "text");
    let json = |flags: &[&str], expression: &str| {
        world.run("nix-instantiate", &[&["--eval", "--json"], flags, &["-E", expression]].concat())
    };
    let copied = json(&[], "[ ./file ]").success().stdout_text();
    assert!(
        copied.starts_with("[\"") && copied.ends_with("-file\"]\n") && copied.contains("/store/"),
        "{copied}"
    );
    let lazy = json(&[], "{ a = 1 + 1; }").fails(1).stderr_text();
    assert!(lazy.contains("error: cannot convert a thunk to JSON"), "{lazy}");
    assert_eq!(json(&["--strict"], "{ a = 1 + 1; }").success().stdout_text(), "{\"a\":2}\n");
    // `nix eval` evaluates everything, and copies nothing.
    let path = world.work_dir().join("file");
    let run = world.run("nix", &["eval", "--impure", "--json", "--expr", "[ (1 + 1) ./file ]"]).success();
    assert_eq!(run.stdout_text(), format!("[2,\"{}\"]\n", path.display()));
}

#[test]
fn computed_sets_have_no_positions() {
    let world = World::new();
    let text = "let column = set: (builtins.unsafeGetAttrPos \"a\" set).column or null; in map column [
      { a = 1; }
        ({ a = 1; } // { b = 1; })
      (builtins.mapAttrs (name: value: value) { a = 1; })
      (builtins.mapAttrs (name: value: value) { a = 1; } // { b = 1; })
      (builtins.zipAttrsWith (name: values: values) [ { a = 1; } ])
    ]";
    world.write("positions.nix", text);
    let run = world.run("nix-instantiate", &["--eval", "--strict", "positions.nix"]).success();
    assert_eq!(run.stdout_text(), "[ 9 12 null null null ]\n");
}

#[test]
fn warnings_of_expressions() {
    let world = World::new();
    let expression = "builtins.warn \"one\\n  two\" 1";
    let run = world.run("nix-instantiate", &["--eval", "-E", expression]).success();
    assert_eq!(run.stderr_text(), "evaluation warning: one\n                      two\n");
    // No line ends in spaces, and there are none of these alone at the end.
    let expression = "builtins.warn \"\\none \\n\\n two \\n \\n\" 1";
    let run = world.run("nix-instantiate", &["--eval", "-E", expression]).success();
    assert_eq!(
        run.stderr_text(),
        "evaluation warning:\n                    one\n\n                     two\n"
    );
}

/// What is a level of `max-call-depth`: calls, operators that the reference has as builtins, comparing, becoming a
/// string, and calling `__functor`. It shows in where the level stands that is one too many.
#[test]
fn levels_of_recursion() {
    let world = World::new();
    for (expression, last) in [
        ("let f = n: n + f (n + 1); in f 0", [16, 16]),
        ("let f = n: n - f (n + 1); in f 0", [14, 16]),
        ("let f = n: n < f (n + 1); in f 0", [14, 16]),
        ("let f = n: -(f (n + 1)); in f 0", [12, 14]),
        ("let f = n: if n < 0 then 0 else f (n + 1); in f 0", [17, 17]),
        ("let f = n: toString (f (n + 1)); in f 0", [22, 12]),
        ("let f = n: builtins.elem n [ (f (n + 1)) ]; in f 0", [31, 12]),
        ("let s = { __functor = self: n: self (n + 1); }; in s 0", [11, 32]),
    ] {
        for (depth, column) in ["20", "21"].iter().zip(last) {
            let flags = ["--eval", "--option", "max-call-depth", depth, "-E", expression];
            let text = world.run("nix-instantiate", &flags).fails(1).stderr_text();
            let end =
                format!("error: stack overflow; max-call-depth exceeded\n       at «string»:1:{column}:");
            assert!(text.contains(&end), "{expression} with {depth}: {text}");
        }
    }
    // Comparing has no place, so the last one is where its value is used.
    let expression = "let f = n: if n == -1 then 0 else f (n + 1); in f 0";
    let flags = ["--eval", "--option", "max-call-depth", "20", "-E", expression];
    let text = world.run("nix-instantiate", &flags).fails(1).stderr_text();
    let (_, end) = text.split_once("while evaluating a branch condition").expect("the condition's note");
    assert!(end.contains("error: stack overflow; max-call-depth exceeded"), "{text}");
}

#[test]
fn flake_references() {
    let world = World::new().conf("extra-experimental-features = flakes");
    let eval = |expression: &str| world.run("nix-instantiate", &["--eval", "--strict", "-E", expression]);
    let parsed =
        eval("builtins.parseFlakeRef \"github:NixOS/nixpkgs/23.05?dir=lib\"").success().stdout_text();
    let attrs =
        "{ dir = \"lib\"; owner = \"NixOS\"; ref = \"23.05\"; repo = \"nixpkgs\"; type = \"github\"; }";
    assert_eq!(parsed, format!("{attrs}\n"));
    let shown = eval(&format!("builtins.flakeRefToString {attrs}")).success().stdout_text();
    assert_eq!(shown, "\"github:NixOS/nixpkgs/23.05?dir=lib\"\n");
    for (expression, message) in [
        ("builtins.parseFlakeRef \"./x\"", "flake reference './x' is not an absolute path"),
        ("builtins.flakeRefToString { a = [ ]; }", "but attribute 'a' is a list"),
        ("builtins.flakeRefToString { a = -1; }", "negative value given for flake ref attr a: -1"),
    ] {
        let text = eval(expression).fails(1).stderr_text();
        assert!(text.contains(message), "{expression}: {text}");
    }
    let warned = eval("builtins.parseFlakeRef \"github:a/b?x\"").success().stderr_text();
    assert!(warned.contains("dubious URI query 'x' is missing equal sign '=', ignoring"), "{warned}");
}

#[test]
fn values_as_files() {
    let world = World::new();
    let write = |expression: &str| world.run("nix", &["eval", "--write-to", "out", "--expr", expression]);
    write("{ x = \"foo\"; y.z = \"bla\"; }").success();
    let read = |name: &str| std::fs::read_to_string(world.work_dir().join(name)).expect("a file");
    assert_eq!((read("out/x"), read("out/y/z")), ("foo".to_owned(), "bla".to_owned()));
    assert!(write("\"x\"").fails(1).stderr_text().contains("path 'out' already exists"));
    for (expression, message) in [
        ("{ x = 1; }", "value at '«string»:1:3' is not a string or an attribute set"),
        ("{ \"..\" = \"x\"; }", "invalid file name '..'"),
        ("{ \"a/b\" = \"x\"; }", "invalid file name 'a/b'"),
    ] {
        std::fs::remove_dir_all(world.work_dir().join("out")).expect("a folder");
        let text = write(expression).fails(1).stderr_text();
        assert!(text.contains(message) && text.contains("while evaluating the attribute"), "{text}");
    }
}

/// Figures are what Nix 2.34.8 says.
#[test]
fn what_is_no_list_is_told_by_where_it_stands() {
    let world = World::new();
    for (function, columns) in [
        ("x: { a = 1; }", &["1", "24"][..]),
        ("x: { ${x} = 1; }", &["1", "24"]),
        ("x: { b = 2; } // { }", &["1", "24"]),
        ("x: y: x", &["1", "24"]),
        ("x: x", &["1", "21"]),
        // What is made of other sets, or by a builtin, stands nowhere.
        ("x: { a = 1; } // { b = 1; }", &["1"]),
        ("x: builtins.listToAttrs [ ]", &["1"]),
    ] {
        let expression = format!("builtins.concatMap ({function}) [ \"c\" ]");
        let run = world.run("nix-instantiate", &["--eval", "-E", &expression]).fails(1);
        let text = run.stderr_text();
        let found: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("at «string»:1:")?.strip_suffix(':'))
            .collect();
        assert_eq!(found, columns, "{text}");
    }
}

#[test]
fn channels_stand_behind_every_search_path() {
    let world = World::new().env("NIX_PATH", "a=/b");
    let channels = world.path("var/nix/profiles/per-user").join("root").join("channels");
    std::fs::create_dir_all(&channels).expect("a folder");
    let entry = |path: &str, prefix: &str| format!("{{ path = \"{path}\"; prefix = \"{prefix}\"; }}");
    let last = entry(&channels.display().to_string(), "");
    let shown = |flags: &[&str]| {
        let args = [&["--eval", "--strict"], flags, &["-E", "builtins.nixPath"]].concat();
        world.run("nix-instantiate", &args).success().stdout_text()
    };
    assert_eq!(shown(&[]), format!("[ {} {last} ]\n", entry("/b", "a")));
    assert_eq!(shown(&["--nix-path", ""]), format!("[ {last} ]\n"));
    assert_eq!(shown(&["-I", "x=/y"]), format!("[ {} {} {last} ]\n", entry("/y", "x"), entry("/b", "a")));
    assert_eq!(shown(&["--restrict-eval"]), format!("[ {} ]\n", entry("/b", "a")));
    assert_eq!(shown(&["--pure-eval"]), "[ ]\n");
    let setting =
        world.run("nix", &["--extra-experimental-features", "nix-command", "config", "show", "nix-path"]);
    assert_eq!(setting.success().stdout_text(), "a=/b\n");
}

#[test]
fn arguments_that_a_file_lacks() {
    let world = World::new();
    let said = |text: &str| {
        world.write("file.nix", text);
        world.run("nix-instantiate", &["file.nix"]).fails(1).stderr_text()
    };
    // Where the argument is named.
    let all = said("{\n  first ? 1,\n  second,\n}:\nsecond");
    assert!(all.contains("an argument without a value ('second')") && all.contains("file.nix:3:3:"), "{all}");
    // What takes more than it names is called, and fails then.
    let some = said("{ first, ... }: first");
    assert!(
        some.contains("error: function 'anonymous lambda' called without required argument 'first'"),
        "{some}"
    );
    assert!(some.contains("… from call site\n"), "{some}");
}

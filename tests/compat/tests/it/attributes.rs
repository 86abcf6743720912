//! A walk through the attributes that steer builds: `attributes.nix` has a derivation for each, in environment and
//! structured form, and `attributes.txt` what Nix 2.34.8 makes of it: exit status, output, references and error.

use firn_testkit::World;
use std::fs;
use std::path::Path;

const CASES: &str = include_str!("attributes.nix");
const EXPECTED: &str = include_str!("attributes.txt");

fn world(features: &str) -> World {
    let conf = "sandbox = false\ncores = 3\nsystem-features = benchmark big-parallel\n";
    let world = World::new().conf(&format!("{conf}{features}")).env("FOO", "foo");
    world.write("cases.nix", CASES);
    world.write("small.txt", "small\n");
    world
}

/// Without what differs from store to store.
fn comparable(world: &World, text: &str) -> String {
    let store = world.path("store").display().to_string();
    let mut out = String::new();
    let text = text.replace(&store, "STORE").replace(&format!("{}-linux", std::env::consts::ARCH), "SYSTEM");
    let mut rest = text.as_str();
    while let Some(at) = rest.find("STORE/") {
        let (before, after) = rest.split_at(at + "STORE/".len());
        out.push_str(before);
        rest = after;
        if after.len() > 32 && after.as_bytes()[32] == b'-' {
            out.push_str("HASH");
            rest = &after[32..];
        }
    }
    out.push_str(rest);
    out
}

/// The words of a graph, whose order, sizes and hashes differ from store to store.
fn words(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "/+=._-".contains(c);
    let counts = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let all =
        text.split(|c| !is_word(c)).filter(|word| !counts(word) && *word != "sha256" && word.len() != 52);
    let mut all: Vec<&str> = all.collect();
    all.sort_unstable();
    all.join(" ") + "\n"
}

fn contents(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lines(out: &mut String, mark: &str, text: &str) {
    if !text.is_empty() {
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            out.push_str(format!("{mark} {line}").trim_end());
            out.push('\n');
        }
    }
}

/// What became of a case.
fn outcome(world: &World, name: &str) -> String {
    let run = world.run("nix-build", &["cases.nix", "--no-out-link", "-A", name]);
    let mut out = format!("exit {}\n", run.code().unwrap_or(-1));
    let paths = run.stdout_text();
    let all: String = paths.split_whitespace().map(|path| contents(Path::new(path))).collect();
    let builds = format!("{}/nix-", world.path("var/nix/builds").display());
    assert!(!all.contains(&builds), "{name}: the place of the build is no business of the output's");
    let all = comparable(world, &all);
    let graph = name.starts_with("graph") && !all.is_empty();
    lines(&mut out, ">", &if graph { words(&all) } else { all });
    if run.code() == Some(0) {
        let args: Vec<&str> = ["-q", "--references"].into_iter().chain(paths.split_whitespace()).collect();
        let references = comparable(world, &world.run("nix-store", &args).success().stdout_text());
        let mut references: Vec<&str> = references.lines().collect();
        references.sort_unstable();
        references.iter().for_each(|path| lines(&mut out, "refs", path));
    } else {
        let said = comparable(world, &run.stderr_text());
        let error = &said[said.rfind("error:").unwrap_or_default()..];
        // More than Nix tells.
        let error = error.split("       Shown is how").next().unwrap_or_default();
        // How large a closure is depends on how long the store's name is.
        let (before, size) = error.split_once(" too large at ").unwrap_or((error, ""));
        match size.split_once(' ').filter(|_| before.contains("closure")) {
            Some((_, after)) => lines(&mut out, "!", format!("{before} too large at N {after}").trim()),
            None => lines(&mut out, "!", error.trim()),
        }
    }
    out
}

/// Compares all cases with these names; those that want features end in a plus.
#[track_caller]
fn check(features: &str, wanted: impl Fn(&str) -> bool) {
    let world = world(features);
    let mut wrong = String::new();
    let mut count = 0;
    for case in EXPECTED.split("== ").skip(1) {
        let (name, expected) = case.split_once('\n').expect("a name");
        if wanted(name) {
            count += 1;
            let found = outcome(&world, name.trim_end_matches('+'));
            if found != expected {
                wrong += &format!("== {name}\nexpected:\n{expected}found:\n{found}");
            }
        }
    }
    assert!(count > 10, "{count} cases");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn environment_graphs_and_files() {
    let names = ["env", "drv", "ignore", "graph", "file", "st"];
    check("", |name| !name.ends_with('+') && names.iter().any(|n| name.split('-').next() == Some(n)));
}

#[test]
fn checks_of_outputs() {
    let names = ["ar", "aq", "dr", "dq", "oc", "ud"];
    check("", |name| !name.ends_with('+') && names.iter().any(|n| name.split('-').next() == Some(n)));
}

#[test]
fn scheduling_and_kinds() {
    let others = ["env", "drv", "ignore", "graph", "file", "st", "ar", "aq", "dr", "dq", "oc", "ud"];
    check("", |name| !name.ends_with('+') && others.iter().all(|n| name.split('-').next() != Some(n)));
}

#[test]
fn kinds_behind_features() {
    let features = "experimental-features = nix-command ca-derivations dynamic-derivations impure-derivations \
                    git-hashing auto-allocate-uids cgroups configurable-impure-env blake3-hashes";
    check(features, |name| name.ends_with('+'));
}

//! `--log-format internal-json`: messages of evaluation, with their places and the steps that led to errors, as Nix 2.34.8
//! has them (`json_messages.txt`). `FIRN_JSON_REFERENCE` holds the words before a `nix` to compare with, which must see the
//! folder for temporary files at the same place.

use firn_testkit::World;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const CASES: &str = include_str!("json_messages.nix");
const EXPECTED: &str = include_str!("json_messages.txt");

/// Every case, by name.
fn names() -> Vec<&'static str> {
    let names = CASES.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(" = "));
    names.map(|(name, _)| name).filter(|name| name.len() > 1 && !name.starts_with(' ')).collect()
}

/// The messages, one a line, members in order; without colours (names in messages have some in Nix) and what differs
/// from place to place.
fn messages(dir: &Path, log: &str) -> String {
    let mut out = String::new();
    for line in log.lines().filter_map(|line| line.strip_prefix("@nix ")) {
        let mut message: Value = serde_json::from_str(line).expect("JSON");
        message.sort_all_objects();
        let text = without_colours(&message.to_string()).replace(&dir.display().to_string(), "DIR");
        // Nix has a file for what is built in here, and warns where there are no build users.
        if message["action"] == "msg" && !text.contains("«nix-internal»") && !text.contains("nixbld") {
            out += &text;
            out.push('\n');
        }
    }
    out
}

fn without_colours(json: &str) -> String {
    let mut parts = json.split("\\u001b[");
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(|part| part.split_once('m').expect("a colour").1).collect::<String>()
}

fn cases(text: &str) -> BTreeMap<String, String> {
    let mut cases = BTreeMap::new();
    let mut name = "";
    for line in text.lines() {
        match line.strip_prefix("== ") {
            Some(next) => name = next,
            None => cases.entry(name.to_owned()).or_insert_with(String::new).extend([line, "\n"]),
        }
    }
    cases
}

#[test]
fn messages_of_evaluation() {
    let world = World::new().conf("experimental-features = nix-command");
    world.write("cases.nix", CASES);
    for (name, text) in [
        ("broken.nix", "{ a = ; }\n"),
        ("one.nix", "1\n"),
        ("dir/default.nix", "import ../one.nix\n"),
        ("x.nix", "x\n"),
        ("never.nix", "1\n"),
        ("throws.nix", "throw \"from a file\"\n"),
    ] {
        world.write(name, text);
    }
    std::os::unix::fs::symlink("one.nix", world.work_dir().join("link.nix")).expect("a link");
    let dir = world.work_dir();
    let file = dir.join("cases.nix").display().to_string();
    let other = std::env::var("FIRN_JSON_REFERENCE").unwrap_or_default();
    let mut all = String::new();
    for name in names() {
        for (flags, suffix) in [(["-v", "--show-trace"], " with its trace"), (["-v", "--no-show-trace"], "")]
        {
            let mut args = vec!["eval", "-f", &file, name, "--log-format", "internal-json"];
            args.extend(flags);
            let log = match other.is_empty() {
                true => world.run("nix", &args).stderr_text(),
                false => reference(&other, &args),
            };
            all += &format!("== {name}{suffix}\n{}", messages(&dir, &log));
        }
    }
    if !other.is_empty() {
        println!("{all}");
    }
    for (name, expected) in cases(EXPECTED) {
        assert_eq!(cases(&all).get(&name), Some(&expected), "{name}");
    }
    assert_eq!(cases(&all).len(), cases(EXPECTED).len());
}

#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn reference(words: &str, args: &[&str]) -> String {
    let mut words = words.split_whitespace();
    let mut command = std::process::Command::new(words.next().expect("a command"));
    command.args(words).args(["nix", "--extra-experimental-features", "nix-command", "--store", "dummy://"]);
    let output = command.args(args).output().expect("the reference runs");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

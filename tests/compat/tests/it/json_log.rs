//! `--log-format internal-json`: what readers of such logs go by is as Nix 2.34.8 writes it for the same build.

use firn_testkit::World;
use serde_json::Value;
use std::collections::BTreeMap;

const EXPRESSION: &str = r#"
let
  make = name: deps: script: derivation {
    inherit name deps;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "PATH=/usr/bin:/bin; ${script}" ];
  };
  a = make "a-1.0" [ ] ''
    echo '@nix {"action":"setPhase","phase":"buildPhase"}'; echo building a; echo done >&2; echo > $out'';
  b = make "b-1.0" [ a ] ''
    printf 'one\ntwo\rthree\n'; printf '\033[31mred\033[0m\n'; echo > $out'';
in {
  good = make "top" [ a b ] "echo top; echo > $out";
  bad = make "bad" [ a ] "echo failing; exit 3";
}
"#;

/// Store paths without what comes before their names.
fn short(world: &World, text: &str) -> String {
    let store = format!("{}/", world.path("store").display());
    let mut parts = text.split(&store);
    let first = parts.next().unwrap_or_default().to_owned();
    // A hash and a dash.
    first + &parts.map(|part| part.get(33..).unwrap_or(part)).collect::<String>()
}

/// What happened. Left out is what Nix repeats as it likes: counts of work while none is done, and the question what is
/// missing.
fn events(world: &World, log: &str) -> Vec<String> {
    let mut known: BTreeMap<u64, String> = BTreeMap::new();
    let mut events = Vec::new();
    for line in log.lines() {
        let text = line.strip_prefix("@nix ").unwrap_or_else(|| panic!("no message: {line}"));
        let message: Value = serde_json::from_str(text).expect("JSON");
        let number = |key: &str| message[key].as_u64().unwrap_or_default();
        let fields = message["fields"].as_array().cloned().unwrap_or_default();
        let shown =
            |field: &Value| field.as_str().map_or_else(|| field.to_string(), |text| short(world, text));
        let fields: Vec<String> = fields.iter().map(shown).collect();
        let fields = fields.join(" ");
        let kind = number("type");
        let text = |key: &str| short(world, message[key].as_str().expect("a text"));
        match message["action"].as_str().expect("an action") {
            "start" => {
                let name = fields.split(' ').next().unwrap_or_default();
                known.insert(number("id"), format!("{kind} {name}").trim_end().to_owned());
                let (level, parent, text) = (number("level"), number("parent"), text("text"));
                events.push(format!("start {kind} at {level} in {parent}: {text} [{fields}]"));
            }
            "stop" => events.push(format!("stop {}", known.remove(&number("id")).expect("it was started"))),
            "result" => {
                let of = &known[&number("id")];
                let running = fields.split(' ').nth(2).is_some_and(|count| count != "0");
                if kind != 106 && (kind != 105 || running) {
                    events.push(format!("{of} tells {kind}: {fields}"));
                }
            }
            "msg" => {
                let members =
                    message.as_object().expect("members").keys().cloned().collect::<Vec<_>>().join(" ");
                events.push(format!("at {}: {} ({members})", number("level"), text("msg")));
            }
            other => panic!("{other}"),
        }
    }
    assert!(known.is_empty(), "{known:?} never ended");
    events.retain(|event| !event.starts_with("start 0 ") && event != "stop 0");
    events
}

#[track_caller]
fn check(attribute: &str, expected: &[&str]) {
    let world = World::new().conf("sandbox = false\nexperimental-features = nix-command");
    world.write("default.nix", EXPRESSION);
    let flags = ["build", "--no-link", "-f", ".", attribute, "--log-format", "internal-json"];
    let run = world.run("nix", &flags);
    assert_eq!(events(&world, &run.stderr_text()), expected);
}

const BEGIN: [&str; 3] = ["start 102 at 0 in 0:  []", "start 104 at 0 in 0:  []", "start 103 at 0 in 0:  []"];
/// What a build ends with that fails.
const ERROR: &str = "at 0: \u{1b}[31;1merror:\u{1b}[0m Cannot build '\u{1b}[35;1mbad.drv\u{1b}[0m'.\n       \
                     Reason: \u{1b}[31;1mbuilder failed with exit code 3\u{1b}[0m.\n       \
                     Output paths:\n         \u{1b}[35;1mbad\u{1b}[0m \
                     (action column file level line msg raw_msg)";
const END: [&str; 3] = ["stop 103", "stop 104", "stop 102"];

#[test]
fn a_build_of_three() {
    let before = [
        "at 3: these 3 derivations will be built: (action level msg)",
        "at 3:   a-1.0.drv (action level msg)",
        "at 3:   b-1.0.drv (action level msg)",
        "at 3:   top.drv (action level msg)",
    ];
    let builds = [
        "start 105 at 3 in 0: building 'a-1.0.drv' [a-1.0.drv  1 1]",
        "104 tells 105: 0 3 1 0",
        "105 a-1.0.drv tells 104: buildPhase",
        "105 a-1.0.drv tells 101: building a",
        "105 a-1.0.drv tells 101: done",
        "stop 105 a-1.0.drv",
        "start 105 at 3 in 0: building 'b-1.0.drv' [b-1.0.drv  1 1]",
        "104 tells 105: 1 3 1 0",
        "105 b-1.0.drv tells 101: one",
        "105 b-1.0.drv tells 101: three",
        "105 b-1.0.drv tells 101: \u{1b}[31mred\u{1b}[0m",
        "stop 105 b-1.0.drv",
        "start 105 at 3 in 0: building 'top.drv' [top.drv  1 1]",
        "104 tells 105: 2 3 1 0",
        "105 top.drv tells 101: top",
        "stop 105 top.drv",
    ];
    check("good", &[before.as_slice(), &BEGIN, &builds, &END].concat());
}

#[test]
fn a_build_that_fails() {
    let before = [
        "at 3: these 2 derivations will be built: (action level msg)",
        "at 3:   a-1.0.drv (action level msg)",
        "at 3:   bad.drv (action level msg)",
    ];
    let builds = [
        "start 105 at 3 in 0: building 'a-1.0.drv' [a-1.0.drv  1 1]",
        "104 tells 105: 0 2 1 0",
        "105 a-1.0.drv tells 104: buildPhase",
        "105 a-1.0.drv tells 101: building a",
        "105 a-1.0.drv tells 101: done",
        "stop 105 a-1.0.drv",
        "start 105 at 3 in 0: building 'bad.drv' [bad.drv  1 1]",
        "104 tells 105: 1 2 1 0",
        "105 bad.drv tells 101: failing",
        "stop 105 bad.drv",
    ];
    check("bad", &[before.as_slice(), &BEGIN, &builds, &END, &[ERROR]].concat());
}

/// Programs that are older than `nix` end with a message like all others too, whichever way it is to be shown.
#[test]
fn the_last_word_of_older_programs() {
    let world = World::new().conf("sandbox = false");
    world.write("default.nix", EXPRESSION);
    let run = world.run("nix-build", &["--no-out-link", "-A", "bad", "--log-format", "internal-json"]);
    assert_eq!(events(&world, &run.stderr_text()).last().map(String::as_str), Some(ERROR));
    let file = world.path("log.json");
    let path = file.display().to_string();
    let run = world.run("nix-build", &["--no-out-link", "-A", "bad", "--option", "json-log-path", &path]);
    assert!(run.stderr_text().contains("error: Cannot build"), "{}", run.stderr_text());
    let log: String =
        std::fs::read_to_string(&file).unwrap().lines().map(|line| format!("@nix {line}\n")).collect();
    assert_eq!(events(&world, &log).last().map(String::as_str), Some(ERROR));
}

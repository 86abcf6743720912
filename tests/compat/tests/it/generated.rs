//! Expressions made at random, and what firn and Nix make of them: the same value, or both an error.
//!
//! `FIRN_FUZZ_CASES` says how many (2,000), `FIRN_FUZZ_SEED` where to begin, `FIRN_FUZZ_REFERENCE` the words of a command
//! before `nix-instantiate` that runs another Nix than that in `PATH`. With `FIRN_FUZZ_MESSAGES=1`, for the version that firn
//! equals, also what errors say is the same: message, places, and notes.

use crate::grammar::Grammar;
use firn_testkit::{World, has_reference};
use std::process::{Command, Stdio};

/// So many in one file.
const AT_ONCE: usize = 200;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One evaluator.
struct Evaluator<'a> {
    world: &'a World,
    /// What stands before the program's arguments.
    words: Vec<String>,
    file: &'a str,
}

/// What became of an expression: what it is as XML, or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Value(String),
    Error(String),
}

impl Outcome {
    fn shown(&self) -> &str {
        match self {
            Outcome::Value(text) | Outcome::Error(text) => text,
        }
    }
}

impl Evaluator<'_> {
    /// Evaluates all in one program. The values, or the place of the first that fails with what was said.
    fn try_all(&self, expressions: &[&String]) -> Result<Vec<String>, (usize, String)> {
        let mut text = String::from(
            "let show = n: e: let r = builtins.tryEval (builtins.trace n (builtins.toXML e)); \
             in if r.success then r.value else \"thrown\"; in [\n",
        );
        for (place, expression) in expressions.iter().enumerate() {
            text += &format!("(show \"{MARK}{place}\" ({expression}))\n");
        }
        text += "]\n";
        let file = self.world.write(self.file, &text);
        #[expect(clippy::disallowed_methods, reason = "tests run programs")]
        let mut command = Command::new(&self.words[0]);
        let output = command
            .args(&self.words[1..])
            .args(["--eval", "--strict", "--json", "--read-write-mode", "--store", "dummy://"])
            .arg(&file)
            .env("HOME", self.world.path("home"))
            .env("NIX_PATH", "")
            .env("NIX_CONF_DIR", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .expect("the evaluator starts");
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout).expect("JSON"));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let mut marks = said.lines().filter_map(|line| line.strip_prefix("trace: ")?.strip_prefix(MARK));
        let last = marks.next_back().and_then(|number| number.trim().parse().ok());
        let mut error: Vec<&str> = said.lines().filter(|line| !line.starts_with("trace: ")).collect();
        error.retain(|line| !line.trim().is_empty());
        Err((last.unwrap_or_else(|| panic!("nothing was evaluated: {said}")), error.join("\n")))
    }

    /// What becomes of each.
    fn all(&self, expressions: &[String]) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; expressions.len()];
        loop {
            let open: Vec<usize> =
                (0..expressions.len()).filter(|&place| outcomes[place].is_none()).collect();
            let texts: Vec<&String> = open.iter().map(|&place| &expressions[place]).collect();
            match self.try_all(&texts) {
                Err((place, error)) => outcomes[open[place]] = Some(Outcome::Error(error)),
                Ok(values) => {
                    assert_eq!(values.len(), open.len());
                    for (place, value) in open.into_iter().zip(values) {
                        outcomes[place] = Some(Outcome::Value(value));
                    }
                    return outcomes.into_iter().flatten().collect();
                }
            }
        }
    }
}

/// What is printed before each, with its place.
const MARK: &str = "evaluating number ";

/// Whether two values are the same. Older versions of Nix print whole floats in JSON without a point.
fn same(ours: &str, theirs: &str, old: bool) -> bool {
    ours == theirs || (old && ours.replace(".0", "") == theirs.replace(".0", ""))
}

#[test]
fn generated_expressions_have_the_same_values() {
    if !has_reference() {
        println!("SKIPPED: there is no Nix to compare with");
        return;
    }
    let world = World::new();
    let firn = firn_testkit::program_dir().join("nix-instantiate").display().to_string();
    let other = std::env::var("FIRN_FUZZ_REFERENCE").unwrap_or_default();
    let mut words: Vec<String> = other.split_whitespace().map(str::to_owned).collect();
    words.push("nix-instantiate".to_owned());
    let messages = setting("FIRN_FUZZ_MESSAGES", 0) != 0;
    // Messages name the file.
    let ours = Evaluator { world: &world, words: vec![firn], file: "cases.nix" };
    let theirs = Evaluator { world: &world, words, file: "cases.nix" };
    let cases = setting("FIRN_FUZZ_CASES", 2_000);
    let seed = setting("FIRN_FUZZ_SEED", 1);
    let mut grammar = Grammar::new(seed);
    let mut differences = Vec::new();
    let (mut done, mut errors) = (0, 0);
    while done < cases {
        let expressions: Vec<String> = (0..AT_ONCE).map(|_| grammar.expression()).collect();
        done += AT_ONCE as u64;
        let (ours, theirs) = (ours.all(&expressions), theirs.all(&expressions));
        for ((expression, ours), theirs) in expressions.iter().zip(ours).zip(theirs) {
            errors += u64::from(matches!(theirs, Outcome::Error(_)));
            let same = match (&ours, &theirs) {
                (Outcome::Value(a), Outcome::Value(b)) => same(a, b, other.is_empty()),
                (Outcome::Error(a), Outcome::Error(b)) => !messages || a == b,
                _ => false,
            };
            if !same {
                differences.push(format!(
                    "{expression}\n  firn: {}\n  Nix:  {}",
                    ours.shown(),
                    theirs.shown()
                ));
            }
        }
        assert!(differences.len() < 20, "{}", differences.join("\n\n"));
    }
    println!("{done} expressions, {errors} of them errors");
    assert!(errors * 4 < done, "the grammar makes too many errors: {errors} of {done}");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

//! Lock files that others wrote.

use super::*;
use firn_core::flake_ref::ParseContext;
use proptest::prelude::*;

fn parse(text: &[u8]) -> Result<(LockFile, Vec<String>), LockFileError> {
    let mut said = Vec::new();
    let mut warn = |message: &str| said.push(message.to_owned());
    let mut rules = ReadRules { trust_forges: true, has_feature: &|_| true, warn: &mut warn };
    let lock = LockFile::parse(text, "flake.lock", &mut rules)?;
    Ok((lock, said))
}

const GOOD: &str = r#"{
  "nodes": {
    "a": {
      "flake": false,
      "inputs": {
        "b": [
          "b"
        ]
      },
      "locked": {
        "dir": "sub",
        "lastModified": 1,
        "narHash": "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "owner": "o",
        "repo": "r",
        "rev": "0123456789012345678901234567890123456789",
        "type": "github"
      },
      "original": {
        "dir": "sub",
        "owner": "o",
        "repo": "r",
        "type": "github"
      }
    },
    "b": {
      "locked": {
        "path": "./b",
        "type": "path"
      },
      "original": {
        "path": "./b",
        "type": "path"
      },
      "parent": []
    },
    "root": {
      "inputs": {
        "a": "a",
        "b": "b"
      }
    }
  },
  "root": "root",
  "version": 7
}"#;

#[test]
fn round() {
    let (lock, said) = parse(GOOD.as_bytes()).expect("good");
    assert_eq!(lock.to_text(), GOOD);
    assert_eq!(said, [""; 0]);
    assert_eq!(lock.unlocked(true, false), None);
}

#[test]
fn version_5() {
    let text = r#"{"version":5,"root":"root","nodes":{"root":{"inputs":{"a":"a"}},"a":{"inputs":{},
        "info":{"narHash":"sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","lastModified":7},
        "locked":{"type":"path","path":"/a"},"original":{"type":"indirect","id":"a"}}}}"#;
    let (lock, _) = parse(text.as_bytes()).expect("good");
    let node = lock.find(&InputPath(vec!["a".to_owned()])).expect("no circle").expect("there");
    let locked = lock.node(node).locked.as_ref().expect("locked");
    assert_eq!(locked.locked.input.number("lastModified"), Some(7));
}

#[test]
fn bad() {
    let check = |text: &str, expected: &str| {
        let error = parse(text.as_bytes()).map(drop).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    let one = |node: &str| {
        format!(r#"{{"version":7,"root":"root","nodes":{{"root":{{"inputs":{{"a":"a"}}}},"a":{node}}}}}"#)
    };
    check("", "Could not parse 'flake.lock': ");
    check("<<<<<<< HEAD\n{}", "Could not parse 'flake.lock': ");
    check("[]", "the file is not an object");
    check("{}", "has unsupported version 0");
    check(r#"{"version":8,"root":"root","nodes":{}}"#, "has unsupported version 8");
    check(r#"{"version":"7"}"#, "'version' is not a number");
    check(r#"{"version":7}"#, "'root' is not a string");
    check(r#"{"version":7,"root":"root"}"#, "'nodes' is not an object");
    check(
        r#"{"version":7,"root":"root","nodes":{"root":{"inputs":[]}}}"#,
        "'inputs' of node 'root' is not an object",
    );
    check(
        r#"{"version":7,"root":"root","nodes":{"root":{"inputs":{"a":"x"}}}}"#,
        "references missing node 'x'",
    );
    check(r#"{"version":7,"root":"root","nodes":{"root":{"inputs":{"a":1}}}}"#, "input 'a' of node 'root'");
    check(r#"{"version":7,"root":"root","nodes":{"root":{"inputs":{"a":"root"}}}}"#, "cycle to root node");
    check(&one("{}"), "attribute 'locked' missing in lock file");
    check(&one(r#"{"locked":{"type":"path","path":"/a"}}"#), "attribute 'original' missing in lock file");
    check(&one(r#"{"locked":{"path":"/a"},"original":{}}"#), "in node 'a': 'type' attribute");
    check(&one(r#"{"locked":{"type":"path","path":-1},"original":{}}"#), "'locked.path' of node 'a'");
    let unlocked = r#"{"locked":{"type":"path","path":"/a"},"original":{"type":"path","path":"/a"}}"#;
    check(&one(unlocked), "Lock file contains unlocked input '{\"path\":\"/a\",\"type\":\"path\"}'");
    let flake =
        r#"{"flake":1,"locked":{"type":"path","path":"./a"},"original":{"type":"path","path":"./a"}}"#;
    check(&one(flake), "'flake' of node 'a' is not a Boolean");
}

#[test]
fn deep() {
    let mut nodes = serde_json::Map::new();
    for number in 0..2000 {
        let original = serde_json::json!({ "type": "path", "path": "./a" });
        let node = serde_json::json!({
            "locked": original, "original": original, "inputs": { "a": format!("{}", number + 1) },
        });
        nodes.insert(number.to_string(), node);
    }
    let text = serde_json::json!({ "version": 7, "root": "0", "nodes": nodes }).to_string();
    let error = parse(text.as_bytes()).map(drop).expect_err("too deep");
    assert!(matches!(error, LockFileError::TooDeep { .. }), "{error}");
}

proptest! {
    /// Whatever is done to a good file, the answer is a lock file or an error.
    #[test]
    fn mutations(at in 0..GOOD.len(), len in 0usize..40, new in proptest::collection::vec(any::<u8>(), 0..12)) {
        let end = (at + len).min(GOOD.len());
        let text = [&GOOD.as_bytes()[..at], &new, &GOOD.as_bytes()[end..]].concat();
        if let Ok((lock, _)) = parse(&text) {
            let again = parse(lock.to_text().as_bytes());
            let _ = lock.check();
            let _ = lock.diff(&LockFile::default());
            prop_assert!(again.is_ok_and(|(again, _)| again == lock));
        }
    }

    #[test]
    fn any_reference(text in ".{0,60}") {
        let mut context = ParseContext { has_feature: &|_| true, warnings: Vec::new() };
        if let Ok(reference) = FlakeRef::parse(text.as_bytes(), &mut context) {
            let _ = reference.shown();
            let _ = reference.canonical();
        }
    }
}

#[test]
fn differences() {
    let (old, _) = parse(GOOD.as_bytes()).expect("good");
    let new = GOOD.replace("\"lastModified\": 1", "\"lastModified\": 86401");
    let (new, _) = parse(new.as_bytes()).expect("good");
    let text = old.diff(&new);
    assert!(text.starts_with("• \x1b[1mUpdated input 'a':\x1b[0m\n    'github:o/r/0123"), "{text}");
    assert!(text.contains(" (1970-01-01)\n  → 'github:"), "{text}");
    assert!(text.contains(" (1970-01-02)\n"), "{text}");
    let text = old.diff(&LockFile::default());
    assert!(text.contains("• \x1b[31;1mRemoved input 'a/b'\x1b[0m\n"), "{text}");
    assert!(LockFile::default().diff(&old).contains("Added input 'a/b':\x1b[0m\n    follows 'b'\n"));
}

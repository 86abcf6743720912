//! Text that nobody would write: an error or a value in bounded time, and never a crash.

use crate::host::{MemoryHost, evaluate};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DEPTH: usize = 100_000;

/// The first line of what a text gives, in reasonable time.
#[track_caller]
fn first_line(text: &str) -> String {
    let start = Instant::now();
    let found = evaluate(Arc::new(MemoryHost::default()), text);
    assert!(start.elapsed() < Duration::from_secs(60), "too slow");
    found.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn nesting() {
    let nested = [
        ("(", "1", ")"),
        ("[", "", "]"),
        ("{a=", "1", ";}"),
        ("let a=1; in ", "a", ""),
        ("x: ", "x", ""),
        ("!", "true", ""),
        ("if true then 1 else ", "2", ""),
        ("with {}; ", "1", ""),
        ("assert true; ", "1", ""),
        ("[]++", "[]", ""),
        ("\"${", "\"\"", "}\""),
        ("1+(", "1", ")"),
    ];
    for (open, middle, close) in nested {
        for close in [close, ""] {
            let text = format!("{}{middle}{}", open.repeat(DEPTH), close.repeat(DEPTH));
            let found = first_line(&text);
            assert!(found.starts_with("error: expression nests more than"), "{open}: {found}");
        }
    }
}

#[test]
fn length() {
    assert_eq!(first_line(&format!("1{}", "+1".repeat(DEPTH))), (DEPTH + 1).to_string());
    let path = vec!["a"; DEPTH].join(".");
    assert_eq!(first_line(&format!("{path} or 1")), "error: undefined variable 'a'");
    let set = format!("builtins.length (builtins.attrNames {{ {path} = 1; }})");
    assert_eq!(first_line(&set), "1");
    let literal = format!("builtins.stringLength \"{}\"", "a".repeat(10_000_000));
    assert_eq!(first_line(&literal), "10000000");
}

#[test]
fn size() {
    let list = "builtins.length (builtins.genList (x: x) 1000000000000)";
    assert_eq!(first_line(list), "error: out of memory: a list of 1000000000000 elements");
    let list = "builtins.length (builtins.genList (x: x) 2000000000000)";
    assert_eq!(first_line(list), "error: cannot create list of size 2000000000000");
}

#[test]
fn bytes() {
    let cases = [
        ("\u{feff}1", "error: syntax error, unexpected invalid token"),
        ("é", "error: syntax error, unexpected invalid token"),
        ("{ a = \0; }", "error: syntax error, unexpected end of file"),
        (
            "\"a\0b\"",
            "error: input string 'a␀b' cannot be represented as Nix string because it contains null bytes",
        ),
        (
            "''a\0b''",
            "error: input string 'a␀b' cannot be represented as Nix string because it contains null bytes",
        ),
        ("{\r a = 1;\r\n b = 2;\r}.c", "error: attribute 'c' missing"),
    ];
    for (text, expected) in cases {
        assert_eq!(first_line(text), expected, "{text:?}");
    }
}

#[test]
fn cycles() {
    for text in [
        "let a = { b = a; }; in builtins.toJSON a",
        "let l = [ l ]; in builtins.toXML l",
        "let f = n: { a = f (n + 1); }; in builtins.deepSeq (f 0) 1",
    ] {
        assert_eq!(first_line(text), "error: stack overflow; max-call-depth exceeded", "{text}");
    }
}

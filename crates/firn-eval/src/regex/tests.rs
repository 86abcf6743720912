//! Results below were checked against libstdc++ (`std::regex`, flag `extended`, strict escapes).

use super::*;
use std::time::{Duration, Instant};

fn spans(captures: &Captures) -> String {
    let span = |group: &Option<(usize, usize)>| match group {
        Some((start, end)) => format!("{start}-{end}"),
        None => "x".to_owned(),
    };
    captures.iter().map(span).collect::<Vec<_>>().join(",")
}

/// `m SPANS` or `n` for the match of the whole text, then each match within it after a bar; or the error.
fn describe(pattern: &[u8], text: &[u8]) -> String {
    let regex = match Regex::new(pattern) {
        Ok(regex) => regex,
        Err(RegexError::MemoryLimit) => return "space".to_owned(),
        Err(RegexError::Invalid(_)) => return "invalid".to_owned(),
    };
    let mut out = match regex.full_match(text).expect("within limits") {
        Some(captures) => format!("m {}", spans(&captures)),
        None => "n".to_owned(),
    };
    for captures in regex.find_iter(text) {
        out.push_str(" | ");
        out.push_str(&spans(&captures.expect("within limits")));
    }
    out
}

#[track_caller]
fn check(pattern: &str, text: &str, expected: &str) {
    assert_eq!(describe(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
}

#[test]
fn longest_match_and_first_captures() {
    check("(a|ab)", "xabab", "n | 1-3,1-3 | 3-5,3-5");
    check("(a|ab)(c|bcd)(d*)", "abcd", "m 0-4,0-1,1-4,4-4 | 0-4,0-1,1-4,4-4");
    check("(a*)(ab)*(b*)", "abb", "m 0-3,0-1,x,1-3 | 0-3,0-1,x,1-3 | 3-3,3-3,x,3-3");
    check("a|b", "b", "m 0-1 | 0-1");
    check("(a)|(b)", "b", "m 0-1,x,0-1 | 0-1,x,0-1");
    check("((a)|(b))*", "ab", "m 0-2,1-2,0-1,1-2 | 0-2,1-2,0-1,1-2 | 2-2,x,x,x");
}

#[test]
fn empty_matches() {
    check("a*", "baac", "n | 0-0 | 1-3 | 3-3 | 4-4");
    check("()*|b", "b", "m 0-1,x | 0-1,x | 1-1,1-1");
    check("", "ab", "n | 0-0 | 1-1 | 2-2");
    check("^", "ab", "n | 0-0");
    check("$", "ab", "n | 2-2");
    check("^a", "aa", "n | 0-1");
    check("(a?)*", "aa", "m 0-2,2-2 | 0-2,2-2 | 2-2,2-2");
    check("(a|b*)+c", "abc", "m 0-3,2-2 | 0-3,2-2");
}

#[test]
fn intervals() {
    check("a{2}", "aaa", "n | 0-2");
    check("(a{1,2}){2}", "aaa", "m 0-3,2-3 | 0-3,2-3");
    check("(ab){0}c", "c", "m 0-1,x | 0-1,x");
    check("a{2,}", "aaaa", "m 0-4 | 0-4");
    for pattern in ["a{2,1}", "a{,2}", "a{", "a{1", "a{1,", "a{x}", "a{}", "{1}", "a{99999999999}"] {
        check(pattern, "a", "invalid");
    }
    check("a{100001}", "a", "space");
    check("((a{1000}){1000}){1000}", "a", "space");
}

#[test]
fn brackets() {
    check("[]a]+", "]a", "m 0-2 | 0-2");
    check("[^]a]", "]ab", "n | 2-3");
    check("[a\\]", "\\", "m 0-1 | 0-1");
    check("[a-]+", "a-", "m 0-2 | 0-2");
    check("[-a]+", "a-", "m 0-2 | 0-2");
    check("[[:alpha:]_]+", "a_1", "n | 0-2");
    check("[[=a=]]+", "aA", "m 0-2 | 0-2");
    check("[[.hyphen.][.a.]]+", "a-", "m 0-2 | 0-2");
    check("[[]", "[", "m 0-1 | 0-1");
    check("[+--]", ",", "m 0-1 | 0-1");
    for pattern in
        ["[b-a]", "[a", "[[:foo:]]", "[[.xx.]]", "[[:alpha:]-z]", "[a-c-e]", "[[:alpha", "[a-[:alpha:]]"]
    {
        check(pattern, "a", "invalid");
    }
    assert_eq!(describe(b"[\x80-\xff]+", b"\x85\xfe"), "m 0-2 | 0-2");
    assert_eq!(describe(b"[\x80-a]+", b"\xfe\0Aa"), "m 0-4 | 0-4");
}

#[test]
fn escapes_and_specials() {
    check("a\\.b", "a.b", "m 0-3 | 0-3");
    check("}]", "}]", "m 0-2 | 0-2");
    check("\\\\", "\\", "m 0-1 | 0-1");
    for pattern in ["\\d", "\\}", "\\]", "a\\", "*", "a|*b", "(", ")", "(a", "a)", "^*"] {
        check(pattern, "a", "invalid");
    }
    check("a|", "a", "m 0-1 | 0-1 | 1-1");
    assert_eq!(describe(b".", b"\0"), "n");
    assert_eq!(describe(b"[^a]", b"\n"), "m 0-1 | 0-1");
}

#[track_caller]
fn check_quick(pattern: &str, text: &[u8]) {
    let start = Instant::now();
    let regex = Regex::new(pattern.as_bytes()).expect("compiles");
    let _ = regex.full_match(text).expect("within limits");
    let _ = regex.find_iter(text).count();
    assert!(start.elapsed() < Duration::from_secs(10), "{pattern} took {:?}", start.elapsed());
}

#[test]
fn no_exponential_time_and_no_recursion() {
    let many = b"a".repeat(20_000);
    for pattern in
        ["(a*)*b", "(a|aa)+b", "(a?){50}a{50}b", "((a*)*)*b", "(.*)(.*)(.*)x", ".*a*b", "(a|b|ab)*c"]
    {
        check_quick(pattern, &many);
    }
    let nested = format!("{}a{}", "(".repeat(10_000), ")*".repeat(10_000));
    let _ = Regex::new(nested.as_bytes()).map(|regex| regex.full_match(b"aaa"));
}

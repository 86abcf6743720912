//! Tables of expressions with their values or errors.

use crate::host::{MemoryHost, evaluate};
use std::sync::Arc;

fn run(table: &str, mut check: impl FnMut(&str, &str) -> Option<String>) {
    let cases: Vec<(&str, &str)> =
        table.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once("\t\t")).collect();
    assert!(cases.len() > 20, "the table is empty");
    let wrong: Vec<String> = cases.into_iter().filter_map(|(text, expected)| check(text, expected)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn values() {
    run(include_str!("cases/language.txt"), |text, expected| {
        let found = evaluate(Arc::new(MemoryHost::default()), text);
        (found != expected).then(|| format!("{text}\n  expected {expected}\n  found    {found}"))
    });
}

#[test]
fn errors() {
    run(include_str!("cases/errors.txt"), |text, expected| {
        let found = evaluate(Arc::new(MemoryHost::default()), text);
        let first = found.lines().next().unwrap_or_default();
        (first != format!("error: {expected}"))
            .then(|| format!("{text}\n  expected error: {expected}\n  found    {first}"))
    });
}

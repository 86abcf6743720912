//! Names and versions of packages.

use super::{Entry, entry};
use crate::attrs::AttrsBuilder;
use crate::error::EvalResult;
use crate::source::Pos;
use crate::value::{Value, ValueVec};
use crate::vm::Vm;
use firn_syntax::sym;
use std::cmp::Ordering;

pub(super) const TABLE: &[Entry] = &[
    entry("parseDrvName", 1, parse_drv_name),
    entry("compareVersions", 2, compare_versions),
    entry("splitVersion", 1, split_version),
];

/// Splits `name-version` at the first dash that is not followed by a letter.
pub fn split_name(full: &[u8]) -> (&[u8], &[u8]) {
    for (i, pair) in full.windows(2).enumerate() {
        if pair[0] == b'-' && !pair[1].is_ascii_alphabetic() {
            return (&full[..i], &full[i + 1..]);
        }
    }
    (full, b"")
}

/// The next component of a version: a run of digits or of other characters, without dots and dashes.
fn next_component<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let start = rest.iter().position(|c| *c != b'.' && *c != b'-').unwrap_or(rest.len());
    *rest = &rest[start..];
    let Some(first) = rest.first() else { return b"" };
    let digits = first.is_ascii_digit();
    let end = rest
        .iter()
        .position(|c| c.is_ascii_digit() != digits || (!digits && (*c == b'.' || *c == b'-')))
        .unwrap_or(rest.len());
    let (component, after) = rest.split_at(end);
    *rest = after;
    component
}

/// A number, if the text is one of at most 32 bits: larger ones, such as dates with a time, count as text.
fn number(text: &[u8]) -> Option<i32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn component_less(a: &[u8], b: &[u8]) -> bool {
    let (x, y) = (number(a), number(b));
    match (x, y) {
        (Some(x), Some(y)) => x < y,
        _ if a.is_empty() && y.is_some() => true,
        _ if a == b"pre" && b != b"pre" => true,
        _ if b == b"pre" => false,
        // A number is newer than text.
        (None, Some(_)) => true,
        (Some(_), None) => false,
        _ => a < b,
    }
}

/// Compares versions as `nix-env` and `builtins.compareVersions` do.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() || !b.is_empty() {
        let (x, y) = (next_component(&mut a), next_component(&mut b));
        if component_less(x, y) {
            return Ordering::Less;
        }
        if component_less(y, x) {
            return Ordering::Greater;
        }
    }
    Ordering::Equal
}

fn parse_drv_name(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument passed to builtins.parseDrvName";
    let full = vm.string_no_context(args[0], pos, what)?;
    let (name, version) = split_name(full.as_bytes());
    let mut out = AttrsBuilder::with_capacity(2);
    out.push(sym!("name"), Value::str(name));
    out.push(sym!("version"), Value::str(version));
    Ok(out.finish())
}

fn compare_versions(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument passed to builtins.compareVersions";
    let a = vm.string_no_context(args[0], pos, what)?;
    let what = "while evaluating the second argument passed to builtins.compareVersions";
    let b = vm.string_no_context(args[1], pos, what)?;
    Ok(Value::int(match compare(a.as_bytes(), b.as_bytes()) {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }))
}

fn split_version(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument passed to builtins.splitVersion";
    let version = vm.string_no_context(args[0], pos, what)?;
    let mut rest = version.as_bytes();
    let mut out = ValueVec::default();
    while !rest.is_empty() {
        let component = next_component(&mut rest);
        if component.is_empty() {
            break;
        }
        out.push(Value::str(component));
    }
    Ok(out.to_list())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order() {
        for (a, b) in [
            ("1.0", "2.3"),
            ("2.1", "2.3"),
            ("2.3", "2.3.1"),
            ("2.3pre1", "2.3"),
            ("2.3pre3", "2.3pre12"),
            ("2.3a", "2.3c"),
            ("2.3pre1", "2.3c"),
            ("2.3pre1", "2.3q"),
        ] {
            assert_eq!(compare(a.as_bytes(), b.as_bytes()), Ordering::Less, "{a} {b}");
            assert_eq!(compare(b.as_bytes(), a.as_bytes()), Ordering::Greater, "{b} {a}");
        }
    }

    #[test]
    fn names_split() {
        for (full, name, version) in
            [("nix-0.12pre12876", "nix", "0.12pre12876"), ("a-b-c", "a-b-c", ""), ("x-", "x-", "")]
        {
            assert_eq!(split_name(full.as_bytes()), (name.as_bytes(), version.as_bytes()));
        }
    }
}

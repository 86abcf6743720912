//! Results with a heap so small that the collector runs all the time.

use crate::host::{MemoryHost, evaluate};
use std::sync::Arc;

#[track_caller]
fn check(text: &str, value: &str) {
    firn_eval::set_collector_limits(Some(256 << 10), Some(5));
    assert_eq!(evaluate(Arc::new(MemoryHost::default()), text), value);
}

#[test]
fn lists_and_sets_of_json_that_are_not_closed_yet() {
    let rows = (0..30_000).map(|i| format!("{{\"n\":{i},\"s\":\"text {i}\",\"l\":[{i},[\"{i}\"]]}}"));
    let text = format!("[{}]", rows.collect::<Vec<_>>().join(","));
    let sum = 30_000 * 29_999 / 2;
    check(
        &format!(
            "let rows = builtins.fromJSON ''{text}''; add = builtins.foldl' (a: b: a + b) 0; in
             [ (add (map (r: r.n) rows))
               (add (map (r: builtins.head r.l) rows))
               (builtins.all (r: r.s == \"text ${{toString r.n}}\" && builtins.elemAt r.l 1 == [ (toString r.n) ]) rows) ]"
        ),
        &format!("[ {sum} {sum} true ]"),
    );
}

#[test]
fn frames_that_something_still_refers_to() {
    // Of each call something else stays: a function, a suspended value, a set, the frame of a `let`, or nothing.
    check(
        "let
           go = n: acc: if n == 0 then acc else go (n - 1) ([ (x: x + n) ] ++ (if builtins.length acc > 50 then [ ] else acc));
           lazy = n: let y = n * 2; in { inherit y; z = y + n; };
           chain = n: if n == 0 then 0 else n + chain (n - 1);
           count = builtins.foldl' (a: n: a + (lazy n).z) 0 (builtins.genList (n: n) 40000);
           set = { a, b ? a + 1 }: { c = a + b; d = x: x + b; };
           sets = map (n: set { a = n; }) (builtins.genList (n: n) 20000);
         in [ ((builtins.head (go 2000 [ ])) 1) (chain 5000) count
              (builtins.foldl' (a: s: a + s.c + s.d 1) 0 sets) ]",
        &format!("[ 2 12502500 {} {} ]", 3 * 39_999u64 * 40_000 / 2, 3 * 19_999u64 * 20_000 / 2 + 3 * 20_000),
    );
}

#[test]
fn values_that_builtins_suspended() {
    check(
        "let
           names = builtins.genList (n: \"name-${toString n}\") 3000;
           set = builtins.listToAttrs (map (name: { inherit name; value = builtins.stringLength name; }) names);
           mapped = builtins.mapAttrs (name: n: { inherit name n; }) set;
           zipped = builtins.zipAttrsWith (name: values: { inherit name values; }) [ set set mapped ];
         in [ (builtins.all (name: mapped.${name}.name == name && zipped.${name}.name == name) names)
              (builtins.foldl' (a: name: a + mapped.${name}.n + builtins.head zipped.${name}.values) 0 names)
              (builtins.attrNames set == builtins.attrNames zipped) ]",
        &format!("[ true {} true ]", 2 * (10 * 6 + 90 * 7 + 900 * 8 + 2000 * 9)),
    );
}

#[test]
fn elements_that_were_put_into_their_places() {
    check(
        "let
           list = builtins.genList (n: n * 2) 20000;
           texts = map (n: \"${toString n}.\") list;
           add = builtins.foldl' (a: n: a + n) 0;
           long = builtins.foldl' (a: s: a + builtins.stringLength s) 0;
           both = f: l: f l == f l;
           f = x: x;
           functions = map (g: g) [ f f ];
           parts = builtins.partition (n: n < 5000) list;
         in [ (both add list) (both long texts) (add list) (long texts)
              (add (builtins.filter (n: n >= 39000) list)) (add parts.right + add parts.wrong)
              (builtins.seq (builtins.foldl' (a: g: builtins.seq g a) 0 functions) (functions == functions))
              (functions == map (g: g) functions) (builtins.filter (g: true) functions == functions) ]",
        &format!(
            "[ true true {} {} {} {} true false true ]",
            19_999u64 * 20_000,
            5 * 2 + 45 * 3 + 450 * 4 + 4500 * 5 + 15_000 * 6,
            500 * (39_000 + 39_998) / 2,
            19_999u64 * 20_000
        ),
    );
}

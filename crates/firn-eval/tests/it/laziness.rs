//! What is evaluated, how often, and in which order.

use crate::host::{MemoryHost, evaluate};
use std::sync::Arc;

#[track_caller]
fn check_traces(text: &str, value: &str, traces: &[&str]) {
    let host = Arc::new(MemoryHost::default());
    assert_eq!(evaluate(host.clone(), text), value);
    assert_eq!(*host.said.lock().expect("no panic while locked"), traces);
}

#[test]
fn shared_values_are_computed_once() {
    check_traces("let x = builtins.trace \"x\" 1; in [ x x (x + x) ]", "[ 1 1 2 ]", &["trace: x"]);
    check_traces("let inherit (builtins.trace \"s\" { a = 1; b = 2; }) a b; in a + b", "3", &["trace: s"]);
    check_traces("rec { inherit (builtins.trace \"s\" { a = 1; b = 2; }) a b; }.b", "2", &["trace: s"]);
}

#[test]
fn what_is_not_needed_is_not_computed() {
    check_traces("(a: b: b) (throw \"no\") 2", "2", &[]);
    check_traces("builtins.length [ (throw \"a\") (throw \"b\") ]", "2", &[]);
    check_traces("({ a ? throw \"no\" }: 1) { }", "1", &[]);
    check_traces("{ a = 1; b = throw \"no\"; }.a", "1", &[]);
    check_traces("builtins.attrNames (builtins.mapAttrs (n: v: throw n) { a = 1; })", "[ \"a\" ]", &[]);
}

#[test]
fn failures_stay_failures() {
    check_traces(
        "let x = builtins.trace \"once\" (throw \"e\"); t = builtins.tryEval x; u = builtins.tryEval x; in [ t.success u.success ]",
        "[ false false ]",
        &["trace: once"],
    );
}

#[test]
fn imports_are_computed_once() {
    let mut host = MemoryHost::default();
    host.files.insert(b"/a.nix".to_vec(), b"builtins.trace \"a\" { x = ./b.nix; }".to_vec());
    let host = Arc::new(host);
    assert_eq!(evaluate(host.clone(), "[ (import /a.nix).x (import ./a.nix).x ]"), "[ /b.nix /b.nix ]");
    assert_eq!(*host.said.lock().expect("no panic while locked"), ["trace: a"]);
}

#[test]
fn scoped_imports_see_their_scope() {
    let mut host = MemoryHost::default();
    host.files.insert(b"/a.nix".to_vec(), b"x + map 1".to_vec());
    let text = "builtins.scopedImport { x = 1; map = y: y + 1; } /a.nix";
    assert_eq!(evaluate(Arc::new(host), text), "3");
}

#[test]
fn arguments_that_are_looked_at_first() {
    let trace = "(builtins.trace \"argument\" ";
    // It is computed once, after the function and before anything that the function does.
    check_traces(
        &format!("let f = x: if x == 1 then builtins.trace \"body\" (x + x) else 0; in f {trace} 1)"),
        "2",
        &["trace: argument", "trace: body"],
    );
    check_traces(
        "let f = a: b: if b == 1 then a else 0; in f (builtins.trace \"a\" 3) (builtins.trace \"b\" 1)",
        "3",
        &["trace: b", "trace: a"],
    );
    // What fails is what the function looks at first, whether or not it looks at the rest.
    check_traces("(a: b: if b then a else 1) (throw \"a\") (throw \"b\")", "error: b", &[]);
    check_traces("(a: b: if a then b else 1) (throw \"a\") (throw \"b\")", "error: a", &[]);
    check_traces("(builtins.tryEval ((x: x.a or 1) (throw \"a\"))).success", "false", &[]);
    check_traces("let f = x: x.a; y = f { a = y; }; in y", "error: infinite recursion encountered", &[]);
    // Functions are the same where one variable stands for both, and nowhere else.
    let same = "let f = x: if x == null then 0 else [ ([ x ] == [ x ]) (x == x) ]; in";
    check_traces(&format!("{same} f (builtins.head [ (y: y) ])"), "[ true false ]", &[]);
    check_traces("(x: if x == null then 0 else [ x ] == [ (y: y) ]) (y: y)", "false", &[]);
}

#[test]
fn arguments_that_are_looked_at_first_are_as_deep_as_others() {
    // Each step is two calls, one of them inside of the other's argument.
    let text = |n| format!("let id = x: x; go = n: if n == 0 then 0 else id (go (n - 1)); in go {n}");
    check_traces(&text(4900), "0", &[]);
    check_traces(&text(5100), "error: stack overflow; max-call-depth exceeded", &[]);
}

#[test]
fn large_sets_whose_code_is_made_later() {
    let rest: String = (0..40).map(|i| format!("a{i} = f {i}; ")).collect();
    let scope = "let f = x: x + y; y = 1; s = { z = 5; f = throw \"no\"; }; in ";
    let check = |more: &str, used: &str, value: &str| {
        let text = format!("{scope} let g = v: with s; {{ {rest} {more} }}; in {used}");
        assert_eq!(evaluate(Arc::new(MemoryHost::default()), &text), value, "{more}");
    };
    check("", "(g 1).a7", "8");
    check("", "builtins.length (builtins.attrValues (g 1))", "40");
    // Each use of the code has its own variables.
    check("b = f (v + z);", "[ (g 1).b (g 2).b ]", "[ 7 8 ]");
    check("b = f (let y = 10; w = y + z; in w);", "(g 1).b", "16");
    check("b = f (({ p ? z, ... } @ q: q.r or p) { });", "(g 1).b", "6");
    check("b = f (with { z = 7; v = 8; }; z + v);", "(g 1).b", "9");
    check("b = map (x: f (x + v)) [ z ];", "(g 1).b", "[ 7 ]");
    check("b = f (rec { c = d v; d = x: x + z; }).c;", "(g 1).b", "7");
    check("b = (rec { inherit (s) z; c = f (z + v); }).c;", "(g 3).b", "9");
    // A variable that no set has is told of when it is looked at, as below any `with`.
    check("b = f missing;", "(g 1).a1", "2");
    check("b = f missing;", "(builtins.tryEval (g 1 ? b)).value", "true");
}

#[test]
fn names_of_scoped_imports_in_code_that_is_made_later() {
    let rest: String = (0..40).map(|i| format!("a{i} = toString {i}; ")).collect();
    let mut host = MemoryHost::default();
    host.files.insert(b"/a.nix".to_vec(), format!("with {{ }}; {{ {rest} b = toString (x + 1); }}").into());
    let text = "(builtins.scopedImport { x = 1; } /a.nix).b + (builtins.scopedImport { x = 5; } /a.nix).b";
    assert_eq!(evaluate(Arc::new(host), text), "\"26\"");
}

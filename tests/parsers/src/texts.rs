//! Texts that people write: the language, and `nix.conf`.

use firn_settings::{Settings, load, parse_conf};
use firn_syntax::ast::Node;
use firn_syntax::show::{ShowContext, show};
use firn_syntax::{Ast, ParseOptions, parse, stored};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

pub fn nix(input: &[u8]) -> bool {
    let Ok(tree) = parse(input, ParseOptions { pipe_operators: true, ..Default::default() }) else {
        return false;
    };
    let context = ShowContext { absolute: &|path| [b"/", path].concat(), home: b"/home" };
    let shown = show(&tree, &context);
    // A tree that is kept comes back as it was.
    let mut words = Vec::new();
    stored::write(&tree, &mut words).expect("small enough");
    let again = stored::read(&words).expect("a tree");
    assert_eq!((show(&again, &context), again.free_names()), (shown, tree.free_names()));
    // One that is damaged in a way that no check finds may be anything, but can be looked at.
    let place = (input.len() * 7919) % words.len();
    words[place] ^= 1 << (input.len() % 32);
    if let Some(damaged) = stored::read(&words) {
        damaged.nodes().for_each(|(_, node, _)| look_at(&damaged, node));
    }
    true
}

fn look<T>(found: &T) {
    std::hint::black_box(found);
}

/// Follows what a node refers to, by one step.
fn look_at(tree: &Ast, node: Node) {
    match node {
        Node::Attrs(set) | Node::LegacyLet(set) | Node::Let { bindings: set, .. } => {
            let set = tree.set(set);
            set.attrs.iter().for_each(|attr| look(&(tree.node(attr.value), attr.name.as_bytes())));
        }
        Node::Lambda(index) => look(&(tree.lambda(index), tree.node(tree.lambda(index).body))),
        Node::List(items) | Node::Interp { parts: items, .. } | Node::Call { args: items, .. } => {
            look(&(tree.list(items), tree.list_positions(items)));
        }
        Node::Select { path, .. } | Node::HasAttr { path, .. } => look(&tree.names(path)),
        Node::Str(text) | Node::Path(text) => look(&tree.bytes(text)),
        Node::Var(name) => look(&name.as_bytes()),
        _ => {}
    }
}

pub fn conf(input: &[u8]) -> bool {
    let mut lines = Vec::new();
    // Each file includes itself: there is an end to it.
    let parsed =
        parse_conf(input, Path::new("/x/nix.conf"), &|_| Ok(Some(input.to_vec())), &mut lines).is_ok();
    // The settings read real files that are included: not here.
    if input.windows(7).any(|word| word == b"include") || input.contains(&0) {
        return parsed;
    }
    let environment = |name: &str| match name {
        "NIX_CONFIG" => Some(OsString::from_vec(input.to_vec())),
        "NIX_CONF_DIR" | "HOME" => Some("/nonexistent".into()),
        "NIX_USER_CONF_FILES" => Some(OsString::new()),
        _ => None,
    };
    let loaded: Result<Settings, _> = load(&environment);
    assert!(parsed || loaded.is_err(), "settings come from text that is wrong");
    loaded.is_ok()
}

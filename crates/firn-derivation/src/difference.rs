//! Why two derivations are not the same: their own differences, and those of the inputs that differ, down to where they
//! begin. What differs only because an input does is not a reason, and is left out.

use crate::{Derivation, DerivationOutput, InputNode};
use firn_core::StorePath;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Something that both have and that is not the same, or that only one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub what: What,
    /// Its name where there are several, such as a variable's.
    pub name: String,
    pub before: Option<Vec<u8>>,
    pub after: Option<Vec<u8>>,
}

/// What a [`Fact`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Name,
    System,
    Builder,
    Arguments,
    /// A variable of the environment.
    Variable,
    /// A member of the structured attributes.
    Attribute,
    Output,
    /// A file or folder that is copied to the store.
    Source,
    /// A derivation, with the outputs that are used.
    Input,
}

impl What {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::System => "system",
            Self::Builder => "builder",
            Self::Arguments => "arguments",
            Self::Variable => "variable",
            Self::Attribute => "attribute",
            Self::Output => "output",
            Self::Source => "source",
            Self::Input => "input",
        }
    }
}

/// Two derivations that differ by themselves.
#[derive(Debug)]
pub struct Difference {
    /// Pairs from those that were asked for to these, each an input of the one before.
    pub chain: Vec<(StorePath, StorePath)>,
    pub facts: Vec<Fact>,
}

/// All reasons why two derivations differ, those nearest to them first.
///
/// # Errors
/// What `read` fails with.
pub fn differences<E>(
    before: &StorePath,
    after: &StorePath,
    read: &mut dyn FnMut(&StorePath) -> Result<Derivation, E>,
) -> Result<Vec<Difference>, E> {
    let mut found = Vec::new();
    let mut todo = VecDeque::from([vec![(before.clone(), after.clone())]]);
    let mut seen: BTreeSet<(StorePath, StorePath)> = BTreeSet::new();
    while let Some(chain) = todo.pop_front() {
        let Some((old, new)) = chain.last().cloned() else { continue };
        if old == new || !seen.insert((old.clone(), new.clone())) {
            continue;
        }
        let (old, new) = (read(&old)?, read(&new)?);
        let mut facts = own_facts(&old, &new);
        let (pairs, alone) = pair_inputs(&old, &new);
        facts.extend(alone);
        for pair in pairs {
            todo.push_back([&chain[..], &[pair]].concat());
        }
        if !facts.is_empty() {
            found.push(Difference { chain, facts });
        }
    }
    Ok(found)
}

/// Length of the hash in a store path.
const HASH: usize = 32;

/// Length of a placeholder for an output whose path is not known yet.
const PLACEHOLDER: usize = 52;

fn is_hash_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'd' | b'f'..=b'n' | b'p'..=b's' | b'v'..=b'z')
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte)
}

/// A text with the hashes and versions in store paths, and placeholders, made alike: those are told of as inputs and
/// sources.
fn masked(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        out.push(byte);
        rest = after;
        if byte != b'/' {
            continue;
        }
        let length = rest.iter().take_while(|byte| is_hash_byte(**byte)).count();
        if (length == HASH && rest.get(length) == Some(&b'-')) || length == PLACEHOLDER {
            out.push(b'*');
            rest = &rest[length..];
            if length == HASH {
                let name = rest.iter().take_while(|byte| is_name_byte(**byte)).count();
                let text = String::from_utf8_lossy(&rest[..name]);
                out.extend_from_slice(without_version(&text).as_bytes());
                rest = &rest[name..];
            }
        }
    }
    out
}

struct Facts(Vec<Fact>);

impl Facts {
    fn add(&mut self, what: What, name: &str, before: Option<&[u8]>, after: Option<&[u8]>) {
        let owned = |text: Option<&[u8]>| text.map(<[u8]>::to_vec);
        self.0.push(Fact { what, name: name.to_owned(), before: owned(before), after: owned(after) });
    }

    /// Adds it if it differs by more than hashes.
    fn compare(&mut self, what: What, name: &str, before: Option<&[u8]>, after: Option<&[u8]>) {
        if before.map(masked) != after.map(masked) {
            self.add(what, name, before, after);
        }
    }
}

/// What differs apart from inputs.
fn own_facts(old: &Derivation, new: &Derivation) -> Vec<Fact> {
    let mut facts = Facts(Vec::new());
    facts.compare(What::Name, "", Some(old.name.as_bytes()), Some(new.name.as_bytes()));
    facts.compare(What::System, "", Some(&old.platform), Some(&new.platform));
    facts.compare(What::Builder, "", Some(&old.builder), Some(&new.builder));
    let (args, new_args) = (old.args.join(&b'\n'), new.args.join(&b'\n'));
    facts.compare(What::Arguments, "", Some(&args), Some(&new_args));
    let names: BTreeSet<&Vec<u8>> = old.env.keys().chain(new.env.keys()).collect();
    for name in names {
        let (before, after) = (old.env.get(name), new.env.get(name));
        match (&name[..], before, after) {
            // Said already.
            (b"name" | b"system" | b"builder", Some(_), Some(_)) => {}
            (b"__json", Some(before), Some(after)) => attributes(&mut facts, before, after),
            _ => {
                let text = String::from_utf8_lossy(name);
                facts.compare(What::Variable, &text, before.map(|v| &v[..]), after.map(|v| &v[..]));
            }
        }
    }
    outputs(&mut facts, old, new);
    sources(&mut facts, old, new);
    facts.0
}

fn outputs(facts: &mut Facts, old: &Derivation, new: &Derivation) {
    let names: BTreeSet<&String> = old.outputs.keys().chain(new.outputs.keys()).collect();
    for name in names {
        let (a, b) = (old.outputs.get(name), new.outputs.get(name));
        // The paths of most outputs follow from everything else.
        let follows = matches!(
            (a, b),
            (Some(DerivationOutput::InputAddressed(_)), Some(DerivationOutput::InputAddressed(_)))
        );
        if a != b && !follows {
            let show = |output: Option<&DerivationOutput>| output.map(|output| kind_of(output).into_bytes());
            facts.add(What::Output, name, show(a).as_deref(), show(b).as_deref());
        }
    }
}

/// How the path of an output is found, with its hash where that is known.
fn kind_of(output: &DerivationOutput) -> String {
    match output {
        DerivationOutput::InputAddressed(_) => "input-addressed".to_owned(),
        DerivationOutput::CaFixed(address) => format!("fixed: {address}"),
        DerivationOutput::CaFloating { algo, .. } => format!("content-addressed: {algo}"),
        DerivationOutput::Deferred => "input-addressed, by content-addressed inputs".to_owned(),
        DerivationOutput::Impure { algo, .. } => format!("impure: {algo}"),
    }
}

fn sources(facts: &mut Facts, old: &Derivation, new: &Derivation) {
    let mut come: Vec<&StorePath> = new.input_srcs.difference(&old.input_srcs).collect();
    for path in old.input_srcs.difference(&new.input_srcs) {
        let same_name = come.iter().position(|other| other.name() == path.name());
        let other = same_name.map(|at| come.remove(at).base_name().as_bytes());
        facts.add(What::Source, path.name(), Some(path.base_name().as_bytes()), other);
    }
    for path in come {
        facts.add(What::Source, path.name(), None, Some(path.base_name().as_bytes()));
    }
}

/// Members of structured attributes; the whole text where it is no JSON.
fn attributes(facts: &mut Facts, before: &[u8], after: &[u8]) {
    let parse = |text: &[u8]| match serde_json::from_slice(text) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    };
    let (Some(old), Some(new)) = (parse(before), parse(after)) else {
        return facts.compare(What::Variable, "__json", Some(before), Some(after));
    };
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        };
        let (before, after) = (old.get(name).map(text), new.get(name).map(text));
        facts.compare(What::Attribute, name, before.as_deref(), after.as_deref());
    }
}

/// The name of a package without its version.
fn without_version(name: &str) -> &str {
    let is_end = |at: usize| name[at + 1..].starts_with(|next: char| !next.is_ascii_alphabetic());
    let dash = name.char_indices().find(|&(at, c)| at > 0 && c == '-' && is_end(at));
    dash.map_or(name, |(at, _)| &name[..at])
}

/// The same input of both.
type Pair = (StorePath, StorePath);

/// Inputs of both that are the same package, and those that only one has.
fn pair_inputs(old: &Derivation, new: &Derivation) -> (Vec<Pair>, Vec<Fact>) {
    type Inputs = BTreeMap<StorePath, InputNode>;
    let only = |from: &Inputs, other: &Inputs| -> Vec<StorePath> {
        from.keys().filter(|path| !other.contains_key(*path)).cloned().collect()
    };
    let mut gone = only(&old.input_drvs, &new.input_drvs);
    let mut come = only(&new.input_drvs, &old.input_drvs);
    let mut pairs: Vec<Pair> = Vec::new();
    // The same name first; then the same package in another version.
    let rules: [fn(&str) -> &str; 2] = [|name| name, without_version];
    for rule in rules {
        let key = |path: &StorePath| rule(path.name().strip_suffix(".drv").unwrap_or(path.name())).to_owned();
        gone.retain(|path| {
            let Some(at) = come.iter().position(|other| key(other) == key(path)) else { return true };
            pairs.push((path.clone(), come.remove(at)));
            false
        });
    }
    let show = |drv: &Derivation, path: &StorePath| {
        let outputs = drv.input_drvs.get(path).into_iter().flat_map(|node| &node.outputs);
        let outputs: Vec<&str> = outputs.map(String::as_str).collect();
        format!("{}^{}", path.base_name(), outputs.join(",")).into_bytes()
    };
    let mut facts = Facts(Vec::new());
    // Which outputs are used is a matter of this derivation.
    let both = old.input_drvs.keys().filter(|path| new.input_drvs.contains_key(*path));
    let both = both.map(|path| (path, path)).chain(pairs.iter().map(|(before, after)| (before, after)));
    for (before, after) in both {
        if old.input_drvs[before].outputs != new.input_drvs[after].outputs {
            facts.add(What::Input, before.name(), Some(&show(old, before)), Some(&show(new, after)));
        }
    }
    for path in &gone {
        facts.add(What::Input, path.name(), Some(&show(old, path)), None);
    }
    for path in &come {
        facts.add(What::Input, path.name(), None, Some(&show(new, path)));
    }
    // By name: hashes would change the order from one machine to the other.
    pairs.sort_by(|(a, _), (b, _)| a.name().cmp(b.name()).then_with(|| a.cmp(b)));
    (pairs, facts.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(hash: char, name: &str) -> StorePath {
        StorePath::from_base_name(&format!("{}-{name}", hash.to_string().repeat(32))).unwrap()
    }

    fn drv(name: &str, inputs: &[&StorePath], env: &[(&str, &str)]) -> Derivation {
        let mut drv = Derivation::new(name);
        for input in inputs {
            let mut node = InputNode::default();
            node.outputs.insert("out".into());
            drv.input_drvs.insert((*input).clone(), node);
        }
        drv.env.extend(env.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())));
        drv
    }

    #[track_caller]
    fn check(world: &[(&StorePath, Derivation)], before: &StorePath, after: &StorePath, expected: &[&str]) {
        let mut read = |path: &StorePath| {
            world.iter().find(|(known, _)| *known == path).map(|(_, drv)| drv.clone()).ok_or(())
        };
        let mut shown = Vec::new();
        for one in differences(before, after, &mut read).unwrap() {
            let chain: Vec<&str> = one.chain.iter().map(|(path, _)| path.name()).collect();
            for fact in &one.facts {
                shown.push(format!("{}: {} {}", chain.join(">"), fact.what.name(), fact.name));
            }
        }
        assert_eq!(shown, expected);
    }

    #[test]
    fn reasons_are_found_where_they_begin() {
        let (top1, top2) = (path('0', "top.drv"), path('1', "top.drv"));
        let (mid1, mid2) = (path('2', "mid-1.drv"), path('3', "mid-1.drv"));
        let (low1, low2) = (path('4', "low-1.0.drv"), path('5', "low-1.1.drv"));
        let text = |hash: char| format!("/nix/store/{}-mid", hash.to_string().repeat(32));
        let world = [
            (&top1, drv("top", &[&mid1], &[("input", &text('a')), ("flag", "x")])),
            (&top2, drv("top", &[&mid2], &[("input", &text('b')), ("flag", "x")])),
            (&mid1, drv("mid-1", &[&low1], &[])),
            (&mid2, drv("mid-1", &[&low2], &[])),
            (&low1, drv("low-1.0", &[], &[("version", "1.0")])),
            (&low2, drv("low-1.1", &[], &[("version", "1.1")])),
        ];
        let low = ["top.drv>mid-1.drv>low-1.0.drv: name ", "top.drv>mid-1.drv>low-1.0.drv: variable version"];
        check(&world, &top1, &top2, &low);
        check(&world, &top1, &top1, &[]);
    }

    #[test]
    fn what_only_one_has_is_told() {
        let (a, b) = (path('0', "a.drv"), path('1', "a.drv"));
        let input = path('2', "x.drv");
        let mut with_source = drv("a", &[], &[("__json", r#"{"x":1,"y":"same"}"#)]);
        with_source.input_srcs.insert(path('3', "source"));
        let world = [(&a, drv("a", &[&input], &[("__json", r#"{"y":"same"}"#)])), (&b, with_source)];
        check(&world, &a, &b, &["a.drv: attribute x", "a.drv: source source", "a.drv: input x.drv"]);
    }

    #[test]
    fn masks() {
        let hash = "0".repeat(32);
        assert_eq!(
            masked(format!("/s/{hash}-x /s/{hash}").as_bytes()),
            format!("/s/*-x /s/{hash}").as_bytes()
        );
        assert_eq!(masked(format!("/{}", "1".repeat(52)).as_bytes()), b"/*");
        assert_eq!(masked(format!("/s/{hash}-x-1.0/bin:y-2").as_bytes()), b"/s/*-x/bin:y-2");
    }
}

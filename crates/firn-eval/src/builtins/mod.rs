//! The builtin functions and constants.

mod context;
mod control;
mod data;
pub mod docs;
mod fetch;
mod fetch_mercurial;
mod fetch_tree;
mod files;
mod flake;
mod flakeref;
mod hashes;
mod json_reader;
mod lists;
pub(crate) mod math;
mod names;
mod path_import;
mod regex;
mod sets;
mod sort;
mod store;
mod strings;
mod types;
pub(crate) mod versions;

use crate::attrs::AttrsBuilder;
use crate::error::EvalResult;
use crate::expr::{PrimOp, PrimOpFn};
use crate::source::{Origin, Pos};
use crate::value::{Env, Thunk, Value};
use crate::vm::Vm;
use firn_syntax::{Sym, sym};
use std::sync::Arc;

/// A builtin: its name in `builtins`, number of arguments, function, and the experimental feature it needs.
struct Entry {
    name: &'static str,
    arity: usize,
    run: PrimOpFn,
    feature: Option<&'static str>,
    /// Whether it is there without the feature, and fails when it is called.
    stays: bool,
}

const fn entry(name: &'static str, arity: usize, run: PrimOpFn) -> Entry {
    Entry { name, arity, run, feature: None, stays: true }
}

const fn experimental(name: &'static str, arity: usize, run: PrimOpFn, feature: &'static str) -> Entry {
    Entry { name, arity, run, feature: Some(feature), stays: false }
}

/// A builtin about flakes: it sees for itself whether they are on.
const fn of_flakes(name: &'static str, arity: usize, run: PrimOpFn) -> Entry {
    Entry { name, arity, run, feature: Some("flakes"), stays: true }
}

/// Builtins whose only argument becomes a string and is evaluated for that.
const COERCING: &[&str] = &["toString", "stringLength", "unsafeDiscardStringContext", "baseNameOf", "dirOf"];

/// The arguments that a builtin evaluates before anything else, in that order.
fn eager(name: &str) -> &'static [u8] {
    match name {
        "head"
        | "tail"
        | "length"
        | "concatLists"
        | "attrNames"
        | "attrValues"
        | "listToAttrs"
        | "functionArgs"
        | "toString"
        | "stringLength"
        | "isAttrs"
        | "isBool"
        | "isFloat"
        | "isFunction"
        | "isInt"
        | "isList"
        | "isNull"
        | "isPath"
        | "isString"
        | "typeOf"
        | "seq"
        | "removeAttrs"
        | "parseDrvName"
        | "splitVersion"
        | "unsafeDiscardStringContext"
        | "hasContext"
        | "getContext"
        | "genericClosure"
        | "baseNameOf"
        | "dirOf" => &[0],
        "elem" | "mapAttrs" | "sort" => &[1],
        "map" | "filter" | "elemAt" | "genList" => &[1, 0],
        "any" | "all" | "concatMap" | "zipAttrsWith" | "getAttr" | "hasAttr" | "intersectAttrs"
        | "catAttrs" | "concatStringsSep" | "match" | "split" | "compareVersions" | "lessThan" | "add"
        | "sub" | "mul" | "div" => &[0, 1],
        "foldl'" => &[0, 2],
        "substring" => &[0, 1],
        _ => &[],
    }
}

/// Names that are in scope as they are; all others are with two underscores before them.
const PLAIN: &[&str] = &[
    "abort",
    "baseNameOf",
    "break",
    "derivationStrict",
    "dirOf",
    "fetchGit",
    "fetchMercurial",
    "fetchTarball",
    "fetchTree",
    "fromTOML",
    "import",
    "isNull",
    "map",
    "placeholder",
    "removeAttrs",
    "scopedImport",
    "throw",
    "toString",
];

/// The wrapper that makes `derivation` of `derivationStrict`.
const DERIVATION: &str = include_str!("derivation-internal.nix");

/// How places in [`DERIVATION`] and [`FETCHURL`] are named.
pub(crate) const DERIVATION_NAME: &str = "«nix-internal»/derivation-internal.nix";
pub(crate) const FETCHURL_NAME: &str = "<nix/fetchurl.nix>";

/// Where `<nix/…>` leads when the search path has none: no path of a file system is written so.
pub(crate) const BUILTIN_DIR: &[u8] = b"//builtin/";
/// The one file there.
pub(crate) const FETCHURL_PATH: &[u8] = b"//builtin/fetchurl.nix";

/// `<nix/fetchurl.nix>`: a fixed-output derivation with a builtin builder. Names, order and defaults of the
/// derivation's attributes are part of many packages' hashes.
pub(crate) const FETCHURL: &str = "{
  system ? \"\",
  url,
  hash ? \"\",
  md5 ? \"\",
  sha1 ? \"\",
  sha256 ? \"\",
  sha512 ? \"\",
  outputHash ? if hash != \"\" then hash else if sha512 != \"\" then sha512 else if sha1 != \"\" then sha1 else if md5 != \"\" then md5 else sha256,
  outputHashAlgo ? if hash != \"\" then \"\" else if sha512 != \"\" then \"sha512\" else if sha1 != \"\" then \"sha1\" else if md5 != \"\" then \"md5\" else \"sha256\",
  executable ? false,
  unpack ? false,
  name ? baseNameOf (toString url),
  impure ? false,
}:
derivation ({
  builder = \"builtin:fetchurl\";
  system = \"builtin\";
  outputHashMode = if unpack || executable then \"recursive\" else \"flat\";
  inherit name url executable unpack;
  preferLocalBuild = true;
  impureEnvVars = [ \"http_proxy\" \"https_proxy\" \"ftp_proxy\" \"all_proxy\" \"no_proxy\" ];
  urls = [ url ];
} // (if impure then { __impure = true; } else { inherit outputHashAlgo outputHash; }))
";

fn tables() -> [&'static [Entry]; 15] {
    [
        context::TABLE,
        control::TABLE,
        data::TABLE,
        fetch::TABLE,
        fetch_mercurial::TABLE,
        fetch_tree::TABLE,
        files::TABLE,
        flake::TABLE,
        flakeref::TABLE,
        hashes::TABLE,
        lists::TABLE,
        math::TABLE,
        regex::TABLE,
        sets::TABLE,
        types::TABLE,
    ]
}

/// All builtin functions, also experimental ones.
fn entries() -> impl Iterator<Item = &'static Entry> {
    let more = [strings::TABLE, store::TABLE, versions::TABLE, path_import::TABLE];
    tables().into_iter().chain(more).flatten()
}

/// The experimental feature without which a builtin is not there.
pub fn feature_of(name: &str) -> Option<&'static str> {
    entries().find(|entry| entry.name == name)?.feature
}

/// The names of all builtin functions, also of experimental ones.
#[cfg(test)]
pub(crate) fn names() -> Vec<&'static str> {
    entries().map(|entry| entry.name).collect()
}

/// The function behind `currentTime` where that is only looked up when it is needed.
static CURRENT_TIME: PrimOp =
    PrimOp { name: "currentTime", arity: 1, run: current_time, eager: &[], coerces: false };

fn current_time(vm: &mut Vm, _: &[Value], _: Pos) -> EvalResult<Value> {
    Ok(Value::int(vm.host.current_time()))
}

/// Defines all builtins in a new machine.
pub(crate) fn install(vm: &mut Vm) {
    names::intern();
    let mut builtins = AttrsBuilder::with_capacity(160);
    for entry in entries() {
        if !entry.stays && entry.feature.is_some_and(|f| !vm.settings.has_feature(f)) {
            continue;
        }
        let primop: &'static PrimOp = Box::leak(Box::new(PrimOp {
            name: entry.name,
            arity: entry.arity,
            run: entry.run,
            eager: eager(entry.name),
            coerces: COERCING.contains(&entry.name),
        }));
        define(vm, &mut builtins, entry.name, Value::primop(primop));
    }
    let system = vm.settings.system.clone();
    let time = match vm.settings.lazy_time {
        true => Thunk::apply(Value::primop(&CURRENT_TIME), Value::NULL).value(),
        false => Value::int(vm.host.current_time()),
    };
    let store_dir = Value::str(vm.host.store_dir().as_str().as_bytes());
    let search_path = files::search_path_value(vm);
    constant(vm, &mut builtins, "true", Value::TRUE, false);
    constant(vm, &mut builtins, "false", Value::FALSE, false);
    constant(vm, &mut builtins, "null", Value::NULL, false);
    if !vm.settings.pure_eval {
        constant(vm, &mut builtins, "currentSystem", Value::str(system.as_bytes()), true);
        constant(vm, &mut builtins, "currentTime", time, true);
    }
    constant(vm, &mut builtins, "nixVersion", Value::str(firn_core::REFERENCE_VERSION.as_bytes()), true);
    constant(vm, &mut builtins, "storeDir", store_dir, true);
    constant(vm, &mut builtins, "langVersion", Value::int(6), true);
    constant(vm, &mut builtins, "nixPath", search_path, true);
    // The wrapper sees all builtins but itself.
    Arc::make_mut(&mut vm.globals).builtins = None;
    let partial = AttrsBuilder::from_attrs(builtins.finish_attrs());
    let mut builtins = partial;
    let for_wrapper = AttrsBuilder::from_attrs(builtins_copy(&mut builtins)).finish_attrs();
    Arc::make_mut(&mut vm.globals).names.insert(sym!("builtins"), for_wrapper.value().keep());
    Arc::make_mut(&mut vm.globals).builtins = Some(for_wrapper);
    if let Ok(code) = vm.compile_text(DERIVATION.as_bytes(), Origin::Internal(DERIVATION_NAME), b"/", &[]) {
        let env = Env::new(None, code.frame_size as usize);
        let value = Thunk::new(&code.body, env).value();
        // Forced now, so that `builtins.derivation` folds to a constant.
        let value = vm.force(value).unwrap_or(value);
        constant(vm, &mut builtins, "derivation", value, false);
    }
    // `builtins.builtins` is the set itself: a thunk that is finished when the set exists.
    let cell = Thunk::apply(Value::NULL, Value::NULL);
    builtins.push(sym!("builtins"), cell.value());
    let attrs = builtins.finish_attrs();
    if cell.claim(vm.owner).is_some() {
        cell.finish(attrs.value());
    }
    Arc::make_mut(&mut vm.globals).names.insert(sym!("builtins"), attrs.value().keep());
    Arc::make_mut(&mut vm.globals).builtins = Some(attrs);
}

fn builtins_copy(builder: &mut AttrsBuilder) -> crate::value::Attrs {
    let attrs = std::mem::take(builder).finish_attrs();
    *builder = AttrsBuilder::from_attrs(attrs);
    attrs
}

fn define(vm: &mut Vm, builtins: &mut AttrsBuilder, name: &'static str, value: Value) {
    let prefixed = !PLAIN.contains(&name);
    constant(vm, builtins, name, value, prefixed);
}

fn constant(vm: &mut Vm, builtins: &mut AttrsBuilder, name: &'static str, value: Value, prefixed: bool) {
    let value = value.keep();
    builtins.push(Sym::from_static(name), value);
    let global = if prefixed { Sym::new(format!("__{name}").as_bytes()) } else { Sym::from_static(name) };
    Arc::make_mut(&mut vm.globals).names.insert(global, value);
}

pub(crate) use path_import::parse_hash_or_empty as path_hash;
pub(crate) use sets::Removals;

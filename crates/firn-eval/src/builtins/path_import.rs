//! `import`, `scopedImport`, `path`, `filterSource`, `toFile`.

use super::{Entry, entry};
use crate::attrs::AttrsBuilder;
use crate::context::{Context, ContextElem};
use crate::error::{ErrorKind, EvalError, EvalResult, TraceKind};
use crate::host::{CopySource, FileKind};
use crate::source::Pos;
use crate::value::{Value, ValueVec};
use crate::vm::{Vm, host_error};
use firn_core::{CaMethod, Hash, HashAlgo, SingleDerivedPath, StorePath};
use firn_syntax::{Sym, sym};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) const TABLE: &[Entry] = &[
    entry("import", 1, import),
    entry("scopedImport", 2, scoped_import),
    entry("path", 1, path),
    entry("filterSource", 2, filter_source),
    entry("toFile", 2, to_file),
];

fn import(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let path = vm.realise_path(args[0], pos)?;
    match derivation_at(vm, &path)? {
        Some(drv) => import_derivation(vm, &drv),
        None => vm.eval_file(&path),
    }
}

fn scoped_import(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument passed to builtins.scopedImport";
    let scope = vm.force_attrs(args[0], pos, what)?;
    let path = vm.realise_path(args[1], pos)?;
    vm.eval_file_scoped(&path, scope)
}

/// The store path, where a path names a valid derivation.
fn derivation_at(vm: &mut Vm, path: &[u8]) -> EvalResult<Option<StorePath>> {
    if !path.ends_with(b".drv") {
        return Ok(None);
    }
    match vm.host.store_dir().parse(&String::from_utf8_lossy(path)) {
        Ok(store_path) if vm.host.is_valid(&store_path).map_err(host_error)? => Ok(Some(store_path)),
        _ => Ok(None),
    }
}

/// A `.drv` file as the set that `derivation` would have made.
fn import_derivation(vm: &mut Vm, path: &StorePath) -> EvalResult<Value> {
    let drv = vm.host.read_derivation(path).map_err(host_error)?;
    let dir = vm.host.store_dir().clone();
    let text = dir.display(path);
    let drv_path = Value::str_with(text.as_bytes(), Context::single(&ContextElem::DrvDeep(path.clone())));
    let type_value = Value::str(b"derivation");
    let mut names = ValueVec::default();
    let mut outputs: Vec<(Sym, Value)> = Vec::new();
    for (name, output) in &drv.outputs {
        names.push(Value::str(name.as_bytes()));
        let elem = ContextElem::Built {
            drv: Arc::new(SingleDerivedPath::Opaque(path.clone())),
            output: name.clone(),
        };
        let known = output
            .path(&dir, &drv.name, name)
            .map_err(|e| EvalError::new(ErrorKind::Eval, format!("derivation '{text}': {e}")))?;
        let shown = match known {
            Some(path) => dir.display(&path),
            None => firn_derivation::DownstreamPlaceholder::ca_output(path, name).render(),
        };
        let shown = Value::str_with(shown.as_bytes(), Context::single(&elem)).keep();
        outputs.push((Sym::new(name.as_bytes()), shown));
    }
    // Every output is a set of its own that holds the others; they refer to each other through lazy cells.
    let cells: Vec<crate::value::Thunk> =
        outputs.iter().map(|_| crate::value::Thunk::apply(Value::NULL, Value::NULL)).collect();
    let mut all = ValueVec::default();
    all.extend(cells.iter().map(|c| c.value().keep()));
    let all = all.to_list();
    let names = names.to_list();
    let mut first = None;
    for (i, (name, out_path)) in outputs.iter().enumerate() {
        let mut attrs = AttrsBuilder::with_capacity(outputs.len() + 8);
        attrs.push(sym!("name"), Value::str(drv.name.as_bytes()));
        attrs.push(sym!("type"), type_value);
        attrs.push(sym!("drvPath"), drv_path);
        attrs.push(sym!("outPath"), *out_path);
        attrs.push(sym!("outputName"), Value::str(name.as_bytes()));
        attrs.push(sym!("outputs"), names);
        attrs.push(sym!("all"), all);
        for ((other, _), cell) in outputs.iter().zip(&cells) {
            attrs.push(*other, cell.value());
        }
        let value = attrs.finish();
        if cells[i].claim(vm.owner).is_some() {
            cells[i].finish(value);
        }
        first.get_or_insert(value);
    }
    first.ok_or_else(|| EvalError::new(ErrorKind::Eval, format!("derivation '{text}' has no outputs")))
}

fn to_file(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let name =
        vm.string_no_context(args[0], pos, "while evaluating the first argument passed to builtins.toFile")?;
    let what = "while evaluating the second argument passed to builtins.toFile";
    let contents = vm.force_string(args[1], pos, what)?;
    let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
    let mut references = BTreeSet::new();
    for elem in contents.context().elems() {
        match elem {
            ContextElem::Opaque(path) => {
                references.insert(path);
            }
            other => {
                let shown = vm.show_elem(&other);
                return Err(EvalError::at(
                    ErrorKind::Eval,
                    pos,
                    format!(
                        "files created by builtins.toFile may not reference derivations, but {name} references {shown}"
                    ),
                ));
            }
        }
    }
    let path = vm.host.add_text(&name, contents.as_bytes(), &references).map_err(host_error)?;
    Ok(store_string(vm, path))
}

/// A store path as a string that refers to it.
pub(super) fn store_string(vm: &Vm, path: StorePath) -> Value {
    let text = vm.host.store_dir().display(&path);
    Value::str_with(text.as_bytes(), Context::single(&ContextElem::Opaque(path)))
}

struct AddPath<'a> {
    path: Vec<u8>,
    name: &'a str,
    filter: Option<Value>,
    method: CaMethod,
    expected: Option<Hash>,
    /// The path was made by a derivation: the copy keeps its references.
    has_context: bool,
}

fn add_path(vm: &mut Vm, add: AddPath<'_>, pos: Pos) -> EvalResult<Value> {
    let shown = vm.host.shown_path(&add.path).unwrap_or_else(|| add.path.clone());
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let traced = |e: EvalError| e.trace(pos, TraceKind::Text(format!("while adding path '{shown}'").into()));
    let path = vm.resolve_symlinks(&add.path).map_err(traced)?;
    let host = vm.host.clone();
    let mut references = BTreeSet::new();
    if add.has_context {
        if let Ok((store_path, _)) = host.store_dir().split(&String::from_utf8_lossy(&path)) {
            references = host.references(&store_path).map_err(host_error).map_err(traced)?;
        }
    }
    let real = path.clone();
    let original = add.path.clone();
    let function = add.filter;
    let mut call = |file: &[u8], kind: FileKind| -> EvalResult<bool> {
        let Some(function) = function else { return Ok(true) };
        // The function sees the path as it was given.
        let seen = match file.strip_prefix(&real[..]) {
            Some(rest) => [&original[..], rest].concat(),
            None => file.to_vec(),
        };
        let result = vm.call(function, &[Value::str(&seen), Value::str(kind.name().as_bytes())], pos)?;
        vm.force_bool(result, pos, "while evaluating the return value of the path filter function")
    };
    let source = CopySource {
        path: &path,
        name: add.name,
        method: add.method,
        algo: HashAlgo::Sha256,
        references,
        expected: add.expected,
        filter: if function.is_some() { Some(&mut call) } else { None },
    };
    let added = host.copy_to_store(source).map_err(traced)?;
    Ok(store_string(vm, added))
}

fn filter_source(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the second argument (the path to filter) passed to 'builtins.filterSource'";
    let (path, context) = vm.coerce_path(args[1], pos, what)?;
    let what = "while evaluating the first argument passed to builtins.filterSource";
    let function = vm.force_function(args[0], pos, what)?;
    let has_context = !context.is_empty();
    let path = vm.realise_text(path, context)?;
    let name = String::from_utf8_lossy(crate::coerce::base_name(&path)).into_owned();
    let add = AddPath {
        path,
        name: &name,
        filter: Some(function),
        method: CaMethod::NixArchive,
        expected: None,
        has_context,
    };
    add_path(vm, add, pos)
}

fn path(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let attrs = vm.force_attrs(args[0], pos, "while evaluating the argument passed to 'builtins.path'")?;
    let mut source = None;
    let mut name = String::new();
    let mut filter = None;
    let mut method = CaMethod::NixArchive;
    let mut expected = None;
    for (i, key) in attrs.shape().syms().iter().enumerate() {
        let (value, at) = (attrs.get(i), attrs.position(i));
        match key.as_bytes() {
            b"path" => {
                let what = "while evaluating the 'path' attribute passed to 'builtins.path'";
                source = Some(vm.coerce_path(value, at, what)?);
            }
            b"name" => {
                let what = "while evaluating the `name` attribute passed to builtins.path";
                let text = vm.string_no_context(value, at, what)?;
                name = String::from_utf8_lossy(text.as_bytes()).into_owned();
            }
            b"filter" => {
                let what = "while evaluating the `filter` parameter passed to builtins.path";
                filter = Some(vm.force_function(value, at, what)?);
            }
            b"recursive" => {
                let what = "while evaluating the `recursive` attribute passed to builtins.path";
                let recursive = vm.force_bool(value, at, what)?;
                method = if recursive { CaMethod::NixArchive } else { CaMethod::Flat };
            }
            b"sha256" => {
                let what = "while evaluating the `sha256` attribute passed to builtins.path";
                let text = vm.string_no_context(value, at, what)?;
                expected = Some(parse_hash_or_empty(vm, text.as_bytes(), Some(HashAlgo::Sha256))?);
            }
            _ => {
                let message = format!("unsupported argument '{}' to 'builtins.path'", key.shown());
                return Err(EvalError::at(ErrorKind::Eval, at, message));
            }
        }
    }
    let Some((path, context)) = source else {
        return Err(EvalError::at(
            ErrorKind::Eval,
            pos,
            "missing required 'path' attribute in the first argument to 'builtins.path'",
        ));
    };
    let has_context = !context.is_empty();
    let path = vm.realise_text(path, context)?;
    if name.is_empty() {
        name = String::from_utf8_lossy(crate::coerce::base_name(&path)).into_owned();
    }
    add_path(vm, AddPath { path, name: &name, filter, method, expected, has_context }, pos)
}

/// A hash; empty text is the all-zero one, with a warning, so that a first build tells the right one.
pub(crate) fn parse_hash_or_empty(vm: &Vm, text: &[u8], algo: Option<HashAlgo>) -> EvalResult<Hash> {
    let text = String::from_utf8_lossy(text);
    let fail = |message: String| EvalError::new(ErrorKind::Eval, message);
    if text.is_empty() {
        let Some(algo) = algo else {
            return Err(fail("empty hash requires explicit hash algorithm".into()));
        };
        let zeros = vec![0; algo.size()];
        let hash = Hash::from_bytes(algo, &zeros).unwrap_or(Hash::dummy());
        vm.in_turn()?;
        vm.host.warn(&format!("found empty hash, assuming '{}'", hash.to_sri()));
        return Ok(hash);
    }
    Hash::parse_any(&text, algo).map_err(|e| fail(e.to_string()))
}

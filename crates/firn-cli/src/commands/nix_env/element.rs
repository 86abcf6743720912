//! From derivations that evaluation found to the elements of an environment.

use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_core::StorePath;
use firn_eval::{Attrs, ErrorKind, EvalError, EvalResult, FoundDerivation, Kind, Value, Vm, sym};
use firn_profile::{Element, Meta};
use std::collections::BTreeMap;

/// Everything about `found` that an environment needs. What is wrong with the choice of its outputs goes to `late`
/// if nothing is there yet: Nix tells of it when everything is built.
pub fn element(
    evaluation: &mut Evaluation,
    found: &FoundDerivation,
    late: &mut Option<CliError>,
) -> CliResult<Element> {
    let mut element = evaluation.run(|vm| {
        Ok(Element {
            name: found.name.clone(),
            system: vm.package_system(found)?,
            drv_path: vm.drv_path_if_any(found)?,
            out_path: vm.out_path(found)?,
            outputs: BTreeMap::new(),
            meta: meta(vm, found)?,
        })
    })?;
    match evaluation.run(|vm| outputs_to_install(vm, found, &element.meta)) {
        Ok(outputs) => element.outputs = outputs,
        Err(error) if late.is_none() => *late = Some(error),
        Err(_) => {}
    }
    Ok(element)
}

/// An attribute of `meta` alone, for choosing between packages.
pub fn priority(evaluation: &mut Evaluation, found: &FoundDerivation) -> CliResult<i64> {
    evaluation.run(|vm| {
        let Some(meta) = vm.package_meta(found)? else { return Ok(0) };
        let value = vm.package_meta_value(meta, sym!("priority"))?;
        Ok(match value.map(|value| value.kind()) {
            Some(Kind::Int(n)) => n,
            Some(Kind::Str(text)) => {
                std::str::from_utf8(text.as_bytes()).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
            }
            _ => 0,
        })
    })
}

fn meta(vm: &mut Vm, found: &FoundDerivation) -> EvalResult<BTreeMap<Vec<u8>, Meta>> {
    let mut out = BTreeMap::new();
    let Some(meta) = vm.package_meta(found)? else { return Ok(out) };
    for (name, _) in meta.sorted() {
        // What `meta` must not hold is left out.
        if let Some(value) = vm.package_meta_value(meta, name)? {
            out.insert(name.as_bytes().to_vec(), plain(vm, value)?);
        }
    }
    Ok(out)
}

/// A value that is known to be plain data, and to be no deeper than the evaluator allows.
fn plain(vm: &mut Vm, value: Value) -> EvalResult<Meta> {
    let value = vm.force(value)?;
    Ok(match value.kind() {
        Kind::Bool(b) => Meta::Bool(b),
        Kind::Int(n) => Meta::Int(n),
        Kind::Float(x) => Meta::Float(x),
        Kind::Str(text) => Meta::Str(text.as_bytes().to_vec()),
        Kind::List(list) => Meta::List(list.iter().map(|item| plain(vm, item)).collect::<EvalResult<_>>()?),
        Kind::Attrs(attrs) => Meta::Attrs(
            attrs
                .sorted()
                .map(|(name, item)| Ok((name.as_bytes().to_vec(), plain(vm, item)?)))
                .collect::<EvalResult<_>>()?,
        ),
        _ => return Err(EvalError::new(ErrorKind::Type, "meta attributes must be plain data")),
    })
}

/// The one output that was selected, or those of `meta.outputsToInstall`, or all.
fn outputs_to_install(
    vm: &mut Vm,
    found: &FoundDerivation,
    meta: &BTreeMap<Vec<u8>, Meta>,
) -> EvalResult<BTreeMap<String, StorePath>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut all: BTreeMap<String, StorePath> = BTreeMap::new();
    for (name, path) in vm.package_outputs(found, true)? {
        all.extend(path.map(|path| (text(&name), path)));
    }
    if is_output_specified(vm, found.attrs)? {
        let name = vm.output_name(found)?;
        let path = all.remove(&name).ok_or_else(|| {
            EvalError::new(ErrorKind::Eval, format!("derivation does not have output '{name}'"))
        })?;
        return Ok([(name, path)].into());
    }
    let Some(wanted) = meta.get(b"outputsToInstall".as_slice()) else { return Ok(all) };
    let bad = || EvalError::new(ErrorKind::Eval, "this derivation has bad 'meta.outputsToInstall'");
    let Meta::List(wanted) = wanted else { return Err(bad()) };
    let mut chosen = BTreeMap::new();
    for name in wanted {
        let Meta::Str(name) = name else { return Err(bad()) };
        let (name, path) = all.get_key_value(&text(name)).ok_or_else(bad)?;
        chosen.insert(name.clone(), path.clone());
    }
    Ok(chosen)
}

fn is_output_specified(vm: &mut Vm, attrs: Attrs) -> EvalResult<bool> {
    let name = sym!("outputSpecified");
    let Some(value) = attrs.find(name) else { return Ok(false) };
    let what = "while evaluating the 'outputSpecified' attribute of a derivation";
    vm.force_bool(value, attrs.position_of(name), what)
}

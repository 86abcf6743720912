//! String contexts.

use super::{Entry, entry};
use crate::attrs::AttrsBuilder;
use crate::coerce::{Coerce, CopyToStore};
use crate::context::{Context, ContextElem};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::source::Pos;
use crate::value::{Value, ValueVec};
use crate::vm::{Vm, host_error};
use firn_core::{SingleDerivedPath, StorePath};
use firn_syntax::{Sym, sym};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const TABLE: &[Entry] = &[
    entry("unsafeDiscardStringContext", 1, discard),
    entry("hasContext", 1, has_context),
    entry("unsafeDiscardOutputDependency", 1, discard_output_dependency),
    entry("addDrvOutputDependencies", 1, add_drv_output_dependencies),
    entry("getContext", 1, get_context),
    entry("appendContext", 2, append_context),
];

const INTERPOLATE: Coerce = Coerce { more: false, copy: CopyToStore::Yes };

fn discard(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the argument passed to builtins.unsafeDiscardStringContext";
    let (text, _) = vm.coerce(args[0], INTERPOLATE, pos, what)?;
    Ok(Value::str(&text))
}

fn has_context(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let text =
        vm.force_string(args[0], pos, "while evaluating the argument passed to builtins.hasContext")?;
    Ok(Value::bool(text.has_context()))
}

fn discard_output_dependency(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the argument passed to builtins.unsafeDiscardOutputDependency";
    let (text, context) = vm.coerce(args[0], INTERPOLATE, pos, what)?;
    let elems: Vec<ContextElem> = context
        .elems()
        .into_iter()
        .map(|elem| match elem {
            ContextElem::DrvDeep(path) => ContextElem::Opaque(path),
            other => other,
        })
        .collect();
    Ok(Value::str_with(&text, Context::from_elems(&elems)))
}

fn add_drv_output_dependencies(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the argument passed to builtins.addDrvOutputDependencies";
    let (text, context) = vm.coerce(args[0], INTERPOLATE, pos, what)?;
    let error = |message: String| Err(EvalError::at(ErrorKind::Eval, pos, message));
    let elems = context.elems();
    let [elem] = &elems[..] else {
        let shown = String::from_utf8_lossy(&text);
        return error(format!(
            "context of string '{shown}' must have exactly one element, but has {}",
            elems.len()
        ));
    };
    let deep = match elem {
        ContextElem::DrvDeep(_) => elem.clone(),
        ContextElem::Opaque(path) if path.is_derivation() => ContextElem::DrvDeep(path.clone()),
        ContextElem::Opaque(path) => {
            return error(format!("path '{}' is not a derivation", vm.host.store_dir().display(path)));
        }
        ContextElem::Built { output, .. } => {
            return error(format!(
                "`addDrvOutputDependencies` can only act on derivations, not on a derivation output such as '{output}'"
            ));
        }
    };
    Ok(Value::str_with(&text, Context::single(&deep)))
}

#[derive(Default)]
struct Info {
    path: bool,
    all_outputs: bool,
    outputs: Vec<String>,
}

fn get_context(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let text =
        vm.force_string(args[0], pos, "while evaluating the argument passed to builtins.getContext")?;
    let mut infos: BTreeMap<StorePath, Info> = BTreeMap::new();
    for elem in text.context().elems() {
        match elem {
            ContextElem::Opaque(path) => infos.entry(path).or_default().path = true,
            ContextElem::DrvDeep(path) => infos.entry(path).or_default().all_outputs = true,
            ContextElem::Built { drv, output } => {
                infos.entry(drv.base().clone()).or_default().outputs.push(output);
            }
        }
    }
    let mut out = AttrsBuilder::with_capacity(infos.len());
    for (path, info) in infos {
        let mut attrs = AttrsBuilder::with_capacity(3);
        if info.path {
            attrs.push(sym!("path"), Value::TRUE);
        }
        if info.all_outputs {
            attrs.push(sym!("allOutputs"), Value::TRUE);
        }
        if !info.outputs.is_empty() {
            let mut outputs = ValueVec::default();
            outputs.extend(info.outputs.iter().map(|o| Value::str(o.as_bytes())));
            attrs.push(sym!("outputs"), outputs.to_list());
        }
        out.push(Sym::new(vm.host.store_dir().display(&path).as_bytes()), attrs.finish());
    }
    Ok(out.finish())
}

fn append_context(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument passed to builtins.appendContext";
    let text = vm.force_string(args[0], Pos::NONE, what)?;
    let what = "while evaluating the second argument passed to builtins.appendContext";
    let attrs = vm.force_attrs(args[1], pos, what)?;
    let mut elems = text.context().elems();
    for (i, name) in attrs.shape().syms().iter().enumerate() {
        let at = attrs.position(i);
        let shown = name.to_string();
        let error = |message: String| Err(EvalError::at(ErrorKind::Eval, at, message));
        let Ok(path) = vm.host.store_dir().parse(&shown) else {
            return error(format!("context key '{shown}' is not a store path"));
        };
        if !vm.settings.read_only {
            vm.in_turn()?;
            vm.host.ensure_path(&path).map_err(host_error)?;
        }
        let info = vm.force_attrs(attrs.get(i), at, "while evaluating the value of a string context")?;
        if let Some(value) = info.find(sym!("path")) {
            let what = "while evaluating the `path` attribute of a string context";
            if vm.force_bool(value, at, what)? {
                elems.push(ContextElem::Opaque(path.clone()));
            }
        }
        if let Some(value) = info.find(sym!("allOutputs")) {
            let what = "while evaluating the `allOutputs` attribute of a string context";
            if vm.force_bool(value, at, what)? {
                if !path.is_derivation() {
                    return error(format!(
                        "tried to add all-outputs context of {shown}, which is not a derivation, to a string"
                    ));
                }
                elems.push(ContextElem::DrvDeep(path.clone()));
            }
        }
        if let Some(value) = info.find(sym!("outputs")) {
            let what = "while evaluating the `outputs` attribute of a string context";
            let outputs = vm.force_list(value, at, what)?;
            if !outputs.is_empty() && !path.is_derivation() {
                return error(format!(
                    "tried to add derivation output context of {shown}, which is not a derivation, to a string"
                ));
            }
            for output in outputs.iter() {
                let what = "while evaluating an output name within a string context";
                let output = vm.string_no_context(output, at, what)?;
                elems.push(ContextElem::Built {
                    drv: Arc::new(SingleDerivedPath::Opaque(path.clone())),
                    output: String::from_utf8_lossy(output.as_bytes()).into_owned(),
                });
            }
        }
    }
    Ok(Value::str_with(text.as_bytes(), Context::from_elems(&elems)))
}

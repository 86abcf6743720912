//! `nix-env --query --json`.

use super::elements::{each, invalid_meta};
use super::output::{indent_json, json_string};
use crate::context::Context;
use crate::error::CliResult;
use crate::evaluation::Evaluation;
use firn_core::store_path::StoreDir;
use firn_eval::{
    CopyToStore, EvalResult, FoundDerivation, Pos, Vm, empty_context, split_package_name, to_json,
};
use firn_store::activity::Verbosity;
use std::collections::BTreeMap;

/// What is told of a package beside its name, system and names of outputs.
#[derive(Clone, Copy)]
pub struct Show {
    /// Paths of outputs.
    pub outputs: bool,
    /// The path of the derivation.
    pub drv_path: bool,
    /// All of `meta`.
    pub meta: bool,
}

/// All packages as one JSON object, by attribute path.
pub fn packages(
    context: &Context,
    evaluation: &mut Evaluation,
    show: Show,
    packages: &[FoundDerivation],
) -> CliResult<Vec<u8>> {
    let store = context.store()?;
    let mut all: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for package in packages {
        let mut warnings = Vec::new();
        // What is there of a package when an assertion fails stays.
        let entry = all.entry(&package.attr_path).or_default();
        each(context, evaluation, package, |vm| {
            package_object(vm, store.store_dir(), show, package, entry, &mut warnings)
        })?;
        for warning in warnings {
            context.logger.log(Verbosity::Error, warning.as_bytes());
        }
    }
    let mut out = b"{".to_vec();
    for (at, (path, fields)) in all.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json_string(path.as_bytes(), &mut out);
        out.push(b':');
        out.extend_from_slice(&if fields.is_empty() { b"null".to_vec() } else { fields });
    }
    out.push(b'}');
    let mut out = indent_json(&out);
    out.push(b'\n');
    Ok(out)
}

/// The fields that are known so far are in `out` also after an error.
fn package_object(
    vm: &mut Vm,
    store_dir: &StoreDir,
    show: Show,
    package: &FoundDerivation,
    out: &mut Vec<u8>,
    warnings: &mut Vec<String>,
) -> EvalResult<()> {
    let mut fields: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let result = package_fields(vm, store_dir, show, package, &mut fields, warnings);
    out.clear();
    if fields.is_empty() {
        return result;
    }
    out.push(b'{');
    for (at, (name, value)) in fields.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json_string(name.as_bytes(), out);
        out.push(b':');
        out.extend_from_slice(&value);
    }
    out.push(b'}');
    result
}

fn package_fields(
    vm: &mut Vm,
    store_dir: &StoreDir,
    show: Show,
    package: &FoundDerivation,
    fields: &mut BTreeMap<&str, Vec<u8>>,
    warnings: &mut Vec<String>,
) -> EvalResult<()> {
    let quoted = |text: &[u8]| {
        let mut out = Vec::new();
        json_string(text, &mut out);
        out
    };
    let full = package.name.as_bytes();
    let (name, version) = split_package_name(full);
    let system = vm.package_system(package)?;
    let output_name = vm.output_name(package)?;
    fields.insert("name", quoted(full));
    fields.insert("pname", quoted(name));
    fields.insert("version", quoted(version));
    fields.insert("system", quoted(&system));
    fields.insert("outputName", quoted(output_name.as_bytes()));
    let mut outputs = b"{".to_vec();
    for (at, (name, path)) in vm.package_outputs(package, show.outputs)?.into_iter().enumerate() {
        if at > 0 {
            outputs.push(b',');
        }
        json_string(&name, &mut outputs);
        outputs.push(b':');
        match path {
            Some(path) => json_string(store_dir.display(&path).as_bytes(), &mut outputs),
            None => outputs.extend_from_slice(b"null"),
        }
    }
    outputs.push(b'}');
    fields.insert("outputs", outputs);
    if show.drv_path {
        if let Some(path) = vm.drv_path_if_any(package)? {
            fields.insert("drvPath", quoted(store_dir.display(&path).as_bytes()));
        }
    }
    if show.meta {
        let mut values: Vec<u8> = Vec::new();
        let result = meta_fields(vm, package, &mut values, warnings);
        fields.insert("meta", [b"{", &values[..], b"}"].concat());
        result?;
    }
    Ok(())
}

fn meta_fields(
    vm: &mut Vm,
    package: &FoundDerivation,
    out: &mut Vec<u8>,
    warnings: &mut Vec<String>,
) -> EvalResult<()> {
    let Some(meta) = vm.package_meta(package)? else { return Ok(()) };
    for (name, _) in meta.sorted() {
        let mut text = b"null".to_vec();
        let value = vm.package_meta_value(meta, name)?;
        match value {
            Some(value) => {
                text.clear();
                to_json(vm, value, CopyToStore::Yes, &mut text, &mut empty_context(), Pos::NONE)?;
            }
            None => warnings.push(invalid_meta(package, &name.to_string())),
        }
        if !out.is_empty() {
            out.push(b',');
        }
        json_string(name.as_bytes(), out);
        out.push(b':');
        out.extend_from_slice(&text);
    }
    Ok(())
}

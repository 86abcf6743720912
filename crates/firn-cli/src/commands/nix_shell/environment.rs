//! The environment of a derivation's builder, for a shell.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::{DerivedPath, HashFormat, OutputsSpec, SingleDerivedPath, StorePath};
use firn_derivation::{Derivation, DerivationOptions, InputNode, STRUCTURED_ATTRS_ENV, StructuredAttrs};
use firn_store::{ClosureOptions, Store, StoreError, compute_fs_closure};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

pub type Variables = BTreeMap<OsString, OsString>;

/// Variables that `--pure` keeps, beside those that `--keep` names.
pub const KEPT: [&str; 25] = [
    "HOME",
    "XDG_RUNTIME_DIR",
    "USER",
    "LOGNAME",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "WAYLAND_SOCKET",
    "PATH",
    "TERM",
    "IN_NIX_SHELL",
    "NIX_SHELL_PRESERVE_PROMPT",
    "TZ",
    "PAGER",
    "NIX_BUILD_SHELL",
    "SHLVL",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// The outputs of other derivations that `drv` needs, but for those whose path `leave_out` says yes to, and its
/// sources.
pub fn inputs(
    drv: &Derivation,
    leave_out: &mut dyn FnMut(&StorePath) -> CliResult<bool>,
) -> CliResult<Vec<DerivedPath>> {
    let mut found = Vec::new();
    for (path, node) in &drv.input_drvs {
        if !leave_out(path)? {
            of_node(Arc::new(SingleDerivedPath::Opaque(path.clone())), node, &mut found);
        }
    }
    found.extend(drv.input_srcs.iter().cloned().map(DerivedPath::Opaque));
    Ok(found)
}

fn of_node(drv: Arc<SingleDerivedPath>, node: &InputNode, found: &mut Vec<DerivedPath>) {
    if !node.outputs.is_empty() {
        found.push(DerivedPath::Built {
            drv: Arc::clone(&drv),
            outputs: OutputsSpec::Names(node.outputs.clone()),
        });
    }
    for (output, child) in &node.dynamic {
        let inner = SingleDerivedPath::Built { drv: Arc::clone(&drv), output: output.clone() };
        of_node(Arc::new(inner), child, found);
    }
}

/// The derivation with the paths of its inputs filled in, where those were not known before.
pub fn resolved(context: &Context, drv: Derivation) -> CliResult<Derivation> {
    if !drv.should_resolve() {
        return Ok(drv);
    }
    let mut failed = None;
    let found =
        drv.resolve(context.store()?.store_dir(), |path, output| match output_path(context, path, output) {
            Ok(path) => path,
            Err(error) => {
                failed.get_or_insert(error);
                None
            }
        });
    match (found, failed) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(CliError::failed(error.to_string())),
        (Ok(Some(drv)), None) => Ok(drv),
        (Ok(None), None) => {
            Err(CliError::failed(format!("inputs of derivation '{}' are not known", drv.name)))
        }
    }
}

fn output_path(context: &Context, drv: &SingleDerivedPath, output: &str) -> CliResult<Option<StorePath>> {
    let drv = match drv {
        SingleDerivedPath::Opaque(path) => path.clone(),
        SingleDerivedPath::Built { drv, output } => match output_path(context, drv, output)? {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    let store = context.eval_store()?;
    let outputs = context.block_on(store.query_derivation_outputs(&drv))??;
    Ok(outputs.get(output).cloned().flatten())
}

/// Sets the variables that the builder of `drv` gets, with files in the folder `place`. Gives the declarations of
/// structured attributes.
pub fn set(context: &Context, drv: &Derivation, place: &Path, env: &mut Variables) -> CliResult<String> {
    let store = context.store()?;
    let dir = store.store_dir();
    for name in ["NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP"] {
        env.insert(name.into(), place.into());
    }
    env.insert("NIX_STORE".into(), dir.as_str().into());
    let cores = match context.settings.cores {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        cores => cores as usize,
    };
    env.insert("NIX_BUILD_CORES".into(), cores.to_string().into());
    let options = drv.options(dir).map_err(|e| CliError::failed(e.to_string()))?;
    let mut files = 0;
    for (name, value) in &drv.env {
        if name == STRUCTURED_ATTRS_ENV {
            continue;
        }
        let as_file = std::str::from_utf8(name).is_ok_and(|name| options.pass_as_file.contains(name));
        let name = OsString::from_vec(name.clone());
        if as_file {
            let file = place.join(format!(".attr-{files}"));
            files += 1;
            write(&file, value)?;
            let mut variable = name;
            variable.push("Path");
            env.insert(variable, file.into());
        } else {
            env.insert(name, OsString::from_vec(value.clone()));
        }
    }
    match StructuredAttrs::of(drv).map_err(|e| CliError::failed(e.to_string()))? {
        None => Ok(String::new()),
        Some(attrs) => structured(context, drv, &options, attrs.0, place, env),
    }
}

fn structured(
    context: &Context,
    drv: &Derivation,
    options: &DerivationOptions,
    mut attrs: Map<String, Value>,
    place: &Path,
    env: &mut Variables,
) -> CliResult<String> {
    let store = context.store()?;
    let dir = store.store_dir();
    let mut outputs = Map::new();
    for (name, path) in drv.output_paths(dir).map_err(StoreError::from)? {
        let shown = match path {
            Some(path) => dir.display(&path),
            None => firn_derivation::output_placeholder(&name),
        };
        outputs.insert(name, shown.into());
    }
    attrs.insert("outputs".into(), outputs.into());
    for (key, objects) in &options.export_references_graph {
        let roots: BTreeSet<StorePath> = objects.iter().map(|object| object.base().clone()).collect();
        let closure = context.block_on(compute_fs_closure(&*store, &roots, ClosureOptions::default()))??;
        let infos: CliResult<Vec<Value>> =
            closure.iter().map(|path| exported(context, &*store, path)).collect();
        attrs.insert(key.clone(), infos?.into());
    }
    let mut value = Value::Object(attrs);
    value.sort_all_objects();
    let Value::Object(attrs) = &value else { return Ok(String::new()) };
    let shell = firn_build::structured_shell(attrs);
    for (variable, file, text) in [
        ("NIX_ATTRS_SH_FILE", ".attrs.sh", shell.clone()),
        ("NIX_ATTRS_JSON_FILE", ".attrs.json", value.to_string()),
    ] {
        let file = place.join(file);
        write(&file, text.as_bytes())?;
        env.insert(variable.into(), file.into());
    }
    Ok(shell)
}

/// A store object as `exportReferencesGraph` shows it.
fn exported(context: &Context, store: &dyn Store, path: &StorePath) -> CliResult<Value> {
    let dir = store.store_dir();
    let info = context.block_on(store.query_path_info(path))??;
    let info = info.ok_or_else(|| StoreError::InvalidPath { path: dir.display(path) })?;
    let references: Vec<String> = info.references.iter().map(|reference| dir.display(reference)).collect();
    Ok(json!({
        "narHash": info.nar_hash.to_prefixed(HashFormat::Nix32),
        "narSize": info.nar_size,
        "path": dir.display(path),
        "references": references,
        "valid": true,
    }))
}

fn write(path: &Path, text: &[u8]) -> CliResult<()> {
    std::fs::write(path, text).map_err(CliError::io("writing", path))
}

/// The variables of this process, or with `pure` only those of them that are kept.
pub fn inherited(pure: bool, keep: &BTreeSet<OsString>) -> Variables {
    let kept = |name: &OsStr| {
        !pure || keep.contains(name) || KEPT.iter().any(|kept| kept.as_bytes() == name.as_bytes())
    };
    let mut env: Variables = std::env::vars_os().filter(|(name, _)| kept(name)).collect();
    if pure {
        // Keeps /etc/bashrc of NixOS from reading /etc/profile.
        env.insert("__ETC_PROFILE_SOURCED".into(), "1".into());
    }
    env
}

//! Derivations and store paths.

use super::{Entry, entry, experimental};
use crate::coerce::canonical;
use crate::context::{Context, ContextElem};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::source::Pos;
use crate::value::Value;
use crate::vm::{Vm, host_error};
use firn_core::SingleDerivedPath;
use std::sync::Arc;

pub(super) const TABLE: &[Entry] = &[
    entry("derivationStrict", 1, crate::derivation::derivation_strict),
    entry("placeholder", 1, placeholder),
    entry("storePath", 1, store_path),
    experimental("outputOf", 2, output_of, "dynamic-derivations"),
];

fn placeholder(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument passed to builtins.placeholder";
    let name = vm.string_no_context(args[0], pos, what)?;
    let name = String::from_utf8_lossy(name.as_bytes());
    Ok(Value::str(firn_derivation::output_placeholder(&name).as_bytes()))
}

fn store_path(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    if vm.settings.pure_eval {
        return Err(EvalError::at(
            ErrorKind::Eval,
            pos,
            "'builtins.storePath' is not allowed in pure evaluation mode",
        ));
    }
    let what = "while evaluating the first argument passed to 'builtins.storePath'";
    let (mut path, context) = vm.coerce_path(args[0], pos, what)?;
    let dir = vm.host.store_dir().clone();
    if dir.parse(&String::from_utf8_lossy(&path)).is_err() {
        path = canonical(&vm.resolve_symlinks(&path)?);
    }
    let text = String::from_utf8_lossy(&path).into_owned();
    let Ok((store_path, _)) = dir.split(&text) else {
        return Err(EvalError::at(ErrorKind::Eval, pos, format!("path '{text}' is not in the Nix store")));
    };
    if !vm.settings.read_only {
        vm.in_turn()?;
        vm.host.ensure_path(&store_path).map_err(host_error)?;
    }
    let context = context.union(Context::single(&ContextElem::Opaque(store_path)));
    Ok(Value::str_with(&path, context))
}

/// What stands for an output in a string: its path where the derivation states it, else a placeholder.
fn output_text(vm: &mut Vm, drv: &SingleDerivedPath, output: &str, pos: Pos) -> EvalResult<String> {
    if let SingleDerivedPath::Opaque(path) = drv {
        let dir = vm.host.store_dir().clone();
        let derivation = vm.host.read_derivation(path).map_err(host_error)?;
        let failed = |text: String| EvalError::at(ErrorKind::Eval, pos, text);
        let outputs = derivation.output_paths(&dir).map_err(|e| failed(e.to_string()))?;
        match outputs.get(output) {
            None => {
                let path = dir.display(path);
                return Err(failed(format!("derivation '{path}' does not have output '{output}'")));
            }
            Some(Some(path)) => return Ok(dir.display(path)),
            Some(None) => {}
        }
    }
    Ok(firn_derivation::DownstreamPlaceholder::of(drv, output).render())
}

fn output_of(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument to builtins.outputOf";
    let string = vm.force_string(args[0], pos, what)?;
    let (text, elems) = (string.as_bytes(), string.context().elems());
    let drv = match &elems[..] {
        [ContextElem::Opaque(path)] => SingleDerivedPath::Opaque(path.clone()),
        [ContextElem::Built { drv, output }] => {
            SingleDerivedPath::Built { drv: drv.clone(), output: output.clone() }
        }
        [ContextElem::DrvDeep(_)] => {
            let shown = String::from_utf8_lossy(text);
            return Err(EvalError::new(
                ErrorKind::Eval,
                format!(
                    "string '{shown}' has a context which refers to a complete source and binary closure. This is not supported at this time"
                ),
            )
            .context(pos, what));
        }
        _ => {
            let shown = String::from_utf8_lossy(text);
            return Err(EvalError::new(
                ErrorKind::Eval,
                format!(
                    "string '{shown}' has {} entries in its context. It should only have exactly one entry",
                    elems.len()
                ),
            )
            .context(pos, what));
        }
    };
    let dir = vm.host.store_dir().clone();
    let (expected, message) = match &drv {
        SingleDerivedPath::Opaque(path) => {
            let expected = dir.display(path).to_string();
            let shown = String::from_utf8_lossy(text);
            let message = format!("path string '{shown}' has context with the different path '{expected}'");
            (expected, message)
        }
        SingleDerivedPath::Built { drv, output } => {
            let expected = output_text(vm, drv, output, pos)?;
            let shown = String::from_utf8_lossy(text);
            let message = format!(
                "string '{shown}' has context with the output '{output}' from derivation '{}', but the string is not the right placeholder for this derivation output. It should be '{expected}'",
                drv.render(&dir)
            );
            (expected, message)
        }
    };
    if text != expected.as_bytes() {
        return Err(EvalError::new(ErrorKind::Eval, message).context(pos, what));
    }
    let output =
        vm.string_no_context(args[1], pos, "while evaluating the second argument to builtins.outputOf")?;
    let output = String::from_utf8_lossy(output.as_bytes()).into_owned();
    let shown = output_text(vm, &drv, &output, pos)?;
    let elem = ContextElem::Built { drv: Arc::new(drv), output };
    Ok(Value::str_with(shown.as_bytes(), Context::single(&elem)))
}

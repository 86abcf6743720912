//! Which derivation the shell is for.

use super::Flags;
use crate::commands::nix_build::{Wanted, derivation_argument};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_core::StorePath;
use firn_eval::{Attrs, Value};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The folder of a file, as an absolute path.
pub fn folder_of(file: &Path) -> CliResult<PathBuf> {
    let file = std::path::absolute(file).map_err(CliError::io("resolving", file))?;
    Ok(file.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned))
}

/// The one derivation that the command line means, written to the store.
pub fn derivation(context: &Context, evaluation: &mut Evaluation, flags: &Flags) -> CliResult<StorePath> {
    let mut found: Vec<StorePath> = Vec::new();
    for root in roots(context, evaluation, flags, &mut found)? {
        root.keep();
        let names: &[String] = &flags.attrs;
        let whole = [String::new()];
        for attr in if names.is_empty() { &whole } else { names } {
            let args = arguments(evaluation, root)?;
            let (value, _) = evaluation.run(|vm| vm.find_along_path(attr, args, root))?;
            let value = evaluation.run(|vm| vm.force(value))?;
            let args = arguments(evaluation, value)?;
            for drv in evaluation.run(|vm| vm.find_derivations(value, "", args, false))? {
                found.push(evaluation.run(|vm| vm.drv_path(&drv))?);
            }
        }
    }
    match &found[..] {
        [drv] => Ok(drv.clone()),
        _ => Err(CliError::usage("nix-shell requires a single derivation")),
    }
}

/// The arguments for a function; `inNixShell` is among them if it takes that.
fn arguments(evaluation: &mut Evaluation, value: Value) -> CliResult<Attrs> {
    match evaluation.run(|vm| vm.names_argument(value, "inNixShell"))? {
        true => Ok(evaluation.auto_args_with("inNixShell", Value::bool(true))),
        false => Ok(evaluation.auto_args),
    }
}

/// The values of the expressions; derivations that are named by their store path go to `found`.
fn roots(
    context: &Context,
    evaluation: &mut Evaluation,
    flags: &Flags,
    found: &mut Vec<StorePath>,
) -> CliResult<Vec<Value>> {
    if flags.from_stdin {
        return Ok(vec![evaluation.stdin()?]);
    }
    let script_folder = flags.script.as_ref().map(|script| folder_of(&script.path)).transpose()?;
    if flags.packages || flags.from_args {
        let relative = context.settings.nix_shell_shebang_arguments_relative_to_script;
        let folder = match script_folder.filter(|_| relative) {
            Some(folder) => folder.into_os_string().into_vec(),
            None => evaluation.current_dir().to_vec(),
        };
        let texts = match flags.packages {
            true => vec![packages(flags)],
            false => flags.args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        };
        return texts.iter().map(|text| evaluation.expression_in(text, &folder)).collect();
    }
    let mut args = flags.args.clone();
    if args.is_empty() {
        for name in ["shell.nix", "default.nix"] {
            evaluation.look_at(&folder_of(Path::new(name))?.join(name));
        }
        args.push(default_file(context)?.into());
    }
    let mut roots = Vec::new();
    for arg in args {
        if let Some(derivations) = derivation_argument(context, &arg)? {
            // Where a path leads is not followed again.
            evaluation.spoil();
            found.extend(derivations.into_iter().map(|Wanted { drv, .. }| drv));
            continue;
        }
        // Files that a script names are beside the script.
        let is_lookup = arg.as_bytes().starts_with(b"<");
        let file = match &script_folder {
            Some(folder) if !is_lookup => folder.join(&arg),
            _ => PathBuf::from(&arg),
        };
        let path = evaluation.file_argument(&file)?;
        let path = PathBuf::from(OsStr::from_bytes(&firn_eval::canonical_path(&path)));
        evaluation.look_at(&path);
        for name in ["shell.nix", "default.nix"] {
            evaluation.look_at(&path.join(name));
        }
        let path = shell_file(context, evaluation, &path)?;
        roots.push(evaluation.run(|vm| vm.eval_main_file(path.as_os_str().as_bytes()))?);
    }
    Ok(roots)
}

/// The expression for `-p`.
fn packages(flags: &Flags) -> Vec<u8> {
    let mut text =
        b"{...}@args: with import <nixpkgs> args; (pkgs.runCommandCC or pkgs.runCommand) \"shell\" \
                     { buildInputs = [ "
            .to_vec();
    for arg in &flags.args {
        text.push(b'(');
        text.extend_from_slice(arg.as_bytes());
        text.extend_from_slice(b") ");
    }
    text.extend_from_slice(b"]; } \"\"");
    text
}

/// What is taken without arguments.
fn default_file(context: &Context) -> CliResult<&'static str> {
    let shell = Path::new("shell.nix").exists();
    if shell && !context.settings.nix_shell_always_looks_for_shell_nix {
        return Ok("shell.nix");
    }
    if !shell && !Path::new("default.nix").exists() {
        return Err(CliError::failed(
            "no argument specified and no 'shell.nix' or 'default.nix' file found in the working directory",
        ));
    }
    Ok(".")
}

/// In a folder, `shell.nix` or else `default.nix`.
fn shell_file(context: &Context, evaluation: &Evaluation, path: &Path) -> CliResult<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let [shell, default] = ["shell.nix", "default.nix"].map(|name| path.join(name));
    if shell.exists() {
        let name = "nix-shell-always-looks-for-shell-nix";
        if context.settings.nix_shell_always_looks_for_shell_nix {
            return Ok(shell);
        }
        // Said each time, so this is not remembered.
        evaluation.spoil();
        context.logger.warn(&format!(
            "Skipping '{}', because the setting '{name}' is disabled. This is a deprecated behavior. Consider \
             enabling '{name}'.",
            shell.display()
        ));
    }
    if default.exists() {
        return Ok(default);
    }
    Err(CliError::failed(format!("neither 'shell.nix' nor 'default.nix' found in '{}'", path.display())))
}

/// The derivation of bash that nixpkgs has for use at a prompt.
pub fn bash(evaluation: &mut Evaluation) -> CliResult<StorePath> {
    let value = evaluation.expression(b"(import <nixpkgs> {}).bashInteractive")?;
    let found = evaluation.run(|vm| {
        let value = vm.force(value)?;
        vm.find_derivations(value, "", Attrs::empty(), false)
    })?;
    let [drv] = &found[..] else {
        return Err(CliError::failed(
            "the 'bashInteractive' attribute in <nixpkgs> did not evaluate to a derivation",
        ));
    };
    evaluation.run(|vm| vm.drv_path(drv))
}

//! `nix eval`.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult, os_message};
use crate::installables::InstallableArgs;
use firn_eval::{
    Coerce, CopyToStore, ErrorKind, EvalError, EvalResult, Kind, Pos, PrintOptions, TraceKind, Value, Vm,
    empty_context, print_value, to_json,
};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The command as it was written.
#[derive(Default)]
pub struct Eval {
    what: InstallableArgs,
    json: bool,
    pretty: Option<bool>,
    raw: bool,
    read_only: bool,
    apply: Option<OsString>,
    write_to: Option<PathBuf>,
}

impl FlagSink for Eval {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            "--raw" => self.raw = true,
            "--read-only" => self.read_only = true,
            "--apply" => {
                let [expr] = values.take(flag)?;
                self.apply = Some(expr);
            }
            "--write-to" => {
                let [path] = values.take(flag)?;
                self.write_to = Some(path.into());
            }
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Eval {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        if self.raw && self.json {
            return Err(CliError::usage("--raw and --json are mutually exclusive"));
        }
        let (mut evaluation, mut value) = self.what.value(context, self.read_only)?;
        if let Some(apply) = &self.apply {
            let function = evaluation.expression(apply.as_bytes())?;
            value = evaluation.run(|vm| vm.call(function, &[value], Pos::NONE))?;
        }
        if let Some(path) = &self.write_to {
            if path.symlink_metadata().is_ok() {
                return Err(CliError::failed(format!("path '{}' already exists", path.display())));
            }
            evaluation.run(|vm| write_to(vm, value, Pos::NONE, path))?;
        } else if self.raw {
            let what = "while generating the eval command output";
            let how = Coerce { more: false, copy: CopyToStore::Yes };
            let (text, _) = evaluation.run(|vm| vm.coerce(value, how, Pos::NONE, what))?;
            context.print(&text)?;
        } else if self.json {
            let mut text = Vec::new();
            let mut references = empty_context();
            evaluation
                .run(|vm| to_json(vm, value, CopyToStore::No, &mut text, &mut references, Pos::NONE))?;
            let parsed: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            context.print_line(super::json_text(&parsed, self.pretty))?;
        } else {
            let options = PrintOptions { outer_errors: true, ..PrintOptions::unambiguous(true) };
            let text = evaluation.run(|vm| print_value(vm, value, &options))?;
            context.print_line(text)?;
        }
        evaluation.flush()?;
        Ok(0)
    }
}

/// Writes a string as a file, a set of such as a directory.
fn write_to(vm: &mut Vm, value: Value, pos: Pos, path: &Path) -> EvalResult<()> {
    let io = |doing: &str, error: &std::io::Error| {
        let message = format!("{doing} '{}': {}", path.display(), os_message(error));
        EvalError::new(ErrorKind::Host { exit: 1 }, message)
    };
    let value = vm.force(value)?;
    match value.kind() {
        Kind::Str(text) => std::fs::write(path, text.as_bytes()).map_err(|e| io("writing", &e)),
        Kind::Attrs(attrs) => {
            std::fs::create_dir(path).map_err(|e| io("creating directory", &e))?;
            for (name, value) in attrs.sorted() {
                let at = attrs.position_of(name);
                let bytes = name.as_bytes();
                let result = if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
                    Err(EvalError::new(ErrorKind::Eval, format!("invalid file name '{name}'")))
                } else {
                    write_to(vm, value, at, &path.join(OsStr::from_bytes(bytes)))
                };
                result.map_err(|error| {
                    let text = format!("while evaluating the attribute '{name}'");
                    error.trace(at, TraceKind::Text(text.into()))
                })?;
            }
            Ok(())
        }
        _ => {
            let place = pos.place(&**vm.host()).map_or("«none»:0".to_owned(), |place| place.display());
            let message = format!("value at '{place}' is not a string or an attribute set");
            Err(EvalError::new(ErrorKind::Type, message))
        }
    }
}

//! `nix eval`.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::installables::InstallableArgs;
use firn_eval::{Coerce, CopyToStore, Kind, Pos, PrintOptions, Value, empty_context, print_value, to_json};
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
            write_to(&mut evaluation, value, path)?;
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
            let text = evaluation.run(|vm| print_value(vm, value, &PrintOptions::unambiguous(true)))?;
            context.print_line(text)?;
        }
        evaluation.flush()?;
        Ok(0)
    }
}

/// Writes a string as a file, a set of such as a directory.
fn write_to(evaluation: &mut Evaluation, value: Value, path: &Path) -> CliResult<()> {
    let value = evaluation.run(|vm| vm.force(value))?;
    match value.kind() {
        Kind::Str(text) => std::fs::write(path, text.as_bytes()).map_err(CliError::io("writing", path)),
        Kind::Attrs(attrs) => {
            std::fs::create_dir(path).map_err(CliError::io("creating directory", path))?;
            for (name, value) in attrs.sorted() {
                let bytes = name.as_bytes();
                if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
                    return Err(CliError::failed(format!("invalid file name '{name}'")));
                }
                write_to(evaluation, value, &path.join(OsStr::from_bytes(bytes)))?;
            }
            Ok(())
        }
        _ => Err(CliError::failed(format!(
            "value for '{}' is not a string or an attribute set",
            path.display()
        ))),
    }
}

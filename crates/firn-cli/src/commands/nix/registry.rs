//! `nix registry`: short names for flakes.

use super::NixCommand;
use crate::args::{EvalArgs, FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::flakes;
use firn_core::flake_ref::{FlakeRef, Input};
use firn_fetch::FetchError;
use firn_fetch::registry::{Entry, Registry, RegistryKind};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub(super) fn failed(error: FetchError) -> CliError {
    CliError::Failed { message: error.to_string(), status: error.exit_status() }
}

/// The registry that is changed, and the flakes that are named.
#[derive(Default)]
struct Line {
    eval: EvalArgs,
    registry: Option<PathBuf>,
    words: Vec<OsString>,
}

impl Line {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--registry" => {
                let [path] = values.take(flag)?;
                self.registry = Some(path.into());
            }
            _ => return self.eval.flag_or_repair(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString, most: usize) -> CliResult<()> {
        if self.words.len() >= most {
            return Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy())));
        }
        self.words.push(arg);
        Ok(())
    }

    fn reference(&self, context: &Context, index: usize) -> CliResult<FlakeRef> {
        match self.words.get(index) {
            Some(word) => flakes::parse_absolute(context, word.as_bytes()),
            None => Err(CliError::usage("more arguments are required")),
        }
    }

    fn path(&self, context: &Context) -> CliResult<PathBuf> {
        match &self.registry {
            Some(path) => std::path::absolute(path).map_err(CliError::io("resolving", path)),
            None => match &context.fetcher()?.options().user_registry {
                Some(path) => Ok(path.clone()),
                None => Err(CliError::failed("there is no folder for the user's registry")),
            },
        }
    }

    /// Changes the registry.
    fn change(&self, context: &Context, change: impl FnOnce(&mut Registry)) -> CliResult<u8> {
        let path = self.path(context)?;
        let fetcher = context.fetcher()?;
        let mut registry = fetcher.read_registry(&path, RegistryKind::Custom);
        change(&mut registry);
        fetcher.write_registry(&registry, &path).map_err(failed)?;
        Ok(0)
    }
}

fn subdir(reference: &FlakeRef) -> Option<Vec<u8>> {
    (!reference.subdir.is_empty()).then(|| reference.subdir.clone())
}

fn shown(input: &Input, dir: Option<&Vec<u8>>) -> String {
    FlakeRef { input: input.clone(), subdir: dir.cloned().unwrap_or_default() }.shown()
}

/// What a reference means, with the folder that the registry says.
pub(super) fn resolve(context: &Context, reference: &FlakeRef) -> CliResult<FlakeRef> {
    let found = context.block_on(context.fetcher()?.look_up(&reference.input, false))?;
    let (input, dir) = found.map_err(failed)?;
    Ok(FlakeRef { input, subdir: dir.unwrap_or_else(|| reference.subdir.clone()) })
}

/// `nix registry list`.
#[derive(Default)]
pub struct List {
    line: Line,
}

impl FlagSink for List {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--registry" => Ok(false),
            _ => self.line.flag(flag, values),
        }
    }
}

impl NixCommand for List {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        self.line.eval.override_registry(context)?;
        let mut out = String::new();
        for registry in context.block_on(context.fetcher()?.registries())?.map_err(failed)? {
            let kind = match registry.kind {
                RegistryKind::Flag => "flags ",
                RegistryKind::User => "user  ",
                RegistryKind::System => "system",
                RegistryKind::Global | RegistryKind::Custom => "global",
            };
            for entry in &registry.entries {
                out += &format!(
                    "{kind} {} {}\n",
                    shown(&entry.from, None),
                    shown(&entry.to, entry.dir.as_ref())
                );
            }
        }
        context.print(out.as_bytes())?;
        Ok(0)
    }
}

/// `nix registry add`.
#[derive(Default)]
pub struct Add {
    line: Line,
}

impl FlagSink for Add {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.line.flag(flag, values)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.line.positional(arg, 2)
    }
}

impl NixCommand for Add {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let (from, to) = (self.line.reference(context, 0)?, self.line.reference(context, 1)?);
        self.line.change(context, |registry| {
            registry.remove(&from.input);
            let dir = subdir(&to);
            registry.entries.push(Entry { from: from.input, to: to.input, dir, exact: false });
        })
    }
}

/// `nix registry remove`.
#[derive(Default)]
pub struct Remove {
    line: Line,
}

impl FlagSink for Remove {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.line.flag(flag, values)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.line.positional(arg, 1)
    }
}

impl NixCommand for Remove {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let reference = self.line.reference(context, 0)?;
        self.line.change(context, |registry| registry.remove(&reference.input))
    }
}

/// `nix registry pin`.
#[derive(Default)]
pub struct Pin {
    line: Line,
}

impl FlagSink for Pin {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.line.flag(flag, values)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.line.positional(arg, 2)
    }
}

impl NixCommand for Pin {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        self.line.eval.override_registry(context)?;
        let name = self.line.reference(context, 0)?;
        let wanted = match self.line.words.len() {
            2 => self.line.reference(context, 1)?,
            _ => name.clone(),
        };
        let wanted = resolve(context, &wanted)?;
        let tree = context.block_on(context.fetcher()?.fetch_tree(&wanted.input))?.map_err(failed)?;
        let mut input = Input { attrs: tree.attrs, scheme: wanted.input.scheme };
        if !input.is_locked(context.settings.trust_tarballs_from_git_forges) {
            context.logger.warn(&format!("flake '{}' is not locked", shown(&input, None)));
        }
        input.attrs.insert("__final".to_owned(), firn_core::flake_ref::Attr::Bool(true));
        self.line.change(context, |registry| {
            registry.remove(&name.input);
            let dir = subdir(&name);
            registry.entries.push(Entry { from: name.input, to: input, dir, exact: false });
        })
    }
}

/// `nix registry resolve`.
#[derive(Default)]
pub struct Resolve {
    line: Line,
}

impl FlagSink for Resolve {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--registry" => Ok(false),
            _ => self.line.flag(flag, values),
        }
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.line.positional(arg, usize::MAX)
    }
}

impl NixCommand for Resolve {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        self.line.eval.override_registry(context)?;
        for word in &self.line.words {
            let reference = flakes::parse_absolute(context, word.as_bytes())?;
            context.print_line(resolve(context, &reference)?.shown())?;
        }
        Ok(0)
    }
}

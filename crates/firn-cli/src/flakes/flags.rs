//! Flags of commands that lock flakes.

use crate::args::{Values, text};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_core::flake_ref::{Attr, Attrs, Input, Scheme};
use firn_flake::{Edge, InputPath, LockFile, LockFlags};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The flags as they were written.
#[derive(Debug, Default, Clone)]
pub struct FlakeArgs {
    recreate: bool,
    no_update: bool,
    no_write: bool,
    no_registries: bool,
    commit: bool,
    update_inputs: Vec<OsString>,
    override_inputs: Vec<(OsString, OsString)>,
    reference_file: Option<PathBuf>,
    output_file: Option<PathBuf>,
    inputs_from: Vec<OsString>,
}

/// A path to an input that is no flake itself; `empty` is what is wrong with one that is.
pub fn input_path(value: &OsString, empty: &str) -> CliResult<InputPath> {
    let path = InputPath::parse(&text("input path", value.clone())?)
        .map_err(|error| CliError::usage(error.to_string()))?;
    match path.is_empty() {
        true => Err(CliError::usage(empty)),
        false => Ok(path),
    }
}

fn zero(flag: &str) -> String {
    format!("{flag} was passed a zero-length input path, which would refer to the flake itself, not an input")
}

impl FlakeArgs {
    /// Handles `flag` if it is one of these.
    pub fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--recreate-lock-file" => self.recreate = true,
            "--no-update-lock-file" => self.no_update = true,
            "--no-write-lock-file" => self.no_write = true,
            "--no-registries" => self.no_registries = true,
            "--commit-lock-file" => self.commit = true,
            "--update-input" => {
                let [path] = values.take(flag)?;
                input_path(&path, &zero(flag))?;
                self.update_inputs.push(path);
            }
            "--override-input" => {
                let [path, reference] = values.take(flag)?;
                input_path(&path, &zero(flag))?;
                self.override_inputs.push((path, reference));
            }
            "--reference-lock-file" => {
                let [path] = values.take(flag)?;
                self.reference_file = Some(path.into());
            }
            "--output-lock-file" => {
                let [path] = values.take(flag)?;
                self.output_file = Some(path.into());
            }
            "--inputs-from" => {
                let [reference] = values.take(flag)?;
                self.inputs_from.push(reference);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What the flags mean; registries learn of `--inputs-from`.
    pub fn resolve(&self, context: &Context, evaluation: &mut Evaluation) -> CliResult<LockFlags> {
        let warn = |text: &str| context.logger.warn(text);
        if self.recreate {
            warn(
                "'--recreate-lock-file' is deprecated and will be removed in a future version; \
                 use 'nix flake update' instead.",
            );
        }
        if self.no_registries {
            warn("'--no-registries' is deprecated; use '--no-use-registries'");
        }
        let mut flags = LockFlags {
            recreate: self.recreate,
            update: !self.no_update,
            // What is overridden on the command line is for this time only.
            write: !self.no_write && self.override_inputs.is_empty(),
            use_registries: self.no_registries.then_some(false),
            commit: self.commit,
            reference_file: self.reference_file.clone(),
            output_file: self.output_file.clone(),
            ..LockFlags::default()
        };
        for path in &self.update_inputs {
            warn(
                "'--update-input' is a deprecated alias for 'flake update' and will be removed in a future version.",
            );
            flags.updates.insert(input_path(path, &zero("--update-input"))?);
        }
        for (path, reference) in &self.override_inputs {
            let path = input_path(path, &zero("--override-input"))?;
            flags.overrides.insert(path, super::parse(context, reference.as_bytes(), true)?);
        }
        for reference in &self.inputs_from {
            self.use_inputs(context, evaluation, reference)?;
        }
        Ok(flags)
    }

    /// Makes names of the inputs of a flake.
    fn use_inputs(
        &self,
        context: &Context,
        evaluation: &mut Evaluation,
        reference: &OsString,
    ) -> CliResult<()> {
        let reference = super::parse(context, reference.as_bytes(), false)?;
        let flags = LockFlags { write: false, ..LockFlags::default() };
        let flake = evaluation.lock(context, &reference, &flags)?;
        for (name, edge) in &flake.lock.node(LockFile::ROOT).inputs {
            let node = match edge {
                Edge::Node(node) => Some(*node),
                Edge::Follows(path) => flake.lock.find(path).map_err(CliError::failed)?,
            };
            let Some(locked) = node.and_then(|node| flake.lock.node(node).locked.as_ref()) else { continue };
            let attrs = [("type", "indirect"), ("id", name)];
            let attrs: Attrs =
                attrs.into_iter().map(|(key, value)| (key.to_owned(), Attr::str(value))).collect();
            let from = Input { attrs, scheme: Some(Scheme::Indirect) };
            let dir = Some(locked.locked.subdir.clone()).filter(|dir| !dir.is_empty());
            context.fetcher()?.override_registry(from, locked.locked.input.clone(), dir);
        }
        Ok(())
    }
}

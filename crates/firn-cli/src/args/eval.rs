//! Flags of all commands that evaluate expressions.

use super::engine::Values;
use crate::context::Context;
use crate::error::CliResult;
use crate::flakes;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What a function at the top of an expression is called with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutoArg {
    /// `--arg NAME EXPR`: an expression, relative to the current folder.
    Expr(OsString),
    /// `--argstr NAME STRING`.
    Text(OsString),
    /// `--arg-from-file NAME PATH`: the content of a file.
    File(PathBuf),
    /// `--arg-from-stdin NAME`: the standard input.
    Stdin,
}

/// The flags of evaluation as they were written.
#[derive(Debug, Default, Clone)]
pub struct EvalArgs {
    /// Names with their arguments; a later one of the same name counts.
    pub auto_args: Vec<(String, AutoArg)>,
    /// `-I`: search-path entries that come before all others, in order.
    pub search_path: Vec<OsString>,
    /// `--impure`.
    pub impure: bool,
    /// `--debugger`.
    pub debugger: bool,
    /// `--repair`: derivations and sources in the store that are damaged are written again.
    pub repair: bool,
    /// `--eval-store URI`: where derivations and sources go.
    pub eval_store: Option<String>,
    /// Nothing is built while evaluating, unless the user set that it may be.
    pub no_import_from_derivation: bool,
    /// `--override-flake`: names of flakes, and what they stand for.
    pub override_flakes: Vec<(OsString, OsString)>,
    /// The folder that `--arg` is relative to, if that is not the current one.
    pub base_dir: Option<Vec<u8>>,
}

impl EvalArgs {
    /// Handles `flag` if it is one of these or `--repair`, as commands of `nix` have it.
    pub fn flag_or_repair(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        if flag == "--repair" {
            self.repair = true;
            return Ok(true);
        }
        self.flag(flag, values)
    }

    /// Handles `flag` if it is one of these.
    pub fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--arg" => {
                let [name, expr] = values.take(flag)?;
                self.push(name, AutoArg::Expr(expr))?;
            }
            "--argstr" => {
                let [name, text] = values.take(flag)?;
                self.push(name, AutoArg::Text(text))?;
            }
            "--arg-from-file" => {
                let [name, path] = values.take(flag)?;
                self.push(name, AutoArg::File(path.into()))?;
            }
            "--arg-from-stdin" => {
                let [name] = values.take(flag)?;
                self.push(name, AutoArg::Stdin)?;
            }
            "-I" | "--include" => {
                let [entry] = values.take(flag)?;
                self.search_path.push(entry);
            }
            "--impure" => self.impure = true,
            "--eval-store" => {
                let [uri] = values.take(flag)?;
                self.eval_store = Some(super::text(flag, uri)?);
            }
            "--override-flake" => {
                let [from, to] = values.take(flag)?;
                self.override_flakes.push((from, to));
            }
            "--debugger" => self.debugger = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Tells the registries of `--override-flake`.
    pub fn override_registry(&self, context: &Context) -> CliResult<()> {
        for (from, to) in &self.override_flakes {
            let from = flakes::parse(context, from.as_bytes(), false)?;
            let to = flakes::parse(context, to.as_bytes(), false)?;
            let dir = (!to.subdir.is_empty()).then_some(to.subdir);
            context.fetcher()?.override_registry(from.input, to.input, dir);
        }
        Ok(())
    }

    fn push(&mut self, name: OsString, arg: AutoArg) -> CliResult<()> {
        self.auto_args.push((super::text("argument name", name)?, arg));
        Ok(())
    }
}

//! `nix-env`: queries of packages. What changes profiles is not there yet and says so.

mod columns;
mod elements;
mod json;
mod order;
mod output;
mod query;
mod selectors;
mod source;

use crate::args::{EvalArgs, FlagSink, Values};
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult};
use firn_store::activity::Verbosity;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;

const HELP: &str = "
Usage: nix-env --query [--installed | --available] [FLAGS...] [NAMES...]

Lists packages: those of a profile, or with --available those of an expression. NAMES choose among them:
a name, a name with a version, a regular expression for the name, or '*'.

  -a, --available         packages of the expression
      --installed         packages of the profile; this is so without --available
  -f, --file FILE         the expression, or a folder of expressions; otherwise ~/.nix-defexpr
  -A, --attr PATH         with --available, only look at this attribute and below
  -p, --profile PATH      the profile; otherwise NIX_PROFILE, or ~/.nix-profile
      --system-filter S   with --available, only packages for system S; '*' for all
  -b, --prebuilt-only     only packages that are valid or can be substituted
  -s, --status            a column: installed (I), valid (P), substitutable (S)
  -P, --attr-path         a column: the attribute path
      --no-name           no column for the name
  -c, --compare-versions  a column: how the version compares with installed or available ones
      --system, --drv-path, --out-path, --description   columns
      --json, --xml       structured output; with --meta, all meta attributes
      --arg NAME EXPR, --argstr NAME STRING             arguments for functions in the expression

Operations that change profiles or list generations are not supported yet by this version of firn.
";

/// Operations by their names, long and short.
const OPERATIONS: &[(&str, Operation)] = &[
    ("--query", Operation::Query),
    ("-q", Operation::Query),
    ("--install", Operation::Missing("--install")),
    ("-i", Operation::Missing("--install")),
    ("--uninstall", Operation::Missing("--uninstall")),
    ("-e", Operation::Missing("--uninstall")),
    ("--upgrade", Operation::Missing("--upgrade")),
    ("-u", Operation::Missing("--upgrade")),
    ("--set-flag", Operation::Missing("--set-flag")),
    ("--set", Operation::Missing("--set")),
    ("--switch-profile", Operation::Missing("--switch-profile")),
    ("-S", Operation::Missing("--switch-profile")),
    ("--switch-generation", Operation::Missing("--switch-generation")),
    ("-G", Operation::Missing("--switch-generation")),
    ("--rollback", Operation::Missing("--rollback")),
    ("--list-generations", Operation::Missing("--list-generations")),
    ("--delete-generations", Operation::Missing("--delete-generations")),
];

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Query,
    /// One that firn does not have yet, by its long name.
    Missing(&'static str),
}

/// The command line, before the operation has looked at its flags.
#[derive(Default)]
struct Line {
    operation: Option<Operation>,
    eval_args: EvalArgs,
    file: Option<OsString>,
    profile: Option<PathBuf>,
    system_filter: Option<Vec<u8>>,
    prebuilt_only: bool,
    dry_run: bool,
    /// Flags (and their arguments) that are the operation's.
    flags: VecDeque<OsString>,
    args: Vec<OsString>,
}

impl Line {
    fn operation(&mut self, operation: Operation) -> CliResult<()> {
        match self.operation.replace(operation) {
            Some(before) if before != operation => {
                Err(CliError::usage("only one operation may be specified"))
            }
            _ => Ok(()),
        }
    }
}

impl FlagSink for Line {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        if let Some((_, operation)) = OPERATIONS.iter().find(|(name, _)| *name == flag) {
            self.operation(*operation)?;
            return Ok(true);
        }
        match flag {
            "-f" | "--file" => self.file = Some(values.next(flag)?).filter(|file| !file.is_empty()),
            "-p" | "--profile" => {
                let path = values.next(flag)?;
                let path = std::path::absolute(&path).map_err(CliError::io("resolving", path))?;
                self.profile = Some(path);
            }
            "--system-filter" => self.system_filter = Some(values.next(flag)?.into_encoded_bytes()),
            "-b" | "--prebuilt-only" => self.prebuilt_only = true,
            "--dry-run" => self.dry_run = true,
            "--repair" => {}
            "--force-name" => {
                values.next(flag)?;
                self.flags.push_back(flag.into());
            }
            _ if self.eval_args.flag(flag, values)? => {}
            // The operation may not be known yet; it says later what it does not know.
            _ => {
                self.flags.push_back(flag.into());
                let query_attr = self.operation == Some(Operation::Query) && matches!(flag, "-A" | "--attr");
                if query_attr || flag == "--from-profile" {
                    self.flags.push_back(values.next(flag)?);
                }
            }
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.args.push(arg);
        Ok(())
    }

    /// `--system` is a column here; elsewhere it sets the system.
    fn shadows(&self, flag: &str) -> bool {
        flag == "--system"
    }
}

pub fn main(start: Start) -> CliResult<u8> {
    let mut line = Line::default();
    let context = start.parse(&mut line, HELP)?;
    if line.dry_run {
        context.logger.log(Verbosity::Info, b"(dry run; not doing anything)");
    }
    match line.operation {
        None => Err(CliError::usage("no operation specified")),
        Some(Operation::Query) => query::query(&context, line),
        Some(Operation::Missing(name)) => Err(missing(&context, name)),
    }
}

fn missing(context: &Context, operation: &str) -> CliError {
    CliError::failed(format!(
        "operation '{operation}' of '{}' is not supported yet by this version of firn; see COMPATIBILITY.md",
        context.program
    ))
}

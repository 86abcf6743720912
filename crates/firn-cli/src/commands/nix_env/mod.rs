//! `nix-env`: what is installed in profiles, and what could be.

mod changed;
mod columns;
mod element;
mod elements;
mod install;
mod install_source;
mod json;
mod order;
mod output;
mod query;
mod selectors;
mod source;
mod switching;
mod user_env;

pub use source::of_profile;

use crate::args::{EvalArgs, FlagSink, Values};
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult};
use firn_store::activity::Verbosity;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;

pub const HELP: &str = "
Usage: nix-env OPERATION [FLAGS...] [ARGUMENTS...]

Changes and lists what is installed in a profile.

Operations:
  -i, --install PACKAGES...      install packages: names, store paths, with -A attributes
        -A, --attr               the arguments are attribute paths
        -E, --from-expression    the arguments are functions on the expression
            --from-profile PATH  packages of another profile
        -P, --preserve-installed keep packages of the same name
        -r, --remove-all         remove everything else
            --priority N         smaller numbers win where packages have files of the same name
  -u, --upgrade [PACKAGES...]    upgrade to newer versions: --lt (default), --leq, --eq, --always
  -e, --uninstall PACKAGES...    remove packages
      --set PACKAGE              let the profile be just this
      --set-flag NAME VALUE PACKAGES...
                                 set priority, active or keep of installed packages
  -q, --query [PACKAGES...]      list packages: those of the profile, or with --available those of an expression
  -S, --switch-profile PATH      let ~/.nix-profile point to another profile
  -G, --switch-generation N      go to a generation of the profile
      --rollback                 go to the one before the current
      --list-generations         list them
      --delete-generations (old | Nd | +N | NUMBERS...)
                                 delete all but the current; those older than N days; all but N; these

PACKAGES are a name, a name with a version, a regular expression for the name, or '*'.

  -f, --file FILE         the expression, or a folder of expressions; otherwise ~/.nix-defexpr
  -p, --profile PATH      the profile; otherwise NIX_PROFILE, or ~/.nix-profile
      --system-filter S   only packages for system S; '*' for all
  -b, --prebuilt-only     only packages that are valid or can be substituted
      --dry-run           say what would be done, and stop
      --arg NAME EXPR, --argstr NAME STRING             arguments for functions in the expression

Columns of --query:
  -a, --available         packages of the expression
      --installed         packages of the profile; this is so without --available
  -A, --attr PATH         with --available, only look at this attribute and below
  -s, --status            installed (I), valid (P), substitutable (S)
  -P, --attr-path         the attribute path
      --no-name           no column for the name
  -c, --compare-versions  how the version compares with installed or available ones
      --system, --drv-path, --out-path, --description
      --json, --xml       structured output; with --meta, all meta attributes
";

/// Operations by their names, long and short.
const OPERATIONS: &[(&str, Operation)] = &[
    ("--query", Operation::Query),
    ("-q", Operation::Query),
    ("--install", Operation::Install),
    ("-i", Operation::Install),
    ("--uninstall", Operation::Uninstall),
    ("-e", Operation::Uninstall),
    ("--upgrade", Operation::Upgrade),
    ("-u", Operation::Upgrade),
    ("--set-flag", Operation::SetFlag),
    ("--set", Operation::Set),
    ("--switch-profile", Operation::SwitchProfile),
    ("-S", Operation::SwitchProfile),
    ("--switch-generation", Operation::SwitchGeneration),
    ("-G", Operation::SwitchGeneration),
    ("--rollback", Operation::Rollback),
    ("--list-generations", Operation::ListGenerations),
    ("--delete-generations", Operation::DeleteGenerations),
];

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Query,
    Install,
    Uninstall,
    Upgrade,
    SetFlag,
    Set,
    SwitchProfile,
    SwitchGeneration,
    Rollback,
    ListGenerations,
    DeleteGenerations,
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
    repair: bool,
    /// The name that installed packages get.
    force_name: Option<String>,
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
            "--repair" => {
                self.repair = true;
                self.eval_args.repair = true;
            }
            "--force-name" => self.force_name = Some(values.next_text(flag)?).filter(|name| !name.is_empty()),
            _ if self.eval_args.flag(flag, values)? => {}
            // The operation may not be known yet; it says later what it does not know.
            _ => {
                self.flags.push_back(flag.into());
                let query_attr = self.operation == Some(Operation::Query) && matches!(flag, "-A" | "--attr");
                let priority = self.operation == Some(Operation::Install) && flag == "--priority";
                if query_attr || priority || flag == "--from-profile" {
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
    source::prepare_default_expression(&context);
    let changes = changed::Before::look(&context, &line)?;
    let status = operate(&context, line)?;
    changes.tell(&context)?;
    Ok(status)
}

fn operate(context: &Context, line: Line) -> CliResult<u8> {
    match line.operation {
        None => Err(CliError::usage("no operation specified")),
        Some(Operation::Query) => query::query(context, line),
        Some(Operation::Install) => install::install(context, line),
        Some(Operation::Uninstall) => install::uninstall(context, line),
        Some(Operation::Upgrade) => install::upgrade(context, line),
        Some(Operation::SetFlag) => install::set_flag(context, line),
        Some(Operation::Set) => install::set(context, line),
        Some(Operation::SwitchProfile) => switching::switch_profile(context, line),
        Some(Operation::SwitchGeneration) => switching::switch_generation(context, line),
        Some(Operation::Rollback) => switching::rollback(context, line),
        Some(Operation::ListGenerations) => switching::list_generations(context, line),
        Some(Operation::DeleteGenerations) => switching::delete_generations(context, line),
    }
}

//! `nix-shell`: a shell in the environment of a derivation's builder.

mod environment;
mod expressions;
mod rc;
mod remembered;
mod shebang;

use crate::args::{EvalArgs, FlagSink, Values};
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::memory::{Bash, Known, Memory};
use environment::Variables;
use firn_core::{DerivedPath, OutputsSpec, StorePath};
use firn_derivation::Derivation;
use firn_eval::regex::Regex;
use firn_store::BuildMode;
use firn_store::activity::Verbosity;
use rc::Rc;
use shebang::Script;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::Permissions;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub const HELP: &str = "
Usage: nix-shell [--arg NAME EXPR] [--argstr NAME STRING] [{--attr | -A} PATH] [--command CMD | --run CMD]
                 [--exclude REGEX] [--pure] [--keep NAME] [PATH | {--packages | -p} PACKAGES... | -E EXPR]

Builds what a derivation needs and starts a shell in the environment of its builder.
Without a path, it takes ./shell.nix or ./default.nix.

  -p, --packages        the arguments are packages of nixpkgs, or expressions for such
  -A, --attr PATH       take an attribute of the expression
  -E, --expr            the argument is an expression, not a file
      --run COMMAND     run a command instead of a shell, without reading ~/.bashrc
      --command COMMAND the same in an interactive shell; with `return` at its end the shell stays
      --pure            start with an almost empty environment
      --keep NAME       with --pure, keep this variable; can be given several times
      --exclude REGEX   do not build inputs whose store path matches
      --dry-run         say what would be built and fetched, and stop
  -i INTERPRETER        in the `#! nix-shell` lines of a script: what runs the script

NIX_BUILD_SHELL names the shell; otherwise it is bashInteractive of <nixpkgs>.
What was evaluated and built is kept in the user's cache, with a root, and used again as long as nothing that evaluation
read has changed. FIRN_SHELL_CACHE=off turns that off; `nix-collect-garbage -d` forgets it.
";

/// The command line.
#[derive(Default)]
struct Flags {
    eval_args: EvalArgs,
    script: Option<Script>,
    args: Vec<OsString>,
    attrs: Vec<String>,
    packages: bool,
    from_args: bool,
    from_stdin: bool,
    dry_run: bool,
    repair: bool,
    pure: bool,
    interactive: bool,
    keep: BTreeSet<OsString>,
    exclude: Vec<Regex>,
    /// What the shell runs, with `exit` behind it; empty for a prompt.
    command: Vec<u8>,
}

impl FlagSink for Flags {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-A" | "--attr" => {
                let attr = values.next_text(flag)?;
                self.attrs.push(attr);
            }
            "-E" | "--expr" => self.from_args = true,
            "-p" | "--packages" => self.packages = true,
            "--run" | "--command" => {
                if flag == "--run" {
                    self.interactive = false;
                }
                self.command = [values.next(flag)?.as_bytes(), b"\nexit"].concat();
            }
            "-i" if self.script.is_some() => {
                let interpreter = values.next_text(flag)?;
                self.interactive = false;
                if let Some(script) = &self.script {
                    self.command = shebang::command(script, &interpreter);
                }
            }
            "--pure" => self.pure = true,
            "--impure" => self.pure = false,
            "--keep" => {
                let name = values.next(flag)?;
                self.keep.insert(name);
            }
            "--exclude" => {
                let text = values.next_text(flag)?;
                let regex = Regex::new(text.as_bytes()).map_err(|e| {
                    CliError::usage(format!("'{flag}': '{text}' is not a regular expression: {e}"))
                })?;
                self.exclude.push(regex);
            }
            "--dry-run" => self.dry_run = true,
            "--repair" => {
                self.repair = true;
                self.eval_args.repair = true;
            }
            "--check" => {
                return Err(CliError::failed("flag '--check' has no use in nix-shell"));
            }
            // Without effect here, but scripts still give them.
            "--run-env" | "--add-drv-link" | "--indirect" | "--no-out-link" | "--no-link" => {}
            "-o" | "--out-link" | "--drv-link" => drop(values.next(flag)?),
            _ => return self.eval_args.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match arg == "-" {
            true => self.from_stdin = true,
            false => self.args.push(arg),
        }
        Ok(())
    }
}

/// A word for the shell, in quotes.
pub fn quote(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for byte in text {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            byte => out.push(*byte),
        }
    }
    out.push(b'\'');
    out
}

pub fn main(mut start: Start) -> CliResult<u8> {
    let mut flags = Flags {
        // As bash decides it.
        interactive: std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
        ..Flags::default()
    };
    if let Some((script, options)) = shebang::read(&start.args)? {
        flags.script = Some(script);
        start.args = options;
    }
    let context = start.parse(&mut flags, HELP)?;
    if flags.packages && flags.from_args {
        return Err(CliError::usage("'-p' and '-E' are mutually exclusive"));
    }
    run(&context, flags)
}

fn run(context: &Context, mut flags: Flags) -> CliResult<u8> {
    let relative = context.settings.nix_shell_shebang_arguments_relative_to_script;
    if let (Some(script), true) = (&flags.script, relative) {
        let folder = expressions::folder_of(&script.path)?;
        flags.eval_args.base_dir = Some(folder.as_os_str().as_bytes().to_vec());
    }
    let mut evaluation = Evaluation::observed(context, &flags.eval_args)?;
    let memory = remembered::memory(context, &flags, &evaluation);
    let known = match &memory {
        Some(memory) => memory.recall(context, &evaluation)?,
        None => None,
    };
    let (drv, shell) = match known {
        // All that is needed is there.
        Some(Known { path: drv, bash }) => {
            let shell = match (bash, std::env::var_os("NIX_BUILD_SHELL")) {
                (Bash::At(bash), _) => Shell::Built(bash),
                (_, name) => Shell::Named(name.unwrap_or_else(|| "bash".into())),
            };
            let store = context.eval_store()?;
            (context.block_on(store.read_derivation(&drv))??, shell)
        }
        None => match prepare(context, &mut evaluation, &flags, memory.as_ref())? {
            Some(prepared) => prepared,
            None => return Ok(0),
        },
    };
    drop(evaluation);
    let store = context.eval_store()?;
    let shell = match shell {
        Shell::Named(name) => PathBuf::from(name),
        Shell::Built(bash) => {
            let outputs = context.block_on(store.query_derivation_outputs(&bash))??;
            let out = outputs.get("out").cloned().flatten();
            let out = out.ok_or_else(|| CliError::failed("the output of 'bashInteractive' is not known"))?;
            Path::new(&context.store()?.store_dir().display(&out)).join("bin/bash")
        }
    };
    start(context, &flags, &environment::resolved(context, drv)?, &shell)
}

/// Evaluates, and builds what the shell needs; nothing with `--dry-run`.
fn prepare(
    context: &Context,
    evaluation: &mut Evaluation,
    flags: &Flags,
    memory: Option<&Memory>,
) -> CliResult<Option<(Derivation, Shell)>> {
    let drv_path = expressions::derivation(context, evaluation, flags)?;
    let shell = shell(context, evaluation)?;
    evaluation.flush()?;
    let store = context.eval_store()?;
    let drv = context.block_on(store.read_derivation(&drv_path))??;
    let mut requests = Vec::new();
    if let Shell::Built(bash) = &shell {
        requests.push(DerivedPath::built(bash.clone(), OutputsSpec::single("out")));
    }
    requests.extend(environment::inputs(&drv, &mut |path| {
        let shown = store.store_dir().display(path);
        for regex in &flags.exclude {
            let matched = regex.find_iter(shown.as_bytes()).next().transpose();
            if matched.map_err(|e| CliError::failed(format!("flag '--exclude': {e}")))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    })?);
    let builder = context.build_store()?;
    if context.settings.print_missing {
        let missing = match flags.dry_run {
            true => context.block_on(builder.query_missing(&requests))??,
            false => context.block_on(builder.prepare(&requests))??,
        };
        super::nix_store::print_missing(context, &*store, &missing, Verbosity::Info)?;
    }
    if flags.dry_run {
        return Ok(None);
    }
    let mode = if flags.repair { BuildMode::Repair } else { BuildMode::Normal };
    context.block_on(builder.realise(&requests, mode))??;
    if let Some(memory) = memory {
        remembered::keep(memory, context, evaluation, &drv_path, &shell, &requests)?;
    }
    Ok(Some((drv, shell)))
}

/// The shell that is started.
enum Shell {
    Named(OsString),
    /// The derivation of a package that has it.
    Built(StorePath),
}

fn shell(context: &Context, evaluation: &mut Evaluation) -> CliResult<Shell> {
    if let Some(name) = std::env::var_os("NIX_BUILD_SHELL") {
        return Ok(Shell::Named(name));
    }
    match expressions::bash(evaluation) {
        Ok(path) => Ok(Shell::Built(path)),
        Err(error) => {
            error.report(&context.program, &*context.logger);
            context.logger.log(Verbosity::Notice, b"uses bash from your environment");
            Ok(Shell::Named("bash".into()))
        }
    }
}

/// Makes the shell's folder and becomes the shell.
fn start(context: &Context, flags: &Flags, drv: &Derivation, shell: &Path) -> CliResult<u8> {
    let folder = tempfile::Builder::new()
        .prefix("nix-shell.")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(CliError::io("creating a folder in", std::env::temp_dir()))?;
    let mut env: Variables = environment::inherited(flags.pure, &flags.keep);
    env.insert("IN_NIX_SHELL".into(), if flags.pure { "pure" } else { "impure" }.into());
    let attrs = environment::set(context, drv, folder.path(), &mut env)?;
    let time_zone = std::env::var_os("TZ");
    let rc = Rc {
        temporary: folder.path(),
        pure: flags.pure,
        attrs: &attrs,
        shell,
        time_zone: time_zone.as_deref(),
        is_root: rustix::process::geteuid().is_root(),
        command: &flags.command,
    };
    let file = folder.path().join("rc");
    let text = rc.text();
    context.logger.log(
        Verbosity::Vomit,
        format!(
            "Sourcing nix-shell with file {} and contents:\n{}",
            file.display(),
            String::from_utf8_lossy(&text)
        )
        .as_bytes(),
    );
    std::fs::write(&file, text).map_err(CliError::io("writing", &file))?;
    let mut args: Vec<OsString> = Vec::new();
    if flags.interactive {
        args.push("--rcfile".into());
    }
    args.push(file.into());
    // From here on the shell removes the folder.
    let folder = folder.keep();
    let error = crate::exec::exec(context, shell, "bash".as_ref(), &args, &env);
    // Best effort: the error that follows is the more useful one.
    let _ = std::fs::remove_dir_all(folder);
    Err(CliError::io("executing shell", shell)(error))
}

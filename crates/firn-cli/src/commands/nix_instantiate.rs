//! `nix-instantiate`: expressions to store derivations, values or trees.

use crate::args::{EvalArgs, FlagSink, Values};
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult};
use crate::evaluation::{Evaluation, read_stdin};
use firn_eval::{
    Attrs, CopyToStore, Origin, PrintOptions, Value, empty_context, evaluated_to_json, print_value, to_json,
    to_xml,
};
use firn_store::activity::Verbosity;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

pub const HELP: &str = "
Usage: nix-instantiate [--parse | --eval [--strict] [--raw | --json | --xml]] [--read-write-mode]
                       [--arg NAME EXPR] [--argstr NAME STRING] [{--attr | -A} PATH]
                       [--add-root PATH] [--expr | -E] FILES...
       nix-instantiate --find-file FILES...

Makes store derivations of Nix expressions and prints their paths.

  --parse               print the syntax tree
  --eval                evaluate and print the value instead
  --strict              with --eval, evaluate what is inside lists and sets too
  --raw, --json, --xml  how --eval prints the value
  --no-location         with --xml, leave positions out
  --read-write-mode     with --eval, let evaluation write to the store
  --find-file           look the arguments up in the search path
  -A, --attr PATH       take an attribute of the expression; can be given several times
  -E, --expr            the arguments are expressions, not files
  --add-root PATH       make PATH a link to the derivation that keeps it from the garbage collector
  --indirect            accepted for compatibility: roots are always indirect
  --repair              write derivations and sources again that are damaged
";

/// What is printed of a value.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Output {
    #[default]
    Plain,
    Raw,
    Json,
    Xml,
}

#[derive(Default)]
struct Flags {
    eval_args: EvalArgs,
    files: Vec<OsString>,
    attrs: Vec<String>,
    from_args: bool,
    from_stdin: bool,
    parse: bool,
    eval: bool,
    find_file: bool,
    strict: bool,
    output: Output,
    no_location: bool,
    read_write: bool,
    dry_run: bool,
    root: Option<PathBuf>,
}

impl FlagSink for Flags {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-E" | "--expr" => self.from_args = true,
            "-A" | "--attr" => {
                let attr = values.next_text(flag)?;
                self.attrs.push(attr);
            }
            "--parse" | "--parse-only" => {
                self.parse = true;
                self.dry_run = true;
            }
            "--eval" | "--eval-only" => self.eval = true,
            "--find-file" => self.find_file = true,
            "--strict" => self.strict = true,
            "--raw" => self.output = Output::Raw,
            "--json" => self.output = Output::Json,
            "--xml" => self.output = Output::Xml,
            "--no-location" => self.no_location = true,
            "--read-write-mode" => self.read_write = true,
            "--dry-run" => self.dry_run = true,
            "--repair" => self.eval_args.repair = true,
            "--indirect" => {}
            "--add-root" => self.root = Some(values.next(flag)?.into()),
            _ => return self.eval_args.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match arg == "-" {
            true => self.from_stdin = true,
            false => self.files.push(arg),
        }
        Ok(())
    }
}

pub fn main(start: Start) -> CliResult<u8> {
    let mut flags = Flags::default();
    let context = start.parse(&mut flags, HELP)?;
    let read_only = (flags.eval && !flags.read_write) || flags.dry_run;
    let mut evaluation = Evaluation::new(&context, &flags.eval_args, read_only)?;
    if flags.find_file {
        for name in &flags.files {
            let name = name.as_encoded_bytes().to_vec();
            let path = evaluation.run(|vm| vm.find_file(&name))?;
            context.print_line(path)?;
        }
        return Ok(0);
    }
    if flags.files.is_empty() && !flags.from_args && !flags.from_stdin {
        flags.files.push("./default.nix".into());
    }
    if flags.attrs.is_empty() {
        flags.attrs.push(String::new());
    }
    let mut roots = Roots { base: flags.root.clone(), count: 0, warned: false };
    if flags.from_stdin && flags.parse {
        let (text, dir) = (read_stdin()?, evaluation.current_dir().to_vec());
        let shown = evaluation.run(|vm| vm.show_parsed(&text, Origin::Stdin, &dir))?;
        context.print_line(shown)?;
    } else if flags.from_stdin {
        let value = evaluation.stdin()?;
        process(&context, &mut evaluation, &flags, value, &mut roots)?;
    }
    if flags.parse {
        let mut trees = Trees::new(&context);
        let result =
            flags.files.iter().try_for_each(|arg| parse(&mut trees, &mut evaluation, arg, flags.from_args));
        // What came before an error is shown before it.
        return trees.flush().and(result).map(|()| 0);
    }
    for arg in &flags.files {
        let value = if flags.from_args {
            evaluation.expression(arg.as_encoded_bytes())?
        } else {
            evaluation.main_file(Path::new(arg))?
        };
        process(&context, &mut evaluation, &flags, value, &mut roots)?;
    }
    Ok(0)
}

/// Trees to be printed, many in one write unless somebody could tell: on a terminal, and where messages go to the same
/// place, each is written when it is there.
struct Trees<'a> {
    context: &'a Context,
    text: Vec<u8>,
    at_once: bool,
}

/// How many bytes of trees wait to be written.
const TREES: usize = 64 << 10;

impl<'a> Trees<'a> {
    fn new(context: &'a Context) -> Self {
        let place = |stat: rustix::io::Result<rustix::fs::Stat>| stat.ok().map(|s| (s.st_dev, s.st_ino));
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let at_once = out.is_terminal() || place(rustix::fs::fstat(&out)) == place(rustix::fs::fstat(&err));
        Trees { context, text: Vec::new(), at_once }
    }

    fn add(&mut self, tree: &[u8]) -> CliResult<()> {
        self.text.extend_from_slice(tree);
        self.text.push(b'\n');
        match self.at_once || self.text.len() >= TREES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> CliResult<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let result = self.context.print(&self.text);
        self.text.clear();
        result
    }
}

fn parse(
    trees: &mut Trees<'_>,
    evaluation: &mut Evaluation,
    arg: &OsString,
    from_args: bool,
) -> CliResult<()> {
    let dir = evaluation.current_dir().to_vec();
    let shown = if from_args {
        let text = arg.as_encoded_bytes().to_vec();
        evaluation.run(|vm| vm.show_parsed(&text, Origin::String, &dir))?
    } else {
        let path = evaluation.file_argument(Path::new(arg))?;
        evaluation.run(|vm| vm.show_parsed_file(&path))?
    };
    trees.add(&shown)
}

fn process(
    context: &Context,
    evaluation: &mut Evaluation,
    flags: &Flags,
    root: Value,
    roots: &mut Roots,
) -> CliResult<()> {
    for attr in &flags.attrs {
        let args = evaluation.auto_args;
        let (value, _) = evaluation.run(|vm| vm.find_along_path(attr, args, root))?;
        if flags.eval {
            let text = evaluation.run(|vm| {
                let value = if args.is_empty() { vm.force(value)? } else { vm.auto_call(args, value)? };
                show(vm, value, flags)
            })?;
            match flags.output {
                Output::Raw => context.print(&text)?,
                Output::Xml => context.print(&text)?,
                _ => context.print_line(text)?,
            }
            continue;
        }
        derivations(context, evaluation, value, args, roots)?;
    }
    Ok(())
}

fn show(vm: &mut firn_eval::Vm, value: Value, flags: &Flags) -> firn_eval::EvalResult<Vec<u8>> {
    let mut context = empty_context();
    match flags.output {
        Output::Raw => vm
            .coerce(
                value,
                firn_eval::Coerce::PLAIN,
                firn_eval::Pos::NONE,
                "while generating the nix-instantiate output",
            )
            .map(|(text, _)| text),
        Output::Json => {
            let mut out = Vec::new();
            let write = if flags.strict { to_json } else { evaluated_to_json };
            write(vm, value, CopyToStore::Yes, &mut out, &mut context, firn_eval::Pos::NONE)?;
            Ok(out)
        }
        Output::Xml => to_xml(vm, value, flags.strict, !flags.no_location, &mut context),
        Output::Plain => {
            if flags.strict {
                vm.force_deep(value)?;
            }
            print_value(vm, value, &PrintOptions::ambiguous())
        }
    }
}

/// The links that `--add-root` asks for: `path`, `path-2`, `path-3` and so on.
struct Roots {
    base: Option<PathBuf>,
    count: usize,
    warned: bool,
}

fn derivations(
    context: &Context,
    evaluation: &mut Evaluation,
    value: Value,
    args: Attrs,
    roots: &mut Roots,
) -> CliResult<()> {
    let found = evaluation.run(|vm| vm.find_derivations(value, "", args, false))?;
    let mut paths = Vec::with_capacity(found.len());
    for drv in &found {
        let path = evaluation.run(|vm| vm.drv_path(drv))?;
        let output = evaluation.run(|vm| vm.output_name(drv))?;
        if output.is_empty() {
            return Err(CliError::failed("derivation does not have an output name"));
        }
        paths.push((path, output));
    }
    evaluation.flush()?;
    let store = context.eval_store()?;
    for (path, output) in paths {
        let mut shown = store.store_dir().display(&path);
        match &roots.base {
            None if !roots.warned => {
                roots.warned = true;
                if context.gc_warning {
                    context.logger.log(
                        Verbosity::Warn,
                        b"\x1b[35;1mwarning:\x1b[0m you did not specify '--add-root'; the result might be removed by the garbage collector",
                    );
                }
            }
            None => {}
            Some(base) => {
                roots.count += 1;
                let mut link = std::path::absolute(base).map_err(CliError::io("resolving", base.clone()))?;
                if roots.count > 1 {
                    let mut name = link.into_os_string();
                    name.push(format!("-{}", roots.count));
                    link = name.into();
                }
                let Some(local) = store.as_local_fs() else {
                    return Err(CliError::failed(format!(
                        "store '{}' cannot have roots on this machine",
                        store.uri()
                    )));
                };
                local.add_indirect_root(&path, &link)?;
                shown = link.display().to_string();
            }
        }
        if output != "out" {
            shown.push('!');
            shown.push_str(&output);
        }
        context.print_line(shown)?;
    }
    Ok(())
}

//! `nix-store`: one operation per call, with its flags and arguments in any order.

mod add;
mod archive;
mod chains;
mod database;
mod garbage;
mod paths;
mod query;
mod realise;
mod serve;
mod show;
mod verify;

pub use archive::raw_stdout;
pub use garbage::{Report, collect, gc_options, render_size};
pub use paths::follow_links;
pub use realise::print_missing;
pub use verify::{optimise_store, repair_one};

use crate::args::{FlagSink, Values};
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult};
use std::ffi::OsString;
use std::io::{IsTerminal, Read};

/// The operation's part of the command line.
#[derive(Default)]
struct Line {
    operation: Option<Operation>,
    flags: Vec<OsString>,
    args: Vec<OsString>,
    add_root: Option<OsString>,
    stdin: bool,
    no_output: bool,
}

type Run = fn(&Context, Line) -> CliResult<u8>;

/// An operation; two names of the same one are equal.
#[derive(Clone, Copy)]
struct Operation {
    name: &'static str,
    run: Run,
}

/// All names of operations.
const OPERATIONS: &[(&str, &str, Run)] = &[
    ("--realise", "--realise", realise::realise),
    ("--realize", "--realise", realise::realise),
    ("-r", "--realise", realise::realise),
    ("--add", "--add", add::add),
    ("-A", "--add", add::add),
    ("--add-fixed", "--add-fixed", add::add_fixed),
    ("--print-fixed-path", "--print-fixed-path", add::print_fixed_path),
    ("--delete", "--delete", garbage::delete),
    ("--query", "--query", query::query),
    ("-q", "--query", query::query),
    ("--print-env", "--print-env", show::print_env),
    ("--read-log", "--read-log", show::read_log),
    ("-l", "--read-log", show::read_log),
    ("--dump-db", "--dump-db", database::dump),
    ("--load-db", "--load-db", database::load),
    ("--register-validity", "--register-validity", database::register_validity),
    ("--check-validity", "--check-validity", database::check_validity),
    ("--gc", "--gc", garbage::gc),
    ("--dump", "--dump", archive::dump),
    ("--restore", "--restore", archive::restore),
    ("--export", "--export", archive::export),
    ("--import", "--import", archive::import),
    ("--init", "--init", database::init),
    ("--verify", "--verify", verify::verify),
    ("--verify-path", "--verify-path", verify::verify_path),
    ("--repair-path", "--repair-path", verify::repair_path),
    ("--optimise", "--optimise", verify::optimise),
    ("--optimize", "--optimise", verify::optimise),
    ("--serve", "--serve", serve::serve),
    ("--generate-binary-cache-key", "--generate-binary-cache-key", archive::generate_key),
];

impl FlagSink for Line {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        if let Some((_, name, run)) = OPERATIONS.iter().find(|(known, ..)| *known == flag) {
            // `-q -l` style conflicts are refused; the same operation twice is not.
            if self.operation.is_some_and(|operation| operation.name != *name) {
                return Err(CliError::usage("only one operation may be specified"));
            }
            self.operation = Some(Operation { name, run: *run });
            return Ok(true);
        }
        match flag {
            "--add-root" => self.add_root = Some(values.next(flag)?),
            "--stdin" if !std::io::stdin().is_terminal() => self.stdin = true,
            // Roots outside of the state directory always are.
            "--indirect" => {}
            "--no-output" => self.no_output = true,
            "--max-freed" | "--max-links" | "--max-atime" => {
                self.flags.push(flag.into());
                self.flags.push(values.next(flag)?);
            }
            _ => self.flags.push(flag.into()),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.args.push(arg);
        Ok(())
    }
}

impl Line {
    fn no_flags(&self) -> CliResult<()> {
        match self.flags.first() {
            None => Ok(()),
            Some(flag) => Err(unknown_flag(flag)),
        }
    }

    fn no_args(&self) -> CliResult<()> {
        match self.args.is_empty() {
            true => Ok(()),
            false => Err(CliError::usage("no arguments expected")),
        }
    }
}

fn unknown_flag(flag: &std::ffi::OsStr) -> CliError {
    CliError::usage(format!("unknown flag '{}'", flag.to_string_lossy()))
}

pub fn main(start: Start) -> CliResult<u8> {
    let mut line = Line::default();
    let context = start.parse(&mut line, HELP)?;
    let Some(operation) = line.operation else {
        return Err(CliError::usage("no operation specified"));
    };
    if line.stdin && !matches!(operation.name, "--import" | "--restore" | "--serve") {
        let mut words = Vec::new();
        std::io::stdin().read_to_end(&mut words).map_err(CliError::io("reading", "standard input"))?;
        let words = words.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        line.args.extend(words.map(|word| std::os::unix::ffi::OsStringExt::from_vec(word.to_vec())));
    }
    (operation.run)(&context, line)
}

pub const HELP: &str = "
Usage: nix-store OPERATION [FLAGS...] [ARGUMENTS...]

Operations:
  --realise, -r PATHS...     build or fetch paths [--dry-run] [--check] [--repair] [--ignore-unknown] [--add-root LINK]
  --add, -A PATHS...         copy files to the store
  --add-fixed ALGO PATHS...  copy files as fixed outputs [--recursive]
  --print-fixed-path ALGO HASH NAME
  --query, -q PATHS...       --outputs, --requisites (-R), --references, --referrers, --referrers-closure, --deriver
                             (-d), --valid-derivers, --binding (-b) NAME, --hash, --size, --tree, --graph, --graphml,
                             --resolve, --roots; [--use-output (-u)] [--force-realise (-f)] [--include-outputs]
  --gc                       delete garbage, or --print-roots, --print-live, --print-dead [--max-freed BYTES]
  --delete PATHS...          delete paths [--ignore-liveness]
  --dump PATH                write an archive of a file or folder
  --restore PATH             unpack an archive
  --export PATHS...          write paths with what makes them valid
  --import                   read such a stream
  --verify                   check the store [--check-contents] [--repair]
  --verify-path PATHS...     check the contents of paths
  --repair-path PATHS...     build or fetch damaged paths again
  --check-validity PATHS...  fail if a path is not valid [--print-invalid]
  --optimise                 link files of the same contents
  --print-env DRV            the environment of a derivation, for a shell
  --read-log, -l PATHS...    build logs
  --dump-db, --load-db, --register-validity [--reregister] [--hash-given]
  --init                     make the database
  --serve                    serve the store to a client on standard input and output [--write]
  --generate-binary-cache-key NAME SECRET-FILE PUBLIC-FILE
";

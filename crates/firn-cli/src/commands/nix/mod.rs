//! `nix`: the table of its commands, and how one is found on the command line.

mod app;
mod archives;
mod build;
mod bundle;
mod config;
mod config_check;
mod copy;
mod derivation;
mod derivation_diff;
mod develop;
mod doctor;
pub mod edit;
mod eval;
mod flake;
mod formatter;
mod hash;
mod help;
mod install;
mod key;
mod listing;
pub mod log;
mod nar;
mod path_info;
mod profile;
mod realisation;
mod registry;
mod repl;
mod run;
mod search;
mod serve;
mod shell;
mod store;
mod store_paths;
mod table;
mod upgrade_nix;
mod why_depends;

pub use store::closures::table as changes_table;

use crate::args::{self, FlagSink, LogFormat, LowArgs, Values};
use crate::commands::build_remote;
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult, suggest};
use crate::manual;
use crate::shebang;
use crate::version;
use firn_settings::ExperimentalFeature;
use firn_store::activity::Verbosity;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use table::{COMMANDS, Entry};

/// A command of `nix`: reads its part of the command line, then runs.
pub trait NixCommand: FlagSink {
    /// Runs the command and answers with the exit code.
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8>;

    /// The feature without which the command does not run.
    fn feature(&self) -> Option<ExperimentalFeature> {
        Some(ExperimentalFeature::NixCommand)
    }
}

/// Old names that still work, with a warning.
const ALIASES: &[(&str, &[&str])] = &[
    ("add-to-store", &["store", "add-path"]),
    ("cat-nar", &["nar", "cat"]),
    ("cat-store", &["store", "cat"]),
    ("copy-sigs", &["store", "copy-sigs"]),
    ("dev-shell", &["develop"]),
    ("diff-closures", &["store", "diff-closures"]),
    ("doctor", &["config", "check"]),
    ("dump-path", &["store", "dump-path"]),
    ("hash-file", &["hash", "file"]),
    ("hash-path", &["hash", "path"]),
    ("ls-nar", &["nar", "ls"]),
    ("ls-store", &["store", "ls"]),
    ("make-content-addressable", &["store", "make-content-addressed"]),
    ("optimise-store", &["store", "optimise"]),
    ("ping-store", &["store", "info"]),
    ("show-config", &["config", "show"]),
    ("show-derivation", &["derivation", "show"]),
    ("sign-paths", &["store", "sign"]),
    ("to-base16", &["hash", "to-base16"]),
    ("to-base32", &["hash", "to-base32"]),
    ("to-base64", &["hash", "to-base64"]),
    ("verify", &["store", "verify"]),
];

/// What prints the whole command line as JSON.
const DUMP: &str = "__dump-cli";

/// What prints all builtins as JSON.
const DUMP_LANGUAGE: &str = "__dump-language";

/// Commands that are found before older names, when the program is called `firn`.
const OURS: &[&str] = &["doctor"];

/// The command line of `nix` while it is read: words choose the command, which then gets everything else.
struct Line {
    /// Called as `firn`: names that are older ones of `nix` may be ours.
    is_firn: bool,
    words: Vec<String>,
    command: Option<Box<dyn NixCommand>>,
    deprecated: Option<String>,
}

impl Line {
    fn choose(&mut self, word: String) -> CliResult<()> {
        let is_ours = self.is_firn && OURS.contains(&word.as_str());
        if self.words.is_empty() && !is_ours {
            if let Some((old, new)) = ALIASES.iter().find(|(old, _)| *old == word) {
                self.deprecated = Some(format!("'{old}' is a deprecated alias for '{}'", new.join(" ")));
                for word in *new {
                    self.choose((*word).to_owned())?;
                }
                return Ok(());
            }
        }
        let depth = self.words.len();
        let starts_alike =
            |entry: &&Entry| entry.path.len() > depth && self.words.iter().eq(entry.path[..depth].iter());
        let siblings: Vec<&Entry> = COMMANDS.iter().filter(starts_alike).collect();
        if !siblings.iter().any(|entry| entry.path[depth] == word) {
            let mut known: Vec<&str> = siblings.iter().map(|entry| entry.path[depth]).collect();
            known.dedup();
            return Err(CliError::Usage {
                message: format!("'{word}' is not a recognised command"),
                suggestions: suggest(&word, known),
            });
        }
        if word == "ping" {
            self.deprecated = Some("'ping' is a deprecated alias for 'info'".to_owned());
        }
        self.words.push(word);
        self.command =
            COMMANDS.iter().find(|entry| self.words.iter().eq(entry.path)).map(|entry| (entry.make)());
        Ok(())
    }
}

impl FlagSink for Line {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match &mut self.command {
            Some(command) => command.flag(flag, values),
            None => Ok(false),
        }
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match &mut self.command {
            Some(command) => command.positional(arg),
            None => self.choose(args::text("command", arg)?),
        }
    }

    fn shadows(&self, flag: &str) -> bool {
        self.command.as_ref().is_some_and(|command| command.shadows(flag))
    }
}

fn print_dump(dump: &serde_json::Value) -> u8 {
    // Who reads only a part of it is content with that.
    let _ = writeln!(std::io::stdout(), "{}", json_text(dump, Some(false)));
    0
}

pub fn main(start: Start) -> CliResult<u8> {
    if start.args.first().is_some_and(|word| word == build_remote::WORD) {
        return build_remote::main(start);
    }
    if start.args.len() == 1 && start.args[0] == DUMP {
        let rows: Vec<_> = COMMANDS
            .iter()
            .filter(|entry| start.program == "firn" || !OURS.contains(&entry.path[0]))
            .map(|entry| {
                let feature = (entry.make)().feature().map(|feature| feature.name());
                ((entry.path, entry.usage, entry.summary), feature)
            })
            .collect();
        return Ok(print_dump(&manual::dump(&rows, &start.settings)));
    }
    if start.args.len() == 1 && start.args[0] == DUMP_LANGUAGE {
        return Ok(print_dump(&manual::dump_language()));
    }
    if let Some(index) = std::env::var("NIX_GET_COMPLETIONS").ok().and_then(|index| index.parse().ok()) {
        let paths: Vec<&[&str]> = COMMANDS.iter().map(|entry| entry.path).collect();
        let answer = manual::completion::complete(start, index, &paths);
        // A shell that does not want to know any more is no error.
        let _ = std::io::stdout().write_all(answer.as_bytes());
        return Ok(0);
    }
    let script = shebang::of(&start.args)?;
    let (args, dir) = match script {
        Some(script) => (script.args, Some(script.dir)),
        None => (start.args, None),
    };
    let mut low = LowArgs::nix();
    let mut line =
        Line { is_firn: start.program == "firn", words: Vec::new(), command: None, deprecated: None };
    args::parse(args, &mut low, &mut line)?;
    let verbosity = if std::io::stderr().is_terminal() { Verbosity::Notice } else { Verbosity::Info };
    let mut settings = start.settings;
    settings.pure_eval = true;
    let mut context = Context::resolve(&start.program, &low, settings, LogFormat::Multiline, verbosity)?;
    context.base_dir = dir;
    let result = run(&context, &low, line);
    match result {
        // Said here, with the logger that the user chose.
        Err(error) => {
            error.report(&context.program, &*context.logger);
            Err(CliError::Exit(error.status()))
        }
        ok => ok,
    }
}

fn run(context: &Context, low: &LowArgs, line: Line) -> CliResult<u8> {
    // Flags that came with the commands that are experimental.
    if low.print_build_logs || low.offline || low.refresh {
        context.require(ExperimentalFeature::NixCommand)?;
    }
    if low.version {
        context.print(version::text(&context.program, context).as_bytes())?;
        return Ok(0);
    }
    if low.help {
        context.print(manual::help(&rows(), &line.words).as_bytes())?;
        return Ok(0);
    }
    if let Some(warning) = &line.deprecated {
        context.logger.warn(warning);
    }
    let Some(command) = line.command else {
        return Err(CliError::usage(match line.words.as_slice() {
            [] => "no subcommand specified".to_owned(),
            words => format!("'nix {}' requires a sub-command.", words.join(" ")),
        }));
    };
    if let Some(feature) = command.feature() {
        context.require(feature)?;
    }
    command.run(context)
}

/// JSON as commands print it: indented for people, on one line for programs, unless the user says which.
pub fn json_text(value: &serde_json::Value, pretty: Option<bool>) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    if pretty.unwrap_or_else(|| std::io::stdout().is_terminal()) {
        format!("{value:#}")
    } else {
        value.to_string()
    }
}

/// The commands as the manual shows them.
pub fn rows() -> Vec<(&'static [&'static str], &'static str, &'static str)> {
    COMMANDS.iter().map(|entry| (entry.path, entry.usage, entry.summary)).collect()
}

/// All commands by their words.
#[cfg(test)]
pub fn all() -> impl Iterator<Item = (&'static [&'static str], fn() -> Box<dyn NixCommand>)> {
    COMMANDS.iter().map(|entry| (entry.path, entry.make))
}

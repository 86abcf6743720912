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
mod why_depends;

pub use store::closures::table as changes_table;

use crate::args::{self, FlagSink, LogFormat, LowArgs, Values};
use crate::commands::build_remote;
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult, suggest};
use crate::manual;
use crate::version;
use firn_core::{CaMethod, HashFormat};
use firn_settings::ExperimentalFeature;
use firn_store::activity::Verbosity;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};

/// A command of `nix`: reads its part of the command line, then runs.
pub trait NixCommand: FlagSink {
    /// Runs the command and answers with the exit code.
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8>;

    /// The feature without which the command does not run.
    fn feature(&self) -> Option<ExperimentalFeature> {
        Some(ExperimentalFeature::NixCommand)
    }
}

/// One row of the table.
struct Entry {
    /// The words of the command, such as `["store", "ls"]`.
    path: &'static [&'static str],
    /// Its arguments, for the help.
    usage: &'static str,
    summary: &'static str,
    make: fn() -> Box<dyn NixCommand>,
}

fn boxed<C: NixCommand + Default + 'static>() -> Box<dyn NixCommand> {
    Box::<C>::default()
}

/// All commands that there are, by name.
const COMMANDS: &[Entry] = &[
    Entry {
        path: &["copy"],
        usage: "[--from STORE] [--to STORE] [--no-check-sigs] [-s] [--no-recursive] [-o LINK] INSTALLABLES...",
        summary: "copy paths with all they refer to from one store to another",
        make: boxed::<copy::Copy>,
    },
    Entry {
        path: &["eval"],
        usage: "[--file FILE | --expr EXPR] [--json | --raw] [--apply EXPR] [--write-to PATH] [ATTRIBUTE]",
        summary: "evaluate an expression and print its value",
        make: boxed::<eval::Eval>,
    },
    Entry {
        path: &["build"],
        usage: "[-f FILE | --expr EXPR] [-o LINK | --no-link] [--dry-run] [--json] [--print-out-paths] INSTALLABLES...",
        summary: "build derivations, or fetch store paths",
        make: boxed::<build::Build>,
    },
    Entry {
        path: &["bundle"],
        usage: "[--bundler FLAKE] [-o LINK] INSTALLABLE",
        summary: "make of an app something that works without the store",
        make: boxed::<bundle::Bundle>,
    },
    Entry {
        path: &["completions"],
        usage: "bash | zsh | fish",
        summary: "print a script that teaches a shell to complete nix (firn's own)",
        make: boxed::<help::Completions>,
    },
    Entry {
        path: &["config", "check"],
        usage: "",
        summary: "look for problems of this installation",
        make: boxed::<config_check::Check>,
    },
    Entry {
        path: &["config", "show"],
        usage: "[--json] [NAME]",
        summary: "show the settings, or the value of one",
        make: boxed::<config::Show>,
    },
    Entry {
        path: &["derivation", "add"],
        usage: "[--dry-run]",
        summary: "add a derivation that is read as JSON from standard input",
        make: boxed::<derivation::Add>,
    },
    Entry {
        path: &["daemon"],
        usage: "[--stdio] [--force-trusted | --force-untrusted | --default-trust] [--process-ops]",
        summary: "serve the store to users who cannot write it themselves",
        make: boxed::<crate::commands::nix_daemon::Daemon>,
    },
    Entry {
        path: &["derivation", "diff"],
        usage: "[--json] BEFORE AFTER",
        summary: "explain why two derivations differ, down to the inputs where it begins (firn's own)",
        make: boxed::<derivation_diff::Diff>,
    },
    Entry {
        path: &["derivation", "show"],
        usage: "[-r] INSTALLABLES...",
        summary: "show derivations as JSON",
        make: boxed::<derivation::Show>,
    },
    Entry {
        path: &["develop"],
        usage: "[--phase NAME | -c COMMAND ARGS...] [--redirect INSTALLABLE FOLDER] [--profile PATH] INSTALLABLE",
        summary: "run a shell in the environment in which a derivation is built",
        make: boxed::<develop::Develop>,
    },
    Entry {
        path: &["doctor"],
        usage: "[--json] [--no-network]",
        summary: "look at everything that can be wrong here, and say what to do (as `firn doctor` only)",
        make: boxed::<doctor::Doctor>,
    },
    Entry {
        path: &["edit"],
        usage: "INSTALLABLE",
        summary: "open the expression of a package in $EDITOR",
        make: boxed::<edit::Edit>,
    },
    Entry {
        path: &["env", "shell"],
        usage: "[-c COMMAND ARGS...] INSTALLABLES...",
        summary: "run a shell in which packages are available",
        make: boxed::<shell::Shell>,
    },
    Entry {
        path: &["flake", "archive"],
        usage: "[--json] [--to STORE] [--dry-run] [FLAKE]",
        summary: "copy a flake and all its inputs to a store",
        make: boxed::<flake::archive::Archive>,
    },
    Entry {
        path: &["flake", "check"],
        usage: "[--no-build] [--all-systems] [FLAKE]",
        summary: "check that a flake evaluates, and build its checks",
        make: boxed::<flake::check::Check>,
    },
    Entry {
        path: &["flake", "clone"],
        usage: "--dest PATH [FLAKE]",
        summary: "make a copy of a flake to work on",
        make: boxed::<flake::copies::Clone>,
    },
    Entry {
        path: &["flake", "info"],
        usage: "[--json] [FLAKE]",
        summary: "the older name of metadata",
        make: || Box::new(flake::metadata::Metadata::by_its_older_name()),
    },
    Entry {
        path: &["flake", "init"],
        usage: "[--template TEMPLATE]",
        summary: "make a flake in the current folder from a template",
        make: boxed::<flake::init::Init>,
    },
    Entry {
        path: &["flake", "lock"],
        usage: "[--override-input INPUT FLAKE] [--output-lock-file FILE] [FLAKE]",
        summary: "add what is missing to the lock file of a flake",
        make: boxed::<flake::lock::Lock>,
    },
    Entry {
        path: &["flake", "metadata"],
        usage: "[--json] [FLAKE]",
        summary: "show where a flake comes from and what its inputs are",
        make: boxed::<flake::metadata::Metadata>,
    },
    Entry {
        path: &["flake", "new"],
        usage: "[--template TEMPLATE] FOLDER",
        summary: "make a flake in a new folder from a template",
        make: || Box::new(flake::init::Init::elsewhere()),
    },
    Entry {
        path: &["flake", "prefetch"],
        usage: "[--json] [-o LINK] [FLAKE]",
        summary: "fetch the tree of a flake into the store",
        make: boxed::<flake::copies::Prefetch>,
    },
    Entry {
        path: &["flake", "prefetch-inputs"],
        usage: "[FLAKE]",
        summary: "fetch the inputs of a flake into the store",
        make: boxed::<flake::copies::PrefetchInputs>,
    },
    Entry {
        path: &["flake", "show"],
        usage: "[--json] [--legacy] [--all-systems] [FLAKE]",
        summary: "show the outputs of a flake",
        make: boxed::<flake::show::Show>,
    },
    Entry {
        path: &["flake", "update"],
        usage: "[--flake FLAKE] [--commit-lock-file] [INPUTS...]",
        summary: "bring inputs in the lock file of a flake up to date",
        make: boxed::<flake::lock::Update>,
    },
    Entry {
        path: &["fmt"],
        usage: "[ARGUMENTS...]",
        summary: "format files with the program that the flake names",
        make: boxed::<formatter::Run>,
    },
    Entry {
        path: &["formatter", "build"],
        usage: "[-o LINK | --no-link]",
        summary: "build the program that the flake formats with",
        make: boxed::<formatter::Build>,
    },
    Entry {
        path: &["formatter", "run"],
        usage: "[ARGUMENTS...]",
        summary: "the same as fmt",
        make: boxed::<formatter::Run>,
    },
    Entry {
        path: &["hash", "convert"],
        usage: "[--from FORMAT] [--to FORMAT] [--hash-algo ALGO] HASHES...",
        summary: "convert between hash formats",
        make: boxed::<hash::Convert>,
    },
    Entry {
        path: &["hash", "file"],
        usage: "[--type ALGO] PATHS...",
        summary: "print the hash of the bytes of files",
        make: || Box::new(hash::HashPaths::file()),
    },
    Entry {
        path: &["hash", "path"],
        usage: "[--mode nar|flat] [--algo ALGO] [--format FORMAT] PATHS...",
        summary: "print the hash of the archive of paths",
        make: || Box::new(hash::HashPaths::path()),
    },
    Entry {
        path: &["hash", "to-base16"],
        usage: "[--type ALGO] HASHES...",
        summary: "convert a hash to base-16 representation",
        make: || Box::new(hash::ToBase::new(HashFormat::Base16)),
    },
    Entry {
        path: &["hash", "to-base32"],
        usage: "[--type ALGO] HASHES...",
        summary: "convert a hash to base-32 representation",
        make: || Box::new(hash::ToBase::new(HashFormat::Nix32)),
    },
    Entry {
        path: &["hash", "to-base64"],
        usage: "[--type ALGO] HASHES...",
        summary: "convert a hash to base-64 representation",
        make: || Box::new(hash::ToBase::new(HashFormat::Base64)),
    },
    Entry {
        path: &["hash", "to-sri"],
        usage: "[--type ALGO] HASHES...",
        summary: "convert a hash to SRI representation",
        make: || Box::new(hash::ToBase::new(HashFormat::Sri)),
    },
    Entry {
        path: &["help"],
        usage: "[COMMAND]",
        summary: "show what a command does and its options",
        make: boxed::<help::Help>,
    },
    Entry {
        path: &["help-stores"],
        usage: "",
        summary: "show which kinds of stores there are",
        make: boxed::<help::HelpStores>,
    },
    Entry {
        path: &["install"],
        usage: "[--multi-user | --single-user] [--dry-run] [-y] [--prefix FOLDER] [--root FOLDER]",
        summary: "set firn up on this machine, beside or in place of another Nix (firn's own)",
        make: boxed::<install::Install>,
    },
    Entry {
        path: &["key", "convert-secret-to-public"],
        usage: "",
        summary: "print the public half of a secret key that is read from standard input",
        make: boxed::<key::ConvertSecretToPublic>,
    },
    Entry {
        path: &["key", "generate-secret"],
        usage: "--key-name NAME",
        summary: "make a secret key for signing store paths",
        make: boxed::<key::GenerateSecret>,
    },
    Entry { path: &["log"], usage: "INSTALLABLE", summary: "show a build log", make: boxed::<log::Log> },
    Entry {
        path: &["man"],
        usage: "FOLDER",
        summary: "write manual pages to FOLDER/man1 (firn's own)",
        make: boxed::<help::Man>,
    },
    Entry {
        path: &["nar", "cat"],
        usage: "NAR PATH",
        summary: "print a file in an archive",
        make: boxed::<nar::Cat>,
    },
    Entry {
        path: &["nar", "dump-path"],
        usage: "PATH",
        summary: "the same as pack",
        make: || Box::new(nar::Pack::new(true)),
    },
    Entry {
        path: &["nar", "ls"],
        usage: "[-l] [-R] [-d] [--json] NAR PATH",
        summary: "list files in an archive",
        make: boxed::<nar::Ls>,
    },
    Entry {
        path: &["nar", "pack"],
        usage: "PATH",
        summary: "write a file or directory as an archive",
        make: || Box::new(nar::Pack::new(false)),
    },
    Entry {
        path: &["path-info"],
        usage: "[-r] [-s] [-S] [-h] [--sigs] [--json --json-format 1|2] INSTALLABLES...",
        summary: "show what is known of store paths",
        make: boxed::<path_info::PathInfo>,
    },
    Entry {
        path: &["print-dev-env"],
        usage: "[--json] [--redirect INSTALLABLE FOLDER] [--profile PATH] INSTALLABLE",
        summary: "print a script that sets the environment in which a derivation is built",
        make: boxed::<develop::PrintDevEnv>,
    },
    Entry {
        path: &["profile", "add"],
        usage: "[--priority N] [--profile PATH] INSTALLABLES...",
        summary: "add packages to a profile",
        make: boxed::<profile::Add>,
    },
    Entry {
        path: &["profile", "diff-closures"],
        usage: "[--profile PATH]",
        summary: "show what each version of a profile changed in its closure",
        make: boxed::<profile::DiffClosures>,
    },
    Entry {
        path: &["profile", "history"],
        usage: "[--profile PATH]",
        summary: "show all versions of a profile",
        make: boxed::<profile::History>,
    },
    Entry {
        path: &["profile", "install"],
        usage: "[--priority N] [--profile PATH] INSTALLABLES...",
        summary: "the older name of add",
        make: || Box::new(profile::Add::by_its_older_name()),
    },
    Entry {
        path: &["profile", "list"],
        usage: "[--json] [--profile PATH]",
        summary: "list the packages of a profile",
        make: boxed::<profile::List>,
    },
    Entry {
        path: &["profile", "remove"],
        usage: "[--all | --regex REGEX | PACKAGES...] [--profile PATH]",
        summary: "remove packages from a profile",
        make: boxed::<profile::Remove>,
    },
    Entry {
        path: &["profile", "rollback"],
        usage: "[--to VERSION] [--dry-run] [--profile PATH]",
        summary: "go back to an earlier version of a profile",
        make: boxed::<profile::Rollback>,
    },
    Entry {
        path: &["profile", "upgrade"],
        usage: "[--all | --regex REGEX | PACKAGES...] [--profile PATH]",
        summary: "upgrade packages that come from flakes",
        make: boxed::<profile::Upgrade>,
    },
    Entry {
        path: &["profile", "wipe-history"],
        usage: "[--older-than DAYS] [--dry-run] [--profile PATH]",
        summary: "delete versions of a profile that are not current",
        make: boxed::<profile::WipeHistory>,
    },
    Entry {
        path: &["registry", "add"],
        usage: "[--registry FILE] NAME FLAKE",
        summary: "make a name stand for a flake",
        make: boxed::<registry::Add>,
    },
    Entry {
        path: &["registry", "list"],
        usage: "",
        summary: "list the names that stand for flakes",
        make: boxed::<registry::List>,
    },
    Entry {
        path: &["registry", "pin"],
        usage: "[--registry FILE] NAME [FLAKE]",
        summary: "make a name stand for what a flake is now",
        make: boxed::<registry::Pin>,
    },
    Entry {
        path: &["registry", "remove"],
        usage: "[--registry FILE] NAME",
        summary: "forget what a name stands for",
        make: boxed::<registry::Remove>,
    },
    Entry {
        path: &["registry", "resolve"],
        usage: "FLAKES...",
        summary: "show what references mean",
        make: boxed::<registry::Resolve>,
    },
    Entry {
        path: &["repl"],
        usage: "[--file FILE | --expr EXPR] [ATTRIBUTES...]",
        summary: "start a prompt of the language",
        make: boxed::<repl::Repl>,
    },
    Entry {
        path: &["run"],
        usage: "INSTALLABLE [-- ARGUMENTS...]",
        summary: "run the program of a package",
        make: boxed::<run::Run>,
    },
    Entry {
        path: &["search"],
        usage: "[--json] [-e REGEX] INSTALLABLE REGEX...",
        summary: "search for packages",
        make: boxed::<search::Search>,
    },
    Entry {
        path: &["shell"],
        usage: "[-c COMMAND ARGS...] INSTALLABLES...",
        summary: "run a shell in which packages are available",
        make: boxed::<shell::Shell>,
    },
    Entry {
        path: &["realisation", "info"],
        usage: "[--json] INSTALLABLES...",
        summary: "show what content-addressed outputs were realised as",
        make: boxed::<realisation::Info>,
    },
    Entry {
        path: &["serve"],
        usage: "[--listen ADDRESS:PORT] [--key-file FILE] [--compression none|zstd] [--priority N]",
        summary: "serve the store as a binary cache over HTTP",
        make: boxed::<serve::Serve>,
    },
    Entry {
        path: &["store", "prefetch-file"],
        usage: "[--name NAME] [--expected-hash HASH] [--hash-type ALGO] [--unpack] [--executable] [--json] URL",
        summary: "download a file into the store",
        make: boxed::<store::prefetch::PrefetchFile>,
    },
    Entry {
        path: &["store", "copy-log"],
        usage: "[--from STORE] [--to STORE] INSTALLABLES...",
        summary: "copy build logs from one store to another",
        make: boxed::<store::logs::CopyLog>,
    },
    Entry {
        path: &["store", "add"],
        usage: "[--name NAME] [--mode flat|nar|text] [--hash-algo ALGO] PATH",
        summary: "add a file or directory to the store",
        make: || Box::new(store::add::Add::new(CaMethod::NixArchive)),
    },
    Entry {
        path: &["store", "add-file"],
        usage: "PATH",
        summary: "the same as add --mode flat",
        make: || Box::new(store::add::Add::new(CaMethod::Flat)),
    },
    Entry {
        path: &["store", "add-path"],
        usage: "PATH",
        summary: "the same as add",
        make: || Box::new(store::add::Add::new(CaMethod::NixArchive)),
    },
    Entry {
        path: &["store", "cat"],
        usage: "PATH",
        summary: "print a file in the store",
        make: boxed::<store::files::Cat>,
    },
    Entry {
        path: &["store", "copy-sigs"],
        usage: "-s STORE [-r] [--all] INSTALLABLES...",
        summary: "copy signatures of store paths from other stores",
        make: boxed::<store::signatures::CopySignatures>,
    },
    Entry {
        path: &["store", "delete"],
        usage: "[--ignore-liveness] INSTALLABLES...",
        summary: "delete store paths",
        make: boxed::<store::garbage::Delete>,
    },
    Entry {
        path: &["store", "diff-closures"],
        usage: "BEFORE AFTER",
        summary: "show which packages and versions two closures differ in",
        make: boxed::<store::closures::DiffClosures>,
    },
    Entry {
        path: &["store", "dump-path"],
        usage: "INSTALLABLE",
        summary: "write a store path as an archive",
        make: boxed::<store::paths::DumpPath>,
    },
    Entry {
        path: &["store", "gc"],
        usage: "[--max BYTES] [--dry-run]",
        summary: "delete what no root needs",
        make: boxed::<store::garbage::Gc>,
    },
    Entry {
        path: &["store", "info"],
        usage: "[--json]",
        summary: "say whether a store can be reached, and whether it trusts us",
        make: boxed::<store::upkeep::Info>,
    },
    Entry {
        path: &["store", "ls"],
        usage: "[-l] [-R] [-d] [--json] PATH",
        summary: "list files in the store",
        make: boxed::<store::files::Ls>,
    },
    Entry {
        path: &["store", "make-content-addressed"],
        usage: "[--from STORE] [--to STORE] [--json] INSTALLABLES...",
        summary: "rewrite closures to content-addressed form",
        make: boxed::<store::closures::MakeContentAddressed>,
    },
    Entry {
        path: &["store", "optimise"],
        usage: "",
        summary: "link files of the same contents",
        make: boxed::<store::upkeep::Optimise>,
    },
    Entry {
        path: &["store", "path-from-hash-part"],
        usage: "HASH-PART",
        summary: "find a store path by its hash",
        make: boxed::<store::paths::PathFromHashPart>,
    },
    Entry {
        path: &["store", "ping"],
        usage: "[--json]",
        summary: "the same as info",
        make: boxed::<store::upkeep::Info>,
    },
    Entry {
        path: &["store", "rebuild-db"],
        usage: "",
        summary: "make a lost or torn database anew from what is on the disk (firn's own)",
        make: boxed::<store::rebuild::RebuildDb>,
    },
    Entry {
        path: &["store", "repair"],
        usage: "INSTALLABLES...",
        summary: "fetch or build damaged paths again",
        make: boxed::<store::upkeep::Repair>,
    },
    Entry {
        path: &["store", "roots-daemon"],
        usage: "",
        summary: "tell garbage collectors without privileges what running programs use",
        make: boxed::<store::roots_daemon::RootsDaemon>,
    },
    Entry {
        path: &["store", "sign"],
        usage: "--key-file FILE INSTALLABLES...",
        summary: "sign store paths",
        make: boxed::<store::signatures::Sign>,
    },
    Entry {
        path: &["store", "tree"],
        usage: "[--json | --plain | --flat] [--depth N] [--sort closure|own|alone|name] INSTALLABLES...",
        summary: "show what a closure is made of, with sizes (firn's own)",
        make: boxed::<store::tree::Tree>,
    },
    Entry {
        path: &["store", "verify"],
        usage: "[--no-contents] [--no-trust] [--sigs-needed N] [--substituter STORE] INSTALLABLES...",
        summary: "check contents and signatures of store paths",
        make: boxed::<store::signatures::Verify>,
    },
    Entry {
        path: &["uninstall"],
        usage: "[--multi-user | --single-user] [--dry-run] [-y] [--root FOLDER]",
        summary: "undo what install did, and give back what was there before (firn's own)",
        make: boxed::<install::Uninstall>,
    },
    Entry {
        path: &["upgrade-nix"],
        usage: "",
        summary: "say how this program is upgraded",
        make: boxed::<help::UpgradeNix>,
    },
    Entry {
        path: &["why-depends"],
        usage: "[--all] [--precise] PACKAGE DEPENDENCY",
        summary: "show why a package needs another one",
        make: boxed::<why_depends::WhyDepends>,
    },
];

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

pub fn main(start: Start) -> CliResult<u8> {
    if start.args.first().is_some_and(|word| word == build_remote::WORD) {
        return build_remote::main(start);
    }
    if let Some(index) = std::env::var("NIX_GET_COMPLETIONS").ok().and_then(|index| index.parse().ok()) {
        let paths: Vec<&[&str]> = COMMANDS.iter().map(|entry| entry.path).collect();
        let answer = manual::completion::complete(start, index, &paths);
        // A shell that does not want to know any more is no error.
        let _ = std::io::stdout().write_all(answer.as_bytes());
        return Ok(0);
    }
    let mut low = LowArgs::nix();
    let mut line =
        Line { is_firn: start.program == "firn", words: Vec::new(), command: None, deprecated: None };
    args::parse(start.args, &mut low, &mut line)?;
    let verbosity = if std::io::stderr().is_terminal() { Verbosity::Notice } else { Verbosity::Info };
    let mut settings = start.settings;
    settings.pure_eval = true;
    let context = Context::resolve(&start.program, &low, settings, LogFormat::Multiline, verbosity)?;
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

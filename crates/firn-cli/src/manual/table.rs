//! The flags of each command of `nix`, and what its arguments are.

use super::Kind;
use super::flags::{ENVIRONMENT, EVALUATION, Group, INSTALLABLES, JSON, PROFILE, STORE_PATHS, group};
use super::flakes::{
    ARCHIVE, BUNDLE, CHECK, CLONE, FLAKES, FORMATTER_BUILD, LOCK_FILE, NAMES, NO_UPDATE, PREFETCH, REGISTRY,
    SHOW, TEMPLATE, UPDATE,
};

static BUILD: Group = group! { "Options":
    "-o" "--out-link" [LINK] "Name of the links to the results; `result` otherwise.";
    "--no-link" [] "Make no links.";
    "--print-out-paths" [] "Print the paths of the results.";
    "--dry-run" [] "Say what would be built and fetched, and stop.";
    "--rebuild" [] "Build again what is there, and compare.";
    "--repair" [] "Build or fetch again what is damaged.";
};
static COPY: Group = group! { "Options":
    "--from" [STORE] "The store to copy from; this machine's otherwise.";
    "--to" [STORE] "The store to copy to; this machine's otherwise.";
    "--no-check-sigs" [] "Take paths without a trusted signature.";
    "-s" "--substitute-on-destination" [] "Let the destination fetch what it can.";
    "--no-recursive" [] "Do not copy what paths refer to.";
};
static DEVELOP: Group = group! { "Options":
    "-c" "--command" [COMMAND] "Run a command with all arguments that follow, not a shell.";
    "--phase" [NAME] "Run a phase of the build.";
    "--unpack" [] "Run the unpack phase.";
    "--configure" [] "Run the configure phase.";
    "--build" [] "Run the build phase.";
    "--check" [] "Run the check phase.";
    "--install" [] "Run the install phase.";
    "--installcheck" [] "Run the installCheck phase.";
};
static REDIRECT: Group = group! { "Options of the build environment":
    "--redirect" [INSTALLABLE FOLDER] "Let the environment refer to a folder in the place of a package.";
};
static SHELL: Group = group! { "Options":
    "-c" "--command" [COMMAND] "Run a command with all arguments that follow, not $SHELL.";
};
static EVAL: Group = group! { "Options":
    "--raw" [] "Print a string as it is.";
    "--apply" [EXPR] "Call this function with the value, and print what it gives.";
    "--read-only" [] "Write nothing to the store.";
    "--write-to" [PATH] "Write strings to files in a new folder, by the names of their attributes.";
};
static DERIVATION_SHOW: Group = group! { "Options":
    "-r" "--recursive" [] "Also all derivations that these need.";
};
static HASH_FILE: Group = group! { "Options":
    "--type" [ALGORITHM] "md5, sha1, sha256, sha512 or blake3.";
    "--sri" [] "Print algorithm and base 64, the default.";
    "--base64" [] "Print base 64.";
    "--base32" [] "Print Nix's base 32.";
    "--base16" [] "Print base 16.";
};
static HASH_PATH: Group = group! { "Options":
    "--algo" [ALGORITHM] "md5, sha1, sha256, sha512 or blake3.";
    "--format" [FORMAT] "sri, base64, nix32 or base16.";
    "--mode" [MODE] "What is hashed: nar, flat or git.";
};
static HASH_CONVERT: Group = group! { "Options":
    "--from" [FORMAT] "The notation of the arguments, if they do not tell.";
    "--to" [FORMAT] "sri, base64, nix32 or base16.";
    "--hash-algo" [ALGORITHM] "The algorithm, if the arguments do not tell.";
};
static HASH_TO: Group = group! { "Options":
    "--type" [ALGORITHM] "The algorithm, if the arguments do not tell.";
};
static LISTING: Group = group! { "Options":
    "-R" "--recursive" [] "List folders with all that is in them.";
    "-l" "--long" [] "Show types and sizes.";
    "-d" "--directory" [] "Show folders themselves, not what is in them.";
};
static PATH_INFO: Group = group! { "Options":
    "-s" "--size" [] "Show the size of each path's archive.";
    "-S" "--closure-size" [] "Show the size of all that each path needs.";
    "-h" "--human-readable" [] "Show sizes in units.";
    "--sigs" [] "Show signatures.";
    "--json-format" [N] "Layout of the JSON output: 1 or 2.";
};
static PROFILE_ADD: Group = group! { "Options":
    "--priority" [N] "Of packages with a file in one place, the one with the smaller number wins.";
};
static PROFILE_CHOICE: Group = group! { "Options":
    "--all" [] "All packages.";
    "--regex" [REGEX] "Packages whose whole name matches.";
};
static PROFILE_ROLLBACK: Group = group! { "Options":
    "--to" [VERSION] "Go to this version.";
    "--dry-run" [] "Say what would be done, and stop.";
};
static PROFILE_WIPE: Group = group! { "Options":
    "--older-than" [AGE] "Only versions that were not current any more so long ago, such as `30d`.";
    "--dry-run" [] "Say what would be done, and stop.";
};
static SEARCH: Group = group! { "Options":
    "-e" "--exclude" [REGEX] "Leave out packages that match.";
};
static STORE_ADD: Group = group! { "Options":
    "-n" "--name" [NAME] "The name in the store; the file's own otherwise.";
    "--mode" [MODE] "How the content gives the path: nar, flat, text or git.";
    "--hash-algo" [ALGORITHM] "md5, sha1, sha256, sha512 or blake3.";
    "--dry-run" [] "Print the path, and add nothing.";
};
static STORE_DELETE: Group = group! { "Options":
    "--ignore-liveness" [] "Delete also what is needed, as far as nothing refers to it.";
};
static STORE_GC: Group = group! { "Options":
    "--max" [BYTES] "Stop after so much; K, M, G and T are units.";
    "--dry-run" [] "Say what would be deleted, and stop.";
};
static STORE_CA: Group = group! { "Options":
    "--from" [STORE] "The store to read from.";
    "--to" [STORE] "The store to write to.";
};
static STORE_SIGN: Group = group! { "Options":
    "-k" "--key-file" [PATH] "The file of the secret key.";
};
static STORE_VERIFY: Group = group! { "Options":
    "--no-contents" [] "Do not look at contents.";
    "--no-trust" [] "Do not look at signatures.";
    "-s" "--substituter" [STORE] "Take signatures also from this store.";
    "-n" "--sigs-needed" [N] "So many trusted signatures are needed.";
};
static KEY_GENERATE: Group = group! { "Options":
    "--key-name" [NAME] "The name of the key, such as `cache.example.org-1`.";
};
static WHY_DEPENDS: Group = group! { "Options":
    "-a" "--all" [] "Show all ways, not just the shortest.";
    "--precise" [] "Show the files that refer to the next path.";
    "--derivation" [] "Look at the derivations, not at their outputs.";
};
static DAEMON: Group = group! { "Options":
    "--stdio" [] "Serve the one client on the standard input and output.";
    "--force-trusted" [] "Trust every client.";
    "--force-untrusted" [] "Trust no client.";
    "--default-trust" [] "Trust those whom `trusted-users` names.";
    "--process-ops" [] "With --stdio, do what is asked here and not in another daemon.";
};

/// Commands with the groups of their flags. The last part says what their arguments are.
const ROWS: &[(&str, &[&Group], Kind)] = &[
    ("build", &[&BUILD, &JSON, &PROFILE, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    ("bundle", &[&BUNDLE, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    ("completions", &[], Kind::Text),
    ("config check", &[], Kind::Text),
    ("config show", &[&JSON], Kind::Setting),
    (
        "copy",
        &[&COPY, &STORE_PATHS_OF_COPY, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    ("daemon", &[&DAEMON], Kind::Text),
    ("derivation add", &[], Kind::Text),
    ("derivation diff", &[&JSON, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    (
        "derivation show",
        &[&DERIVATION_SHOW, &PRETTY, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    (
        "develop",
        &[&DEVELOP, &REDIRECT, &ENVIRONMENT, &PROFILE, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    ("doctor", &[&DOCTOR, &JSON], Kind::Text),
    ("edit", &[&INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    (
        "env shell",
        &[&SHELL, &ENVIRONMENT, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    ("eval", &[&EVAL, &JSON, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    ("flake archive", &[&ARCHIVE, &JSON, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Flake),
    ("flake check", &[&CHECK, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Flake),
    ("flake clone", &[&CLONE, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Flake),
    ("flake info", &[&JSON, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Flake),
    ("flake init", &[&TEMPLATE, &EVALUATION], Kind::Text),
    ("flake lock", &[&FLAKES, &NO_UPDATE, &EVALUATION], Kind::Flake),
    ("flake metadata", &[&JSON, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Flake),
    ("flake new", &[&TEMPLATE, &EVALUATION], Kind::Folder),
    ("flake prefetch", &[&PREFETCH, &JSON, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Flake),
    ("flake prefetch-inputs", &[&FLAKES, &LOCK_FILE, &EVALUATION], Kind::Flake),
    ("flake show", &[&SHOW, &JSON, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Flake),
    ("flake update", &[&UPDATE, &FLAKES, &EVALUATION], Kind::Input),
    ("fmt", &[&FLAKES, &LOCK_FILE, &EVALUATION], Kind::File),
    ("formatter build", &[&FORMATTER_BUILD, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Text),
    ("formatter run", &[&FLAKES, &LOCK_FILE, &EVALUATION], Kind::File),
    ("hash convert", &[&HASH_CONVERT], Kind::Text),
    ("hash file", &[&HASH_FILE], Kind::File),
    ("hash path", &[&HASH_PATH], Kind::File),
    ("hash to-base16", &[&HASH_TO], Kind::Text),
    ("hash to-base32", &[&HASH_TO], Kind::Text),
    ("hash to-base64", &[&HASH_TO], Kind::Text),
    ("hash to-sri", &[&HASH_TO], Kind::Text),
    ("help", &[], Kind::Text),
    ("help-stores", &[], Kind::Text),
    ("install", &[&INSTALL], Kind::Text),
    ("key convert-secret-to-public", &[], Kind::Text),
    ("key generate-secret", &[&KEY_GENERATE], Kind::Text),
    ("log", &[&INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    ("man", &[], Kind::Folder),
    ("nar cat", &[], Kind::File),
    ("nar dump-path", &[], Kind::File),
    ("nar ls", &[&LISTING, &JSON], Kind::File),
    ("nar pack", &[], Kind::File),
    (
        "path-info",
        &[&PATH_INFO, &JSON, &STORE_PATHS, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    (
        "print-dev-env",
        &[&REDIRECT, &JSON, &PROFILE, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    (
        "profile add",
        &[&PROFILE_ADD, &PROFILE, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    ("profile diff-closures", &[&PROFILE], Kind::Text),
    ("profile history", &[&PROFILE], Kind::Text),
    (
        "profile install",
        &[&PROFILE_ADD, &PROFILE, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    ("profile list", &[&JSON, &PROFILE], Kind::Text),
    ("profile remove", &[&PROFILE_CHOICE, &PROFILE], Kind::Text),
    ("profile rollback", &[&PROFILE_ROLLBACK, &PROFILE], Kind::Text),
    ("profile upgrade", &[&PROFILE_CHOICE, &PROFILE, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Text),
    ("profile wipe-history", &[&PROFILE_WIPE, &PROFILE], Kind::Text),
    ("registry add", &[&REGISTRY, &NAMES], Kind::Flake),
    ("registry list", &[&NAMES], Kind::Text),
    ("registry pin", &[&REGISTRY, &NAMES], Kind::Flake),
    ("registry remove", &[&REGISTRY, &NAMES], Kind::Flake),
    ("registry resolve", &[&NAMES], Kind::Flake),
    ("repl", &[&INSTALLABLES_OF_REPL, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    ("realisation info", &[&REALISATION, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    ("run", &[&ENVIRONMENT, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    ("search", &[&SEARCH, &JSON, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    ("serve", &[&SERVE], Kind::Text),
    ("shell", &[&SHELL, &ENVIRONMENT, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    ("store add", &[&STORE_ADD], Kind::File),
    ("store add-file", &[&STORE_ADD], Kind::File),
    ("store add-path", &[&STORE_ADD], Kind::File),
    ("store cat", &[], Kind::File),
    ("store copy-log", &[&COPY_LOG, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    (
        "store copy-sigs",
        &[&COPY_SIGS, &STORE_PATHS, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    (
        "store delete",
        &[&STORE_DELETE, &STORE_PATHS, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    (
        "store diff-closures",
        &[&DERIVATIONS, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    ("store dump-path", &[&INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    ("store gc", &[&STORE_GC], Kind::Text),
    ("store info", &[&JSON], Kind::Text),
    ("store ls", &[&LISTING, &JSON], Kind::File),
    (
        "store make-content-addressed",
        &[&STORE_CA, &JSON, &STORE_PATHS, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    ("store optimise", &[], Kind::Text),
    ("store path-from-hash-part", &[], Kind::Text),
    ("store ping", &[&JSON], Kind::Text),
    ("store prefetch-file", &[&PREFETCH_FILE, &JSON], Kind::Text),
    ("store rebuild-db", &[], Kind::Text),
    ("store repair", &[&INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    ("store roots-daemon", &[], Kind::Text),
    (
        "store sign",
        &[&STORE_SIGN, &STORE_PATHS, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    ("store tree", &[&TREE, &JSON, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
    (
        "store verify",
        &[&STORE_VERIFY, &STORE_PATHS, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION],
        Kind::Installable,
    ),
    ("uninstall", &[&UNINSTALL], Kind::Text),
    ("upgrade-nix", &[], Kind::Text),
    ("why-depends", &[&WHY_DEPENDS, &INSTALLABLES, &FLAKES, &LOCK_FILE, &EVALUATION], Kind::Installable),
];

static STORE_PATHS_OF_COPY: Group = group! { "Options that choose store paths":
    "--all" [] "All valid paths of the store.";
    "--derivation" [] "The derivations, not their outputs.";
};
static PRETTY: Group = group! { "Options of the output":
    "--pretty" [] "Print JSON on many lines, as is usual on a terminal.";
    "--no-pretty" [] "Print JSON on one line.";
};
static INSTALLABLES_OF_REPL: Group = group! { "Options that say what is loaded":
    "-f" "--file" [FILE] "Load the expression in this file; `-` is the standard input.";
    "--expr" [EXPR] "Load this expression.";
};
static DERIVATIONS: Group = group! { "Options that choose store paths":
    "--derivation" [] "The derivations, not their outputs.";
};
static REALISATION: Group = group! { "Options of the output":
    "--json" [] "Print JSON.";
    "--pretty" [] "Print JSON on many lines, as is usual on a terminal.";
    "--no-pretty" [] "Print JSON on one line.";
};
static SERVE: Group = group! { "Options":
    "-l" "--listen" [ADDRESS] "The address and port to listen on.";
    "-k" "--key-file" [FILE] "Sign with this secret key; can be given several times.";
    "--priority" [N] "What clients are told: smaller numbers are asked first.";
    "--compression" [METHOD] "`none` or `zstd`.";
    "--compression-level" [N] "How hard to compress.";
    "--max-connections" [N] "How many clients are served at once.";
    "--max-archives" [N] "How many archives are sent at once.";
    "--client-timeout" [N] "Seconds that a silent client is waited for.";
};
static TREE: Group = group! { "Options":
    "--plain" [] "Print it, also on a terminal, where it is shown for folding otherwise.";
    "--flat" [] "Each path once, as a list.";
    "--depth" [N] "No deeper than this.";
    "--sort" [ORDER] "By `closure` (default), `own` size, `alone` (what would go with it), or `name`.";
};
static DOCTOR: Group = group! { "Options":
    "--no-network" [] "Do not look at caches and certificates.";
};
static INSTALL: Group = group! { "Options":
    "--multi-user" "--daemon" [] "For all users, with a daemon and users for builds; root's default.";
    "--single-user" "--no-daemon" [] "For this user alone, who owns the store; the default of others.";
    "--prefix" [FOLDER] "Where `bin` and `share` are: `/usr/local`, or `~/.local` for one user.";
    "--root" [FOLDER] "Install below this folder, as for an image of another machine.";
    "--build-users" [N] "How many users for builds there shall be (32).";
    "--no-shells" [] "Do not change files that shells read at their start.";
    "--no-systemd" [] "Do not install units of systemd.";
    "--dry-run" [] "Only show the plan.";
    "-y" "--yes" [] "Do not ask.";
};
static UNINSTALL: Group = group! { "Options":
    "--multi-user" "--daemon" [] "Undo the installation for all users; root's default.";
    "--single-user" "--no-daemon" [] "Undo that for this user.";
    "--root" [FOLDER] "Below this folder.";
    "--dry-run" [] "Only show what would be done.";
    "-y" "--yes" [] "Do not ask.";
};
static PREFETCH_FILE: Group = group! { "Options":
    "--name" [NAME] "The name in the store, instead of that in the URL.";
    "--expected-hash" [HASH] "Fail if the hash is another one.";
    "--hash-type" [ALGORITHM] "The hash algorithm: `sha256` or another.";
    "--executable" [] "Make the file executable.";
    "--unpack" [] "Unpack the archive, and add what is in it.";
};
static COPY_LOG: Group = group! { "Options":
    "--from" [STORE] "The store to read from.";
    "--to" [STORE] "The store to write to.";
};
static COPY_SIGS: Group = group! { "Options":
    "-s" "--substituter" [STORE] "Take signatures from this store; can be given several times.";
};

/// The groups of flags of a command, named by its words; nothing where it is not known.
pub fn groups_of(words: &[&str]) -> Option<&'static [&'static Group]> {
    let name = words.join(" ");
    ROWS.iter().find(|(row, ..)| *row == name).map(|(_, groups, _)| *groups)
}

/// What the arguments of a command are.
pub fn positional_of(words: &[&str]) -> Kind {
    let name = words.join(" ");
    ROWS.iter().find(|(row, ..)| *row == name).map_or(Kind::Text, |(_, _, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{LowArgs, parse};
    use crate::commands::nix;
    use crate::manual::flags::COMMON;
    use std::ffi::OsString;

    /// Values that every flag takes as far as it can tell while reading.
    fn value(arg: &str) -> OsString {
        match arg {
            "N" | "VERSION" | "BYTES" => "1".into(),
            "FORMAT" => "sri".into(),
            "MODE" => "nar".into(),
            "ALGORITHM" => "sha256".into(),
            "METHOD" => "zstd".into(),
            "ORDER" => "closure".into(),
            _ => "x".into(),
        }
    }

    #[test]
    fn every_flag_is_taken() {
        for (words, make) in nix::all() {
            let groups =
                groups_of(words).unwrap_or_else(|| panic!("'nix {}' is not in the manual", words.join(" ")));
            for flag in groups.iter().flat_map(|group| group.flags) {
                for name in flag.names {
                    let mut args: Vec<OsString> = vec![(*name).into()];
                    args.extend(flag.args.iter().map(|arg| value(arg)));
                    let mut command = make();
                    if let Err(error) = parse(args, &mut LowArgs::nix(), &mut *command) {
                        panic!("'nix {} {name}': {error}", words.join(" "));
                    }
                }
            }
        }
        for (row, ..) in ROWS {
            assert!(nix::all().any(|(words, _)| words.join(" ") == *row), "'nix {row}' does not exist");
        }
    }

    #[test]
    fn common_flags_are_taken() {
        for flag in COMMON.flags {
            for name in flag.names {
                let mut args: Vec<OsString> = vec![(*name).into()];
                args.extend(flag.args.iter().map(|arg| match *arg {
                    "FORMAT" => "raw".into(),
                    "SETTING" => "cores".into(),
                    _ => value(arg),
                }));
                let mut command = nix::all().next().map(|(_, make)| make()).expect("a command");
                assert!(parse(args, &mut LowArgs::nix(), &mut *command).is_ok(), "{name}");
            }
        }
    }
}

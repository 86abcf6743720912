//! Flags that several commands have, in groups.

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// All its names, such as `-f` and `--file`.
    pub names: &'static [&'static str],
    /// Names of its arguments; `PATH` and the like say what they are.
    pub args: &'static [&'static str],
    pub text: &'static str,
}

/// Flags that belong together.
#[derive(Debug)]
pub struct Group {
    pub title: &'static str,
    pub flags: &'static [Flag],
}

/// `"-f" "--file" [FILE] "text";` for each flag.
macro_rules! group {
    ($title:literal: $($($name:literal)+ [$($arg:ident)*] $text:literal;)*) => {
        $crate::manual::flags::Group {
            title: $title,
            flags: &[$($crate::manual::flags::Flag {
                names: &[$($name),+],
                args: &[$(stringify!($arg)),*],
                text: $text,
            }),*],
        }
    };
}
pub(super) use group;

pub static INSTALLABLES: Group = group! { "Options that say what installables are":
    "-f" "--file" [FILE] "Installables are attributes of the expression in this file; `-` is the standard input.";
    "--expr" [EXPR] "Installables are attributes of this expression.";
    "--stdin" [] "Read more installables from the standard input, separated by blanks.";
};

pub static EVALUATION: Group = group! { "Options of evaluation":
    "--arg" [NAME EXPR] "Call functions at the top of expressions with this argument.";
    "--argstr" [NAME STRING] "The same with a string.";
    "--arg-from-file" [NAME PATH] "The same with the content of a file.";
    "--arg-from-stdin" [NAME] "The same with the standard input.";
    "-I" "--include" [ENTRY] "Put an entry in front of the search path: `name=path`, or a folder.";
    "--impure" [] "Let expressions look at the environment, the time and any file.";
    "--eval-store" [STORE] "Write derivations and their sources to another store than the one that is built in.";
    "--override-flake" [FLAKE FLAKE] "Let a name stand for a flake.";
    "--debugger" [] "Stop at errors and at `builtins.break`, with a prompt.";
};

pub static JSON: Group = group! { "Options of the output":
    "--json" [] "Print JSON.";
    "--pretty" [] "Print JSON on many lines, as is usual on a terminal.";
    "--no-pretty" [] "Print JSON on one line.";
};

pub static PROFILE: Group = group! { "Options of the profile":
    "--profile" [PATH] "Work on this profile.";
};

pub static ENVIRONMENT: Group = group! { "Options of the environment":
    "-i" "--ignore-env" "--ignore-environment" [] "Start with an empty environment.";
    "-k" "--keep-env-var" "--keep" [NAME] "With --ignore-env, keep this variable.";
    "-s" "--set-env-var" [NAME VALUE] "Set a variable.";
    "-u" "--unset-env-var" "--unset" [NAME] "Unset a variable.";
};

pub static STORE_PATHS: Group = group! { "Options that choose store paths":
    "--all" [] "All valid paths of the store.";
    "-r" "--recursive" [] "Also everything that the paths refer to.";
    "--derivation" [] "The derivations, not their outputs.";
};

pub static COMMON: Group = group! { "Options of all commands":
    "--help" [] "Show what the command does and its options.";
    "--version" [] "Show the version.";
    "-v" "--verbose" [] "Say more; can be given several times.";
    "--quiet" [] "Say less.";
    "--debug" [] "Say everything.";
    "-L" "--print-build-logs" [] "Show the logs of builds in full.";
    "--log-format" [FORMAT] "How messages are shown: raw, raw-with-logs, bar, bar-with-logs or internal-json.";
    "--offline" [] "Do not use the network.";
    "--refresh" [] "Take everything that was fetched before as too old.";
    "--option" [SETTING VALUE] "Set a setting. Every setting is also a flag: --NAME VALUE, or --NAME and --no-NAME.";
    "-j" "--max-jobs" [N] "Run so many builds at once.";
};

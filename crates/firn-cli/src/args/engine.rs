//! The walk over the arguments: compound short flags, `--`, flags with their values, everything else.

use super::common::LowArgs;
use crate::error::{CliError, CliResult};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A command's own part of the command line.
pub trait FlagSink {
    /// Handles `flag` (`--name` or `-n`), taking its values; answers whether it is a flag of this command.
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool>;

    /// Handles an argument that is no flag.
    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy())))
    }

    /// Whether `flag` is this command's although all programs have one of that name.
    fn shadows(&self, flag: &str) -> bool {
        let _ = flag;
        false
    }
}

/// The arguments that are still to be read.
pub struct Values {
    rest: VecDeque<OsString>,
}

impl Values {
    /// The one argument of `flag`, with the error of the older programs.
    pub fn next(&mut self, flag: &str) -> CliResult<OsString> {
        self.rest.pop_front().ok_or_else(|| CliError::usage(format!("'{flag}' requires an argument")))
    }

    /// The one argument of `flag`, as text.
    pub fn next_text(&mut self, flag: &str) -> CliResult<String> {
        super::text(flag, self.next(flag)?)
    }

    /// The `N` arguments of `flag`.
    pub fn take<const N: usize>(&mut self, flag: &str) -> CliResult<[OsString; N]> {
        if self.rest.len() < N {
            let given = self.rest.len();
            return Err(CliError::usage(format!(
                "flag '{flag}' requires {N} argument(s), but only {given} were given"
            )));
        }
        let mut values = self.rest.drain(..N);
        Ok(std::array::from_fn(|_| values.next().unwrap_or_default()))
    }

    /// All arguments that are left, whatever they look like.
    pub fn all(&mut self) -> Vec<OsString> {
        self.rest.drain(..).collect()
    }

    /// Puts arguments in front of what is left.
    pub fn push_front(&mut self, args: impl IntoIterator<Item = OsString, IntoIter: DoubleEndedIterator>) {
        for arg in args.into_iter().rev() {
            self.rest.push_front(arg);
        }
    }
}

/// Reads `args` (without the program's name) into `low` and `sink`.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    low: &mut LowArgs,
    sink: &mut dyn FlagSink,
) -> CliResult<()> {
    let mut values = Values { rest: args.into_iter().collect() };
    let mut only_positionals = false;
    while let Some(arg) = values.rest.pop_front() {
        if only_positionals || arg == "-" || !arg.as_bytes().starts_with(b"-") {
            sink.positional(arg)?;
            continue;
        }
        if arg == "--" {
            only_positionals = true;
            continue;
        }
        let arg = expand(arg, &mut values);
        let unrecognised = || CliError::usage(format!("unrecognised flag '{}'", arg.to_string_lossy()));
        let Some(flag) = arg.to_str() else { return Err(unrecognised()) };
        let known = (!sink.shadows(flag) && low.flag(flag, &mut values)?) || sink.flag(flag, &mut values)?;
        if !known {
            return Err(unrecognised());
        }
    }
    Ok(())
}

/// Takes `-qlf` apart into `-q`, which is returned, and `-l -f`; `-j3` into `-j` and `3`.
fn expand(arg: OsString, values: &mut Values) -> OsString {
    let bytes = arg.as_bytes();
    if bytes.len() <= 2 || bytes[1] == b'-' || !bytes[1].is_ascii_alphabetic() {
        return arg;
    }
    let mut parts = Vec::new();
    for (at, &byte) in bytes.iter().enumerate().skip(2) {
        if byte.is_ascii_alphabetic() {
            parts.push(OsString::from_vec(vec![b'-', byte]));
        } else {
            parts.push(OsString::from_vec(bytes[at..].to_vec()));
            break;
        }
    }
    let first = OsString::from_vec(bytes[..2].to_vec());
    values.push_front(parts);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Log(Vec<String>);

    impl FlagSink for Log {
        fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
            match flag {
                "-q" | "-l" | "--own" => self.0.push(flag.to_owned()),
                "-f" => {
                    let value = values.next_text(flag)?;
                    self.0.push(format!("-f={value}"));
                }
                _ => return Ok(false),
            }
            Ok(true)
        }
        fn positional(&mut self, arg: OsString) -> CliResult<()> {
            self.0.push(arg.to_string_lossy().into_owned());
            Ok(())
        }
    }

    #[track_caller]
    fn check(args: &[&str], expected: &str) {
        let mut log = Log::default();
        let result = parse(args.iter().map(OsString::from), &mut LowArgs::default(), &mut log);
        let found = match result {
            Ok(()) => log.0.join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn walk() {
        check(&["-qlf", "x", "y"], "-q -l -f=x y");
        check(&["-qf3"], "-q -f=3");
        check(&["a", "--", "-q", "--own"], "a -q --own");
        check(&["--own", "-j4", "-j", "auto", "-vv"], "--own");
        check(&["-"], "-");
        check(&["--nah"], "unrecognised flag '--nah'");
        check(&["-f"], "'-f' requires an argument");
        check(&["--cores"], "flag '--cores' requires 1 argument(s), but only 0 were given");
        check(&["--option", "x"], "flag '--option' requires 2 argument(s), but only 1 were given");
    }
}

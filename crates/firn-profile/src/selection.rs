//! Which generations are meant: `old`, `30d`, `+5`, or numbers.

use crate::error::{ProfileError, ProfileResult};
use std::collections::BTreeSet;

/// Seconds of a day.
const DAY: i64 = 24 * 3600;

/// Generations that are to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All but the current one.
    Old,
    /// Those that were not current any more at this time (seconds since the epoch).
    OlderThan(i64),
    /// All that are older than the current one, but for this many counted from it.
    Keep(u64),
    /// These.
    Numbers(BTreeSet<u64>),
}

impl Selection {
    /// What `nix-env --delete-generations` takes; `now` is in seconds since the epoch.
    pub fn parse(args: &[String], now: i64) -> ProfileResult<Selection> {
        if let [arg] = args {
            if arg == "old" {
                return Ok(Selection::Old);
            }
            if arg.contains('d') {
                return older_than(arg, now).map(Selection::OlderThan);
            }
            if arg.contains('+') {
                let count = arg.get(1..).filter(|count| !count.is_empty());
                let count = count.ok_or_else(|| ProfileError::BadCount(arg.clone()))?;
                let count = count.parse().map_err(|_| ProfileError::BadKeep(arg.clone()))?;
                return Ok(Selection::Keep(count));
            }
        }
        let number = |arg: &String| {
            arg.parse().map_err(|_| ProfileError::Usage(format!("invalid generation number '{arg}'")))
        };
        args.iter().map(number).collect::<ProfileResult<_>>().map(Selection::Numbers)
    }
}

/// The time that `<days>d` ago was.
pub fn older_than(spec: &str, now: i64) -> ProfileResult<i64> {
    let Some(days) = spec.strip_suffix('d') else {
        return Err(ProfileError::Usage(format!(
            "invalid number of days specifier '{spec}', expected something like '14d'"
        )));
    };
    match days.parse::<i32>() {
        Ok(days) if days >= 1 => Ok(now - i64::from(days) * DAY),
        _ => Err(ProfileError::Usage(format!("invalid number of days specifier '{spec}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(args: &[&str], expected: &str) {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let found = match Selection::parse(&args, 1_000_000) {
            Ok(selection) => format!("{selection:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn selections() {
        check(&["old"], "Old");
        check(&["1d"], "OlderThan(913600)");
        check(&["0d"], "invalid number of days specifier '0d'");
        check(&["d"], "invalid number of days specifier 'd'");
        check(&["1d2"], "invalid number of days specifier '1d2', expected something like '14d'");
        check(&["+3"], "Keep(3)");
        check(&["+"], "invalid number of generations '+'");
        check(&["+x"], "invalid number of generations to keep '+x'");
        check(&["1", "3"], "Numbers({1, 3})");
        check(&["1", "old"], "invalid generation number 'old'");
        check(&[], "Numbers({})");
    }
}

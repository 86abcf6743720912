//! Which packages the arguments mean: a name, perhaps with a version, where the name may be a regular expression.

use crate::error::{CliError, CliResult};
use firn_eval::regex::Regex;
use firn_eval::split_package_name;

struct Selector<'a> {
    full: &'a [u8],
    name: &'a [u8],
    version: &'a [u8],
    /// Nothing for `*`.
    regex: Option<Regex>,
}

impl<'a> Selector<'a> {
    fn new(full: &'a [u8]) -> CliResult<Self> {
        let (name, version) = split_package_name(full);
        let regex = match name {
            b"*" => None,
            _ => Some(Regex::new(name).map_err(|error| {
                let shown = String::from_utf8_lossy(full);
                CliError::failed(format!("selector '{shown}' is not a valid regular expression: {error}"))
            })?),
        };
        Ok(Self { full, name, version, regex })
    }

    fn matches(&self, name: &[u8], version: &[u8]) -> CliResult<bool> {
        if !self.version.is_empty() && self.version != version {
            return Ok(false);
        }
        let Some(regex) = &self.regex else { return Ok(true) };
        let matched = regex.full_match(name).map_err(|error| {
            CliError::failed(format!("selector '{}': {error}", String::from_utf8_lossy(self.full)))
        })?;
        Ok(matched.is_some())
    }
}

/// The places in `names` that `args` select, in the order of the selectors, each once. No arguments select all; a
/// selector without a match is an error.
pub fn select(names: &[&str], args: &[Vec<u8>]) -> CliResult<Vec<usize>> {
    if args.is_empty() {
        return Ok((0..names.len()).collect());
    }
    select_by(names, args, &mut Ok)
}

/// As [`select`], with `choose` taking some of the places that a selector matches.
pub fn select_by(
    names: &[&str],
    args: &[Vec<u8>],
    choose: &mut dyn FnMut(Vec<usize>) -> CliResult<Vec<usize>>,
) -> CliResult<Vec<usize>> {
    let mut chosen = Vec::new();
    let mut done = vec![false; names.len()];
    for arg in args {
        let selector = Selector::new(arg)?;
        let mut matches = Vec::new();
        for (place, full) in names.iter().enumerate() {
            let (name, version) = split_package_name(full.as_bytes());
            if selector.matches(name, version)? {
                matches.push(place);
            }
        }
        if matches.is_empty() && selector.full != b"*" {
            return Err(no_match(&selector, names));
        }
        for place in choose(matches)? {
            if !std::mem::replace(&mut done[place], true) {
                chosen.push(place);
            }
        }
    }
    Ok(chosen)
}

/// Selectors for packages that are looked at one by one.
pub struct Selectors<'a>(Vec<Selector<'a>>);

impl<'a> Selectors<'a> {
    pub fn new(args: &'a [Vec<u8>]) -> CliResult<Self> {
        args.iter().map(|arg| Selector::new(arg)).collect::<CliResult<_>>().map(Self)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The first selector that matches `full`.
    pub fn first_match(&self, full: &str) -> CliResult<Option<usize>> {
        let (name, version) = split_package_name(full.as_bytes());
        for (at, selector) in self.0.iter().enumerate() {
            if selector.matches(name, version)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Fails if a selector matched nothing.
    pub fn check_use(&self, used: &[bool]) -> CliResult<()> {
        for (selector, used) in self.0.iter().zip(used) {
            if !used && selector.full != b"*" {
                let shown = String::from_utf8_lossy(selector.full);
                return Err(CliError::failed(format!("selector '{shown}' matches no derivations")));
            }
        }
        Ok(())
    }
}

fn no_match(selector: &Selector<'_>, names: &[&str]) -> CliError {
    let mut message = format!("selector '{}' matches no derivations", String::from_utf8_lossy(selector.full));
    let mut near = std::collections::BTreeSet::new();
    for full in names {
        let (name, _) = split_package_name(full.as_bytes());
        if name.starts_with(selector.name) {
            near.insert(name);
        }
        if near.len() >= 3 {
            break;
        }
    }
    if !near.is_empty() {
        message.push_str(", maybe you meant:");
    }
    for name in near {
        message.push('\n');
        message.push_str(&String::from_utf8_lossy(name));
    }
    CliError::failed(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["foo-1.0", "foo-2.0", "foobar-0.1", "Bar", "foo-2.0"];

    #[track_caller]
    fn check(args: &[&str], expected: &str) {
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        let found = match select(NAMES, &args) {
            Ok(places) => format!("{places:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn selection() {
        check(&[], "[0, 1, 2, 3, 4]");
        check(&["*"], "[0, 1, 2, 3, 4]");
        check(&["foo"], "[0, 1, 4]");
        check(&["foo-2.0"], "[1, 4]");
        check(&["foobar", "foo.*"], "[2, 0, 1, 4]");
        check(&["*-2.0"], "[1, 4]");
        check(&["fo"], "selector 'fo' matches no derivations, maybe you meant:\nfoo\nfoobar");
        check(&["x"], "selector 'x' matches no derivations");
        check(&["foo-3"], "selector 'foo-3' matches no derivations, maybe you meant:\nfoo\nfoobar");
    }
}

//! Paths to inputs, and to inputs of inputs: `nixops/nixpkgs`.

use firn_core::flake_ref::is_flake_id;
use std::fmt;
use thiserror::Error;

/// The names from the flake itself to an input; none for the flake.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputPath(pub Vec<String>);

/// What cannot name an input.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid flake input attribute path element '{0}'")]
pub struct BadInputPath(pub String);

impl InputPath {
    pub fn parse(text: &str) -> Result<InputPath, BadInputPath> {
        let parts = text.split('/').filter(|part| !part.is_empty());
        let checked = parts.map(|part| match is_flake_id(part.as_bytes()) {
            true => Ok(part.to_owned()),
            false => Err(BadInputPath(part.to_owned())),
        });
        Ok(InputPath(checked.collect::<Result<_, _>>()?))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The path to an input of what this leads to.
    pub fn join(&self, name: &str) -> InputPath {
        let mut path = self.0.clone();
        path.push(name.to_owned());
        InputPath(path)
    }

    /// This, and then `other`.
    pub fn chain(&self, other: &InputPath) -> InputPath {
        InputPath(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// The name of the input, and the path to what has it; nothing for the flake itself.
    pub fn split(&self) -> Option<(&[String], &str)> {
        let (name, parent) = self.0.split_last()?;
        Some((parent, name))
    }
}

impl fmt::Display for InputPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found = InputPath::parse(text).map(|path| path.to_string()).map_err(|error| error.0);
            assert_eq!(found.as_deref().map_err(String::as_str), expected);
        };
        check("a/b", Ok("a/b"));
        check("/a//b/", Ok("a/b"));
        check("", Ok(""));
        check("a/.", Err("."));
        check("a/1b", Err("1b"));
    }
}

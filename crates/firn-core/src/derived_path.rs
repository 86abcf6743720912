//! What can be asked of a store: a path as it is, or outputs of a derivation.

use crate::store_path::{StoreDir, StorePath, StorePathError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Which outputs of a derivation are meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputsSpec {
    All,
    /// Never empty.
    Names(BTreeSet<String>),
}

impl OutputsSpec {
    pub fn single(name: &str) -> OutputsSpec {
        OutputsSpec::Names([name.to_owned()].into())
    }

    pub fn contains(&self, name: &str) -> bool {
        match self {
            OutputsSpec::All => true,
            OutputsSpec::Names(names) => names.contains(name),
        }
    }

    /// `*` or names joined by commas.
    pub fn render(&self) -> String {
        match self {
            OutputsSpec::All => "*".to_owned(),
            OutputsSpec::Names(names) => names.iter().map(String::as_str).collect::<Vec<_>>().join(","),
        }
    }

    /// Parses `*` or names joined by commas; `None` for an empty list or name.
    pub fn parse(text: &str) -> Option<OutputsSpec> {
        if text == "*" {
            return Some(OutputsSpec::All);
        }
        let names: BTreeSet<String> = text.split(',').map(str::to_owned).collect();
        (!names.contains("")).then_some(OutputsSpec::Names(names))
    }
}

/// A single store object: known, or one output of a derivation (which may itself be such an output).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SingleDerivedPath {
    Opaque(StorePath),
    Built { drv: Arc<SingleDerivedPath>, output: String },
}

impl SingleDerivedPath {
    /// The store path at the root of the chain.
    pub fn base(&self) -> &StorePath {
        match self {
            SingleDerivedPath::Opaque(path) => path,
            SingleDerivedPath::Built { drv, .. } => drv.base(),
        }
    }

    /// `path^output^…`.
    pub fn render(&self, dir: &StoreDir) -> String {
        self.render_with(dir, '^')
    }

    fn render_with(&self, dir: &StoreDir, separator: char) -> String {
        match self {
            SingleDerivedPath::Opaque(path) => dir.display(path),
            SingleDerivedPath::Built { drv, output } => {
                format!("{}{separator}{output}", drv.render_with(dir, separator))
            }
        }
    }
}

/// What a build request names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DerivedPath {
    Opaque(StorePath),
    Built { drv: Arc<SingleDerivedPath>, outputs: OutputsSpec },
}

impl DerivedPath {
    /// Outputs of a derivation that is in the store.
    pub fn built(drv: StorePath, outputs: OutputsSpec) -> DerivedPath {
        DerivedPath::Built { drv: Arc::new(SingleDerivedPath::Opaque(drv)), outputs }
    }

    /// `path` or `drv^outputs`.
    pub fn render(&self, dir: &StoreDir) -> String {
        match self {
            DerivedPath::Opaque(path) => dir.display(path),
            DerivedPath::Built { drv, outputs } => format!("{}^{}", drv.render(dir), outputs.render()),
        }
    }

    /// `path` or `drv!outputs` (`drv!output!outputs` and so on), the form of the worker protocol and of older command
    /// lines.
    pub fn render_legacy(&self, dir: &StoreDir) -> String {
        match self {
            DerivedPath::Opaque(path) => dir.display(path),
            DerivedPath::Built { drv, outputs } => {
                format!("{}!{}", drv.render_with(dir, '!'), outputs.render())
            }
        }
    }

    /// Parses either form; `separator` is `^` or `!`.
    pub fn parse(dir: &StoreDir, text: &str, separator: char) -> Result<DerivedPath, StorePathError> {
        let Some((left, outputs)) = text.rsplit_once(separator) else {
            return Ok(DerivedPath::Opaque(dir.parse(text)?));
        };
        let outputs = OutputsSpec::parse(outputs)
            .ok_or_else(|| StorePathError::NotTopLevel { path: text.to_owned() })?;
        let mut parts = left.split(separator);
        let mut drv = SingleDerivedPath::Opaque(dir.parse(parts.next().unwrap_or_default())?);
        for output in parts {
            drv = SingleDerivedPath::Built { drv: Arc::new(drv), output: output.to_owned() };
        }
        Ok(DerivedPath::Built { drv: Arc::new(drv), outputs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, legacy: &str) {
        let dir = StoreDir::default();
        let path = DerivedPath::parse(&dir, text, '^').unwrap();
        assert_eq!(path.render(&dir), text);
        assert_eq!(path.render_legacy(&dir), legacy);
        assert_eq!(DerivedPath::parse(&dir, legacy, '!').unwrap(), path);
    }

    #[test]
    fn both_forms() {
        let drv = format!("/nix/store/{}-x.drv", "a".repeat(32));
        check(&drv, &drv);
        check(&format!("{drv}^*"), &format!("{drv}!*"));
        check(&format!("{drv}^out^dev,out"), &format!("{drv}!out!dev,out"));
        check(&format!("{drv}^out^out^*"), &format!("{drv}!out!out!*"));
    }
}

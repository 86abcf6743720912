//! Store paths as users write them: through links, with outputs, in folders of the store.

use crate::error::{CliError, CliResult};
use firn_core::{DerivedPath, OutputsSpec, StoreDir, StorePath};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// How many links are followed.
const MAX_LINKS: usize = 1024;

/// The store path that `arg` is, is in, or leads to through symlinks.
pub fn follow_links(dir: &StoreDir, arg: &OsStr) -> CliResult<StorePath> {
    let mut path = normalise(&std::path::absolute(arg).map_err(CliError::io("resolving", arg))?);
    for _ in 0..MAX_LINKS {
        if let Some(text) = path.to_str()
            && dir.contains(text)
        {
            return Ok(dir.split(text).map(|(path, _)| path).map_err(firn_store::StoreError::from)?);
        }
        let Ok(target) = std::fs::read_link(&path) else {
            return Err(CliError::failed(format!("path \"{}\" is not in the Nix store", path.display())));
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        path = normalise(&parent.join(target));
    }
    Err(CliError::failed(format!(
        "too many symbolic links encountered while resolving '{}'",
        arg.to_string_lossy()
    )))
}

/// A path with the outputs behind `!`; without them all of a derivation's.
pub struct PathWithOutputs {
    pub path: StorePath,
    pub outputs: BTreeSet<String>,
}

impl PathWithOutputs {
    pub fn parse(dir: &StoreDir, arg: &OsStr) -> CliResult<Self> {
        let bytes = arg.as_bytes();
        let (path, outputs) = match bytes.iter().position(|b| *b == b'!') {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (bytes, &b""[..]),
        };
        let path = follow_links(dir, OsStr::from_bytes(path))?;
        let outputs = String::from_utf8_lossy(outputs);
        let outputs = outputs.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(Self { path, outputs })
    }

    pub fn derived_path(&self) -> DerivedPath {
        match (self.path.is_derivation(), self.outputs.is_empty()) {
            (true, true) => DerivedPath::built(self.path.clone(), OutputsSpec::All),
            (true, false) => DerivedPath::built(self.path.clone(), OutputsSpec::Names(self.outputs.clone())),
            (false, _) => DerivedPath::Opaque(self.path.clone()),
        }
    }
}

/// Takes out `.` and `..` by text.
fn normalise(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

//! What an installation did, so that it can be undone.

use crate::files::replace_text;
use crate::step::Step;
use crate::{Error, Kind, Result, at, below};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The only format so far.
const FORMAT: u32 = 1;

/// A step that was begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    pub step: Step,
    /// It went to its end; if not, it may have or have not happened.
    pub done: bool,
    /// Where that is kept which stood there before.
    pub backup: Option<PathBuf>,
    /// The file was there before, and had the rest of its text.
    #[serde(default)]
    pub existed: bool,
}

/// The record of an installation.
#[derive(Debug, Serialize, Deserialize)]
pub struct Journal {
    format: u32,
    pub kind: Kind,
    pub prefix: PathBuf,
    pub entries: Vec<Entry>,
}

/// Where the record is kept: below `/var/lib`, or in the home of a single user.
pub fn journal_path(kind: Kind, home: &Path) -> PathBuf {
    match kind {
        Kind::MultiUser => PathBuf::from("/var/lib/firn/install.json"),
        Kind::SingleUser => home.join(".local/state/firn/install.json"),
    }
}

impl Journal {
    pub(crate) fn new(kind: Kind, prefix: &Path) -> Self {
        Self { format: FORMAT, kind, prefix: prefix.to_owned(), entries: Vec::new() }
    }

    /// The record at `path` below `root`, if there is one.
    ///
    /// # Errors
    /// One that cannot be read, or is not such a record.
    pub fn load(root: &Path, path: &Path) -> Result<Option<Self>> {
        let real = below(root, path);
        let text = match std::fs::read(&real) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("reading", &real)(error)),
        };
        let bad = |reason: String| Error::Journal { path: real.clone(), reason };
        let journal: Self = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if journal.format != FORMAT {
            return Err(bad(format!("its format is {}, not {FORMAT}", journal.format)));
        }
        Ok(Some(journal))
    }

    pub(crate) fn save(&self, root: &Path, path: &Path) -> Result<()> {
        let real = below(root, path);
        if let Some(folder) = real.parent() {
            std::fs::create_dir_all(folder).map_err(at("making", folder))?;
        }
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Journal { path: real.clone(), reason: error.to_string() })?;
        replace_text(&real, 0o644, &(text + "\n"))
    }

    /// What was kept when `step` was done for the first time, if it was.
    pub(crate) fn earlier(&self, step: &Step) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.step.same_place(step))
    }
}

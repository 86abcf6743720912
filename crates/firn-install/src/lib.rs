//! Setting firn up on a machine, taking over an installation of Nix, and undoing both.
//!
//! A [`Plan`] is made first, from what was asked for and what the machine has; nothing is written meanwhile. Applying it
//! writes a [`Journal`] before and after each step, so that an interrupted installation can be continued or undone, and
//! what stood in the way is given back when firn is removed. The store and its contents are never touched.
//!
//! All paths are those of the machine; with another root than `/` everything happens below that.
//!
//! This crate knows nothing of stores and of the language.

mod accounts;
mod files;
mod journal;
mod machine;
mod plan;
mod step;
mod texts;
mod undo;

pub use journal::{Journal, journal_path};
pub use machine::Machine;
pub use plan::{Kind, Options, Plan};
pub use step::{Step, Todo};
pub use undo::uninstall;

use std::path::{Path, PathBuf};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} '{}': {reason}", path.display())]
    File {
        /// What was tried, such as "writing".
        what: &'static str,
        path: PathBuf,
        reason: std::io::Error,
    },
    #[error("'{command}' failed: {reason}")]
    Command { command: String, reason: String },
    #[error("'{}' is not a record of an installation: {reason}", path.display())]
    Journal { path: PathBuf, reason: String },
    #[error("there is nothing to undo: no record of an installation at '{}'", path.display())]
    NotInstalled { path: PathBuf },
    #[error("{0}")]
    Refused(String),
}

pub type Result<T> = std::result::Result<T, Error>;

/// For `map_err` after something that was tried with a file.
fn at<'a>(what: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
    move |reason| Error::File { what, path: path.to_owned(), reason }
}

/// Where a path of the machine is while `root` is its root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

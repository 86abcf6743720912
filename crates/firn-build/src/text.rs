//! Texts for the user.

use firn_scheduler::BuildFailure;
use firn_store::BuildStatus;
use std::io;
use std::path::Path;

pub(crate) const RED: &str = "\x1b[31;1m";
pub(crate) const MAGENTA: &str = "\x1b[35;1m";
pub(crate) const BOLD: &str = "\x1b[1m";
pub(crate) const NORMAL: &str = "\x1b[0m";

/// A value in an error message.
pub(crate) fn paint(value: impl std::fmt::Display) -> String {
    format!("{MAGENTA}{value}{NORMAL}")
}

/// A file's path in an error message.
pub(crate) fn quote(path: &Path) -> String {
    paint(format!("\"{}\"", path.display()))
}

/// The system's words for an error.
pub(crate) fn os(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// The failure of an operation on a file that is not the builder's fault.
pub(crate) fn io_failure(what: &str, path: &Path) -> impl FnOnce(io::Error) -> BuildFailure {
    let text = format!("{what} {}", quote(path));
    move |e| BuildFailure::new(BuildStatus::MiscFailure, format!("{text}: {}", os(&e)))
}

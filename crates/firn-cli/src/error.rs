//! The error of a command, and the one place that prints errors and chooses the exit code.
//!
//! Exit codes: 1 for any error; for builds 100 (failed), 101 (timed out), 102 (hash mismatch), 104 (not
//! deterministic), which [`StoreError::Build`] carries.

use firn_profile::ProfileError;
use firn_settings::SettingsError;
use firn_store::StoreError;
use firn_store::activity::{Logger, Report, ReportPlace, Verbosity};
use std::fmt::Write;
use std::path::PathBuf;
use thiserror::Error;

pub type CliResult<T> = Result<T, CliError>;

/// Why a command ended.
#[derive(Debug, Error)]
pub enum CliError {
    /// The command line is wrong; `--help` is pointed at.
    #[error("{message}")]
    Usage { message: String, suggestions: Vec<String> },
    /// Something that is not there, and names that may have been meant.
    #[error("{message}")]
    Suggesting { message: String, suggestions: Vec<String> },
    #[error("{0}")]
    Settings(#[from] SettingsError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Profile(#[from] ProfileError),
    #[error("{operation} '{}': {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    /// The whole message is the text.
    #[error("{message}")]
    Failed { message: String, status: u8 },
    /// A message that brings its own layout (`error:`, positions, trace), as the evaluator renders it; `catchable` is what
    /// `builtins.tryEval` catches.
    #[error("{}", String::from_utf8_lossy(text))]
    Rendered { text: Vec<u8>, status: u8, usage: bool, catchable: bool, parts: Box<ErrorParts> },
    /// Everything was said already.
    #[error("exit with status {0}")]
    Exit(u8),
}

/// An error of an expression, in parts.
#[derive(Debug)]
pub struct ErrorParts {
    pub message: Vec<u8>,
    pub place: Option<ReportPlace>,
    /// Empty where it was not asked for.
    pub trace: Vec<(Vec<u8>, Option<ReportPlace>)>,
}

impl CliError {
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), suggestions: Vec::new() }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), status: 1 }
    }

    /// An I/O error with what was being done to which path, for `map_err`.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }

    /// The message without a trace, for errors that are passed over.
    pub fn last_words(&self) -> String {
        match self {
            Self::Rendered { parts, .. } => String::from_utf8_lossy(&parts.message).into_owned(),
            other => describe(other),
        }
    }

    pub fn status(&self) -> u8 {
        match self {
            Self::Failed { status, .. } | Self::Rendered { status, .. } | Self::Exit(status) => *status,
            Self::Store(StoreError::Build { status, .. }) => u8::try_from(*status).unwrap_or(1),
            Self::Profile(ProfileError::Store(StoreError::Build { status, .. })) => {
                u8::try_from(*status).unwrap_or(1)
            }
            Self::Usage { .. }
            | Self::Suggesting { .. }
            | Self::Settings(_)
            | Self::Store(_)
            | Self::Profile(_)
            | Self::Io { .. } => 1,
        }
    }

    /// Tells the user, through `logger`, what went wrong with `program`.
    pub fn report(&self, program: &str, logger: &dyn Logger) {
        let text = match self {
            Self::Exit(_) => return,
            Self::Rendered { text, parts, .. } => {
                logger.report(&Report {
                    level: Verbosity::Error,
                    text: text.trim_ascii_end(),
                    message: &parts.message,
                    place: parts.place.clone(),
                    trace: &parts.trace,
                });
                String::new()
            }
            Self::Usage { message, suggestions } | Self::Suggesting { message, suggestions } => {
                format!("{message}{}", did_you_mean(suggestions))
            }
            other => describe(other),
        };
        if !text.is_empty() {
            logger.error(&text);
        }
        let usage = match self {
            Self::Rendered { usage, .. } => *usage,
            Self::Usage { .. } | Self::Profile(ProfileError::Usage(_)) => true,
            Self::Settings(error) => error.is_usage(),
            _ => false,
        };
        if usage {
            logger.log(Verbosity::Error, format!("Try '{program} --help' for more information.").as_bytes());
        }
    }
}

/// The message, where the operating system's words come without their number (`No such file or directory`).
fn describe(error: &CliError) -> String {
    let (operation, path, source) = match error {
        CliError::Io { operation, path, source } => (operation, path, source),
        CliError::Store(StoreError::Io { operation, path, source })
        | CliError::Profile(ProfileError::Store(StoreError::Io { operation, path, source }))
        | CliError::Profile(ProfileError::Io { operation, path, source }) => (operation, path, source),
        other => return other.to_string(),
    };
    format!("{operation} '{}': {}", path.display(), os_message(source))
}

/// An operating system error in its own words.
pub fn os_message(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

fn did_you_mean(suggestions: &[String]) -> String {
    let mut out = String::new();
    match suggestions {
        [] => {}
        [only] => {
            let _ = write!(out, "\nDid you mean {only}?");
        }
        [many @ .., last] => {
            let _ = write!(out, "\nDid you mean one of {} or {last}?", many.join(", "));
        }
    }
    out
}

/// The names of `known` that are near to `word`, nearest first, at most three.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut near: Vec<(usize, &str)> =
        known.into_iter().map(|name| (distance(word, name), name)).filter(|(far, _)| *far <= 2).collect();
    near.sort();
    near.truncate(3);
    near.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// The Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != *y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        assert_eq!(suggest("bulid", ["build", "eval", "log"]), ["build"]);
        assert_eq!(suggest("foo", ["fmt", "log", "build"]), ["fmt", "log"]);
        assert_eq!(did_you_mean(&["a".into(), "b".into()]), "\nDid you mean one of a or b?");
    }
}

//! Errors of reading settings, worded as the reference words them.

use std::path::PathBuf;
use thiserror::Error;

/// Why settings could not be read or set.
#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("Boolean setting '{name}' has invalid value '{value}'")]
    Boolean { name: &'static str, value: String },
    #[error("setting '{name}' has invalid value '{value}'")]
    Value { name: &'static str, value: String },
    /// `choices` says what would be valid, where that is told.
    #[error("option '{name}' has invalid value '{value}'{choices}")]
    Choice { name: &'static str, value: String, choices: &'static str },
    #[error("configuration setting '{name}' should be 'auto' or an integer")]
    Jobs { name: &'static str },
    #[error("setting '{name}' is a path and paths cannot be empty")]
    EmptyPath { name: &'static str },
    #[error("not an absolute path: \"{value}\"")]
    RelativePath { value: String },
    #[error("setting '{name}' has a value that is not valid UTF-8: '{value}'")]
    NotUtf8 { name: &'static str, value: String },
    #[error("parsing setting '{name}': {message}")]
    Json { name: &'static str, message: String },
    #[error(transparent)]
    Integer(#[from] firn_core::units::BadInteger),
    /// `file` is a path or the name of the variable that held the text.
    #[error("syntax error in configuration line '{line}' in \"{file}\"")]
    Syntax { line: String, file: String },
    #[error("file \"{}\" included from \"{from}\" not found", path.display())]
    IncludeNotFound { path: PathBuf, from: String },
    #[error("file \"{}\" included from \"{from}\": includes are nested more than {limit} deep", path.display())]
    IncludeDepth { path: PathBuf, from: String, limit: usize },
    #[error(
        "experimental Nix feature '{feature}' is disabled; add '--extra-experimental-features {feature}' to enable it"
    )]
    FeatureDisabled { feature: crate::ExperimentalFeature },
    #[error("cannot determine user's home directory")]
    NoHome,
}

impl SettingsError {
    /// Whether the reference counts this as wrong usage, and so points at `--help`.
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            Self::IncludeNotFound { .. }
                | Self::RelativePath { .. }
                | Self::FeatureDisabled { .. }
                | Self::NoHome
        )
    }
}

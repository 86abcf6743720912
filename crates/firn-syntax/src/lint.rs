//! What the parser finds fault with although it is valid: by settings, and for a syntax that will change.

use crate::ast::Offset;

/// What happens where a lint fires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    #[default]
    Ignore,
    Warn,
    Fatal,
}

/// The settings `lint-…`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lints {
    pub url_literals: Level,
    pub short_path_literals: Level,
    pub absolute_path_literals: Level,
}

impl Lints {
    /// Whether nothing is looked for.
    pub fn are_off(&self) -> bool {
        [self.url_literals, self.short_path_literals, self.absolute_path_literals]
            .iter()
            .all(|level| *level == Level::Ignore)
    }
}

/// A warning about a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub offset: Offset,
    pub kind: WarningKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WarningKind {
    /// A lint's message.
    Lint(String),
    /// `or` as an identifier, in an expression that ends at the offset.
    Or { end: Offset },
}

/// The text of a lint's message; `name` is the setting.
pub(crate) fn message(text: &str, name: &str) -> String {
    format!("{text} (\x1b[1m{name}\x1b[0m)")
}

//! Regular expressions of `builtins.match` and `builtins.split`.
//!
//! They are POSIX extended ones on bytes, but what they match, and above all which text their groups capture, is
//! what C++'s `std::regex` (libstdc++, flag `extended`) does: package sets rely on it. That is a depth-first
//! search over a program: alternatives are all tried, left to right, and the first longest match wins; a loop
//! that led to a match is not left early to look for another. [`exec`] does that search without recursion and
//! remembers what failed, so it ends in time proportional to text times program.
//!
//! Differences that cannot be seen in results: no stack overflow on long texts, no exponential time.

mod bracket;
mod exec;
mod parse;
mod program;

#[cfg(test)]
mod tests;

use program::Program;
use thiserror::Error;

/// Why a regular expression cannot be used. The messages that users see name the expression; the caller adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RegexError {
    /// `invalid regular expression '…'`; the text says what is wrong with it.
    #[error("{0}")]
    Invalid(&'static str),
    /// `memory limit exceeded by regular expression '…'`.
    #[error("memory limit exceeded")]
    MemoryLimit,
}

/// Where the whole match (index 0) and each group lie in the text: start and end. `None` for a group that took
/// no part.
pub type Captures = Vec<Option<(usize, usize)>>;

/// A compiled expression.
#[derive(Debug)]
pub struct Regex {
    program: Program,
}

impl Regex {
    /// Compiles `pattern`.
    pub fn new(pattern: &[u8]) -> Result<Self, RegexError> {
        Ok(Self { program: parse::compile(pattern)? })
    }

    /// The number of groups, the whole match included.
    pub fn group_count(&self) -> usize {
        self.program.groups
    }

    /// Matches all of `text`, as `builtins.match` does.
    pub fn full_match(&self, text: &[u8]) -> Result<Option<Captures>, RegexError> {
        exec::full_match(&self.program, text)
    }

    /// The matches in `text` one after the other, as `builtins.split` takes them.
    pub fn find_iter<'r, 't>(&'r self, text: &'t [u8]) -> Matches<'r, 't> {
        Matches { search: exec::Search::new(&self.program, text), state: IterState::First }
    }
}

enum IterState {
    First,
    /// The last match, and whether an earlier step went beyond the start of the text.
    After(usize, usize),
    Done,
}

/// The iterator of [`Regex::find_iter`]. After an empty match it first looks for one that is not empty at the
/// same place, and goes on one byte further only if there is none.
pub struct Matches<'r, 't> {
    search: exec::Search<'r, 't>,
    state: IterState,
}

impl Matches<'_, '_> {
    fn advance(&mut self) -> Result<Option<Captures>, RegexError> {
        match self.state {
            IterState::First => self.search.find(0, exec::Anchoring::Start),
            IterState::Done => Ok(None),
            IterState::After(start, end) if start != end => self.search.find(end, exec::Anchoring::Middle),
            IterState::After(_, end) if end == self.search.text_len() => Ok(None),
            IterState::After(_, end) => match self.search.find_nonempty_at(end)? {
                Some(captures) => Ok(Some(captures)),
                None => self.search.find(end + 1, exec::Anchoring::Middle),
            },
        }
    }
}

impl Iterator for Matches<'_, '_> {
    type Item = Result<Captures, RegexError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.advance();
        self.state = match &found {
            Ok(Some(captures)) => match captures.first().copied().flatten() {
                Some((start, end)) => IterState::After(start, end),
                None => IterState::Done,
            },
            Ok(None) | Err(_) => IterState::Done,
        };
        found.transpose()
    }
}

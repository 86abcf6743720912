//! Syntax errors as evaluation errors.

use crate::error::{ErrorKind, EvalError};
use crate::host::EvalHost;
use crate::render::shown_place;
use crate::source::{self, Pos};
use firn_syntax::SyntaxError;

/// The first of what is wrong with a text that was registered.
#[cold]
pub(crate) fn syntax_error(base: Pos, errors: Vec<SyntaxError>, host: &dyn EvalHost) -> EvalError {
    let Some(first) = errors.into_iter().next() else {
        return EvalError::new(ErrorKind::Syntax, "syntax error");
    };
    let mut message = first.message;
    if let Some(other) = first.other {
        let place = shown_place(source::at(base, other), host).map(|p| p.display()).unwrap_or_default();
        message = message.replacen("{}", &place, 1);
    }
    EvalError::at(ErrorKind::Syntax, source::at(base, first.offset), message)
}

/// What is wrong with the text of a file that is not evaluated.
#[cold]
pub fn syntax_error_in_file(
    path: &[u8],
    text: &[u8],
    errors: Vec<SyntaxError>,
    host: &dyn EvalHost,
) -> EvalError {
    syntax_error(source::register_kept(path, text), errors, host)
}

/// A place in the text of a file that is not evaluated, for messages.
#[cold]
pub fn position_in_file(path: &[u8], text: &[u8], offset: u32) -> Pos {
    source::at(source::register_kept(path, text), offset)
}

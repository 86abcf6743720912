//! The Nix language as text: symbols, lexer, parser, syntax tree, and the rendering of source excerpts.
//!
//! Invariant: no values, no evaluation, no I/O. Source text is bytes.

pub mod ast;
mod bindings;
pub mod diagnostics;
mod explain;
mod indent;
mod lexer;
mod lint;
mod parser;
mod scope;
pub mod show;
pub mod stored;
pub mod symbol;

/// What is wrong with text that holds null bytes.
pub fn nul_message(text: &[u8]) -> String {
    let shown = String::from_utf8_lossy(text).replace('\0', "␀");
    format!("input string '{shown}' cannot be represented as Nix string because it contains null bytes")
}

pub use ast::Ast;
pub use lint::{Level, Lints, Warning, WarningKind};
pub use parser::{ParseOptions, SyntaxError, parse, parse_warning};
pub use symbol::Sym;

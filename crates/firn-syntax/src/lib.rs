//! The Nix language as text: symbols, lexer, parser, syntax tree, and the rendering of source excerpts.
//!
//! Invariant: no values, no evaluation, no I/O. Source text is bytes.

pub mod ast;
mod bindings;
pub mod diagnostics;
mod indent;
mod lexer;
mod parser;
pub mod show;
pub mod symbol;

pub use ast::Ast;
pub use parser::{ParseOptions, SyntaxError, parse};
pub use symbol::Sym;

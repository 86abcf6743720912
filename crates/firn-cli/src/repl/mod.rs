//! The prompt of the language: `nix repl`.

mod commands;
mod completion;
mod editor;
mod help;
mod highlight;
mod session;

pub use session::Repl;

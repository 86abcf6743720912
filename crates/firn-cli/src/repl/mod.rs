//! The prompt of the language: `nix repl`.

mod commands;
mod completion;
mod editor;
mod help;
mod highlight;
mod session;
mod tools;

pub use editor::{Line, Lines, whole_text};
pub use help::HELP;
pub(crate) use session::flake_to_load;
pub use session::{Done, Failure, Repl};
pub use tools::{Machine, Tools};

//! What the program says of itself: help, manual pages and completion, all from the same tables.

mod complete_flakes;
pub mod completion;
mod dump;
mod flags;
mod flakes;
mod man;
mod render;
mod shells;
mod stores;
mod table;

pub use dump::{dump, dump_language};
pub use man::{pages, write_pages};
pub use render::{help, note_without_man};
pub use shells::script;
pub use stores::{Wrong, check_parameter, stores_text};
pub use table::{groups_of, positional_of};

/// What may stand in a place of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing that could be completed.
    Text,
    File,
    Folder,
    /// The name of a setting.
    Setting,
    /// A package: a store path, or with `--file` or `--expr` an attribute.
    Installable,
    /// A flake.
    Flake,
    /// An input of the flakes that the line names.
    Input,
}

impl Kind {
    /// What an argument's name, such as `PATH`, says of it.
    pub fn of(argument: &str) -> Self {
        match argument {
            "PATH" | "FILE" | "LINK" => Self::File,
            "FOLDER" => Self::Folder,
            "SETTING" => Self::Setting,
            "INSTALLABLE" => Self::Installable,
            "FLAKE" => Self::Flake,
            "INPUT" => Self::Input,
            _ => Self::Text,
        }
    }
}

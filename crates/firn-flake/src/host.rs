//! What flakes need of the world.

use crate::{ConfigValue, FlakeSpec, InputPath};
use firn_core::flake_ref::{FlakeRef, Input};
use std::path::PathBuf;

/// An error that can say what was being done when it came up.
pub trait Failure: Sized {
    /// `exit` is the exit code that the program should end with.
    fn new(message: String, exit: u8) -> Self;

    /// Adds what was being done.
    fn while_doing(self, what: String) -> Self;
}

/// Which registries are asked for what an indirect reference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registries {
    None,
    /// Only those of flags and the global one: what a lock file says must not depend on who writes it.
    Limited,
    All,
}

/// A tree that is in the store now.
#[derive(Debug, Clone)]
pub struct FetchedTree {
    /// Where it is, as the language names it.
    pub root: Vec<u8>,
    /// The input with all that is known of it.
    pub input: Input,
}

/// The door to fetchers and the evaluator.
pub trait FlakeHost {
    type Error: Failure;

    /// Fetches a direct input. With `locked`, it is known for good: what is fetched must agree with all that it says, and a
    /// store path of its hash will do.
    fn fetch(&self, input: &Input, locked: bool) -> Result<FetchedTree, Self::Error>;

    /// What an input is called elsewhere, and the folder in it that registries say.
    fn look_up(&self, input: &Input, registries: Registries)
    -> Result<(Input, Option<Vec<u8>>), Self::Error>;

    /// What the `flake.nix` in `dir` says. `reference` is the flake's name in messages; what its inputs follow is relative
    /// to `prefix`.
    fn read_flake(
        &self,
        dir: &[u8],
        reference: &FlakeRef,
        prefix: &InputPath,
    ) -> Result<FlakeSpec, Self::Error>;

    /// A file of a fetched tree; nothing if it is not there.
    fn read_file(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// A file of the user's.
    fn read_own_file(&self, path: &std::path::Path) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Writes a file of the user's, whole or not at all.
    fn write_own_file(&self, path: &std::path::Path, contents: &[u8]) -> Result<(), Self::Error>;

    /// Where files of the input can be changed.
    fn source_path(&self, input: &Input) -> Result<Option<PathBuf>, Self::Error>;

    /// Writes a file of an input that has a source path, and commits it if there is a message.
    fn put_file(
        &self,
        input: &Input,
        path: &[u8],
        contents: &[u8],
        commit_message: Option<&str>,
    ) -> Result<(), Self::Error>;

    /// Takes the settings that a flake has, as far as they are trusted.
    fn apply_config(&self, settings: &[(String, ConfigValue)]) -> Result<(), Self::Error>;

    /// Whether an experimental feature is on.
    fn has_feature(&self, name: &str) -> bool;

    fn warn(&self, message: &str);

    fn debug(&self, message: &str);
}

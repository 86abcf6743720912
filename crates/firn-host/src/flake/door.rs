//! The world as flakes see it: this host's fetchers and files.

use super::read;
use crate::fetch::fetch_error;
use crate::{StoreHost, eval_error};
use firn_core::flake_ref::{Attr, FlakeRef, Input};
use firn_eval::{ErrorKind, EvalError, EvalHost, HostError, Pos, TraceKind};
use firn_flake::{ConfigValue, Failure, FetchedTree, FlakeHost, FlakeSpec, InputPath, Registries};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An error of flakes, as the evaluator's errors are.
pub(super) struct Trouble(pub EvalError);

impl Failure for Trouble {
    fn new(message: String, exit: u8) -> Self {
        Trouble(EvalError::new(ErrorKind::Host { exit }, message))
    }

    fn while_doing(self, what: String) -> Self {
        Trouble(self.0.trace(Pos::NONE, TraceKind::Text(what.into())))
    }
}

impl From<HostError> for Trouble {
    fn from(error: HostError) -> Trouble {
        Trouble(eval_error(error))
    }
}

pub(super) struct Door<'a> {
    pub host: &'a StoreHost,
}

fn io(operation: &str, path: &Path, error: &std::io::Error) -> Trouble {
    let text = error.to_string();
    let reason = text.split(" (os error").next().unwrap_or(&text);
    Trouble::new(format!("{operation} '{}': {reason}", path.display()), 1)
}

impl Door<'_> {
    /// Relative inputs must not lead out of the trees that were fetched.
    fn check_place(&self, dir: &[u8]) -> Result<(), Trouble> {
        let shown = String::from_utf8_lossy(dir).into_owned();
        let tree = self.host.store_dir().split(&shown);
        let is_fetched = tree.as_ref().is_ok_and(|(path, _)| self.host.parts.fetcher.has_fetched(path));
        match (is_fetched, self.host.parts.flakes.pure, tree) {
            (true, _, _) | (false, false, Ok(_)) => Ok(()),
            (false, true, _) => Err(Trouble::new(
                format!(
                    "access to absolute path '{shown}' is forbidden in pure evaluation mode (use '--impure' to \
                     override)"
                ),
                1,
            )),
            (false, false, Err(error)) => Err(Trouble::new(error.to_string(), 1)),
        }
    }
}

impl FlakeHost for Door<'_> {
    type Error = Trouble;

    fn fetch(&self, input: &Input, locked: bool) -> Result<FetchedTree, Trouble> {
        let fetcher = &self.host.parts.fetcher;
        let fetched = match locked {
            true => self.host.block_on(fetcher.fetch_locked(input))?,
            false => self.host.block_on(fetcher.fetch_once(input))?,
        };
        let tree = fetched.map_err(|error| {
            let shown = input.to_url().map_or_else(|error| error.message, |url| url.to_string());
            Trouble::from(fetch_error(error)).while_doing(format!("while fetching the input '{shown}'"))
        })?;
        self.host.files.forget();
        let root = self.host.store_dir().display(&tree.store_path).into_bytes();
        let got = Input { attrs: tree.attrs, scheme: input.scheme };
        self.host.note_origin(&tree.store_path, input, &got);
        Ok(FetchedTree { root, input: got })
    }

    fn look_up(&self, input: &Input, registries: Registries) -> Result<(Input, Option<Vec<u8>>), Trouble> {
        let limited = registries == Registries::Limited;
        let found = self.host.block_on(self.host.parts.fetcher.look_up(input, limited))?;
        Ok(found.map_err(fetch_error)?)
    }

    fn read_flake(&self, dir: &[u8], reference: &FlakeRef, prefix: &InputPath) -> Result<FlakeSpec, Trouble> {
        self.check_place(dir)?;
        let path = [dir, b"/flake.nix"].concat();
        let text = self.host.read_file(&path)?;
        let file = read::File { host: self.host, path: &path, dir, reference, prefix };
        read::flake(&file, &text).map_err(Trouble)
    }

    fn read_file(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        match self.host.files.read(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.not_found => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read_own_file(&self, path: &Path) -> Result<Option<Vec<u8>>, Trouble> {
        match std::fs::read(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io("reading file", path, &error)),
        }
    }

    fn write_own_file(&self, path: &Path, contents: &[u8]) -> Result<(), Trouble> {
        let path = std::path::absolute(path).map_err(|error| io("resolving", path, &error))?;
        Ok(firn_fetch::write_file(&path, contents).map_err(fetch_error)?)
    }

    fn source_path(&self, input: &Input) -> Result<Option<PathBuf>, Trouble> {
        Ok(self.host.parts.fetcher.source_path(input).map_err(fetch_error)?)
    }

    fn put_file(
        &self,
        input: &Input,
        path: &[u8],
        contents: &[u8],
        commit_message: Option<&str>,
    ) -> Result<(), Trouble> {
        let logger = &self.host.parts.logger;
        // A commit may ask for a password.
        logger.pause();
        let result = self.host.parts.fetcher.put_file(input, path, contents, commit_message);
        logger.resume();
        Ok(result.map_err(fetch_error)?)
    }

    fn apply_config(&self, settings: &[(String, ConfigValue)]) -> Result<(), Trouble> {
        match &self.host.parts.flakes.apply_config {
            Some(apply) if !settings.is_empty() => {
                apply(settings).map_err(|message| Trouble::new(message, 1))
            }
            _ => Ok(()),
        }
    }

    fn has_feature(&self, name: &str) -> bool {
        self.host.parts.fetcher.options().features.contains(name)
    }

    fn warn(&self, message: &str) {
        EvalHost::warn(self.host, message);
    }

    fn debug(&self, message: &str) {
        self.host.debug(message.to_owned());
    }
}

/// Bytes as a path of the system.
pub(super) fn os_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// An attribute of an input that is text.
pub(super) fn attr(text: &[u8]) -> Attr {
    Attr::str(text)
}

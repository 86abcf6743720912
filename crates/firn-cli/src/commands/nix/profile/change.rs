//! `nix profile remove`, and which packages are meant.

use super::{WhichWithEval, read, switch};
use crate::args::{FlagSink, Values, text};
use crate::commands::nix::NixCommand;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::StorePath;
use firn_eval::regex::Regex;
use firn_profile::manifest::{Manifest, Package};
use firn_store::activity::Verbosity;
use std::collections::BTreeSet;
use std::ffi::OsString;

/// What says which packages are meant.
enum Matcher {
    All,
    Regex(String, Regex),
    /// A name, or a store path if it is one.
    Argument(String),
}

impl Matcher {
    fn title(&self, path: Option<&StorePath>) -> String {
        match (self, path) {
            (Self::All, _) => "--all".to_owned(),
            (Self::Regex(pattern, _), _) => format!("Regex '{pattern}'"),
            (Self::Argument(_), Some(path)) => format!("Store path '{}'", path.base_name()),
            (Self::Argument(name), None) => format!("Package name '{name}'"),
        }
    }

    fn matches(&self, name: &str, package: &Package, path: Option<&StorePath>) -> CliResult<bool> {
        match (self, path) {
            (Self::All, _) => Ok(true),
            (Self::Regex(pattern, regex), _) => {
                let found = regex.full_match(package.identifier().to_ascii_lowercase().as_bytes());
                Ok(found.map_err(|e| CliError::failed(format!("regex '{pattern}': {e}")))?.is_some())
            }
            (Self::Argument(_), Some(path)) => Ok(package.store_paths.contains(path)),
            (Self::Argument(wanted), None) => Ok(wanted == name),
        }
    }
}

/// The packages that the command line names.
#[derive(Default)]
pub(super) struct Matchers(Vec<Matcher>);

impl Matchers {
    pub(super) fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--all" => self.0.push(Matcher::All),
            "--regex" => {
                let [pattern] = values.take(flag)?;
                let pattern = text(flag, pattern)?;
                let regex = Regex::new(pattern.to_ascii_lowercase().as_bytes());
                let regex = regex
                    .map_err(|e| CliError::usage(format!("'{pattern}' is not a regular expression: {e}")))?;
                self.0.push(Matcher::Regex(pattern, regex));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn positional(&mut self, arg: OsString) -> CliResult<()> {
        let arg = text("package", arg)?;
        if arg.bytes().all(|byte| byte.is_ascii_digit()) && !arg.is_empty() {
            return Err(CliError::failed(format!("'nix profile' no longer supports indices ('{arg}')")));
        }
        self.0.push(Matcher::Argument(arg));
        Ok(())
    }

    /// The names of those that are meant.
    pub(super) fn find(&self, context: &Context, manifest: &Manifest) -> CliResult<BTreeSet<String>> {
        if self.0.is_empty() {
            return Err(CliError::usage("No packages specified."));
        }
        if self.0.len() > 1 && self.0.iter().any(|matcher| matches!(matcher, Matcher::All)) {
            return Err(CliError::usage("--all cannot be used with package names or regular expressions."));
        }
        if manifest.0.is_empty() {
            context.logger.warn("There are no packages in the profile.");
            return Ok(BTreeSet::new());
        }
        let store = context.store()?;
        let mut found = BTreeSet::new();
        for matcher in &self.0 {
            let path = match matcher {
                Matcher::Argument(arg) => store.store_dir().parse(arg).ok(),
                _ => None,
            };
            let before = found.len();
            let mut any = false;
            for (name, package) in &manifest.0 {
                if matcher.matches(name, package, path.as_ref())? {
                    any = true;
                    found.insert(name.clone());
                }
            }
            if !any && found.len() == before {
                let title = matcher.title(path.as_ref());
                context.logger.warn(&format!("{title} does not match any packages in the profile."));
            }
        }
        Ok(found)
    }
}

/// `nix profile remove` as it was written.
#[derive(Default)]
pub struct Remove {
    profile: WhichWithEval,
    which: Matchers,
}

impl FlagSink for Remove {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        Ok(self.profile.flag(flag, values)? || self.which.flag(flag, values)?)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.which.positional(arg)
    }
}

impl NixCommand for Remove {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let profile = self.profile.which.path(context)?;
        let mut manifest = read(context, &profile)?;
        let names = self.which.find(context, &manifest)?;
        if names.is_empty() {
            context.logger.warn("No packages to remove. Use 'nix profile list' to see the current profile.");
            return Ok(0);
        }
        let before = manifest.0.len();
        for name in &names {
            if let Some(package) = manifest.0.remove(name) {
                let text = format!("removing '{}'", package.identifier());
                context.logger.log(Verbosity::Notice, text.as_bytes());
            }
        }
        let kept = manifest.0.len();
        let text = format!("removed {} packages, kept {kept} packages", before - kept);
        context.logger.log(Verbosity::Info, text.as_bytes());
        switch(context, &profile, &manifest)?;
        Ok(0)
    }
}

//! Flags that change the environment of the program that a command starts.

use crate::args::{Values, text};
use crate::error::{CliError, CliResult};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

/// Variables for another program.
pub type Variables = BTreeMap<OsString, OsString>;

/// `--ignore-env`, `--keep-env-var`, `--unset-env-var` and `--set-env-var`.
#[derive(Default)]
pub struct EnvironmentArgs {
    ignore: bool,
    keep: BTreeSet<OsString>,
    unset: BTreeSet<OsString>,
    set: Variables,
}

impl EnvironmentArgs {
    /// Whether `flag` is one of these where other commands have another one.
    pub fn shadows(flag: &str) -> bool {
        matches!(flag, "-i" | "-k" | "-u" | "-s")
    }

    /// Handles `flag` if it is one of these.
    pub fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-i" | "--ignore-env" | "--ignore-environment" => self.ignore = true,
            "-k" | "--keep-env-var" | "--keep" => {
                let [name] = values.take(flag)?;
                self.keep.insert(name);
            }
            "-u" | "--unset-env-var" | "--unset" => {
                let [name] = values.take(flag)?;
                if self.set.contains_key(&name) {
                    let name = text(flag, name)?;
                    return Err(CliError::usage(format!(
                        "Cannot unset environment variable '{name}' that is set with '--set-env-var'"
                    )));
                }
                self.unset.insert(name);
            }
            "-s" | "--set-env-var" => {
                let [name, value] = values.take(flag)?;
                if self.unset.contains(&name) {
                    let name = text(flag, name)?;
                    return Err(CliError::usage(format!(
                        "Cannot set environment variable '{name}' that is unset with '--unset-env-var'"
                    )));
                }
                if self.set.insert(name.clone(), value).is_some() {
                    let name = text(flag, name)?;
                    return Err(CliError::usage(format!(
                        "Duplicate definition of environment variable '{name}' with '--set-env-var' is ambiguous"
                    )));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The variables for the program.
    pub fn variables(&self) -> CliResult<Variables> {
        if self.ignore && !self.unset.is_empty() {
            return Err(CliError::usage("--unset-env-var does not make sense with --ignore-env"));
        }
        if !self.ignore && !self.keep.is_empty() {
            return Err(CliError::usage("--keep-env-var does not make sense without --ignore-env"));
        }
        let mut env: Variables =
            std::env::vars_os().filter(|(name, _)| !self.ignore || self.keep.contains(name)).collect();
        env.extend(self.set.clone());
        env.retain(|name, _| !self.unset.contains(name));
        Ok(env)
    }
}

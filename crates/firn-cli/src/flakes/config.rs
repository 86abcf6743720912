//! Settings that flakes have (`nixConfig`): what of it the user trusts.

use firn_flake::{ConfigValue, Decision, TrustedSettings, needs_trust};
use firn_store::activity::{Logger, Verbosity};
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Settings that are allowed and wait to be taken, with their values.
pub type ConfigQueue = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

pub fn new_queue() -> ConfigQueue {
    Arc::default()
}

/// How it is found out what the user trusts.
pub(super) struct Trust {
    /// All of it, as `accept-flake-config` says.
    pub accept: bool,
    /// Where answers are kept.
    pub file: Option<PathBuf>,
    pub logger: Arc<dyn Logger>,
}

impl Trust {
    /// Those of the settings that may be taken.
    pub fn allowed(&self, settings: &[(String, ConfigValue)]) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut allowed = Vec::new();
        for (name, value) in settings {
            let value = value.to_text();
            let trusted = self.accept || !needs_trust(name) || self.trusts(name, &value)?;
            if trusted {
                allowed.push((name.clone(), value));
            } else {
                self.logger.warn(&format!(
                    "ignoring untrusted flake configuration setting '{name}'.\n\
                     Pass '--accept-flake-config' to trust it"
                ));
            }
        }
        Ok(allowed)
    }

    fn known(&self) -> Result<TrustedSettings, String> {
        let Some(file) = &self.file else { return Ok(TrustedSettings::default()) };
        match std::fs::read(file) {
            Ok(text) => {
                TrustedSettings::parse(&text).map_err(|error| format!("'{}': {error}", file.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(TrustedSettings::default()),
            Err(error) => Err(format!("reading '{}': {error}", file.display())),
        }
    }

    fn trusts(&self, name: &str, value: &[u8]) -> Result<bool, String> {
        let value = String::from_utf8_lossy(value).into_owned();
        let mut known = self.known()?;
        if let Some(decision) = known.get(name, &value) {
            let text = format!(
                "Using saved setting for '{name} = {value}' from ~/.local/share/nix/trusted-settings.json."
            );
            self.logger.log(Verbosity::Info, text.as_bytes());
            return Ok(decision == Decision::Trusted);
        }
        // What a flake says must not move the cursor.
        let shown: String = value.chars().filter(|c| !c.is_control()).collect();
        let question = format!(
            "do you want to allow configuration setting '{name}' to be set to '\x1b[31;1m{shown}\x1b[0m' (y/N)?"
        );
        let trusted = self.ask(&question);
        let word = if trusted { "trusted" } else { "untrusted" };
        if self.ask(&format!("do you want to permanently mark this value as {word} (y/N)?")) {
            let decision = if trusted { Decision::Trusted } else { Decision::Untrusted };
            known.set(name, &value, decision);
            if let Some(file) = &self.file {
                let failed = |error: &dyn std::fmt::Display| format!("writing '{}': {error}", file.display());
                if let Some(folder) = file.parent() {
                    std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
                }
                firn_fetch::write_file(file, known.to_text().as_bytes()).map_err(|error| failed(&error))?;
            }
        }
        Ok(trusted)
    }

    /// Asks the user, if there is one; no answer is no.
    fn ask(&self, question: &str) -> bool {
        if !std::io::stderr().is_terminal() {
            return false;
        }
        self.logger.pause();
        let mut answer = String::new();
        let asked = write!(std::io::stderr(), "{question} ").is_ok()
            && std::io::stdin().lock().read_line(&mut answer).is_ok();
        self.logger.resume();
        asked && answer.trim().eq_ignore_ascii_case("y")
    }
}

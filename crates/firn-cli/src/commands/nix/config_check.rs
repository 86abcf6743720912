//! `nix config check`.

use super::NixCommand;
use crate::args::FlagSink;
use crate::args::Values;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_settings::ExperimentalFeature;
use firn_store::Trust;
use firn_store::activity::Verbosity;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The command, which takes nothing.
#[derive(Default)]
pub struct Check;

impl FlagSink for Check {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }
}

impl NixCommand for Check {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let store = context.store()?;
        let uri = store.uri();
        // A store that cannot be used is an error of its own, before anything is checked.
        context.block_on(store.connect())??;
        context.logger.log(Verbosity::Notice, format!("Running checks against store uri: {uri}").as_bytes());
        let report = Report { context, good: true };
        let mut report = report;
        if store.as_local_fs().is_some() {
            report.programs();
            report.profiles(store.store_dir().as_str());
        }
        report.protocol(context.block_on(store.protocol_version())??);
        let trust = match context.block_on(store.is_trusted())?? {
            Some(Trust::Trusted) => format!("You are trusted by store uri: {uri}"),
            Some(Trust::NotTrusted) => format!("You are not trusted by store uri: {uri}"),
            None => format!("Store uri: {uri} doesn't have a notion of trusted user"),
        };
        report.say("34", "INFO", &trust);
        match report.good {
            true => Ok(0),
            false => Err(CliError::Exit(2)),
        }
    }

    fn feature(&self) -> Option<ExperimentalFeature> {
        None
    }
}

struct Report<'a> {
    context: &'a Context,
    good: bool,
}

impl Report<'_> {
    fn say(&self, colour: &str, word: &str, text: &str) {
        let line = format!("\x1b[{colour};1m[{word}] \x1b[0m{text}");
        self.context.logger.log(Verbosity::Notice, line.as_bytes());
    }

    fn pass(&self, text: &str) {
        self.say("32", "PASS", text);
    }

    fn fail(&mut self, text: &str) {
        self.good = false;
        self.say("31", "FAIL", text);
    }

    /// Whether there is one Nix in `PATH`.
    fn programs(&mut self) {
        let found: BTreeSet<PathBuf> = path_folders()
            .iter()
            .filter_map(|folder| folder.join("nix-env").canonicalize().ok())
            .filter_map(|program| program.parent().map(Path::to_owned))
            .collect();
        match found.len() {
            0 => self.fail("No nix-env found in PATH."),
            1 => self.pass("PATH contains only one nix version."),
            _ => {
                let mut text = "Multiple versions of nix found in PATH:\n".to_owned();
                for folder in found {
                    let _ = writeln!(text, "  \"{}\"", folder.display());
                }
                self.fail(&text);
            }
        }
    }

    /// Whether user environments in `PATH` are kept by a profile.
    fn profiles(&mut self, store_dir: &str) {
        let in_profiles = |path: &Path| path.components().any(|part| part.as_os_str() == "profiles");
        let mut lost = BTreeSet::new();
        for folder in path_folders() {
            let Some(mut profile) = folder.parent().map(Path::to_owned) else { continue };
            let Ok(real) = profile.canonicalize() else { continue };
            let is_environment =
                real.starts_with(store_dir) && real.to_string_lossy().ends_with("user-environment");
            if !is_environment {
                continue;
            }
            // Link by link, since the last one is in the store.
            for _ in 0..40 {
                if in_profiles(&profile) {
                    break;
                }
                let Ok(target) = std::fs::read_link(&profile) else { break };
                profile = profile.parent().unwrap_or(Path::new("/")).join(target);
            }
            if !in_profiles(&profile) {
                lost.insert(folder);
            }
        }
        if lost.is_empty() {
            return self.pass("All profiles are gcroots.");
        }
        let mut text = format!(
            "Found profiles outside of {}/profiles.\n\
             The generation this profile points to might not have a gcroot and could be\n\
             garbage collected, resulting in broken symlinks.\n\n",
            self.context.settings.dirs.state.display()
        );
        for folder in lost {
            let _ = writeln!(text, "  \"{}\"", folder.display());
        }
        self.fail(&text);
    }

    fn protocol(&mut self, theirs: Option<(u8, u8)>) {
        let ours = match theirs {
            Some((2, _)) => (2, firn_wire::serve::Version::LATEST.minor()),
            _ => {
                let ours = firn_wire::worker::Version::LATEST;
                (ours.major(), ours.minor())
            }
        };
        if theirs == Some(ours) {
            return self.pass("Client protocol matches store protocol.");
        }
        let show = |(major, minor): (u8, u8)| format!("{major}.{minor}");
        self.fail(&format!(
            "Warning: protocol version of this client does not match the store.\n\
             While this is not necessarily a problem it's recommended to keep the client in\n\
             sync with the daemon.\n\n\
             Client protocol: {}\n\
             Store protocol: {}\n\n",
            show(ours),
            theirs.map_or_else(|| "unknown".to_owned(), show)
        ));
    }
}

fn path_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

//! `nix profile upgrade`.

use super::change::Matchers;
use super::{Which, read, switch};
use crate::args::{FlagSink, Values};
use crate::commands::nix::NixCommand;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::flakes::{self, Defaults, FlakeInstallable};
use crate::installables::{self, FlakeSession, InstallableArgs};
use firn_core::{DerivedPath, OutputsSpec};
use firn_profile::manifest::Source;
use firn_store::BuildMode;
use firn_store::activity::Verbosity;
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
pub struct Upgrade {
    profile: Which,
    which: Matchers,
    what: InstallableArgs,
}

impl FlagSink for Upgrade {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        Ok(self.profile.flag(flag, values)?
            || self.which.flag(flag, values)?
            || self.what.flag(flag, values)?)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.which.positional(arg)
    }
}

/// The installable that a package was added as.
fn installable(context: &Context, source: &Source) -> CliResult<FlakeInstallable> {
    let reference = flakes::parse_absolute(context, source.original_url.as_bytes())?;
    let outputs = match &source.outputs {
        serde_json::Value::Array(names) if names.iter().any(|name| name == "*") => Some(OutputsSpec::All),
        serde_json::Value::Array(names) => {
            let names = names.iter().filter_map(|name| name.as_str()).map(str::to_owned);
            Some(OutputsSpec::Names(names.collect()))
        }
        _ => None,
    };
    // It is that attribute and no other.
    let fragment = format!(".{}", source.attr_path);
    Ok(FlakeInstallable { reference, fragment, outputs, defaults: Defaults::Packages })
}

impl NixCommand for Upgrade {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let profile = self.profile.path(context)?;
        let mut manifest = read(context, &profile)?;
        let names = self.which.find(context, &manifest)?;
        if names.is_empty() {
            context.logger.warn("No packages to upgrade. Use 'nix profile list' to see the current profile.");
            return Ok(0);
        }
        let trust = context.settings.trust_tarballs_from_git_forges;
        let mut session: Option<FlakeSession> = None;
        let mut seen = 0;
        let mut new: Vec<(String, DerivedPath, Source)> = Vec::new();
        for name in &names {
            let Some(package) = manifest.0.get(name) else { continue };
            let identifier = package.identifier();
            let Some(source) = &package.source else {
                context.logger.warn(&format!(
                    "Found package '{identifier}', but it was not added from a flake, so it can't be checked for \
                     upgrades!"
                ));
                continue;
            };
            let installable = installable(context, source)?;
            if installable.reference.input.is_locked(trust) {
                context.logger.warn(&format!(
                    "Found package '{identifier}', but it was added from a locked flake reference so it can't be \
                     upgraded!"
                ));
                continue;
            }
            seen += 1;
            let session = match &mut session {
                Some(session) => session,
                None => session.insert(FlakeSession::new(context, &self.what, false)?),
            };
            let flake = session.flake(context, &installable.reference)?;
            let derived = installable.derived(context, &mut session.evaluation, &flake)?;
            let Some(found) = &derived.source else { continue };
            let found = super::source(found);
            let locked = &flake.locked.flake.locked;
            if locked.input.is_locked(trust) && found.url == source.url {
                continue;
            }
            let text =
                format!("upgrading '{}' from flake '{}' to '{}'", source.attr_path, source.url, found.url);
            context.logger.log(Verbosity::Info, text.as_bytes());
            new.push((name.clone(), derived.path, found));
        }
        if seen == 0 {
            context.logger.warn("Found some packages but none of them could be upgraded.");
            return Ok(0);
        }
        if let Some(session) = session {
            session.evaluation.flush()?;
        }
        for (name, path, source) in new {
            let built = installables::build(context, &[path], BuildMode::Normal)?;
            let Some(package) = manifest.0.get_mut(&name) else { continue };
            package.store_paths = built.into_iter().flat_map(|built| built.outputs.into_values()).collect();
            package.source = Some(source);
        }
        switch(context, &profile, &manifest).map_err(CliError::from)?;
        Ok(0)
    }
}

//! `nix profile add`.

use super::{Failure, Which, build, read};
use crate::args::{FlagSink, Values, text};
use crate::commands::nix::NixCommand;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs};
use crate::profile_flag;
use firn_build::builtins::buildenv::EnvironmentError;
use firn_core::store_path::StoreDir;
use firn_profile::manifest::{DEFAULT_PRIORITY, Manifest, Package};
use firn_store::BuildMode;
use std::ffi::OsString;
use std::path::Path;

/// The command as it was written.
#[derive(Default)]
pub struct Add {
    what: InstallableArgs,
    profile: Which,
    priority: Option<i64>,
    is_older_name: bool,
}

impl Add {
    /// `nix profile install`.
    pub fn by_its_older_name() -> Self {
        Self { is_older_name: true, ..Self::default() }
    }
}

impl FlagSink for Add {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--priority" => {
                let [number] = values.take(flag)?;
                let number = text(flag, number)?;
                let parsed = number.parse().map_err(|_| {
                    CliError::usage(format!("'{number}' is not a number (flag '--priority')"))
                })?;
                self.priority = Some(parsed);
            }
            _ => return Ok(self.profile.flag(flag, values)? || self.what.flag(flag, values)?),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Add {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        if self.is_older_name {
            context.logger.warn("'install' is a deprecated alias for 'add'");
        }
        let profile = self.profile.path(context)?;
        let mut manifest = read(context, &profile)?;
        for wanted in self.what.resolve_each(context, Some("."))? {
            let built = installables::build(context, &wanted.paths, BuildMode::Normal)?;
            let paths = built.into_iter().flat_map(|built| built.outputs.into_values()).collect();
            let priority = self.priority.or(wanted.priority).unwrap_or(DEFAULT_PRIORITY);
            let mut package = Package::new(paths, priority);
            package.source = wanted.source.as_ref().map(super::source);
            let name = package.name();
            if let (Some(known), Some(new)) = (manifest.0.get(&name), &package.source)
                && known.priority == priority
                && known.source.as_ref().is_some_and(|source| {
                    source.original_url == new.original_url && source.attr_path == new.attr_path
                })
            {
                context.logger.warn(&format!("'{name}' is already added"));
                continue;
            }
            manifest.add(&name, package);
        }
        let store = context.store()?;
        match build(context, &manifest) {
            Ok(path) => profile_flag::switch(&*context.store()?, context, &profile, &path)?,
            Err(Failure::Other(error)) => return Err(error),
            Err(Failure::Conflict(error)) => {
                let advice = advice(&error, &manifest, store.store_dir());
                return Err(CliError::failed(advice.unwrap_or_else(|| error.to_string())));
            }
        }
        Ok(0)
    }
}

/// What can be done about two packages that have a file in one place.
fn advice(error: &EnvironmentError, manifest: &Manifest, dir: &StoreDir) -> Option<String> {
    let EnvironmentError::Conflict { first, second, priority } = error else { return None };
    let owner = |file: &Path| {
        manifest
            .0
            .iter()
            .find(|(_, package)| package.store_paths.iter().any(|path| file.starts_with(dir.display(path))))
    };
    let (first_owner, second_owner) = (owner(first)?, owner(second)?);
    // The one that comes first by name counts as the one that was there.
    let swapped = first_owner.0 > second_owner.0;
    let (old_file, new_file) = if swapped { (second, first) } else { (first, second) };
    let (old, new) = if swapped { (second_owner, first_owner) } else { (first_owner, second_owner) };
    let installables: Vec<String> = match &new.1.source {
        Some(_) => vec![new.1.identifier()],
        None => new.1.store_paths.iter().map(|path| dir.display(path)).collect(),
    };
    let installables = installables.join(" ");
    Some(format!(
        "An existing package already provides the following file:\n\n  \"{}\"\n\n\
         This is the conflicting file from the new package:\n\n  \"{}\"\n\n\
         To remove the existing package:\n\n  nix profile remove {}\n\n\
         The new package can also be added next to the existing one by assigning a different priority.\n\
         The conflicting packages have a priority of {priority}.\n\
         To prioritise the new package:\n\n  nix profile add {installables} --priority {}\n\n\
         To prioritise the existing package:\n\n  nix profile add {installables} --priority {}\n",
        old_file.display(),
        new_file.display(),
        old.0,
        priority - 1,
        priority + 1
    ))
}

//! `nix copy`.

use super::NixCommand;
use super::build::link;
use crate::args::{FlagSink, Values};
use crate::builds;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, Built, InstallableArgs};
use crate::profile_flag::ProfileFlag;
use crate::stores::{self, Opened};
use firn_core::{DerivedPath, StorePath};
use firn_settings::ExperimentalFeature;
use firn_store::{BuildMode, ClosureOptions, CopyOptions, Realisation, compute_fs_closure};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

/// The source and the destination of commands that copy, as they were written.
#[derive(Default)]
pub struct FromTo {
    pub from: Option<String>,
    pub to: Option<String>,
}

impl FromTo {
    /// Handles `flag` if it is one of these.
    pub fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--from" => self.from = Some(values.next_text(flag)?),
            "--to" => self.to = Some(values.next_text(flag)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Opens both; the one that is not named is the store of the settings.
    pub fn open(&self, context: &Context) -> CliResult<(Opened, Opened)> {
        if self.from.is_none() && self.to.is_none() {
            return Err(CliError::usage("you must pass '--from' and/or '--to'"));
        }
        let open = |uri: &Option<String>| match uri {
            Some(uri) => stores::open(uri, context),
            None => context.opened().cloned(),
        };
        Ok((open(&self.from)?, open(&self.to)?))
    }
}

/// The command as it was written.
#[derive(Default)]
pub struct Copy {
    what: InstallableArgs,
    ends: FromTo,
    no_check_signatures: bool,
    all: bool,
    not_recursive: bool,
    derivation: bool,
    substitute: bool,
    out_link: Option<PathBuf>,
    profile: ProfileFlag,
}

impl FlagSink for Copy {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--no-check-sigs" => self.no_check_signatures = true,
            "--all" => self.all = true,
            "--no-recursive" => self.not_recursive = true,
            "-r" | "--recursive" => self.not_recursive = false,
            "--derivation" => self.derivation = true,
            "-s" | "--substitute-on-destination" => self.substitute = true,
            "-o" | "--out-link" => {
                let [link] = values.take(flag)?;
                self.out_link = Some(link.into());
            }
            _ => {
                return Ok(self.ends.flag(flag, values)?
                    || self.profile.flag(flag, values)?
                    || self.what.flag(flag, values)?);
            }
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Copy {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let (from, to) = self.ends.open(context)?;
        let mut built = Vec::new();
        let mut roots = BTreeSet::new();
        if self.all {
            roots = context.block_on(from.store.query_all_valid_paths())??;
        } else {
            let wanted = self.what.resolve(context, Some("."))?;
            if self.derivation {
                roots = installables::derivations(context, &wanted)?;
            } else {
                built = realise(context, &from, &wanted)?;
                roots.extend(built.iter().flat_map(|built| built.outputs.values().cloned()));
            }
        }
        let paths = match self.not_recursive || self.all {
            true => roots.clone(),
            false => {
                let closure = compute_fs_closure(&*from.store, &roots, ClosureOptions::default());
                context.block_on(closure)??
            }
        };
        let realisations = realisations(context, &from, &built)?;
        let options = CopyOptions {
            check_signatures: !self.no_check_signatures,
            substitute: self.substitute,
            keep_going: context.settings.keep_going,
            repair: false,
        };
        let copy = firn_store::copy_paths(&*from.store, &*to.store, &paths, options, &context.logger);
        context.block_on(copy)??;
        context.block_on(firn_store::copy_realisations(
            &*to.store,
            &realisations,
            options.check_signatures,
        ))??;
        let made: Vec<StorePath> = match built.is_empty() {
            true => roots.into_iter().collect(),
            false => built.iter().flat_map(|built| built.outputs.values().cloned()).collect(),
        };
        self.profile.update(&*to.store, context, &made)?;
        if let Some(prefix) = &self.out_link {
            if to.store.as_local_fs().is_none() {
                return Err(CliError::failed("'--out-link' is not supported for this Nix store"));
            }
            link(&*to.store, &built, prefix)?;
        }
        Ok(0)
    }
}

/// Makes what is to be copied, where it is not there already.
fn realise(context: &Context, from: &Opened, wanted: &[DerivedPath]) -> CliResult<Vec<Built>> {
    let paths: Option<BTreeSet<StorePath>> = wanted
        .iter()
        .map(|path| match path {
            DerivedPath::Opaque(path) => Some(path.clone()),
            DerivedPath::Built { .. } => None,
        })
        .collect();
    if let Some(paths) = paths
        && context.block_on(from.store.query_valid_paths(&paths))??.len() == paths.len()
    {
        let built = |path| Built {
            derivation: None,
            outputs: [(String::new(), path)].into(),
            start_time: 0,
            stop_time: 0,
            cpu: None,
        };
        return Ok(paths.into_iter().map(built).collect());
    }
    let builder = builds::build_store_of(from, context)?;
    installables::build_in(context, &from.store, &*builder, wanted, BuildMode::Normal)
}

/// The realisations of what was built, where there are such.
pub fn realisations(context: &Context, from: &Opened, built: &[Built]) -> CliResult<Vec<Realisation>> {
    let mut found = Vec::new();
    if !context.settings.has_feature(ExperimentalFeature::CaDerivations) {
        return Ok(found);
    }
    let derivations = context.eval_store()?;
    for built in built {
        let Some(path) = &built.derivation else { continue };
        let read = async {
            let derivation = derivations.read_derivation(path).await?;
            firn_store::outputs::output_ids(&*derivations, path, &derivation).await
        };
        for (name, id) in context.block_on(read)?? {
            if built.outputs.contains_key(&name) {
                found.extend(context.block_on(from.store.query_realisation(&id))??);
            }
        }
    }
    Ok(found)
}

//! `nix realisation info`.

use super::{NixCommand, json_text};
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs};
use firn_core::StorePath;
use firn_settings::ExperimentalFeature;
use firn_store::{BuildMode, ClosureOptions, Realisation, compute_fs_closure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
pub struct Info {
    what: InstallableArgs,
    json: bool,
    pretty: Option<bool>,
    /// All paths of the store.
    all: bool,
    recursive: bool,
    derivation: bool,
    given: usize,
}

impl FlagSink for Info {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--all" => self.all = true,
            "-r" | "--recursive" => self.recursive = true,
            "--derivation" => self.derivation = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.given += 1;
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Info {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        context.require(ExperimentalFeature::CaDerivations)?;
        let opened = context.opened()?;
        let mut by_path: BTreeMap<StorePath, Option<Realisation>> = BTreeMap::new();
        // Of these only the paths are looked at.
        let mut others = BTreeSet::new();
        if self.all {
            if self.given > 0 {
                return Err(CliError::usage("'--all' does not expect arguments"));
            }
            others = context.block_on(opened.store.query_all_valid_paths())??;
        } else {
            let wanted = self.what.resolve(context, Some("."))?;
            if self.derivation {
                let derivations = installables::derivations(context, &wanted)?;
                by_path.extend(derivations.into_iter().map(|path| (path, None)));
            } else {
                let built = installables::build(context, &wanted, BuildMode::Normal)?;
                let paths = built.iter().flat_map(|built| built.outputs.values());
                by_path.extend(paths.map(|path| (path.clone(), None)));
                for realisation in super::copy::realisations(context, opened, &built)? {
                    by_path.insert(realisation.out_path.clone(), Some(realisation));
                }
            }
            if self.recursive {
                let roots: BTreeSet<StorePath> = by_path.keys().cloned().collect();
                let closure = compute_fs_closure(&*opened.store, &roots, ClosureOptions::default());
                others = context.block_on(closure)??;
                others.retain(|path| by_path.get(path).is_none_or(Option::is_some));
            }
        }
        let dir = opened.store.store_dir();
        let opaque = |path: &StorePath| json!({ "opaquePath": dir.display(path) });
        if self.json {
            let all = by_path.iter().map(|(path, realisation)| match realisation {
                Some(realisation) => realisation.to_json(),
                None => opaque(path),
            });
            let all = all.chain(others.iter().map(opaque));
            context.print_line(json_text(&Value::Array(all.collect()), self.pretty))?;
            return Ok(0);
        }
        for (path, realisation) in &by_path {
            match realisation {
                Some(realisation) => {
                    context.print_line(format!("{} {}", realisation.id, dir.display(path)))?;
                }
                None => context.print_line(dir.display(path))?,
            }
        }
        for path in &others {
            context.print_line(dir.display(path))?;
        }
        Ok(0)
    }
}

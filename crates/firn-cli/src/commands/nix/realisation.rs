//! `nix realisation info`.

use super::{NixCommand, json_text};
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::CliResult;
use crate::installables::{self, InstallableArgs};
use firn_core::StorePath;
use firn_settings::ExperimentalFeature;
use firn_store::{BuildMode, Realisation};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
pub struct Info {
    what: InstallableArgs,
    json: bool,
    pretty: Option<bool>,
}

impl FlagSink for Info {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Info {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        context.require(ExperimentalFeature::CaDerivations)?;
        let wanted = self.what.resolve(context, Some("."))?;
        let built = installables::build(context, &wanted, BuildMode::Normal)?;
        let opened = context.opened()?;
        let found = super::copy::realisations(context, opened, &built)?;
        let mut by_path: BTreeMap<StorePath, Option<Realisation>> =
            built.iter().flat_map(|built| built.outputs.values()).map(|path| (path.clone(), None)).collect();
        for realisation in found {
            by_path.insert(realisation.out_path.clone(), Some(realisation));
        }
        let dir = opened.store.store_dir();
        if self.json {
            let all = by_path.iter().map(|(path, realisation)| match realisation {
                Some(realisation) => realisation.to_json(),
                None => json!({ "opaquePath": dir.display(path) }),
            });
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
        Ok(0)
    }
}

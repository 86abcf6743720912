//! `nix bundle`: an app that works without the store.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::flakes::{self, Defaults, FlakeInstallable, OpenFlake};
use crate::installables::{self, InstallableArgs};
use firn_core::{DerivedPath, OutputsSpec};
use firn_eval::{Pos, Sym};
use firn_flake::LockFlags;
use firn_store::BuildMode;
use std::ffi::OsString;
use std::path::PathBuf;

/// The command as it was written.
pub struct Bundle {
    what: InstallableArgs,
    bundler: OsString,
    out_link: Option<PathBuf>,
}

impl Default for Bundle {
    fn default() -> Self {
        Self {
            what: InstallableArgs::of(Defaults::Apps),
            bundler: "github:NixOS/bundlers".into(),
            out_link: None,
        }
    }
}

impl FlagSink for Bundle {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--bundler" => {
                let [bundler] = values.take(flag)?;
                self.bundler = bundler;
            }
            "-o" | "--out-link" => {
                let [link] = values.take(flag)?;
                self.out_link = Some(link.into());
            }
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Bundle {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let (mut evaluation, value) = self.what.value(context, false)?;
        value.keep();
        let base = flakes::current_dir()?;
        let bundler = FlakeInstallable::parse(context, &self.bundler, &base, Defaults::Bundlers)?;
        let flags = LockFlags { write: false, apply_config: true, ..LockFlags::default() };
        let flake = OpenFlake::open(context, &mut evaluation, &bundler.reference, &flags)?;
        let function = bundler.cursor(context, &mut evaluation, &flake)?.force(&mut evaluation)?;
        let not_one = || {
            let what = bundler.what(context);
            CliError::failed(format!("the bundler '{what}' does not produce a derivation"))
        };
        let bundled = evaluation.run(|vm| vm.call(function, &[value], Pos::NONE))?;
        let found = evaluation.run(|vm| vm.derivation_of(bundled))?.ok_or_else(not_one)?;
        let drv = evaluation.run(|vm| vm.drv_path(&found))?;
        let out = evaluation.run(|vm| vm.out_path(&found))?;
        let name = evaluation.run(|vm| match found.attrs.find(Sym::from_static("name")) {
            Some(name) => vm.string_no_context(name, Pos::NONE, "").map(Some),
            None => Ok(None),
        })?;
        evaluation.flush()?;
        installables::build(context, &[DerivedPath::built(drv, OutputsSpec::All)], BuildMode::Normal)?;
        let link = match (&self.out_link, name) {
            (Some(link), _) => link.clone(),
            (None, Some(name)) => String::from_utf8_lossy(name.as_bytes()).into_owned().into(),
            (None, None) => return Err(CliError::failed("attribute 'name' missing")),
        };
        let store = context.store()?;
        let local = store.as_local_fs().ok_or_else(|| store.unsupported("making links to results"))?;
        let link = std::path::absolute(&link).map_err(CliError::io("resolving", &link))?;
        local.add_indirect_root(&out, &link)?;
        Ok(0)
    }
}

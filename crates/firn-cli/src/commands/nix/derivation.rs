//! `nix derivation show` and `add`.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::commands::hashing::require_method;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs};
use firn_derivation::modulo::{HashModuloError, Mask, ModuloMemo};
use firn_derivation::{Derivation, DerivationOutput};
use firn_settings::ExperimentalFeature;
use firn_store::{ClosureOptions, Store, StoreError, compute_fs_closure};
use serde_json::{Map, json};
use std::ffi::OsString;

/// The version of the JSON form.
const JSON_VERSION: u32 = 4;

/// `nix derivation show` as it was written.
#[derive(Default)]
pub struct Show {
    what: InstallableArgs,
    recursive: bool,
    pretty: Option<bool>,
}

impl FlagSink for Show {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-r" | "--recursive" => self.recursive = true,
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

impl NixCommand for Show {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let wanted = self.what.resolve(context, Some("."))?;
        let store = context.eval_store()?;
        let mut paths = installables::derivations(context, &wanted)?;
        if self.recursive {
            paths = context.block_on(compute_fs_closure(&*store, &paths, ClosureOptions::default()))??;
        }
        let mut all = Map::new();
        for path in paths.iter().filter(|path| path.is_derivation()) {
            let derivation = context.block_on(store.read_derivation(path))??;
            let shown = || store.store_dir().display(path);
            let value = derivation
                .to_json()
                .map_err(|error| CliError::failed(format!("derivation '{}': {error}", shown())))?;
            all.insert(path.base_name().to_owned(), value);
        }
        let value = json!({ "derivations": all, "version": JSON_VERSION });
        context.print_line(super::json_text(&value, self.pretty))?;
        Ok(0)
    }
}

/// `nix derivation add` as it was written.
#[derive(Default)]
pub struct Add {
    dry_run: bool,
}

impl FlagSink for Add {
    fn flag(&mut self, flag: &str, _: &mut Values) -> CliResult<bool> {
        self.dry_run |= flag == "--dry-run";
        Ok(flag == "--dry-run")
    }
}

impl NixCommand for Add {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let text = crate::evaluation::read_stdin()?;
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
            CliError::failed(format!("reading a derivation from standard input: {error}"))
        })?;
        let mut drv = Derivation::from_json(&value).map_err(|error| CliError::failed(error.to_string()))?;
        require_features(context, &drv)?;
        let store = context.store()?;
        let dir = store.store_dir();
        drv.check_names().map_err(StoreError::from)?;
        complete(context, &*store, &mut drv).map_err(|error| {
            CliError::failed(format!("{error}\nwhile checking derivation from JSON with name '{}'", drv.name))
        })?;
        let (path, bytes) = drv.store_path(dir).map_err(StoreError::from)?;
        if !self.dry_run && !context.settings.read_only_mode {
            let name = format!("{}{}", drv.name, firn_core::store_path::DRV_EXTENSION);
            context.block_on(store.add_text(&name, &bytes, &drv.references(), false))??;
        }
        context.print_line(dir.display(&path))?;
        Ok(0)
    }
}

/// Fails for kinds of derivations whose feature is off.
fn require_features(context: &Context, drv: &Derivation) -> CliResult<()> {
    use ExperimentalFeature::{CaDerivations, DynamicDerivations, ImpureDerivations};
    for output in drv.outputs.values() {
        match output {
            DerivationOutput::CaFloating { .. } => context.require(CaDerivations)?,
            DerivationOutput::Impure { .. } => context.require(ImpureDerivations)?,
            DerivationOutput::CaFixed(ca) => require_method(context, ca.method, ca.hash.algo())?,
            DerivationOutput::InputAddressed(_) | DerivationOutput::Deferred => {}
        }
    }
    match drv.has_dynamic_inputs() {
        true => context.require(DynamicDerivations),
        false => Ok(()),
    }
}

/// Fills in what follows from the rest of a derivation, and checks what was given of it.
fn complete(context: &Context, store: &dyn Store, drv: &mut Derivation) -> CliResult<()> {
    let dir = store.store_dir();
    let mut memo = ModuloMemo::default();
    let masked = drv.hash_modulo(dir, Mask::Outputs, |input| {
        memo.compute(dir, input, |path| -> Result<Derivation, Failed> {
            Ok(context.block_on(store.read_derivation(path)).map_err(Failed)?.map_err(CliError::from)?)
        })
    });
    let masked = masked.map_err(|Failed(error)| error)?;
    drv.fill_output_paths(dir, &masked).map_err(StoreError::from)?;
    drv.check_invariants(dir, &masked).map_err(|error| CliError::failed(error.to_string()))
}

/// The error of a command, where hashing a derivation can fail as well.
struct Failed(CliError);

impl From<CliError> for Failed {
    fn from(error: CliError) -> Self {
        Failed(error)
    }
}

impl From<HashModuloError> for Failed {
    fn from(error: HashModuloError) -> Self {
        Failed(CliError::failed(error.to_string()))
    }
}

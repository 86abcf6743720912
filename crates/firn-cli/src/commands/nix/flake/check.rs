//! `nix flake check`: whether all outputs are what their names say, and whether the checks build.

use super::FlakeArg;
use crate::args::{FlagSink, Values};
use crate::commands::nix::NixCommand;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_core::{DerivedPath, OutputsSpec, StorePath};
use firn_eval::{Attrs, Coerce, ErrorKind, EvalError, EvalResult, Pos, Sym, TraceKind, Value, type_phrase};
use firn_flake::LockFlags;
use firn_store::activity::{Activity, ActivityType, Verbosity};
use firn_store::{BuildMode, BuildStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
pub struct Check {
    what: FlakeArg,
    no_build: bool,
    all_systems: bool,
}

impl FlagSink for Check {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--no-build" => self.no_build = true,
            "--all-systems" => self.all_systems = true,
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg)
    }
}

impl NixCommand for Check {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        self.what.eval.no_import_from_derivation = self.no_build;
        let read_only = self.no_build || context.settings.read_only_mode;
        let (mut evaluation, flags) = self.what.start(context, read_only)?;
        let reference = self.what.reference(context)?;
        let flags = LockFlags { apply_config: true, ..flags };
        let flake = evaluation.lock(context, &reference, &flags)?;
        let value = evaluation.call_flake(&flake)?;
        let mut checker = Checker {
            context,
            evaluation,
            all_systems: self.all_systems,
            failed: false,
            omitted: BTreeSet::new(),
            drvs: BTreeMap::new(),
        };
        checker.flake(value)?;
        checker.evaluation.flush()?;
        if !self.no_build && !checker.drvs.is_empty() {
            checker.build()?;
        }
        if checker.failed {
            return Err(CliError::failed("some errors were encountered during the evaluation"));
        }
        context.logger.log(Verbosity::Info, b"\x1b[32;1mall checks passed!\x1b[0m");
        if !checker.omitted.is_empty() {
            let systems: Vec<&str> = checker.omitted.iter().map(String::as_str).collect();
            context.logger.warn(&format!(
                "The check omitted these incompatible systems: {}\nUse '--all-systems' to check all.",
                systems.join(", ")
            ));
        }
        Ok(0)
    }
}

struct Checker<'a> {
    context: &'a Context,
    evaluation: Evaluation,
    all_systems: bool,
    failed: bool,
    /// Systems that were left out.
    omitted: BTreeSet<String>,
    /// What is built, and what it is called.
    drvs: BTreeMap<StorePath, Vec<String>>,
}

/// What a value should be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Derivation,
    /// One that is built too.
    Check,
    App,
    Bundler,
    /// Nothing but a set.
    Anything,
}

/// Outputs that the community knows, and nobody checks.
const UNCHECKED: [&str; 10] = [
    "lib",
    "darwinConfigurations",
    "darwinModules",
    "flakeModule",
    "flakeModules",
    "herculesCI",
    "homeConfigurations",
    "homeModule",
    "homeModules",
    "nixopsConfigurations",
];

fn replacement(name: &str) -> Option<&'static str> {
    Some(match name {
        "defaultPackage" => "packages.<system>.default",
        "defaultApp" => "apps.<system>.default",
        "defaultTemplate" => "templates.default",
        "defaultBundler" => "bundlers.<system>.default",
        "overlay" => "overlays.default",
        "devShell" => "devShells.<system>.default",
        "nixosModule" => "nixosModules.default",
        _ => return None,
    })
}

fn error<T>(message: impl Into<String>) -> EvalResult<T> {
    Err(EvalError::new(ErrorKind::Eval, message.into()))
}

fn find(attrs: Attrs, name: &'static str) -> Option<(Value, Pos)> {
    let name = Sym::from_static(name);
    attrs.find(name).map(|value| (value, attrs.position_of(name)))
}

/// The attributes of a set, in order.
fn members(attrs: Attrs) -> Vec<(String, Value, Pos)> {
    attrs.sorted().map(|(name, value)| (name.to_string(), value, attrs.position_of(name))).collect()
}

impl Checker<'_> {
    fn activity(&self, text: &str) -> Activity {
        Activity::start(&self.context.logger, Verbosity::Info, ActivityType::Unknown, text, &[], 0)
    }

    /// An error ends the command, or is shown and remembered with `--keep-going`.
    fn report<T>(&mut self, result: EvalResult<T>) -> CliResult<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(bad) => {
                let bad = self.evaluation.fail(bad);
                self.report_failure(bad)?;
                Ok(None)
            }
        }
    }

    fn report_failure(&mut self, bad: CliError) -> CliResult<()> {
        if !self.context.settings.keep_going || matches!(bad, CliError::Exit(_)) {
            return Err(bad);
        }
        bad.report(&self.context.program, &*self.context.logger);
        self.failed = true;
        Ok(())
    }

    fn set(&mut self, value: Value, pos: Pos) -> EvalResult<Attrs> {
        self.evaluation.vm.force_attrs(value, pos, "")
    }

    fn flake(&mut self, flake: Value) -> CliResult<()> {
        let _activity = self.activity("evaluating flake");
        let outputs = self.evaluation.run(|vm| {
            let what = "while evaluating a flake to get its outputs";
            let flake = vm.force_attrs(flake, Pos::NONE, what)?;
            let outputs = find(flake, "outputs").map_or(Value::NULL, |(value, _)| value);
            vm.force_attrs(outputs, Pos::NONE, "while evaluating the outputs of a flake")
        })?;
        outputs.value().keep();
        let mut all = members(outputs);
        // Jobs come first, so that nothing that they need was built for something else.
        all.sort_by_key(|(name, ..)| name != "hydraJobs");
        for (name, value, pos) in all {
            let result = self.output(&name, value, pos)?;
            let text = format!("while checking flake output '{name}'");
            self.report(result.map_err(|bad| bad.trace(pos, TraceKind::Text(text.into()))))?;
        }
        Ok(())
    }

    /// Checks one output. The outer error ends the command.
    fn output(&mut self, name: &str, value: Value, pos: Pos) -> CliResult<EvalResult<()>> {
        let _activity = self.activity(&format!("checking flake output '{name}'"));
        if let Err(bad) = self.evaluation.vm.force(value) {
            return Ok(Err(bad));
        }
        if let Some(new) = replacement(name) {
            let text = format!("flake output attribute '{name}' is deprecated; use '{new}' instead");
            self.context.logger.warn(&text);
        }
        match name {
            "checks" => self.by_system(name, value, pos, Want::Check, true),
            "packages" | "devShells" => self.by_system(name, value, pos, Want::Derivation, true),
            "formatter" | "defaultPackage" | "devShell" => {
                self.by_system(name, value, pos, Want::Derivation, false)
            }
            "apps" => self.by_system(name, value, pos, Want::App, true),
            "defaultApp" => self.by_system(name, value, pos, Want::App, false),
            "bundlers" => self.by_system(name, value, pos, Want::Bundler, true),
            "defaultBundler" => self.by_system(name, value, pos, Want::Bundler, false),
            "legacyPackages" => self.by_system(name, value, pos, Want::Anything, false),
            "overlay" => self.overlay(name, value, pos).map(Ok),
            "overlays" => self.each(name, value, pos, Self::overlay),
            "nixosModule" => self.module(name, value, pos).map(Ok),
            "nixosModules" => self.each(name, value, pos, Self::module),
            "nixosConfigurations" => self.each(name, value, pos, Self::configuration),
            "hydraJobs" => self.jobs(name, value, pos).map(Ok),
            "defaultTemplate" => self.template(name, value, pos).map(Ok),
            "templates" => self.each(name, value, pos, Self::template),
            _ if UNCHECKED.contains(&name) => Ok(Ok(())),
            _ => {
                self.context.logger.warn(&format!("unknown flake output '{name}'"));
                Ok(Ok(()))
            }
        }
    }

    fn each(
        &mut self,
        name: &str,
        value: Value,
        pos: Pos,
        check: fn(&mut Self, &str, Value, Pos) -> CliResult<()>,
    ) -> CliResult<EvalResult<()>> {
        let attrs = match self.set(value, pos) {
            Ok(attrs) => attrs,
            Err(bad) => return Ok(Err(bad)),
        };
        for (member, value, pos) in members(attrs) {
            check(self, &format!("{name}.{member}"), value, pos)?;
        }
        Ok(Ok(()))
    }

    /// Values by system, or with `nested` sets of them.
    fn by_system(
        &mut self,
        name: &str,
        value: Value,
        pos: Pos,
        want: Want,
        nested: bool,
    ) -> CliResult<EvalResult<()>> {
        let attrs = match self.set(value, pos) {
            Ok(attrs) => attrs,
            Err(bad) => return Ok(Err(bad)),
        };
        let own = self.context.settings.system.clone();
        for (system, value, pos) in members(attrs) {
            if !system.contains('-') {
                let place = pos.place(&**self.evaluation.vm.host()).map(|place| place.display());
                let place = place.unwrap_or_else(|| "«none»:0".to_owned());
                self.report(error::<()>(format!("'{system}' is not a valid system type, at {place}")))?;
            }
            if !self.all_systems && system != own {
                self.omitted.insert(system);
                continue;
            }
            if !nested {
                self.one(&format!("{name}.{system}"), value, pos, want)?;
                continue;
            }
            let inner = match self.set(value, pos) {
                Ok(inner) => inner,
                Err(bad) => return Ok(Err(bad)),
            };
            for (member, value, pos) in members(inner) {
                let drv = self.one(&format!("{name}.{system}.{member}"), value, pos, want)?;
                if let (Some(drv), Want::Check) = (drv, want)
                    && system == own
                {
                    self.drvs.entry(drv).or_default().push(format!("{name}.{system}.{member}"));
                }
            }
        }
        Ok(Ok(()))
    }

    fn one(&mut self, path: &str, value: Value, pos: Pos, want: Want) -> CliResult<Option<StorePath>> {
        match want {
            Want::Derivation | Want::Check => self.derivation(path, value, pos),
            Want::App => self.app(path, value, pos).map(|()| None),
            Want::Bundler => self.bundler(path, value, pos).map(|()| None),
            Want::Anything => Ok(None),
        }
    }

    fn traced<T>(&mut self, result: EvalResult<T>, pos: Pos, what: String) -> CliResult<Option<T>> {
        self.report(result.map_err(|bad| bad.trace(pos, TraceKind::Text(what.into()))))
    }

    fn derivation(&mut self, path: &str, value: Value, pos: Pos) -> CliResult<Option<StorePath>> {
        let _activity = self.activity(&format!("checking derivation {path}"));
        let vm = &mut self.evaluation.vm;
        let drv = vm.derivation_of(value).and_then(|found| match found {
            Some(found) => vm.drv_path(&found),
            None => error(format!("flake attribute '{path}' is not a derivation")),
        });
        let drv = self.traced(drv, pos, format!("while checking the derivation '{path}'"))?;
        if let Some(drv) = &drv {
            let shown = self.evaluation.host().store_dir().display(drv);
            let text = format!("derivation evaluated to {shown}");
            self.context.logger.log(Verbosity::Info, text.as_bytes());
        }
        Ok(drv)
    }

    fn app(&mut self, path: &str, value: Value, pos: Pos) -> CliResult<()> {
        let _activity = self.activity(&format!("checking app '{path}'"));
        let result = self.app_parts(path, value, pos);
        self.traced(result, pos, format!("while checking the app definition '{path}'")).map(drop)
    }

    fn app_parts(&mut self, path: &str, value: Value, pos: Pos) -> EvalResult<()> {
        let attrs = self.set(value, pos)?;
        let vm = &mut self.evaluation.vm;
        match find(attrs, "type") {
            Some((value, pos)) => drop(vm.string_no_context(value, pos, "")?),
            None => return error(format!("app '{path}' lacks attribute 'type'")),
        }
        match find(attrs, "program") {
            Some((value, pos)) => drop(vm.coerce(value, Coerce::PLAIN, pos, "")?),
            None => return error(format!("app '{path}' lacks attribute 'program'")),
        }
        let warn = |text: String| self.context.logger.warn(&text);
        match find(attrs, "meta") {
            Some((value, pos)) => match find(vm.force_attrs(value, pos, "")?, "description") {
                Some((value, pos)) => drop(vm.string_no_context(value, pos, "")?),
                None => warn(format!("app '{path}' lacks attribute 'meta.description'")),
            },
            None => warn(format!("app '{path}' lacks attribute 'meta'")),
        }
        match members(attrs).iter().find(|(name, ..)| !matches!(name.as_str(), "type" | "program" | "meta")) {
            Some((name, ..)) => error(format!("app '{path}' has unsupported attribute '{name}'")),
            None => Ok(()),
        }
    }

    fn bundler(&mut self, path: &str, value: Value, pos: Pos) -> CliResult<()> {
        let _activity = self.activity(&format!("checking bundler '{path}'"));
        let result = self.evaluation.vm.force(value).and_then(|value| match value.as_closure() {
            Some(_) => Ok(()),
            None => error("bundler must be a function"),
        });
        self.traced(result, pos, format!("while checking the template '{path}'")).map(drop)
    }

    fn overlay(&mut self, path: &str, value: Value, pos: Pos) -> CliResult<()> {
        let _activity = self.activity(&format!("checking overlay '{path}'"));
        let result = self.evaluation.vm.force(value).and_then(|value| {
            let Some(closure) = value.as_closure() else {
                return error(format!("overlay is not a function, but {} instead", type_phrase(value)));
            };
            let argument = closure.next().2.map(|name| name.to_string()).unwrap_or_default();
            let named = argument == "_" || argument.strip_prefix('_').unwrap_or(&argument) == "final";
            match closure.formals().is_some() || !named {
                true => error("overlay does not take an argument named 'final'"),
                false => Ok(()),
            }
        });
        self.traced(result, pos, format!("while checking the overlay '{path}'")).map(drop)
    }

    fn module(&mut self, path: &str, value: Value, pos: Pos) -> CliResult<()> {
        let _activity = self.activity(&format!("checking NixOS module '{path}'"));
        let result = self.evaluation.vm.force(value);
        self.traced(result, pos, format!("while checking the NixOS module '{path}'")).map(drop)
    }

    fn configuration(&mut self, path: &str, value: Value, pos: Pos) -> CliResult<()> {
        let _activity = self.activity(&format!("checking NixOS configuration '{path}'"));
        let vm = &mut self.evaluation.vm;
        let toplevel = "config.system.build.toplevel";
        let found = vm.find_along_path(toplevel, Attrs::empty(), value);
        let result = found.and_then(|(value, _)| match vm.derivation_of(value)? {
            Some(_) => Ok(()),
            None => error(format!("attribute '{toplevel}' is not a derivation")),
        });
        self.traced(result, pos, format!("while checking the NixOS configuration '{path}'")).map(drop)
    }

    fn template(&mut self, path: &str, value: Value, pos: Pos) -> CliResult<()> {
        let _activity = self.activity(&format!("checking template '{path}'"));
        let result = self.template_parts(path, value, pos);
        self.traced(result, pos, format!("while checking the template '{path}'")).map(drop)
    }

    fn template_parts(&mut self, path: &str, value: Value, pos: Pos) -> EvalResult<()> {
        let attrs = self.set(value, pos)?;
        let vm = &mut self.evaluation.vm;
        let Some((value, pos)) = find(attrs, "path") else {
            return error(format!("template '{path}' lacks attribute 'path'"));
        };
        let place = vm.path_of(value, pos, "")?;
        if !matches!(vm.host().file_kind(&place), Ok(Some(_))) {
            let place = String::from_utf8_lossy(&place);
            return error(format!("template '{path}' refers to a non-existent path '{place}'"));
        }
        match find(attrs, "description") {
            Some((value, pos)) => drop(vm.string_no_context(value, pos, "")?),
            None => return error(format!("template '{path}' lacks attribute 'description'")),
        }
        let known = |name: &str| matches!(name, "path" | "description" | "welcomeText");
        match members(attrs).iter().find(|(name, ..)| !known(name)) {
            Some((name, ..)) => error(format!("template '{path}' has unsupported attribute '{name}'")),
            None => Ok(()),
        }
    }

    fn jobs(&mut self, path: &str, value: Value, pos: Pos) -> CliResult<()> {
        let _activity = self.activity(&format!("checking Hydra job '{path}'"));
        let what = format!("while checking the Hydra jobset '{path}'");
        let attrs = self.set(value, pos).and_then(|attrs| match self.evaluation.vm.is_derivation(attrs)? {
            true => error("jobset should not be a derivation at top-level"),
            false => Ok(attrs),
        });
        let Some(attrs) = self.traced(attrs, pos, what.clone())? else { return Ok(()) };
        for (name, value, pos) in members(attrs) {
            let is_derivation =
                self.set(value, pos).and_then(|attrs| self.evaluation.vm.is_derivation(attrs));
            let Some(is_derivation) = self.traced(is_derivation, pos, what.clone())? else { return Ok(()) };
            let path = format!("{path}.{name}");
            match is_derivation {
                true => {
                    let _activity = self.activity(&format!("checking Hydra job '{path}'"));
                    drop(self.derivation(&path, value, pos)?);
                }
                false => self.jobs(&path, value, pos)?,
            }
        }
        Ok(())
    }

    /// Builds what is not there and cannot be substituted: that it builds is all that there is to know.
    fn build(&mut self) -> CliResult<()> {
        let wanted = |drv: &StorePath| DerivedPath::built(drv.clone(), OutputsSpec::All);
        let all: Vec<DerivedPath> = self.drvs.keys().map(wanted).collect();
        let builder = self.context.build_store()?;
        let missing = self.context.block_on(builder.query_missing(&all))??;
        let missing: Vec<DerivedPath> = missing.will_build.iter().map(wanted).collect();
        let _activity = self.activity(&format!("running {} flake checks", missing.len()));
        let results = self.context.block_on(builder.build_paths(&missing, BuildMode::Normal))??;
        let store = self.context.store()?;
        let mut failed: Vec<_> = results.iter().filter(|result| !result.status.is_success()).collect();
        // What was not begun or not finished because of another one is not what is wrong.
        let is_consequence =
            |status: BuildStatus| matches!(status, BuildStatus::Cancelled | BuildStatus::DependencyFailed);
        if failed.iter().any(|result| !is_consequence(result.status)) {
            failed.retain(|result| !is_consequence(result.status));
        }
        for result in failed {
            let shown = result.path.render(store.store_dir());
            let drv = match &result.path {
                DerivedPath::Built { drv, .. } => drv.base(),
                DerivedPath::Opaque(path) => path,
            };
            let names = self.drvs.get(drv).cloned().unwrap_or_default();
            if names.is_empty() {
                let text = format!("build of '{shown}' failed: {}", result.error);
                self.report_failure(CliError::failed(text))?;
            }
            for name in names {
                let text = format!(
                    "failed to build attribute '{name}', build of '{shown}' failed: {}",
                    result.error
                );
                self.report_failure(CliError::failed(text))?;
            }
        }
        Ok(())
    }
}

//! The one installable of a command, opened but not evaluated: what was made of it before may still hold.

use super::{FlakeSession, InstallableArgs, attribute, store_path};
use crate::args;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::flakes::{Defaults, FlakeInstallable, OpenFlake, split_outputs};
use crate::memory::{Key, Memory};
use firn_core::flake_ref::FlakeRef;
use firn_core::{DerivedPath, OutputsSpec};
use firn_flake::LockFlags;
use firn_host::Observations;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

enum Kind {
    Path(DerivedPath),
    /// An attribute of the expression, with its outputs.
    Attribute(String, Option<OutputsSpec>),
    Flake(FlakeInstallable, Rc<OpenFlake>),
}

/// An installable that is not evaluated yet.
pub struct One {
    pub evaluation: Evaluation,
    kind: Kind,
}

impl InstallableArgs {
    /// Opens the one installable that is given, or else `default`. What its evaluation sees is noted.
    pub fn open(&mut self, context: &Context, default: &str) -> CliResult<One> {
        if self.file.is_some() && self.expr.is_some() {
            return Err(CliError::usage("'--file' and '--expr' are exclusive"));
        }
        context.use_eval_store(self.eval.eval_store.as_deref())?;
        let mut names = self.names()?.into_iter();
        let name = names.next();
        if let Some(extra) = names.next() {
            return Err(CliError::usage(format!("unexpected argument '{}'", extra.to_string_lossy())));
        }
        if self.has_expression() {
            self.impure_file(context)?;
            let evaluation = Evaluation::observed(context, &self.eval)?;
            let name = args::text("attribute path", name.unwrap_or_default())?;
            let (attr, outputs) = split_outputs(&name)?;
            return Ok(One { evaluation, kind: Kind::Attribute(attr.to_owned(), outputs) });
        }
        let name = name.unwrap_or_else(|| OsString::from(default));
        let path = store_path(&*context.store()?, &name)?;
        let evaluation = Evaluation::observed(context, &self.eval)?;
        if let Some(path) = path {
            return Ok(One { evaluation, kind: Kind::Path(path) });
        }
        let mut session = FlakeSession::with(context, self, evaluation)?;
        let (installable, flake) = session.open(context, &name)?;
        Ok(One { evaluation: session.evaluation, kind: Kind::Flake(installable, flake) })
    }
}

impl One {
    /// Where a result for it can be kept; nothing if it cannot be used again.
    pub fn memory(&self, context: &Context, what: &InstallableArgs, command: &str) -> Option<Memory> {
        let mut key = Key::new(context, command, &what.eval, self.evaluation.current_dir())?;
        match &self.kind {
            Kind::Path(path) => key.part(path.render(context.store().ok()?.store_dir())),
            Kind::Attribute(attr, outputs) => {
                if what.stdin || what.file.as_deref().is_some_and(|file| file.as_os_str() == "-") {
                    return None;
                }
                key.part(format!("{:?} {:?} {attr:?} {outputs:?}", what.file, what.expr));
            }
            Kind::Flake(installable, flake) => {
                let fingerprint = flake.fingerprint(context)?;
                key.part(fingerprint.to_base(firn_core::HashFormat::Base16));
                key.part(format!("{} {:?}", installable.fragment, installable.outputs));
            }
        }
        Some(key.memory())
    }

    /// What a result depends on besides the key of its memory: nothing where that says it all, an error where it could
    /// not be used again.
    pub fn observations(&self) -> Result<Option<Observations>, ()> {
        let seen = self.evaluation.observations().ok_or(())?;
        match &self.kind {
            Kind::Path(_) => Ok(None),
            // What a locked flake is evaluated to is settled.
            Kind::Flake(..) if self.evaluation.vm.settings().pure_eval => Ok(None),
            Kind::Flake(..) | Kind::Attribute(..) => Ok(Some(seen)),
        }
    }

    /// What it stands for.
    pub fn resolve(&mut self, context: &Context, what: &InstallableArgs) -> CliResult<Vec<DerivedPath>> {
        let evaluation = &mut self.evaluation;
        let paths = match &self.kind {
            Kind::Path(path) => vec![path.clone()],
            Kind::Attribute(attr, outputs) => {
                if let Some(file) = &what.file {
                    let path = evaluation.file_argument(file)?;
                    let path = firn_eval::canonical_path(&path);
                    let path = PathBuf::from(OsStr::from_bytes(&path));
                    evaluation.look_at(&path);
                    evaluation.look_at(&path.join("default.nix"));
                }
                let root = what.value_in(evaluation, OsStr::new(""))?;
                attribute(evaluation, root, attr, outputs.as_ref())?
            }
            Kind::Flake(installable, flake) => vec![installable.derived(context, evaluation, flake)?.path],
        };
        evaluation.flush()?;
        Ok(paths)
    }

    /// The flake that packages for shells are taken from: the `nixpkgs` of the flake's own inputs, if there is one.
    pub fn nixpkgs(&self, context: &Context) -> CliResult<FlakeRef> {
        if let Kind::Flake(_, flake) = &self.kind
            && let Some(reference) = flake.input("nixpkgs")?
        {
            return Ok(reference);
        }
        crate::flakes::parse_absolute(context, b"nixpkgs")
    }

    /// A package of that flake.
    pub fn package(
        &mut self,
        context: &Context,
        what: &InstallableArgs,
        reference: FlakeRef,
        name: &str,
    ) -> CliResult<DerivedPath> {
        let flags = what.flakes.resolve(context, &mut self.evaluation)?;
        // What was overridden are inputs of the flake that the shell is for.
        let (overrides, updates) = Default::default();
        let flags = LockFlags { apply_config: true, overrides, updates, ..flags };
        let flake = OpenFlake::open(context, &mut self.evaluation, &reference, &flags)?;
        let installable = FlakeInstallable {
            reference,
            fragment: name.to_owned(),
            outputs: None,
            defaults: Defaults::LegacyPackages,
        };
        let path = installable.derived(context, &mut self.evaluation, &flake)?.path;
        self.evaluation.flush()?;
        Ok(path)
    }

    /// Where the files of its flake are that the user edits, if it is one of this machine.
    pub fn source_folder(&self, context: &Context) -> CliResult<Option<PathBuf>> {
        let Kind::Flake(_, flake) = &self.kind else { return Ok(None) };
        let input = &flake.locked.flake.resolved.input;
        context.fetcher()?.source_path(input).map_err(|error| CliError::failed(error.to_string()))
    }
}

//! Installables that are outputs of flakes: `nixpkgs#hello^dev`.

use super::outputs::{Cursor, OpenFlake};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_core::flake_ref::FlakeRef;
use firn_core::{DerivedPath, OutputsSpec};
use firn_eval::{Kind, PrintOptions, parse_attr_path, print_value, type_phrase};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// What an output is meant where it is not named in full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Defaults {
    #[default]
    Packages,
    Apps,
    DevShells,
    Formatter,
    /// All packages.
    Search,
    /// All outputs.
    Whole,
    Templates,
    Bundlers,
    /// Packages of the set that is not searched.
    LegacyPackages,
}

impl Defaults {
    /// The attribute paths that stand for no fragment at all.
    pub fn paths(self, system: &str) -> Vec<String> {
        let own: Vec<String> = match self {
            Self::Packages => Vec::new(),
            Self::LegacyPackages => return Vec::new(),
            Self::Apps => vec![format!("apps.{system}.default"), format!("defaultApp.{system}")],
            Self::DevShells => vec![format!("devShells.{system}.default"), format!("devShell.{system}")],
            Self::Formatter => return vec![format!("formatter.{system}")],
            Self::Search => return vec![format!("packages.{system}"), format!("legacyPackages.{system}")],
            Self::Whole => return vec![String::new()],
            Self::Templates => return vec!["templates.default".into(), "defaultTemplate".into()],
            Self::Bundlers => {
                return vec![format!("bundlers.{system}.default"), format!("defaultBundler.{system}")];
            }
        };
        let packages = [format!("packages.{system}.default"), format!("defaultPackage.{system}")];
        own.into_iter().chain(packages).collect()
    }

    /// Where a fragment is looked for, besides the outputs themselves.
    pub fn prefixes(self, system: &str) -> Vec<String> {
        let own: Vec<String> = match self {
            Self::Packages | Self::Search | Self::Whole => Vec::new(),
            Self::Apps => vec![format!("apps.{system}.")],
            Self::DevShells => vec![format!("devShells.{system}.")],
            Self::Formatter => return Vec::new(),
            Self::LegacyPackages => return vec![format!("legacyPackages.{system}.")],
            Self::Templates => return vec!["templates.".to_owned()],
            Self::Bundlers => return vec![format!("bundlers.{system}.")],
        };
        own.into_iter().chain([format!("packages.{system}."), format!("legacyPackages.{system}.")]).collect()
    }
}

/// An output of a flake as it was written.
#[derive(Debug, Clone)]
pub struct FlakeInstallable {
    pub reference: FlakeRef,
    pub fragment: String,
    /// `None` for those that the package says.
    pub outputs: Option<OutputsSpec>,
    pub defaults: Defaults,
}

/// Where a package came from.
#[derive(Debug, Clone)]
pub struct FlakeSource {
    pub original: FlakeRef,
    pub locked: FlakeRef,
    pub attr_path: String,
    pub outputs: Option<OutputsSpec>,
}

/// What an installable stands for.
pub struct Derived {
    pub path: DerivedPath,
    pub priority: Option<i64>,
    pub source: Option<FlakeSource>,
}

/// `path^out,dev` in its parts; `^*` is all outputs.
pub fn split_outputs(name: &str) -> CliResult<(&str, Option<OutputsSpec>)> {
    match name.rsplit_once('^') {
        None => Ok((name, None)),
        Some((path, outputs)) => {
            let outputs = OutputsSpec::parse(outputs)
                .ok_or_else(|| CliError::usage(format!("invalid extended outputs specifier '^{outputs}'")))?;
            Ok((path, Some(outputs)))
        }
    }
}

/// `'a', 'b' or 'c'`.
fn either(paths: &[String]) -> String {
    let quoted: Vec<String> = paths.iter().map(|path| format!("'{path}'")).collect();
    match &quoted[..] {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

impl FlakeInstallable {
    /// Parses `REFERENCE#FRAGMENT^OUTPUTS`, relative to `base`.
    pub fn parse(context: &Context, name: &OsStr, base: &Path, defaults: Defaults) -> CliResult<Self> {
        // Outputs are at the end; what is before need not be UTF-8.
        let bytes = name.as_bytes();
        let (reference, outputs) = match bytes.iter().rposition(|byte| *byte == b'^') {
            Some(at) => {
                let outputs = String::from_utf8_lossy(&bytes[at..]);
                (&bytes[..at], split_outputs(&outputs)?.1)
            }
            None => (bytes, None),
        };
        let (reference, fragment) = super::parse_with_fragment(context, reference, base)?;
        let fragment = String::from_utf8_lossy(&fragment).into_owned();
        Ok(Self { reference, fragment, outputs, defaults })
    }

    /// The installable as messages name it.
    pub fn what(&self, context: &Context) -> String {
        let paths = self.own_paths(&context.settings.system);
        format!("{}#{}", self.reference.shown(), paths.first().map_or("", String::as_str))
    }

    fn own_paths(&self, system: &str) -> Vec<String> {
        match self.fragment.is_empty() {
            true => self.defaults.paths(system),
            false => vec![self.fragment.clone()],
        }
    }

    /// The attribute paths that are tried, in order.
    pub fn attr_paths(&self, system: &str) -> Vec<String> {
        if let Some(absolute) = self.fragment.strip_prefix('.') {
            return vec![absolute.to_owned()];
        }
        let own = self.own_paths(system);
        let mut paths = Vec::new();
        if let (false, Some(first)) = (self.fragment.is_empty(), own.first()) {
            paths.extend(self.defaults.prefixes(system).iter().map(|prefix| format!("{prefix}{first}")));
        }
        paths.extend(own);
        paths
    }

    /// All places that it may mean, the best first.
    pub fn cursors(
        &self,
        context: &Context,
        evaluation: &mut Evaluation,
        flake: &Rc<OpenFlake>,
    ) -> CliResult<Vec<Rc<Cursor>>> {
        let root = flake.root();
        let paths = self.attr_paths(&context.settings.system);
        let (mut found, mut near) = (Vec::new(), BTreeSet::new());
        for path in &paths {
            let steps = parse_attr_path(path).map_err(CliError::failed)?;
            match root.find(evaluation, &steps)? {
                Ok(cursor) => found.push(cursor),
                Err(names) => near.extend(names),
            }
        }
        if found.is_empty() {
            let message =
                format!("flake '{}' does not provide attribute {}", self.reference.shown(), either(&paths));
            return Err(CliError::Suggesting { message, suggestions: firn_eval::best_names(near) });
        }
        Ok(found)
    }

    /// The place that it means.
    pub fn cursor(
        &self,
        context: &Context,
        evaluation: &mut Evaluation,
        flake: &Rc<OpenFlake>,
    ) -> CliResult<Rc<Cursor>> {
        let mut found = self.cursors(context, evaluation, flake)?;
        Ok(found.swap_remove(0))
    }

    /// The derivation or path that it stands for.
    pub fn derived(
        &self,
        context: &Context,
        evaluation: &mut Evaluation,
        flake: &Rc<OpenFlake>,
    ) -> CliResult<Derived> {
        let cursor = self.cursor(context, evaluation, flake)?;
        let attr_path = cursor.path();
        if !cursor.is_derivation(evaluation)? {
            let value = cursor.force(evaluation)?;
            if matches!(value.kind(), Kind::Path(_) | Kind::Str(_)) {
                let what = format!("while evaluating the flake output attribute '{attr_path}'");
                let path = crate::installables::single_path(evaluation, value, &what)?;
                return Ok(Derived { path, priority: None, source: None });
            }
            let options = PrintOptions { max_depth: 10, ..PrintOptions::unambiguous(false) };
            let shown = evaluation.run(|vm| print_value(vm, value, &options))?;
            return Err(CliError::failed(format!(
                "expected flake output attribute '{attr_path}' to be a derivation or path but found {}: {}",
                type_phrase(value),
                String::from_utf8_lossy(&shown)
            )));
        }
        let drv = cursor.derivation(context, evaluation)?;
        let specified = cursor.attr(evaluation, "outputSpecified")?;
        let meta = match &specified {
            Some(_) => None,
            None => cursor.attr(evaluation, "meta")?,
        };
        let priority = match &meta {
            Some(meta) => match meta.attr(evaluation, "priority")? {
                Some(priority) => Some(priority.int(evaluation)?),
                None => None,
            },
            None => None,
        };
        let outputs = match &self.outputs {
            Some(outputs) => outputs.clone(),
            None => {
                let mut names = BTreeSet::new();
                if let Some(specified) = &specified {
                    if specified.bool(evaluation)?
                        && let Some(name) = cursor.attr(evaluation, "outputName")?
                    {
                        names.insert(name.string(evaluation)?);
                    }
                } else if let Some(meta) = &meta
                    && let Some(wanted) = meta.attr(evaluation, "outputsToInstall")?
                {
                    names.extend(wanted.strings(evaluation)?);
                }
                if names.is_empty() {
                    names.insert("out".to_owned());
                }
                OutputsSpec::Names(names)
            }
        };
        let source = FlakeSource {
            original: self.reference.clone(),
            locked: flake.locked.flake.locked.clone(),
            attr_path,
            outputs: self.outputs.clone(),
        };
        Ok(Derived { path: DerivedPath::built(drv, outputs), priority, source: Some(source) })
    }
}

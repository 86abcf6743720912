//! The walk through values.

use super::{Package, Terms, looking_at};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_eval::sym;
use firn_eval::{Ahead, Attrs, EvalError, EvalResult, Pos, Value, split_package_name};

/// What is looked for, and what was found.
pub struct Walk<'a> {
    pub context: &'a Context,
    pub terms: &'a Terms,
    pub found: Vec<Package>,
}

/// Why the walk cannot go on.
enum Stop {
    Evaluation(EvalError),
    Command(CliError),
}

impl From<EvalError> for Stop {
    fn from(error: EvalError) -> Self {
        Self::Evaluation(error)
    }
}

impl From<CliError> for Stop {
    fn from(error: CliError) -> Self {
        Self::Command(error)
    }
}

impl Walk<'_> {
    /// Looks at a value: a package, or at the top and where packages are a set of packages.
    pub fn visit(
        &mut self,
        evaluation: &mut Evaluation,
        value: Value,
        path: &[String],
        is_first: bool,
    ) -> CliResult<()> {
        let _activity = looking_at(self.context, path);
        let top = path.first().map(String::as_str);
        match self.try_visit(evaluation, value, path, is_first) {
            Ok(()) => Ok(()),
            Err(Stop::Command(error)) => Err(error),
            // Packages that say that they cannot be evaluated are none.
            Err(Stop::Evaluation(error))
                if !is_first && (error.is_catchable() || top == Some("legacyPackages")) =>
            {
                Ok(())
            }
            Err(Stop::Evaluation(error)) => Err(evaluation.fail(error)),
        }
    }

    fn try_visit(
        &mut self,
        evaluation: &mut Evaluation,
        value: Value,
        path: &[String],
        is_first: bool,
    ) -> Result<(), Stop> {
        let mut value = evaluation.vm.force(value)?;
        if is_first {
            let args = evaluation.auto_args;
            value = evaluation.vm.auto_call(args, value)?;
        }
        let Some(attrs) = value.as_attrs() else { return Ok(()) };
        if evaluation.vm.is_derivation(attrs)? {
            let package = package(evaluation, attrs, path)?;
            if self.terms.want(&package)? {
                self.found.push(package);
            }
            return Ok(());
        }
        let top = path.first().map(String::as_str);
        let mut recurse = is_first || path.len() <= 2 && matches!(top, Some("packages" | "legacyPackages"));
        let wish = attrs.find(sym!("recurseForDerivations"));
        if let (false, Some("legacyPackages"), Some(wish)) = (recurse, top, wish) {
            let what = "while evaluating the attribute 'recurseForDerivations'";
            recurse = evaluation.vm.force_bool(wish, Pos::NONE, what)?;
        }
        if recurse {
            attrs.value().keep();
            evaluation.vm.attributes_ahead(attrs, Ahead::Describe);
            for (name, value) in attrs.sorted() {
                let mut inner = path.to_vec();
                inner.push(name.to_string());
                self.visit(evaluation, value, &inner, false)?;
            }
        }
        Ok(())
    }
}

fn package(evaluation: &mut Evaluation, attrs: Attrs, path: &[String]) -> EvalResult<Package> {
    let vm = &mut evaluation.vm;
    let mut name = Vec::new();
    if let Some(value) = attrs.find(sym!("name")) {
        name = vm
            .string_no_context(value, Pos::NONE, "while evaluating the name of a package")?
            .as_bytes()
            .to_vec();
    }
    let mut description = String::new();
    if let Some(meta) = attrs.find(sym!("meta")) {
        let meta = vm.force(meta)?;
        if let Some(text) = meta.as_attrs().and_then(|meta| meta.find(sym!("description"))) {
            let text =
                vm.string_no_context(text, Pos::NONE, "while evaluating the description of a package")?;
            description = String::from_utf8_lossy(text.as_bytes()).replace('\n', " ");
        }
    }
    let (name, version) = split_package_name(&name);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Package { attr_path: path.join("."), name: text(name), version: text(version), description })
}

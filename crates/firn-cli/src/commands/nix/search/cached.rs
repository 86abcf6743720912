//! The walk through the outputs of a locked flake: what was evaluated before is not evaluated again.

use super::{Package, Terms, looking_at};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::flakes::Cursor;
use firn_eval::split_package_name;
use std::rc::Rc;

/// Looks at a place: a package, or at the top and where packages are a set of packages.
pub(super) fn visit(
    context: &Context,
    terms: &Terms,
    found: &mut Vec<Package>,
    evaluation: &mut Evaluation,
    cursor: &Rc<Cursor>,
    is_first: bool,
) -> CliResult<()> {
    let steps = cursor.steps();
    let _activity = looking_at(context, &steps);
    let is_legacy = steps.first().is_some_and(|step| step == "legacyPackages");
    // What failed before fails again.
    if is_legacy && !is_first && cursor.failed_before() {
        return Ok(());
    }
    match try_visit(context, terms, found, evaluation, cursor, is_first) {
        // Packages that say that they cannot be evaluated are none.
        Err(CliError::Rendered { catchable, .. }) if !is_first && (catchable || is_legacy) => Ok(()),
        result => result,
    }
}

fn try_visit(
    context: &Context,
    terms: &Terms,
    found: &mut Vec<Package>,
    evaluation: &mut Evaluation,
    cursor: &Rc<Cursor>,
    is_first: bool,
) -> CliResult<()> {
    if cursor.is_derivation(evaluation)? {
        if let Some(package) = package(evaluation, cursor)?
            && terms.want(&package)?
        {
            found.push(package);
        }
        return Ok(());
    }
    let steps = cursor.steps();
    let top = steps.first().map(String::as_str);
    let mut recurse = is_first || steps.len() <= 2 && matches!(top, Some("packages" | "legacyPackages"));
    if !recurse
        && top == Some("legacyPackages")
        && let Some(wish) = cursor.attr(evaluation, "recurseForDerivations")?
    {
        recurse = wish.bool(evaluation)?;
    }
    if recurse && cursor.is_set(evaluation)? {
        let names = cursor.names(evaluation)?;
        cursor.describe_ahead(evaluation);
        for name in names {
            let child = cursor.need(evaluation, &name)?;
            visit(context, terms, found, evaluation, &child, false)?;
        }
    }
    Ok(())
}

/// Nothing for one of a set of packages whose name or description is known to fail.
fn package(evaluation: &mut Evaluation, cursor: &Rc<Cursor>) -> CliResult<Option<Package>> {
    let is_legacy = cursor.steps().first().is_some_and(|step| step == "legacyPackages");
    let fails = |cursor: &Cursor| is_legacy && cursor.failed_before();
    let mut name = String::new();
    if let Some(cursor) = cursor.attr(evaluation, "name")? {
        if fails(&cursor) {
            return Ok(None);
        }
        name = cursor.string(evaluation)?;
    }
    let mut description = String::new();
    if let Some(meta) = cursor.attr(evaluation, "meta")? {
        if fails(&meta) {
            return Ok(None);
        }
        if let Some(text) = meta.attr(evaluation, "description")? {
            if fails(&text) {
                return Ok(None);
            }
            description = text.string(evaluation)?.replace('\n', " ");
        }
    }
    let (name, version) = split_package_name(name.as_bytes());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Some(Package {
        attr_path: cursor.steps().join("."),
        name: text(name),
        version: text(version),
        description,
    }))
}

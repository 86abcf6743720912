//! Where packages to install come from: an expression (by name, attribute or function), store paths, or a profile.

use super::selectors::select_by;
use super::{Line, element, source};
use crate::args::text;
use crate::commands::nix_store::follow_links;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_core::StorePath;
use firn_eval::{FoundDerivation, compare_versions, split_package_name};
use firn_profile::Element;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

#[derive(Default)]
enum Kind {
    /// Names, or store paths if the first argument has a slash.
    #[default]
    Arguments,
    /// The arguments are functions on the expression.
    Functions,
    /// The arguments are attribute paths.
    Attributes,
    Profile(PathBuf),
}

/// What the flags of an operation say about its arguments.
#[derive(Default)]
pub struct InstallSource(Kind);

impl InstallSource {
    /// Takes `flag` if it is one of these, and its argument off `rest`.
    pub fn flag(&mut self, flag: &OsStr, rest: &mut VecDeque<OsString>) -> CliResult<bool> {
        self.0 = match flag.to_str().unwrap_or_default() {
            "-E" | "--from-expression" => Kind::Functions,
            "-A" | "--attr" => Kind::Attributes,
            name @ "--from-profile" => {
                let missing = || CliError::usage(format!("'{name}' requires an argument"));
                Kind::Profile(rest.pop_front().ok_or_else(missing)?.into())
            }
            _ => return Ok(false),
        };
        Ok(true)
    }
}

/// Something that may be installed; only the chosen ones are evaluated.
pub enum Candidate {
    Found(FoundDerivation),
    Known(Box<Element>),
}

impl Candidate {
    pub fn name(&self) -> &str {
        match self {
            Self::Found(found) => &found.name,
            Self::Known(element) => &element.name,
        }
    }

    pub fn priority(&self, evaluation: &mut Evaluation) -> CliResult<i64> {
        match self {
            Self::Found(found) => element::priority(evaluation, found),
            Self::Known(element) => Ok(element.priority()),
        }
    }

    /// The element, and in `late` what is wrong with its outputs.
    pub fn element(&self, evaluation: &mut Evaluation, late: &mut Option<CliError>) -> CliResult<Element> {
        match self {
            Self::Found(found) => element::element(evaluation, found, late),
            Self::Known(element) => Ok((**element).clone()),
        }
    }
}

/// The packages that the command line names. With `newest`, of several that a name matches the best one.
pub fn candidates(
    context: &Context,
    evaluation: &mut Evaluation,
    line: &Line,
    from: &InstallSource,
    newest: bool,
) -> CliResult<Vec<Candidate>> {
    let is_path = |arg: &OsString| arg.as_bytes().contains(&b'/');
    let found = match &from.0 {
        Kind::Arguments if line.args.first().is_some_and(is_path) => {
            return line.args.iter().map(|arg| store_path(context, arg)).collect();
        }
        Kind::Arguments => {
            let all = source::available(context, evaluation, line, "")?;
            by_name(context, evaluation, all, &line.args, newest)?
        }
        Kind::Profile(profile) => {
            let all = source::of_profile(evaluation, profile)?;
            by_name(context, evaluation, all, &line.args, newest)?
        }
        Kind::Functions => {
            let root = source::expression(context, evaluation, line)?;
            let mut found = Vec::new();
            for arg in &line.args {
                let function = evaluation.expression(arg.as_bytes())?;
                let args = evaluation.auto_args;
                found.extend(evaluation.run(|vm| {
                    let value = vm.call(function, &[root], firn_eval::Pos::NONE)?;
                    vm.find_derivations(value, "", args, true)
                })?);
            }
            found
        }
        Kind::Attributes => {
            let root = source::expression(context, evaluation, line)?;
            let mut found = Vec::new();
            for arg in &line.args {
                let path = text("attribute path", arg.clone())?;
                let args = evaluation.auto_args;
                found.extend(evaluation.run(|vm| {
                    let (value, _) = vm.find_along_path(&path, args, root)?;
                    vm.find_derivations(value, "", args, true)
                })?);
            }
            found
        }
    };
    Ok(found.into_iter().map(Candidate::Found).collect())
}

fn by_name(
    context: &Context,
    evaluation: &mut Evaluation,
    all: Vec<FoundDerivation>,
    args: &[OsString],
    newest: bool,
) -> CliResult<Vec<FoundDerivation>> {
    let names: Vec<&str> = all.iter().map(|found| found.name.as_str()).collect();
    let args: Vec<Vec<u8>> = match args {
        [] => vec![b"*".to_vec()],
        args => args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
    };
    let places = select_by(&names, &args, &mut |matches| match newest {
        true => best_of_each_name(context, evaluation, &all, matches),
        false => Ok(matches),
    })?;
    let mut all: Vec<Option<FoundDerivation>> = all.into_iter().map(Some).collect();
    Ok(places.into_iter().filter_map(|at| all[at].take()).collect())
}

/// Of several packages of one name the one for this system, of the highest priority, of the highest version; the
/// first of those.
fn best_of_each_name(
    context: &Context,
    evaluation: &mut Evaluation,
    all: &[FoundDerivation],
    matches: Vec<usize>,
) -> CliResult<Vec<usize>> {
    let mut best: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut several: BTreeSet<&[u8]> = BTreeSet::new();
    let this_system = context.settings.system.as_bytes();
    for at in matches {
        let (name, version) = split_package_name(all[at].name.as_bytes());
        let order = match best.get(name) {
            None => Ordering::Greater,
            Some(&other) => {
                let [one, two] = [at, other].map(|at| evaluation.run(|vm| vm.package_system(&all[at])));
                let (one, two) = (one?, two?);
                let systems = if one == two {
                    Ordering::Equal
                } else {
                    (one == this_system).cmp(&(two == this_system))
                };
                let priorities = match systems {
                    Ordering::Equal => {
                        let new = element::priority(evaluation, &all[at])?;
                        element::priority(evaluation, &all[other])?.cmp(&new)
                    }
                    decided => decided,
                };
                let (_, other_version) = split_package_name(all[other].name.as_bytes());
                priorities.then_with(|| compare_versions(version, other_version))
            }
        };
        match order {
            Ordering::Greater => {
                best.insert(name, at);
                several.remove(all[at].name.as_bytes());
            }
            Ordering::Equal => {
                several.insert(all[at].name.as_bytes());
            }
            Ordering::Less => {}
        }
    }
    for name in best.keys() {
        if several.contains(name) {
            let name = String::from_utf8_lossy(name);
            context
                .logger
                .warn(&format!("there are multiple derivations named '{name}'; using the first one"));
        }
    }
    Ok(best.into_values().collect())
}

fn store_path(context: &Context, arg: &OsString) -> CliResult<Candidate> {
    let store = context.store()?;
    let path = follow_links(store.store_dir(), arg)?;
    let name = path.name();
    let (name, out_path, drv_path) = match path.is_derivation() {
        false => (name.to_owned(), path.clone(), None),
        true => {
            let name = name.strip_suffix(".drv").unwrap_or(name).to_owned();
            let mut outputs = context.block_on(store.query_derivation_outputs(&path))??;
            let out: Option<StorePath> = outputs.remove("out").flatten();
            let shown = store.store_dir().display(&path);
            let missing = || CliError::failed(format!("derivation '{shown}' does not have an output 'out'"));
            (name, out.ok_or_else(missing)?, Some(path.clone()))
        }
    };
    Ok(Candidate::Known(Box::new(Element {
        name,
        system: Vec::new(),
        outputs: [("out".to_owned(), out_path.clone())].into(),
        drv_path,
        out_path,
        meta: BTreeMap::new(),
    })))
}

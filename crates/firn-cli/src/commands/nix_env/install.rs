//! `nix-env --install`, `--upgrade`, `--uninstall`, `--set-flag` and `--set`.

use super::install_source::{Candidate, InstallSource, candidates};
use super::selectors::Selectors;
use super::{Line, element, source, user_env};
use crate::commands::nix_store::follow_links;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_eval::{compare_versions, split_package_name};
use firn_profile::{Element, generations};
use firn_store::BuildMode;
use firn_store::activity::Verbosity;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

fn say(context: &Context, text: &str) {
    context.logger.log(Verbosity::Info, text.as_bytes());
}

fn unknown_flag(flag: &OsStr) -> CliError {
    CliError::usage(format!("unknown flag '{}'", flag.to_string_lossy()))
}

fn mode(line: &Line) -> BuildMode {
    if line.repair { BuildMode::Repair } else { BuildMode::Normal }
}

fn name_of(full: &str) -> &[u8] {
    split_package_name(full.as_bytes()).0
}

/// The elements of the profile.
fn installed(context: &Context, evaluation: &mut Evaluation, line: &Line) -> CliResult<Vec<Element>> {
    let found = source::installed(context, evaluation, line)?;
    let mut late = None;
    let elements = found.iter().map(|found| element::element(evaluation, found, &mut late)).collect();
    late.map_or(elements, Err)
}

/// What a profile is to hold.
struct Change {
    elements: Vec<Element>,
    /// An error to be told when everything is built.
    late: Option<CliError>,
}

impl From<Vec<Element>> for Change {
    fn from(elements: Vec<Element>) -> Change {
        Change { elements, late: None }
    }
}

/// Applies `change` to what is installed until nobody else has changed the profile meanwhile. `change` answers with
/// the new elements, or with nothing to leave the profile as it is.
fn change_profile(
    context: &Context,
    line: &Line,
    evaluation: &mut Evaluation,
    change: &mut dyn FnMut(&mut Evaluation) -> CliResult<Option<Change>>,
) -> CliResult<u8> {
    let profile = source::profile(context, line)?;
    loop {
        let token = generations::token(&profile);
        let Some(Change { elements, late }) = change(evaluation)? else { return Ok(0) };
        evaluation.flush()?;
        if let Some(error) = late {
            user_env::build(context, &elements, mode(line))?;
            return Err(error);
        }
        if user_env::create(context, &elements, &profile, &token, mode(line))? {
            return Ok(0);
        }
    }
}

pub fn install(context: &Context, mut line: Line) -> CliResult<u8> {
    let (mut preserve, mut remove_all, mut priority) = (false, false, None);
    let mut from = InstallSource::default();
    while let Some(flag) = line.flags.pop_front() {
        match flag.to_str().unwrap_or_default() {
            _ if from.flag(&flag, &mut line.flags)? => {}
            "-P" | "--preserve-installed" => preserve = true,
            "-r" | "--remove-all" => remove_all = true,
            name @ "--priority" => {
                let value = line.flags.pop_front();
                let value = value.ok_or_else(|| CliError::usage(format!("'{name}' requires an argument")))?;
                let number: Option<i64> = value.to_str().and_then(|text| text.parse().ok());
                let bad = || CliError::usage("'--priority' requires an integer argument");
                priority = Some(number.ok_or_else(bad)?);
            }
            _ => return Err(unknown_flag(&flag)),
        }
    }
    let mut evaluation = Evaluation::new(context, &line.eval_args, false)?;
    let found = candidates(context, &mut evaluation, &line, &from, true)?;
    let (mut new, mut late) = (Vec::new(), None);
    for candidate in found {
        let mut element = candidate.element(&mut evaluation, &mut late)?;
        if let Some(name) = &line.force_name {
            element.name.clone_from(name);
        }
        if let Some(priority) = priority {
            element.set_meta("priority", &priority.to_string());
        }
        new.push(element);
    }
    if line.prebuilt_only {
        new = prebuilt(context, new)?;
    }
    let names: HashSet<&[u8]> = new.iter().map(|element| name_of(&element.name)).collect();
    change_profile(context, &line, &mut evaluation, &mut |evaluation| {
        let mut all = new.clone();
        if !remove_all {
            for old in installed(context, evaluation, &line)? {
                if !preserve && names.contains(name_of(&old.name)) && !old.keep() {
                    say(context, &format!("replacing old '{}'", old.name));
                } else {
                    all.push(old);
                }
            }
            for element in &new {
                say(context, &format!("installing '{}'", element.name));
            }
        }
        evaluation.flush()?;
        user_env::print_missing(context, &new)?;
        Ok((!line.dry_run).then(|| Change { elements: all, late: late.take() }))
    })
}

/// Those that are valid or can be fetched.
fn prebuilt(context: &Context, elements: Vec<Element>) -> CliResult<Vec<Element>> {
    let store = context.store()?;
    let paths = elements.iter().map(|element| element.out_path.clone()).collect();
    let valid = context.block_on(store.query_valid_paths(&paths))??;
    let known = context.substitutable(&paths)?;
    let is_there = |e: &Element| valid.contains(&e.out_path) || known.contains(&e.out_path);
    Ok(elements.into_iter().filter(is_there).collect())
}

/// Which versions an upgrade takes, seen from what is installed.
#[derive(Clone, Copy)]
enum Upgrade {
    Newer,
    NewerOrEqual,
    Equal,
    Always,
}

impl Upgrade {
    fn takes(self, installed: &[u8], available: &[u8]) -> bool {
        let order = compare_versions(installed, available);
        match self {
            Self::Newer => order == Ordering::Less,
            Self::NewerOrEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::Always => true,
        }
    }
}

pub fn upgrade(context: &Context, mut line: Line) -> CliResult<u8> {
    let mut kind = Upgrade::Newer;
    let mut from = InstallSource::default();
    while let Some(flag) = line.flags.pop_front() {
        match flag.to_str().unwrap_or_default() {
            _ if from.flag(&flag, &mut line.flags)? => {}
            "--lt" => kind = Upgrade::Newer,
            "--leq" => kind = Upgrade::NewerOrEqual,
            "--eq" => kind = Upgrade::Equal,
            "--always" => kind = Upgrade::Always,
            _ => return Err(unknown_flag(&flag)),
        }
    }
    let mut evaluation = Evaluation::new(context, &line.eval_args, false)?;
    let available = candidates(context, &mut evaluation, &line, &from, false)?;
    change_profile(context, &line, &mut evaluation, &mut |evaluation| {
        let (mut all, mut late) = (Vec::new(), None);
        for old in installed(context, evaluation, &line)? {
            let new = match old.keep() {
                true => None,
                false => best_upgrade(context, evaluation, &line, &old, (&available, kind), &mut late)?,
            };
            let Some(new) = new.filter(|new| new.out_path != old.out_path) else {
                all.push(old);
                continue;
            };
            let version = |full: &str| split_package_name(full.as_bytes()).1.to_vec();
            let action = match compare_versions(&version(&old.name), &version(&new.name)) {
                Ordering::Greater => "downgrading",
                _ => "upgrading",
            };
            say(context, &format!("{action} '{}' to '{}'", old.name, new.name));
            all.push(new);
        }
        evaluation.flush()?;
        user_env::print_missing(context, &all)?;
        Ok((!line.dry_run).then_some(Change { elements: all, late }))
    })
}

/// The package that `old` is to be replaced with: of the same name, of a version that `kind` takes, not of a lower
/// priority; among those the one with the highest priority, and then of the highest version.
fn best_upgrade(
    context: &Context,
    evaluation: &mut Evaluation,
    line: &Line,
    old: &Element,
    (available, kind): (&[Candidate], Upgrade),
    late: &mut Option<CliError>,
) -> CliResult<Option<Element>> {
    let (name, version) = split_package_name(old.name.as_bytes());
    let mut best: Option<(i64, &[u8], &Candidate)> = None;
    for candidate in available {
        let (other, new_version) = split_package_name(candidate.name().as_bytes());
        if other != name || !kind.takes(version, new_version) {
            continue;
        }
        // Smaller numbers are higher priorities.
        let priority = candidate.priority(evaluation)?;
        if priority > old.priority() {
            continue;
        }
        let better = match best {
            None => true,
            Some((best_priority, best_version, _)) => {
                priority < best_priority
                    || priority == best_priority
                        && compare_versions(best_version, new_version) == Ordering::Less
            }
        };
        if better && (!line.prebuilt_only || is_prebuilt(context, evaluation, candidate)?) {
            best = Some((priority, new_version, candidate));
        }
    }
    best.map(|(_, _, candidate)| candidate.element(evaluation, late)).transpose()
}

fn is_prebuilt(context: &Context, evaluation: &mut Evaluation, candidate: &Candidate) -> CliResult<bool> {
    let element = candidate.element(evaluation, &mut None)?;
    Ok(!prebuilt(context, vec![element])?.is_empty())
}

pub fn set_flag(context: &Context, line: Line) -> CliResult<u8> {
    no_flags(&line)?;
    let [name, value, selectors @ ..] = &line.args[..] else {
        return Err(CliError::usage("not enough arguments to '--set-flag'"));
    };
    let [name, value] = [name, value].map(|arg| arg.to_string_lossy().into_owned());
    let selectors: Vec<Vec<u8>> = selectors.iter().map(|arg| arg.as_bytes().to_vec()).collect();
    let selectors = Selectors::new(&selectors)?;
    let mut evaluation = Evaluation::new(context, &line.eval_args, false)?;
    change_profile(context, &line, &mut evaluation, &mut |evaluation| {
        let mut all = installed(context, evaluation, &line)?;
        let mut used = vec![false; selectors.len()];
        for element in &mut all {
            if let Some(selector) = selectors.first_match(&element.name)? {
                used[selector] = true;
                say(context, &format!("setting flag on '{}'", element.name));
                element.set_meta(&name, &value);
            }
        }
        selectors.check_use(&used)?;
        Ok(Some(all.into()))
    })
}

pub fn uninstall(context: &Context, line: Line) -> CliResult<u8> {
    no_flags(&line)?;
    let mut evaluation = Evaluation::new(context, &line.eval_args, false)?;
    let store = context.store()?;
    change_profile(context, &line, &mut evaluation, &mut |evaluation| {
        let mut all = installed(context, evaluation, &line)?;
        for arg in &line.args {
            let removed: Vec<bool> = match arg.as_bytes().contains(&b'/') {
                true => {
                    let path = follow_links(store.store_dir(), arg)?;
                    all.iter().map(|element| element.out_path == path).collect()
                }
                false => {
                    let arg = [arg.as_bytes().to_vec()];
                    let selector = Selectors::new(&arg)?;
                    let matched = |e: &Element| Ok(selector.first_match(&e.name)?.is_some());
                    all.iter().map(matched).collect::<CliResult<_>>()?
                }
            };
            if !removed.contains(&true) {
                let text = format!("selector '{}' matched no installed derivations", arg.to_string_lossy());
                context.logger.warn(&text);
            }
            let mut removed = removed.into_iter();
            all.retain(|element| match removed.next() {
                Some(true) => {
                    say(context, &format!("uninstalling '{}'", element.name));
                    false
                }
                _ => true,
            });
        }
        Ok((!line.dry_run).then(|| all.into()))
    })
}

pub fn set(context: &Context, mut line: Line) -> CliResult<u8> {
    let store = context.store()?;
    let local =
        store.as_local_fs().ok_or_else(|| CliError::failed("--set is not supported for this Nix store"))?;
    let mut from = InstallSource::default();
    while let Some(flag) = line.flags.pop_front() {
        if !from.flag(&flag, &mut line.flags)? {
            return Err(unknown_flag(&flag));
        }
    }
    let mut evaluation = Evaluation::new(context, &line.eval_args, false)?;
    let found = candidates(context, &mut evaluation, &line, &from, true)?;
    let [candidate] = &found[..] else {
        return Err(CliError::failed("--set requires exactly one derivation"));
    };
    // Which outputs would be installed does not matter here.
    let element = candidate.element(&mut evaluation, &mut None)?;
    evaluation.flush()?;
    user_env::print_missing(context, std::slice::from_ref(&element))?;
    if line.dry_run {
        return Ok(0);
    }
    let builder = context.build_store()?;
    context.block_on(builder.realise(&[user_env::request(&element)], mode(&line)))??;
    let profile = source::profile(context, &line)?;
    let wait = |text: &str| say(context, text);
    let _lock = generations::lock(&profile, &wait)?;
    let shown = store.store_dir().display(&element.out_path);
    user_env::switch(local, &shown, &profile, &element.out_path)?;
    Ok(0)
}

/// Fails if there are flags, for operations that have none of their own.
pub fn no_flags(line: &Line) -> CliResult<()> {
    match line.flags.front() {
        Some(flag) => Err(unknown_flag(&OsString::from(flag))),
        None => Ok(()),
    }
}

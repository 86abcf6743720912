//! Completion of flakes, their outputs and their inputs. What cannot be read or evaluated completes to nothing.

use super::completion::{Answer, files};
use crate::args::{EvalArgs, LogFormat, LowArgs};
use crate::context::{Context, Start};
use crate::evaluation::Evaluation;
use crate::flakes::{self, Defaults, OpenFlake};
use firn_eval::parse_attr_path;
use firn_flake::LockFlags;
use firn_store::activity::Verbosity;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What is said goes to the standard error, which shells do not show.
fn context(start: Start) -> Option<Context> {
    let mut low = LowArgs::nix();
    low.offline = true;
    let mut settings = start.settings;
    settings.pure_eval = true;
    Context::resolve(&start.program, &low, settings, LogFormat::Raw, Verbosity::Error).ok()
}

fn evaluation(context: &Context) -> Option<Evaluation> {
    let args = EvalArgs { no_import_from_derivation: true, ..EvalArgs::default() };
    Evaluation::new(context, &args, true).ok()
}

/// A reference as a shell would have expanded it.
fn expanded(text: &[u8]) -> Vec<u8> {
    match (text.strip_prefix(b"~"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) if rest.is_empty() || rest[0] == b'/' => [home.as_bytes(), rest].concat(),
        _ => text.to_vec(),
    }
}

/// Flakes that begin like `word`: folders, and names of registries.
pub fn places(word: &OsStr, start: Start) -> Answer {
    let text = word.to_string_lossy().into_owned();
    let mut found = files(word, true);
    if text.is_empty() {
        found.push(".".to_owned());
    }
    found.extend(names(&text, start).unwrap_or_default());
    Answer::new("filenames", found)
}

fn names(prefix: &str, start: Start) -> Option<Vec<String>> {
    let context = context(start)?;
    flakes::require(&context).ok()?;
    let registries = context.block_on(context.fetcher().ok()?.registries()).ok()?.ok()?;
    let entries = registries.iter().flat_map(|registry| &registry.entries);
    let urls = entries.filter_map(|entry| Some(entry.from.to_url().ok()?.to_string()));
    let shown = urls.map(|url| match url.strip_prefix("flake:") {
        Some(name) if !prefix.starts_with("flake:") => name.to_owned(),
        _ => url,
    });
    Some(shown.filter(|name| name.starts_with(prefix)).collect())
}

/// Outputs of the flake before the `#` that begin like what is behind it.
pub fn outputs(text: &str, start: Start, defaults: Defaults) -> Answer {
    Answer::new("attrs", outputs_of(text, start, defaults).unwrap_or_default())
}

fn outputs_of(text: &str, start: Start, defaults: Defaults) -> Option<BTreeSet<String>> {
    let (reference, fragment) = text.split_once('#')?;
    let (root, fragment) = match fragment.strip_prefix('.') {
        Some(rest) => (".", rest),
        None => ("", fragment),
    };
    let context = context(start)?;
    let mut evaluation = evaluation(&context)?;
    let parsed = flakes::parse(&context, &expanded(reference.as_bytes()), false).ok()?;
    let flags = LockFlags { write: false, ..LockFlags::default() };
    let flake = OpenFlake::open(&context, &mut evaluation, &parsed, &flags).ok()?;
    let system = context.settings.system.clone();
    let mut prefixes = if root.is_empty() { defaults.prefixes(&system) } else { Vec::new() };
    prefixes.push(String::new());
    let mut found = BTreeSet::new();
    for prefix in prefixes {
        let Ok(skipped) = parse_attr_path(&prefix) else { continue };
        let whole = format!("{prefix}{fragment}");
        let Ok(mut path) = parse_attr_path(&whole) else { continue };
        let last = if whole.ends_with('.') || whole.is_empty() { String::new() } else { path.pop()? };
        let Ok(Ok(cursor)) = flake.root().find(&mut evaluation, &path) else { continue };
        let Ok(names) = cursor.names(&mut evaluation) else { continue };
        for name in names.into_iter().filter(|name| name.starts_with(&last)) {
            let mut steps = cursor.steps();
            steps.push(name);
            let steps = steps.get(skipped.len()..).unwrap_or_default();
            found.insert(format!("{reference}#{root}{}", steps.join(".")));
        }
    }
    if fragment.is_empty() {
        for path in defaults.paths(&system) {
            let Ok(path) = parse_attr_path(&path) else { continue };
            if let Ok(Ok(_)) = flake.root().find(&mut evaluation, &path) {
                found.insert(format!("{reference}#{root}"));
            }
        }
    }
    Some(found)
}

/// Inputs of flakes that begin like `prefix`.
pub fn inputs(prefix: &str, start: Start, references: &[OsString]) -> Answer {
    let mut found = BTreeSet::new();
    if let Some(context) = context(start)
        && let Some(mut evaluation) = evaluation(&context)
    {
        for reference in references {
            let text = reference.as_bytes();
            let reference = text.split(|byte| *byte == b'#').next().unwrap_or_default();
            let Ok(parsed) = flakes::parse(&context, &expanded(reference), false) else { continue };
            let Ok(flake) = evaluation.flake(&parsed) else { continue };
            found.extend(flake.spec.inputs.into_keys().filter(|name| name.starts_with(prefix)));
        }
    }
    Answer::new("normal", found)
}

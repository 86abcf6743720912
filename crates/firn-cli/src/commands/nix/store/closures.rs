//! `nix store diff-closures` and `make-content-addressed`: work on whole closures.

use crate::args::{FlagSink, Values, text};
use crate::commands::nix::store_paths::{Realise, StorePathsArgs};
use crate::commands::nix::{NixCommand, json_text};
use crate::commands::nix_store::render_size;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs};
use crate::stores;
use firn_core::StorePath;
use firn_eval::split_package_name;
use firn_store::activity::Verbosity;
use firn_store::readdress::make_content_addressed;
use firn_store::{ClosureOptions, compute_fs_closure};
use serde_json::{Map, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// `nix store diff-closures` as it was written.
#[derive(Default)]
pub struct DiffClosures {
    what: InstallableArgs,
    names: Vec<OsString>,
    derivation: bool,
}

impl FlagSink for DiffClosures {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--derivation" => self.derivation = true,
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        if self.names.len() == 2 {
            return Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy())));
        }
        self.names.push(arg);
        Ok(())
    }
}

/// Versions of a package with the size of all its paths of that version.
type Versions = BTreeMap<String, u64>;

impl NixCommand for DiffClosures {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let [before, after] = &self.names[..] else {
            return Err(CliError::usage("more arguments are required"));
        };
        let (before, after) = (before.clone(), after.clone());
        let before = self.top(context, &before)?;
        let after = self.top(context, &after)?;
        for line in changes(context, &before, &after)? {
            context.print_line(line)?;
        }
        Ok(0)
    }
}

/// What is different between the closures of two paths: a line for each package.
pub fn changes(context: &Context, before: &StorePath, after: &StorePath) -> CliResult<Vec<String>> {
    let before = packages(context, before)?;
    let after = packages(context, after)?;
    let none = Versions::new();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let line = |name: &String| {
        let (old, new) = (before.get(name).unwrap_or(&none), after.get(name).unwrap_or(&none));
        change(old, new).map(|change| format!("{name}: {change}"))
    };
    Ok(names.into_iter().filter_map(line).collect())
}

/// The same as a table for people: packages, versions before and after, and by how much they grew.
pub fn table(context: &Context, before: &StorePath, after: &StorePath) -> CliResult<Vec<String>> {
    let before = packages(context, before)?;
    let after = packages(context, after)?;
    let none = Versions::new();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut rows = vec![["package", "before", "after", "size"].map(str::to_owned)];
    let mut sum = 0;
    for name in names {
        let (old, new) = (before.get(name).unwrap_or(&none), after.get(name).unwrap_or(&none));
        if old.keys().eq(new.keys()) && total(old) == total(new) {
            continue;
        }
        let all = |versions: &Versions| show(&versions.keys().collect::<Vec<_>>());
        let delta = total(new) - total(old);
        sum += delta;
        rows.push([name.clone(), all(old), all(new), signed_size(delta)]);
    }
    if rows.len() == 1 {
        return Ok(vec!["no package changed".to_owned()]);
    }
    rows.push(["all".to_owned(), String::new(), String::new(), signed_size(sum)]);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |row: &[String; 4]| {
        let pad = |column: usize| " ".repeat(widths[column] - row[column].chars().count());
        format!("{}{}  {}{}  {}{}  {}{}", row[0], pad(0), row[1], pad(1), row[2], pad(2), pad(3), row[3])
    };
    Ok(rows.iter().map(line).collect())
}

fn total(versions: &Versions) -> i128 {
    i128::from(versions.values().sum::<u64>())
}

fn signed_size(delta: i128) -> String {
    let sign = if delta < 0 { "-" } else { "+" };
    format!("{sign}{}", render_size(u64::try_from(delta.unsigned_abs()).unwrap_or(u64::MAX)))
}

impl DiffClosures {
    fn top(&mut self, context: &Context, name: &OsStr) -> CliResult<StorePath> {
        let wanted = self.what.resolve_only(context, name)?;
        let mut paths: BTreeSet<StorePath> = match self.derivation {
            true => installables::derivations(context, &wanted)?,
            false => installables::store_paths(context, &wanted)?.into_iter().collect(),
        };
        let (Some(top), true) = (paths.pop_first(), paths.is_empty()) else {
            let shown = self.what.shown(context, name)?;
            return Err(CliError::failed(format!("argument '{shown}' should evaluate to one store path")));
        };
        Ok(top)
    }
}

/// The packages of a closure.
fn packages(context: &Context, top: &StorePath) -> CliResult<BTreeMap<String, Versions>> {
    let store = context.store()?;
    let top = [top.clone()].into();
    let closure = context.block_on(compute_fs_closure(&*store, &top, ClosureOptions::default()))??;
    let mut packages: BTreeMap<String, Versions> = BTreeMap::new();
    for path in closure {
        let info = context.block_on(store.query_path_info(&path))??;
        let (name, version) = split_package_name(without_output(path.name()).as_bytes());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let size = packages.entry(text(name)).or_default().entry(text(version)).or_default();
        *size += info.map_or(0, |info| info.nar_size);
    }
    Ok(packages)
}

/// Cuts off what looks like an output's name: it cannot be told from a version without digits.
fn without_output(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((rest, "lib32" | "lib64")) => rest,
        Some((rest, output)) if !output.is_empty() && output.bytes().all(|b| b.is_ascii_lowercase()) => rest,
        _ => name,
    }
}

/// What changed, or nothing if it is not worth telling.
fn change(old: &Versions, new: &Versions) -> Option<String> {
    let removed: Vec<&String> = old.keys().filter(|version| !new.contains_key(*version)).collect();
    let added: Vec<&String> = new.keys().filter(|version| !old.contains_key(*version)).collect();
    let delta = total(new) - total(old);
    let mut items = Vec::new();
    if !removed.is_empty() || !added.is_empty() {
        items.push(format!("{} → {}", show(&removed), show(&added)));
    }
    let size = u64::try_from(delta.unsigned_abs()).unwrap_or(u64::MAX);
    if size >= 8 * 1024 {
        let (colour, sign) = if delta > 0 { ("\x1b[31;1m", "") } else { ("\x1b[32;1m", "-") };
        items.push(format!("{colour}{sign}{}\x1b[0m", render_size(size)));
    }
    (!items.is_empty()).then(|| items.join(", "))
}

fn show(versions: &[&String]) -> String {
    if versions.is_empty() {
        return "∅".to_owned();
    }
    let named = |version: &&String| if version.is_empty() { "ε".to_owned() } else { (*version).clone() };
    versions.iter().map(named).collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>().join(", ")
}

/// `nix store make-content-addressed` as it was written.
#[derive(Default)]
pub struct MakeContentAddressed {
    what: StorePathsArgs,
    from: Option<String>,
    to: Option<String>,
    json: bool,
    pretty: Option<bool>,
}

impl FlagSink for MakeContentAddressed {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--from" => {
                let [uri] = values.take(flag)?;
                self.from = Some(text("store", uri)?);
            }
            "--to" => {
                let [uri] = values.take(flag)?;
                self.to = Some(text("store", uri)?);
            }
            "--json" => self.json = true,
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

impl NixCommand for MakeContentAddressed {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let open = |uri: &Option<String>| match uri {
            Some(uri) => stores::open(uri, context).map(|opened| opened.store),
            None => context.store(),
        };
        let (from, to) = (open(&self.from)?, open(&self.to)?);
        // What is taken from elsewhere is not built here first.
        let realise = if self.from.is_some() { Realise::Nothing } else { Realise::Outputs };
        let paths = self.what.resolve(context, &*from, realise)?;
        let (old, new) = (from.store_dir(), to.store_dir());
        let tell = |path: &StorePath, renamed: &StorePath| {
            let text = format!("rewriting '{}' to '{}'", old.display(path), new.display(renamed));
            context.logger.log(Verbosity::Info, text.as_bytes());
        };
        let wanted = paths.iter().cloned().collect();
        let renamed = context.block_on(make_content_addressed(&*from, &*to, &wanted, tell))??;
        let mut rewrites = Map::new();
        for path in &paths {
            let Some(renamed) = renamed.get(path) else { continue };
            if self.json {
                rewrites.insert(old.display(path), json!(new.display(renamed)));
            } else {
                let text = format!("rewrote '{}' to '{}'", old.display(path), new.display(renamed));
                context.logger.log(Verbosity::Notice, text.as_bytes());
            }
        }
        if self.json {
            context.print_line(json_text(&json!({ "rewrites": rewrites }), self.pretty))?;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(old: &[(&str, u64)], new: &[(&str, u64)], expected: Option<&str>) {
        let versions = |list: &[(&str, u64)]| list.iter().map(|(v, n)| ((*v).to_owned(), *n)).collect();
        assert_eq!(change(&versions(old), &versions(new)).as_deref(), expected);
    }

    #[test]
    fn changes() {
        check(&[("1", 5)], &[("1", 100)], None);
        check(&[("1", 5)], &[("2", 100)], Some("1 → 2"));
        check(&[], &[("", 100)], Some("∅ → ε"));
        check(&[("1", 1 << 20)], &[], Some("1 → ∅, \x1b[32;1m-1.0 MiB\x1b[0m"));
        check(&[("1", 1)], &[("1", 16385)], Some("\x1b[31;1m16.0 KiB\x1b[0m"));
        assert_eq!(["a-1-dev", "a-1", "a-lib32", "a-Dev"].map(without_output), ["a-1", "a-1", "a", "a-Dev"]);
    }
}

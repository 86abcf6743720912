//! `firn derivation diff`: why two derivations are not the same. Not in the reference.

use super::{NixCommand, json_text};
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs};
use firn_core::StorePath;
use firn_derivation::difference::{Difference, Fact, What, differences};
use firn_store::Store;
use serde_json::json;
use similar::{ChangeTag, TextDiff};
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;

/// The command as it was written.
#[derive(Default)]
pub struct Diff {
    what: InstallableArgs,
    names: Vec<OsString>,
    json: bool,
    pretty: Option<bool>,
}

impl FlagSink for Diff {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
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

impl Diff {
    fn derivation(&mut self, context: &Context, name: &OsStr) -> CliResult<StorePath> {
        let wanted = self.what.resolve_only(context, name)?;
        let mut paths = installables::derivations(context, &wanted)?;
        match (paths.pop_first(), paths.is_empty()) {
            (Some(path), true) => Ok(path),
            _ => {
                let name = name.to_string_lossy();
                Err(CliError::failed(format!("argument '{name}' should evaluate to one derivation")))
            }
        }
    }
}

impl NixCommand for Diff {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let [before, after] = &self.names[..] else {
            return Err(CliError::usage("two derivations are needed"));
        };
        let (before, after) = (before.clone(), after.clone());
        let before = self.derivation(context, &before)?;
        let after = self.derivation(context, &after)?;
        let store = context.eval_store()?;
        let mut read =
            |path: &StorePath| -> CliResult<_> { Ok(context.block_on(store.read_derivation(path))??) };
        let found = differences(&before, &after, &mut read)?;
        if self.json {
            context.print_line(json_text(&as_json(&*store, &found), self.pretty))?;
            return Ok(0);
        }
        if found.is_empty() {
            let text = match before == after {
                true => "The derivations are the same.",
                false => "The derivations differ only in hashes that nothing here explains.",
            };
            context.print_line(text)?;
            return Ok(0);
        }
        let colours = std::io::stdout().is_terminal();
        let mut text = String::new();
        for one in &found {
            show(&*store, one, colours, &mut text);
        }
        crate::pager::print(context, text.as_bytes())?;
        Ok(0)
    }
}

fn as_json(store: &dyn Store, found: &[Difference]) -> serde_json::Value {
    let text =
        |value: &Option<Vec<u8>>| value.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let differences: Vec<_> = found
        .iter()
        .map(|one| {
            let pair = |(a, b): &(StorePath, StorePath)| {
                json!({"before": store.store_dir().display(a), "after": store.store_dir().display(b)})
            };
            let chain: Vec<_> = one.chain.iter().map(pair).collect();
            let facts: Vec<_> = one
                .facts
                .iter()
                .map(|fact| {
                    let (before, after) = (text(&fact.before), text(&fact.after));
                    json!({"what": fact.what.name(), "name": fact.name, "before": before, "after": after})
                })
                .collect();
            json!({"chain": chain, "differences": facts})
        })
        .collect();
    json!(differences)
}

fn name_of(path: &StorePath) -> &str {
    path.name().strip_suffix(".drv").unwrap_or(path.name())
}

fn show(store: &dyn Store, one: &Difference, colours: bool, out: &mut String) {
    let Some((before, after)) = one.chain.last() else { return };
    let chain: Vec<&str> = one.chain.iter().map(|(path, _)| name_of(path)).collect();
    let (bold, normal) = if colours { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    out.push_str(&format!("{bold}{}{normal}\n", chain.join(" -> ")));
    changed(out, colours, '-', &store.store_dir().display(before));
    changed(out, colours, '+', &store.store_dir().display(after));
    for fact in &one.facts {
        let title = match (fact.what, &fact.name[..]) {
            (What::Variable, name) => format!("variable {name}"),
            (what, "") => what.name().to_owned(),
            (what, name) => format!("{} {name}", what.name()),
        };
        out.push_str(&format!("  {title}:\n"));
        values(fact, colours, out);
    }
    out.push('\n');
}

/// Both values, line by line where they have several.
fn values(fact: &Fact, colours: bool, out: &mut String) {
    let text =
        |value: &Option<Vec<u8>>| value.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    match (text(&fact.before), text(&fact.after)) {
        (Some(before), Some(after)) if before.contains('\n') || after.contains('\n') => {
            let diff = TextDiff::from_lines(&before, &after);
            for group in diff.grouped_ops(2) {
                for op in group {
                    for change in diff.iter_changes(&op) {
                        let line = change.value().trim_end_matches('\n');
                        match change.tag() {
                            ChangeTag::Delete => changed(out, colours, '-', line),
                            ChangeTag::Insert => changed(out, colours, '+', line),
                            ChangeTag::Equal => changed(out, colours, ' ', line),
                        }
                    }
                }
            }
        }
        (before, after) => {
            for (sign, value) in [('-', before), ('+', after)] {
                for line in value.iter().flat_map(|value| value.split('\n')) {
                    changed(out, colours, sign, line);
                }
            }
        }
    }
}

fn changed(out: &mut String, colours: bool, sign: char, line: &str) {
    let (colour, normal) = match sign {
        '-' if colours => ("\x1b[31m", "\x1b[0m"),
        '+' if colours => ("\x1b[32m", "\x1b[0m"),
        _ => ("", ""),
    };
    out.push_str(&format!("    {colour}{sign} {line}{normal}\n"));
}

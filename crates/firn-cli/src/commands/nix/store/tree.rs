//! `firn store tree`: what a closure is made of, with sizes. Not in the reference.

use crate::args::{FlagSink, Values};
use crate::commands::nix::{NixCommand, json_text};
use crate::commands::nix_store::render_size;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::fold::{self, Line};
use crate::installables::{self, InstallableArgs};
use firn_core::StorePath;
use firn_store::{Weight, Weights, weigh};
use serde_json::json;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::IsTerminal;

/// What references are sorted by.
#[derive(Clone, Copy, Default)]
enum Order {
    #[default]
    Closure,
    Own,
    Alone,
    Name,
}

/// The command as it was written.
#[derive(Default)]
pub struct Tree {
    what: InstallableArgs,
    json: bool,
    pretty: Option<bool>,
    plain: bool,
    flat: bool,
    depth: Option<usize>,
    order: Order,
}

impl FlagSink for Tree {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            "--plain" => self.plain = true,
            "--flat" => self.flat = true,
            "--depth" => {
                let text = values.next_text(flag)?;
                let bad = |_| CliError::usage(format!("flag '{flag}' needs a number, got '{text}'"));
                self.depth = Some(text.parse().map_err(bad)?);
            }
            "--sort" => {
                let text = values.next_text(flag)?;
                self.order = match &text[..] {
                    "closure" => Order::Closure,
                    "own" => Order::Own,
                    "alone" => Order::Alone,
                    "name" => Order::Name,
                    _ => {
                        return Err(CliError::usage(format!(
                            "'--sort {text}': there are 'closure', 'own', 'alone' and 'name'"
                        )));
                    }
                };
            }
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Tree {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let wanted = self.what.resolve(context, Some("."))?;
        let tops: Vec<StorePath> = installables::store_paths(context, &wanted)?.into_iter().collect();
        let store = context.store()?;
        let mut weights = context.block_on(weigh(&*store, &tops))??;
        self.sort(&mut weights);
        let show = |path: &StorePath| store.store_dir().display(path);
        if self.json {
            let paths: Vec<_> = weights
                .paths
                .iter()
                .map(|weight| {
                    let references: Vec<_> =
                        weight.references.iter().map(|&to| show(&weights.paths[to].path)).collect();
                    json!({
                        "path": show(&weight.path),
                        "narSize": weight.own,
                        "closureSize": weight.closure,
                        "aloneSize": weight.alone,
                        "references": references,
                    })
                })
                .collect();
            let tops: Vec<_> =
                weights.paths[..weights.tops].iter().map(|weight| show(&weight.path)).collect();
            let value = json!({"tops": tops, "totalSize": weights.total, "paths": paths});
            context.print_line(json_text(&value, self.pretty))?;
            return Ok(0);
        }
        let lines = match self.flat {
            true => self.flat(&weights, &show),
            false => self.tree(&weights, &show),
        };
        let head = format!("{:>10} {:>10} {:>10}  path", "own", "closure", "alone");
        let total = format!("{} in {} paths", render_size(weights.total), weights.paths.len());
        let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        if is_terminal && !self.plain && !self.flat {
            context.logger.pause();
            let result = fold::view(&head, &total, lines);
            context.logger.resume();
            result.map_err(|error| {
                CliError::failed(format!("the terminal cannot be used: {error}; see '--plain'"))
            })?;
            return Ok(0);
        }
        let mut text = head + "\n";
        for line in lines {
            text += &line.text;
            text.push('\n');
        }
        text += &total;
        text.push('\n');
        crate::pager::print(context, text.as_bytes())?;
        Ok(0)
    }
}

impl Tree {
    fn sort(&self, weights: &mut Weights) {
        for place in 0..weights.paths.len() {
            let mut references = std::mem::take(&mut weights.paths[place].references);
            references.sort_by(|&a, &b| self.compare(&weights.paths[a], &weights.paths[b]));
            weights.paths[place].references = references;
        }
    }

    fn compare(&self, a: &Weight, b: &Weight) -> std::cmp::Ordering {
        let by_name = || a.path.name().cmp(b.path.name()).then_with(|| a.path.cmp(&b.path));
        match self.order {
            Order::Closure => b.closure.cmp(&a.closure).then_with(by_name),
            Order::Own => b.own.cmp(&a.own).then_with(by_name),
            Order::Alone => b.alone.cmp(&a.alone).then_with(by_name),
            Order::Name => by_name(),
        }
    }

    /// Each path once.
    fn flat(&self, weights: &Weights, show: &dyn Fn(&StorePath) -> String) -> Vec<Line> {
        let mut all: Vec<&Weight> = weights.paths.iter().collect();
        all.sort_by(|a, b| self.compare(a, b));
        all.into_iter().map(|weight| Line { depth: 0, text: line(weight, "", &show(&weight.path)) }).collect()
    }

    /// Paths below those that refer to them. What was shown with all below it is only named the next time.
    fn tree(&self, weights: &Weights, show: &dyn Fn(&StorePath) -> String) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut shown = BTreeSet::new();
        // Place, depth, what stands before its name, and before those of its references.
        let mut todo: Vec<(usize, usize, String, String)> =
            (0..weights.tops).rev().map(|place| (place, 0, String::new(), String::new())).collect();
        while let Some((place, depth, joint, pad)) = todo.pop() {
            let weight = &weights.paths[place];
            let has_more = !weight.references.is_empty();
            let again = !shown.insert(place) && has_more;
            let cut = self.depth.is_some_and(|most| depth >= most) && has_more;
            let mark = if again || cut { " ..." } else { "" };
            lines.push(Line { depth, text: line(weight, &joint, &(show(&weight.path) + mark)) });
            if cut {
                shown.remove(&place);
            }
            if again || cut {
                continue;
            }
            for (index, &to) in weight.references.iter().enumerate().rev() {
                let last = index + 1 == weight.references.len();
                let (joint, below) = if last { ("└───", "    ") } else { ("├───", "│   ") };
                todo.push((to, depth + 1, format!("{pad}{joint}"), format!("{pad}{below}")));
            }
        }
        lines
    }
}

fn line(weight: &Weight, joint: &str, name: &str) -> String {
    let size = |bytes| render_size(bytes);
    format!("{:>10} {:>10} {:>10}  {joint}{name}", size(weight.own), size(weight.closure), size(weight.alone))
}

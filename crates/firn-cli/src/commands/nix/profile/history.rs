//! `nix profile history`, `diff-closures`, `rollback` and `wipe-history`.

use super::{Which, WhichWithEval, read};
use crate::args::{FlagSink, Values, text};
use crate::commands::nix::NixCommand;
use crate::commands::nix::store::closures::changes;
use crate::commands::nix_store::follow_links;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::local_time::{seconds_now, utc_date};
use firn_profile::manifest::Manifest;
use firn_profile::selection::older_than;
use firn_profile::{Generation, Generations, Selection, generations};
use firn_store::activity::Verbosity;
use std::fmt::Write;

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32;1m";
const NORMAL: &str = "\x1b[0m";

/// `nix profile history` as it was written.
#[derive(Default)]
pub struct History(WhichWithEval);

impl FlagSink for History {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.0.flag(flag, values)
    }
}

impl NixCommand for History {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let found = Generations::of(&self.0.which.path(context)?)?;
        let mut before: Option<(&Generation, Manifest)> = None;
        let mut out = String::new();
        for generation in &found.all {
            let manifest = read(context, &generation.path)?;
            if !out.is_empty() {
                out.push('\n');
            }
            let colour = if Some(generation.number) == found.current { GREEN } else { BOLD };
            let from = before.as_ref().map(|(g, _)| format!(" <- {}", g.number)).unwrap_or_default();
            let date = utc_date(generation.created);
            let _ = writeln!(out, "Version {colour}{}{NORMAL} ({date}){from}:", generation.number);
            let none = Manifest::default();
            let lines = before.as_ref().map_or(&none, |(_, manifest)| manifest).changes(&manifest);
            for line in &lines {
                let _ = writeln!(out, "  {line}");
            }
            if lines.is_empty() {
                out += "  No changes.\n";
            }
            before = Some((generation, manifest));
        }
        context.print(out.as_bytes())?;
        Ok(0)
    }
}

/// `nix profile diff-closures` as it was written.
#[derive(Default)]
pub struct DiffClosures(Which);

impl FlagSink for DiffClosures {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.0.flag(flag, values)
    }
}

impl NixCommand for DiffClosures {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let found = Generations::of(&self.0.path(context)?)?;
        let store = context.store()?;
        let mut out = String::new();
        for pair in found.all.windows(2) {
            let [old, new] = pair else { continue };
            if !out.is_empty() {
                out.push('\n');
            }
            let _ = writeln!(out, "Version {} -> {}:", old.number, new.number);
            let before = follow_links(store.store_dir(), old.path.as_os_str())?;
            let after = follow_links(store.store_dir(), new.path.as_os_str())?;
            for line in changes(context, &before, &after)? {
                let _ = writeln!(out, "  {line}");
            }
        }
        context.print(out.as_bytes())?;
        Ok(0)
    }
}

/// `nix profile rollback` as it was written.
#[derive(Default)]
pub struct Rollback {
    profile: Which,
    to: Option<u64>,
    dry_run: bool,
}

impl FlagSink for Rollback {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--to" => {
                let [number] = values.take(flag)?;
                let number = text(flag, number)?;
                let parsed =
                    number.parse().map_err(|_| CliError::usage(format!("'{number}' is not a version")))?;
                self.to = Some(parsed);
            }
            "--dry-run" => self.dry_run = true,
            _ => return self.profile.flag(flag, values),
        }
        Ok(true)
    }
}

impl NixCommand for Rollback {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let say = |text: &str| context.logger.log(Verbosity::Notice, text.as_bytes());
        generations::switch(&self.profile.path(context)?, self.to, self.dry_run, &say)?;
        Ok(0)
    }
}

/// `nix profile wipe-history` as it was written.
#[derive(Default)]
pub struct WipeHistory {
    profile: Which,
    older_than: Option<String>,
    dry_run: bool,
}

impl FlagSink for WipeHistory {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--older-than" => {
                let [age] = values.take(flag)?;
                self.older_than = Some(text(flag, age)?);
            }
            "--dry-run" => self.dry_run = true,
            _ => return self.profile.flag(flag, values),
        }
        Ok(true)
    }
}

impl NixCommand for WipeHistory {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let selection = match &self.older_than {
            Some(age) => Selection::OlderThan(older_than(age, seconds_now())?),
            None => Selection::Old,
        };
        let say = |text: &str| context.logger.log(Verbosity::Notice, text.as_bytes());
        generations::delete(&self.profile.path(context)?, &selection, self.dry_run, &say)?;
        Ok(0)
    }
}

//! `nix flake metadata`.

use super::{BRANCH, FlakeArg, LAST, LINE, NOTHING, attrs_json};
use crate::args::{FlagSink, Values};
use crate::commands::nix::{NixCommand, json_text};
use crate::context::Context;
use crate::error::CliResult;
use firn_core::date::date_and_time;
use firn_core::flake_ref::Attr;
use firn_core::{Hash, StoreDir};
use firn_flake::{Edge, LockFile, LockedFlake, NodeId, fingerprint};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write;

const BOLD: &str = "\x1b[1m";
const NORMAL: &str = "\x1b[0m";

/// The command as it was written.
#[derive(Default)]
pub struct Metadata {
    what: FlakeArg,
    json: bool,
    pretty: Option<bool>,
    is_older_name: bool,
}

impl Metadata {
    /// `nix flake info`.
    pub fn by_its_older_name() -> Self {
        Self { is_older_name: true, ..Self::default() }
    }
}

impl FlagSink for Metadata {
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
        self.what.positional(arg)
    }
}

/// The store path of the tree that a flake is in.
pub fn tree_of(dir: &StoreDir, flake: &LockedFlake) -> CliResult<String> {
    let place = String::from_utf8_lossy(&flake.flake.dir);
    let (path, _) = dir.split(&place).map_err(firn_store::StoreError::from)?;
    Ok(dir.display(&path))
}

fn text(flake: &LockedFlake, name: &str) -> Option<String> {
    match flake.flake.locked.input.attrs.get(name) {
        Some(Attr::Str(text)) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

impl NixCommand for Metadata {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        if self.is_older_name {
            context.logger.warn("'nix flake info' is a deprecated alias for 'nix flake metadata'");
        }
        let (evaluation, flake) = self.what.lock(context)?;
        let path = tree_of(evaluation.host().store_dir(), &flake)?;
        let settings = &context.settings;
        let hash = fingerprint(&flake, settings.trust_tarballs_from_git_forges, settings.allow_dirty_locks);
        match self.json {
            true => context.print_line(json_text(&as_json(&flake, &path, hash), self.pretty))?,
            false => {
                let trust = settings.trust_tarballs_from_git_forges;
                context.print(as_text(&flake, &path, hash, trust).as_bytes())?;
            }
        }
        Ok(0)
    }
}

fn as_json(flake: &LockedFlake, path: &str, hash: Option<Hash>) -> Value {
    let known = &flake.flake;
    let mut out = json!({
        "originalUrl": known.original.shown(),
        "original": attrs_json(&known.original.to_attrs()),
        "resolvedUrl": known.resolved.shown(),
        "resolved": attrs_json(&known.resolved.to_attrs()),
        "url": known.locked.shown(),
        "locked": attrs_json(&known.locked.to_attrs()),
        "path": path,
        "locks": flake.lock.to_json().0,
    });
    // What was fetched is final.
    out["locked"]["__final"] = json!(true);
    if let Some(description) = &known.spec.description {
        out["description"] = json!(String::from_utf8_lossy(description));
    }
    for (name, attr) in [("revision", "rev"), ("dirtyRevision", "dirtyRev")] {
        if let Some(rev) = text(flake, attr) {
            out[name] = json!(rev);
        }
    }
    for name in ["revCount", "lastModified"] {
        if let Some(number) = known.locked.input.number(name) {
            out[name] = json!(number);
        }
    }
    if let Some(hash) = hash {
        out["fingerprint"] = json!(hash.to_base(firn_core::HashFormat::Base16));
    }
    out
}

fn as_text(flake: &LockedFlake, path: &str, hash: Option<Hash>, trust_forges: bool) -> String {
    let known = &flake.flake;
    let mut out = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(out, "{BOLD}{name}:{NORMAL}{:1$}{value}", "", 14usize.saturating_sub(name.len()));
    };
    row("Resolved URL", &known.resolved.shown());
    if known.locked.input.is_locked(trust_forges) {
        row("Locked URL", &known.locked.shown());
    }
    if let Some(description) = &known.spec.description {
        row("Description", &String::from_utf8_lossy(description));
    }
    row("Path", path);
    for attr in ["rev", "dirtyRev"] {
        if let Some(rev) = text(flake, attr) {
            row("Revision", &rev);
        }
    }
    if let Some(count) = known.locked.input.number("revCount") {
        row("Revisions", &count.to_string());
    }
    if let Some(time) = known.locked.input.number("lastModified") {
        row("Last modified", &crate::local_time::local_time(i64::try_from(time).unwrap_or(0)));
    }
    if let Some(hash) = hash {
        row("Fingerprint", &hash.to_base(firn_core::HashFormat::Base16));
    }
    if !flake.lock.node(LockFile::ROOT).inputs.is_empty() {
        let _ = writeln!(out, "{BOLD}Inputs:{NORMAL}");
        let mut visited = BTreeSet::from([LockFile::ROOT]);
        inputs(&flake.lock, LockFile::ROOT, "", &mut visited, &mut out);
    }
    out
}

/// The inputs of a node as a tree; each node's own inputs once.
fn inputs(lock: &LockFile, node: NodeId, prefix: &str, visited: &mut BTreeSet<NodeId>, out: &mut String) {
    let all = &lock.node(node).inputs;
    for (index, (name, edge)) in all.iter().enumerate() {
        let last = index + 1 == all.len();
        let (arm, gap) = if last { (LAST, NOTHING) } else { (BRANCH, LINE) };
        match edge {
            Edge::Follows(path) => {
                let _ = writeln!(out, "{prefix}{arm}{BOLD}{name}{NORMAL} follows input '{path}'");
            }
            Edge::Node(child) => {
                let Some(locked) = &lock.node(*child).locked else { continue };
                let time = match locked.locked.input.number("lastModified") {
                    Some(time) => format!(" ({})", date_and_time(time)),
                    None => String::new(),
                };
                let _ = writeln!(out, "{prefix}{arm}{BOLD}{name}{NORMAL}: {}{time}", locked.locked.shown());
                if visited.insert(*child) {
                    inputs(lock, *child, &format!("{prefix}{gap}"), visited, out);
                }
            }
        }
    }
}

//! `nix flake archive`: a flake and its inputs, copied to a store.

use super::FlakeArg;
use super::metadata::tree_of;
use crate::args::{FlagSink, Values, text};
use crate::commands::nix::registry::failed;
use crate::commands::nix::{NixCommand, json_text};
use crate::context::Context;
use crate::error::CliResult;
use crate::stores;
use firn_core::StorePath;
use firn_flake::{Edge, LockFile, NodeId};
use firn_store::copy::{CopyOptions, copy_paths};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
pub struct Archive {
    what: FlakeArg,
    to: Option<String>,
    json: bool,
    pretty: Option<bool>,
    dry_run: bool,
    no_check_signatures: bool,
}

impl FlagSink for Archive {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            "--dry-run" => self.dry_run = true,
            "--no-check-sigs" => self.no_check_signatures = true,
            "--to" => {
                let [uri] = values.take(flag)?;
                self.to = Some(text(flag, uri)?);
            }
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg)
    }
}

impl NixCommand for Archive {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let (evaluation, flake) = self.what.lock(context)?;
        let dir = evaluation.host().store_dir().clone();
        let root = tree_of(&dir, &flake)?;
        let fetcher = context.fetcher()?;
        let mut paths: BTreeMap<NodeId, StorePath> = BTreeMap::new();
        for (id, input) in super::copies::trees(&flake.lock) {
            let path = match self.dry_run {
                true => fetcher.path_of_locked(&input).map_err(failed)?,
                false => context.block_on(fetcher.fetch_locked(&input))?.map_err(failed)?.store_path,
            };
            paths.insert(id, path);
        }
        if self.json {
            let shown = |id: NodeId| paths.get(&id).map(|path| dir.display(path));
            let value = json!({ "path": root, "inputs": inputs(&flake.lock, LockFile::ROOT, &shown, &mut Vec::new()) });
            context.print_line(json_text(&value, self.pretty))?;
        }
        if let (Some(uri), false) = (&self.to, self.dry_run) {
            let mut all: BTreeSet<StorePath> = paths.into_values().collect();
            all.insert(dir.parse(&root).map_err(firn_store::StoreError::from)?);
            let from = context.eval_store()?;
            let to = stores::open(uri, context)?.store;
            let options = match self.no_check_signatures {
                true => CopyOptions { check_signatures: false, ..CopyOptions::CHECKED },
                false => CopyOptions::CHECKED,
            };
            context.block_on(copy_paths(&*from, &*to, &all, options, &context.logger))??;
        }
        Ok(0)
    }
}

/// The inputs of a node, and theirs; what is in itself ends there.
fn inputs(
    lock: &LockFile,
    id: NodeId,
    shown: &dyn Fn(NodeId) -> Option<String>,
    above: &mut Vec<NodeId>,
) -> Value {
    let mut out = Map::new();
    for (name, edge) in &lock.node(id).inputs {
        let Edge::Node(child) = edge else { continue };
        if above.contains(child) {
            continue;
        }
        let mut entry = Map::new();
        entry.extend(shown(*child).map(|path| ("path".to_owned(), json!(path))));
        above.push(*child);
        entry.insert("inputs".to_owned(), inputs(lock, *child, shown, above));
        above.pop();
        out.insert(name.clone(), Value::Object(entry));
    }
    Value::Object(out)
}

//! `nix flake clone`, `nix flake prefetch` and `nix flake prefetch-inputs`: trees of flakes, without evaluating them.

use super::{FlakeArg, attrs_json};
use crate::args::{FlagSink, Values};
use crate::commands::nix::registry::{failed, resolve};
use crate::commands::nix::{NixCommand, json_text};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::flake_ref::{FlakeRef, Input, Scheme};
use firn_flake::{Edge, LockFile, NodeId};
use firn_store::activity::{Activity, ActivityType, Verbosity};
use serde_json::json;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

/// `nix flake clone` as it was written.
#[derive(Default)]
pub struct Clone {
    what: FlakeArg,
    dest: Option<PathBuf>,
}

impl FlagSink for Clone {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-f" | "--dest" => {
                let [path] = values.take(flag)?;
                self.dest = Some(path.into());
                Ok(true)
            }
            _ => self.what.flag(flag, values),
        }
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg)
    }
}

impl NixCommand for Clone {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let Some(dest) = &self.dest else { return Err(CliError::failed("missing flag '--dest'")) };
        self.what.eval.override_registry(context)?;
        let reference = resolve(context, &self.what.reference(context)?)?;
        let dest = std::path::absolute(dest).map_err(CliError::io("resolving", dest))?;
        context.block_on(context.fetcher()?.clone_input(&reference.input, &dest))?.map_err(failed)?;
        Ok(0)
    }
}

/// `nix flake prefetch` as it was written.
#[derive(Default)]
pub struct Prefetch {
    what: FlakeArg,
    json: bool,
    pretty: Option<bool>,
    out_link: Option<PathBuf>,
}

impl FlagSink for Prefetch {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            "-o" | "--out-link" => {
                let [path] = values.take(flag)?;
                self.out_link = Some(path.into());
            }
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg)
    }
}

impl NixCommand for Prefetch {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        context.use_eval_store(self.what.eval.eval_store.as_deref())?;
        self.what.eval.override_registry(context)?;
        let resolved = resolve(context, &self.what.reference(context)?)?;
        let store = context.eval_store()?;
        let tree = context.block_on(context.fetcher()?.fetch_tree(&resolved.input))?.map_err(failed)?;
        let info = context.block_on(store.query_path_info(&tree.store_path))??;
        let hash = info.map(|info| info.nar_hash.to_sri()).unwrap_or_default();
        let mut input = Input { attrs: tree.attrs, scheme: resolved.input.scheme };
        let is_download = matches!(input.scheme, Some(Scheme::File | Scheme::Tarball));
        if !is_download && !resolved.input.attrs.contains_key("narHash") {
            // The hash is told by itself, but for what has no other name for its contents.
            input.attrs.remove("narHash");
        }
        let locked = FlakeRef { input, subdir: resolved.subdir.clone() };
        let path = store.store_dir().display(&tree.store_path);
        if self.json {
            let value = json!({
                "storePath": path,
                "hash": hash,
                "original": attrs_json(&resolved.to_attrs()),
                "locked": attrs_json(&locked.to_attrs()),
            });
            context.print_line(json_text(&value, self.pretty))?;
        } else {
            let text = format!("Downloaded '{}' to '{path}' (hash '{hash}').", locked.shown());
            context.logger.log(Verbosity::Notice, text.as_bytes());
        }
        if let Some(link) = &self.out_link {
            let local = store
                .as_local_fs()
                .ok_or_else(|| CliError::failed("'--out-link' is not supported for this Nix store"))?;
            let link = std::path::absolute(link).map_err(CliError::io("resolving", link))?;
            local.add_indirect_root(&tree.store_path, &link)?;
        }
        Ok(0)
    }
}

/// `nix flake prefetch-inputs` as it was written.
#[derive(Default)]
pub struct PrefetchInputs {
    what: FlakeArg,
}

impl FlagSink for PrefetchInputs {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.what.flag(flag, values)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg)
    }
}

/// All nodes that are no parts of others, each once.
pub fn trees(lock: &LockFile) -> Vec<(NodeId, Input)> {
    let (mut todo, mut seen, mut found) = (vec![LockFile::ROOT], BTreeSet::new(), Vec::new());
    while let Some(id) = todo.pop() {
        if !seen.insert(id) {
            continue;
        }
        let node = lock.node(id);
        if let Some(locked) =
            node.locked.as_ref().filter(|locked| locked.locked.input.relative_path().is_none())
        {
            found.push((id, locked.locked.input.clone()));
        }
        todo.extend(node.inputs.values().filter_map(|edge| match edge {
            Edge::Node(child) => Some(*child),
            Edge::Follows(_) => None,
        }));
    }
    found
}

impl NixCommand for PrefetchInputs {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let (_, flake) = self.what.lock(context)?;
        let (fetcher, logger) = (context.fetcher()?, &context.logger);
        let shown = |input: &Input| input.to_url().map_or_else(|error| error.message, |url| url.to_string());
        // Several at once: most of the time is spent waiting.
        let fetches = trees(&flake.lock).into_iter().map(|(_, input)| {
            let (fetcher, logger) = (fetcher.clone(), logger.clone());
            async move {
                let text = format!("fetching '{}'", shown(&input));
                let _activity =
                    Activity::start(&logger, Verbosity::Info, ActivityType::Unknown, &text, &[], 0);
                fetcher.fetch_locked(&input).await.map_err(|error| (input, error))
            }
        });
        let results = context.block_on(async {
            use futures::StreamExt;
            futures::stream::iter(fetches).buffer_unordered(8).collect::<Vec<_>>().await
        })?;
        let mut failures = 0;
        for (input, error) in results.into_iter().filter_map(Result::err) {
            failures += 1;
            context.logger.error(&format!("while fetching the input '{}': {error}", shown(&input)));
        }
        match failures {
            0 => Ok(0),
            1 => Err(CliError::failed("fetching 1 input failed")),
            failures => Err(CliError::failed(format!("fetching {failures} inputs failed"))),
        }
    }
}

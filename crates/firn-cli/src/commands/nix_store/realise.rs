//! `--realise`: builds or fetches, and prints and roots what came of it.

use super::paths::PathWithOutputs;
use super::{Line, unknown_flag};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::{DerivedPath, StorePath};
use firn_store::activity::{Announced, Verbosity};
use firn_store::{BuildMode, Missing, Store, topo_sort_paths};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub fn realise(context: &Context, line: Line) -> CliResult<u8> {
    let (mut dry_run, mut ignore_unknown, mut mode) = (false, false, BuildMode::Normal);
    for flag in &line.flags {
        match flag.to_str() {
            Some("--dry-run") => dry_run = true,
            Some("--repair") => mode = BuildMode::Repair,
            Some("--check") => mode = BuildMode::Check,
            Some("--ignore-unknown") => ignore_unknown = true,
            _ => return Err(unknown_flag(flag)),
        }
    }
    let store = context.store()?;
    let mut paths = line
        .args
        .iter()
        .map(|arg| PathWithOutputs::parse(store.store_dir(), arg))
        .collect::<CliResult<Vec<_>>>()?;
    let wanted = |paths: &[PathWithOutputs]| -> Vec<DerivedPath> {
        paths.iter().map(PathWithOutputs::derived_path).collect()
    };
    let builder = context.build_store()?;
    let mut missing = match dry_run {
        true => context.block_on(builder.query_missing(&wanted(&paths)))??,
        false => context.block_on(builder.prepare(&wanted(&paths)))??,
    };
    if ignore_unknown {
        paths.retain(|path| !missing.unknown.contains(&path.path));
        missing.unknown.clear();
    }
    if context.settings.print_missing {
        print_missing(context, &*store, &missing, Verbosity::Info)?;
    }
    if dry_run {
        return Ok(0);
    }
    context.block_on(builder.realise(&wanted(&paths), mode))??;
    if ignore_unknown {
        return Ok(0);
    }
    let mut roots = Roots::new(context, line.add_root.as_ref());
    for path in &paths {
        let realised = roots.take(path)?;
        if !line.no_output {
            for result in realised {
                context.print_line(std::os::unix::ffi::OsStrExt::as_bytes(result.as_os_str()))?;
            }
        }
    }
    Ok(0)
}

/// Builds one derivation (or fetches one path) without printing or rooting it, for `--force-realise`.
pub fn force(context: &Context, path: &StorePath) -> CliResult<()> {
    let request = PathWithOutputs { path: path.clone(), outputs: BTreeSet::new() };
    let builder = context.build_store()?;
    context.block_on(builder.realise(&[request.derived_path()], BuildMode::Normal))??;
    static TOLD: std::sync::Once = std::sync::Once::new();
    TOLD.call_once(|| warn_without_root(context));
    Ok(())
}

fn warn_without_root(context: &Context) {
    if context.gc_warning {
        context
            .logger
            .warn("you did not specify '--add-root'; the result might be removed by the garbage collector");
    }
}

/// Gives results their roots, or says that they have none.
struct Roots<'a> {
    context: &'a Context,
    link: Option<PathBuf>,
    number: usize,
    warned: bool,
}

impl<'a> Roots<'a> {
    fn new(context: &'a Context, link: Option<&OsString>) -> Self {
        Self { context, link: link.map(PathBuf::from), number: 0, warned: false }
    }

    /// What is to be printed for one argument: links where there are roots, else paths.
    fn take(&mut self, request: &PathWithOutputs) -> CliResult<BTreeSet<PathBuf>> {
        let store = self.context.store()?;
        self.number += 1;
        if !request.path.is_derivation() {
            if !self.context.block_on(store.is_valid_path(&request.path))?? {
                return Err(CliError::failed(format!(
                    "path '{}' does not exist and cannot be created",
                    store.store_dir().display(&request.path)
                )));
            }
            return Ok([self.root(&*store, &request.path, "out")?].into());
        }
        let outputs = self.context.block_on(store.query_derivation_outputs(&request.path))??;
        let names: BTreeSet<String> = match request.outputs.is_empty() {
            true => outputs.keys().cloned().collect(),
            false => request.outputs.clone(),
        };
        let mut results = BTreeSet::new();
        for name in names {
            let text = store.store_dir().display(&request.path);
            let path = match outputs.get(&name) {
                Some(Some(path)) => path,
                Some(None) => {
                    return Err(CliError::failed(format!(
                        "output '{name}' of derivation '{text}' is not known"
                    )));
                }
                None => {
                    return Err(CliError::failed(format!(
                        "derivation '{text}' does not have an output named '{name}'"
                    )));
                }
            };
            results.insert(self.root(&*store, path, &name)?);
        }
        Ok(results)
    }

    fn root(&mut self, store: &dyn Store, path: &StorePath, output: &str) -> CliResult<PathBuf> {
        let text = PathBuf::from(store.store_dir().display(path));
        let Some(local) = store.as_local_fs() else { return Ok(text) };
        let Some(link) = &self.link else {
            if !std::mem::replace(&mut self.warned, true) {
                warn_without_root(self.context);
            }
            return Ok(text);
        };
        let mut name = link.clone().into_os_string();
        if self.number > 1 {
            name.push(format!("-{}", self.number));
        }
        if output != "out" {
            name.push(format!("-{output}"));
        }
        let link = std::path::absolute(Path::new(&name)).map_err(CliError::io("resolving", &name))?;
        local.add_indirect_root(path, &link)?;
        Ok(link)
    }
}

/// What is to be built, each with what it waits for.
fn announcements(
    context: &Context,
    store: &dyn Store,
    builds: &BTreeSet<StorePath>,
) -> CliResult<Vec<Announced>> {
    let show = |path: &StorePath| store.store_dir().display(path);
    let mut announced = Vec::with_capacity(builds.len());
    for path in builds {
        // What cannot be read fails in its turn.
        let drv = context.block_on(store.read_derivation(path))?;
        let inputs = drv.map_or_else(
            |_| Vec::new(),
            |drv| drv.input_drvs.keys().filter(|input| builds.contains(*input)).map(show).collect(),
        );
        announced.push(Announced { path: show(path), inputs });
    }
    Ok(announced)
}

/// Says what is going to be built and fetched.
pub fn print_missing(
    context: &Context,
    store: &dyn Store,
    missing: &Missing,
    level: Verbosity,
) -> CliResult<()> {
    let say = |text: String| context.logger.log(level, text.as_bytes());
    let show = |path: &StorePath| say(format!("  {}", store.store_dir().display(path)));
    let size = super::garbage::render_size;
    if !missing.will_build.is_empty() {
        match missing.will_build.len() {
            1 => say("this derivation will be built:".into()),
            n => say(format!("these {n} derivations will be built:")),
        }
        let sorted = context.block_on(topo_sort_paths(store, &missing.will_build))??;
        sorted.iter().rev().for_each(show);
        if context.logger.wants_announcements() {
            context.logger.announce(&announcements(context, store, &missing.will_build)?);
        }
    }
    if !missing.will_substitute.is_empty() {
        let sizes =
            format!("({} download, {} unpacked)", size(missing.download_size), size(missing.nar_size));
        match missing.will_substitute.len() {
            1 => say(format!("this path will be fetched {sizes}:")),
            n => say(format!("these {n} paths will be fetched {sizes}:")),
        }
        let mut sorted: Vec<&StorePath> = missing.will_substitute.iter().collect();
        sorted.sort_by_key(|path| (path.name(), path.base_name()));
        sorted.into_iter().for_each(show);
    }
    if !missing.unknown.is_empty() {
        let reason = match context.settings.read_only_mode {
            true => " (may be caused by read-only store access)",
            false => "",
        };
        say(format!("don't know how to build these paths{reason}:"));
        missing.unknown.iter().for_each(show);
    }
    Ok(())
}

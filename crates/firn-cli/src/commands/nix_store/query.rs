//! `--query`.

use super::chains::{chain, ways_to};
use super::paths::follow_links;
use super::realise;
use super::{Line, unknown_flag};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::{HashFormat, StorePath, ValidPathInfo};
use firn_store::activity::Verbosity;
use firn_store::closure::Direction;
use firn_store::{ClosureOptions, Store, StoreError, compute_fs_closure, topo_sort_paths};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Outputs,
    Requisites,
    References,
    Referrers,
    ReferrersClosure,
    Deriver,
    ValidDerivers,
    Binding,
    Hash,
    Size,
    Tree,
    Graph,
    GraphMl,
    Resolve,
    Roots,
}

fn kind(flag: &str) -> Option<Kind> {
    Some(match flag {
        "--outputs" => Kind::Outputs,
        "--requisites" | "-R" => Kind::Requisites,
        "--references" => Kind::References,
        "--referrers" | "--referers" => Kind::Referrers,
        "--referrers-closure" | "--referers-closure" => Kind::ReferrersClosure,
        "--deriver" | "-d" => Kind::Deriver,
        "--valid-derivers" => Kind::ValidDerivers,
        "--binding" | "-b" => Kind::Binding,
        "--hash" => Kind::Hash,
        "--size" => Kind::Size,
        "--tree" => Kind::Tree,
        "--graph" => Kind::Graph,
        "--graphml" => Kind::GraphMl,
        "--resolve" => Kind::Resolve,
        "--roots" => Kind::Roots,
        _ => return None,
    })
}

/// The query as it was asked.
struct Query<'a> {
    context: &'a Context,
    store: Arc<dyn Store>,
    use_output: bool,
    force_realise: bool,
    include_outputs: bool,
}

pub fn query(context: &Context, mut line: Line) -> CliResult<u8> {
    let mut chosen: Option<Kind> = None;
    let mut binding = String::new();
    let mut query = Query {
        context,
        store: context.store()?,
        use_output: false,
        force_realise: false,
        include_outputs: false,
    };
    for flag in &line.flags {
        let text = flag.to_str().unwrap_or_default();
        match text {
            "--use-output" | "-u" => query.use_output = true,
            "--force-realise" | "--force-realize" | "-f" => query.force_realise = true,
            "--include-outputs" => query.include_outputs = true,
            _ => {
                let found = kind(text).ok_or_else(|| unknown_flag(flag))?;
                if chosen.replace(found).is_some_and(|earlier| earlier != found) {
                    return Err(CliError::usage(format!("query type '{text}' conflicts with earlier flag")));
                }
                if found == Kind::Binding {
                    if line.args.is_empty() {
                        return Err(CliError::usage("expected binding name"));
                    }
                    binding = crate::args::text("binding", line.args.remove(0))?;
                }
            }
        }
    }
    let kind = chosen.unwrap_or(Kind::Outputs);
    let dir = query.store.store_dir();
    let args = line.args.iter().map(|arg| follow_links(dir, arg));
    let args = args.collect::<CliResult<Vec<StorePath>>>()?;
    match kind {
        Kind::Binding => {
            for path in &args {
                let value = query.binding(path, &binding)?;
                context.print_line(value)?;
            }
        }
        _ => {
            if args.len() > 1 {
                context.prefetch(&*query.store, &args)?;
            }
            let text = query.run(kind, &args)?;
            crate::pager::print(context, text.as_bytes())?;
        }
    }
    Ok(0)
}

impl Query<'_> {
    fn run(&self, kind: Kind, args: &[StorePath]) -> CliResult<String> {
        let mut out = String::new();
        let show = |path: &StorePath| format!("{}\n", self.store.store_dir().display(path));
        match kind {
            Kind::Outputs => {
                for path in args {
                    out.extend(self.outputs_or_self(path, true)?.iter().map(show));
                }
            }
            Kind::Requisites | Kind::References | Kind::Referrers | Kind::ReferrersClosure => {
                out = self.sorted(&self.related(kind, args)?)?;
            }
            Kind::Deriver => {
                for path in args {
                    match &self.info(path)?.deriver {
                        Some(deriver) => out += &show(deriver),
                        None => out += "unknown-deriver\n",
                    }
                }
            }
            Kind::ValidDerivers => {
                let mut all = BTreeSet::new();
                for path in args {
                    all.extend(self.context.block_on(self.store.query_valid_derivers(path))??);
                }
                out = self.sorted(&all)?;
            }
            Kind::Hash | Kind::Size => {
                for path in self.expand(args)? {
                    let info = self.info(&path)?;
                    let _ = match kind {
                        Kind::Hash => writeln!(out, "{}", info.nar_hash.to_prefixed(HashFormat::Nix32)),
                        _ => writeln!(out, "{}", info.nar_size),
                    };
                }
            }
            Kind::Tree => self.tree(args, &mut out)?,
            Kind::Graph => self.graph(self.expand(args)?.into_iter().collect(), &mut out)?,
            Kind::GraphMl => self.graph_ml(self.expand(args)?.into_iter().collect(), &mut out)?,
            Kind::Resolve => out.extend(args.iter().map(show)),
            Kind::Roots => self.roots(args, &mut out)?,
            Kind::Binding => {}
        }
        Ok(out)
    }

    fn info(&self, path: &StorePath) -> CliResult<Arc<ValidPathInfo>> {
        let info = self.context.block_on(self.store.query_path_info(path))??;
        let invalid = || StoreError::InvalidPath { path: self.store.store_dir().display(path) };
        Ok(info.ok_or_else(invalid)?)
    }

    /// Arguments, or their outputs with `--use-output`; in the order of the arguments.
    fn expand(&self, args: &[StorePath]) -> CliResult<Vec<StorePath>> {
        let mut all = Vec::new();
        for path in args {
            all.extend(self.outputs_or_self(path, self.use_output)?);
        }
        Ok(all)
    }

    fn outputs_or_self(&self, path: &StorePath, use_output: bool) -> CliResult<BTreeSet<StorePath>> {
        if self.force_realise {
            realise::force(self.context, path)?;
        }
        if !use_output || !path.is_derivation() {
            return Ok([path.clone()].into());
        }
        let outputs = self.context.block_on(self.store.query_derivation_outputs(path))??;
        outputs
            .into_values()
            .map(|output| {
                output.ok_or_else(|| {
                    CliError::usage(
                        "Cannot use output path of floating content-addressing derivation until we know what it is \
                         (e.g. by building it)",
                    )
                })
            })
            .collect()
    }

    fn related(&self, kind: Kind, args: &[StorePath]) -> CliResult<BTreeSet<StorePath>> {
        let start: BTreeSet<StorePath> = self.expand(args)?.into_iter().collect();
        let store = &*self.store;
        let mut all = BTreeSet::new();
        match kind {
            Kind::References => {
                for path in &start {
                    all.extend(self.info(path)?.references.iter().cloned());
                }
            }
            Kind::Referrers => {
                for path in &start {
                    all.extend(self.context.block_on(store.query_referrers(path))??);
                }
            }
            _ => {
                let options = match kind {
                    Kind::ReferrersClosure => ClosureOptions::REFERRERS,
                    _ => ClosureOptions { include_outputs: self.include_outputs, ..Default::default() },
                };
                all = self.context.block_on(compute_fs_closure(store, &start, options))??;
            }
        }
        Ok(all)
    }

    /// One line per path, those referred to first.
    fn sorted(&self, paths: &BTreeSet<StorePath>) -> CliResult<String> {
        let sorted = self.context.block_on(topo_sort_paths(&*self.store, paths))??;
        let dir = self.store.store_dir();
        Ok(sorted.iter().rev().map(|path| format!("{}\n", dir.display(path))).collect())
    }

    fn binding(&self, path: &StorePath, name: &str) -> CliResult<Vec<u8>> {
        let dir = self.store.store_dir();
        let drv = match path.is_derivation() {
            true => path.clone(),
            false => self.info(path)?.deriver.clone().ok_or_else(|| {
                CliError::failed(format!("deriver of path '{}' is not known", dir.display(path)))
            })?,
        };
        let derivation = self.context.block_on(self.store.read_derivation(&drv))??;
        derivation.env.get(name.as_bytes()).cloned().ok_or_else(|| {
            CliError::failed(format!(
                "derivation '{}' has no environment binding named '{name}'",
                dir.display(&drv)
            ))
        })
    }

    /// A tree of references; what was shown above is cut off. Children that others of them refer to come last, which
    /// keeps the tree flat.
    fn tree(&self, args: &[StorePath], out: &mut String) -> CliResult<()> {
        let dir = self.store.store_dir();
        let mut done = BTreeSet::new();
        for arg in args {
            // What stands before a line, and for each open path its children, the next one last.
            let mut pad = String::new();
            let mut open: Vec<(Vec<StorePath>, usize)> = Vec::new();
            let mut next = Some((arg.clone(), "", ""));
            loop {
                if let Some((path, joint, below)) = next.take() {
                    let fresh = done.insert(path.clone());
                    let cut = if fresh { "" } else { " [...]" };
                    let _ = writeln!(out, "{pad}{joint}{}{cut}", dir.display(&path));
                    self.pass_on(out)?;
                    if fresh {
                        let references = &self.info(&path)?.references;
                        let children = topo_sort_paths(&*self.store, references);
                        open.push((self.context.block_on(children)??, pad.len()));
                        pad.push_str(below);
                    }
                }
                let Some((children, before)) = open.last_mut() else { break };
                match children.pop() {
                    Some(child) if children.is_empty() => next = Some((child, "└───", "    ")),
                    Some(child) => next = Some((child, "├───", "│   ")),
                    None => {
                        pad.truncate(*before);
                        open.pop();
                    }
                }
            }
        }
        Ok(())
    }

    /// Prints what is there already if it is much; a pager gets all of it at once.
    fn pass_on(&self, out: &mut String) -> CliResult<()> {
        if out.len() > 1 << 16 && !std::io::stdout().is_terminal() {
            self.context.print(out.as_bytes())?;
            out.clear();
        }
        Ok(())
    }

    /// The closure as the `dot` program reads it.
    fn graph(&self, mut todo: BTreeSet<StorePath>, out: &mut String) -> CliResult<()> {
        let mut colours = ["black", "red", "green", "blue", "magenta", "burlywood"].into_iter().cycle();
        let mut done = BTreeSet::new();
        out.push_str("digraph G {\n");
        while let Some(path) = todo.pop_first() {
            if !done.insert(path.clone()) {
                continue;
            }
            let _ = writeln!(
                out,
                "\"{path}\" [label = \"{}\", shape = box, style = filled, fillcolor = \"#ff0000\"];",
                path.name()
            );
            for reference in self.info(&path)?.references.iter().filter(|r| **r != path) {
                todo.insert(reference.clone());
                let colour = colours.next().unwrap_or_default();
                let _ = writeln!(out, "\"{reference}\" -> \"{path}\" [color = \"{colour}\"];");
            }
            self.pass_on(out)?;
        }
        out.push_str("}\n");
        Ok(())
    }

    /// The closure as GraphML. Labels are cut behind the name's first dash, as the reference's are.
    fn graph_ml(&self, mut todo: BTreeSet<StorePath>, out: &mut String) -> CliResult<()> {
        let mut done = BTreeSet::new();
        out.push_str(
            "<?xml version='1.0' encoding='utf-8'?>\n\
             <graphml xmlns='http://graphml.graphdrawing.org/xmlns'\n    \
             xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'\n    \
             xsi:schemaLocation='http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd'>\n\
             <key id='narSize' for='node' attr.name='narSize' attr.type='long'/>\
             <key id='name' for='node' attr.name='name' attr.type='string'/>\
             <key id='type' for='node' attr.name='type' attr.type='string'/>\
             <graph id='G' edgedefault='directed'>\n",
        );
        while let Some(path) = todo.pop_first() {
            if !done.insert(path.clone()) {
                continue;
            }
            let info = self.info(&path)?;
            let name = path.name();
            let label = name.find('-').map_or("", |at| &name[..=at]);
            let kind = if path.is_derivation() { "derivation" } else { "output-path" };
            let _ = write!(
                out,
                "  <node id=\"{path}\">\n    <data key=\"narSize\">{}</data>\n    <data key=\"name\">{label}</data>\n    \
                 <data key=\"type\">{kind}</data>\n  </node>\n",
                info.nar_size
            );
            for reference in info.references.iter().filter(|r| **r != path) {
                todo.insert(reference.clone());
                let _ = writeln!(out, "  <edge source=\"{path}\" target=\"{reference}\"/>");
            }
            self.pass_on(out)?;
        }
        out.push_str("</graph>\n</graphml>\n");
        Ok(())
    }

    /// Roots that keep any of the paths alive; with `-v` how they do, on standard error.
    fn roots(&self, args: &[StorePath], out: &mut String) -> CliResult<()> {
        let dir = self.store.store_dir();
        let start: BTreeSet<StorePath> = self.expand(args)?.into_iter().collect();
        let options = ClosureOptions {
            direction: Direction::Referrers,
            include_outputs: self.context.settings.keep_outputs,
            include_derivers: self.context.settings.keep_derivations,
        };
        let referrers = self.context.block_on(compute_fs_closure(&*self.store, &start, options))??;
        let gc = self.store.as_gc().ok_or_else(|| self.store.unsupported("finding roots"))?;
        let roots = self.context.block_on(gc.find_roots(false))??;
        let explain = self.context.verbosity >= Verbosity::Talkative;
        let ways = match explain {
            true => ways_to(&start, &self.context.block_on(self.store.query_references_among(&referrers))??),
            false => BTreeMap::new(),
        };
        for (target, links) in roots.iter().filter(|(target, _)| referrers.contains(*target)) {
            for link in links {
                let _ = writeln!(out, "{link} -> {}", dir.display(target));
            }
            if explain {
                let chain = chain(target, &ways);
                let mut text = chain.iter().map(|path| dir.display(path)).collect::<Vec<_>>().join("\n  → ");
                if chain.last().is_some_and(|end| !start.contains(*end)) {
                    text += "\n  keeps it as a derivation its output, or as an output its derivation";
                }
                self.context.logger.log(Verbosity::Talkative, text.as_bytes());
            }
        }
        Ok(())
    }
}

//! `nix why-depends`.

use super::NixCommand;
use super::archives::read_archive;
use super::store_paths::known_paths;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs};
use crate::mentions::{Mention, find_mentions};
use firn_core::StorePath;
use firn_store::activity::Verbosity;
use firn_store::{ClosureOptions, Store, compute_fs_closure};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::sync::Arc;

const GREY: &str = "\x1b[38;5;244m";
const GREEN: &str = "\x1b[32;1m";
const BLUE: &str = "\x1b[34;1m";
const NORMAL: &str = "\x1b[0m";
const LAST: &str = "└───";
const JOINT: &str = "├───";
const LINE: &str = "│   ";
const EMPTY: &str = "    ";

/// The command as it was written.
#[derive(Default)]
pub struct WhyDepends {
    what: InstallableArgs,
    names: Vec<OsString>,
    all: bool,
    precise: bool,
    derivation: bool,
}

impl FlagSink for WhyDepends {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-a" | "--all" => self.all = true,
            "--precise" => self.precise = true,
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

impl NixCommand for WhyDepends {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let [package, dependency] = &self.names[..] else {
            return Err(CliError::usage("more arguments are required"));
        };
        let (package, dependency) = (package.clone(), dependency.clone());
        let store = context.store()?;
        let top = self.one_path(context, &package, true)?;
        let top = match top {
            Some(top) => top,
            None => return Err(self.not_one(context, &package)),
        };
        // What is not known was not needed for the package either.
        let wanted = self.one_path(context, &dependency, false)?;
        let start = [top.clone()].into();
        let closure = context.block_on(compute_fs_closure(&*store, &start, ClosureOptions::default()))??;
        let Some(wanted) = wanted.filter(|path| closure.contains(path)) else {
            let message = format!(
                "'{}' does not depend on '{}'",
                self.what.shown(context, &package)?,
                self.what.shown(context, &dependency)?
            );
            context.logger.log(Verbosity::Error, message.as_bytes());
            return Ok(0);
        };
        let mut references = BTreeMap::new();
        for path in closure {
            let info = context.block_on(store.query_path_info(&path))??;
            references.insert(path, info.map(|info| info.references.clone()).unwrap_or_default());
        }
        let distances = distances(&references, &wanted);
        let mut show = Show {
            context,
            store,
            all: self.all,
            precise: self.precise,
            same: top == wanted,
            wanted,
            references,
            distances,
            visited: BTreeSet::new(),
            out: Vec::new(),
        };
        show.run(&top)?;
        Ok(0)
    }
}

impl WhyDepends {
    fn not_one(&self, context: &Context, name: &OsStr) -> CliError {
        match self.what.shown(context, name) {
            Ok(shown) => CliError::failed(format!("argument '{shown}' should evaluate to one store path")),
            Err(error) => error,
        }
    }

    fn one_path(
        &mut self,
        context: &Context,
        name: &OsString,
        realise: bool,
    ) -> CliResult<Option<StorePath>> {
        let wanted = self.what.resolve_only(context, name)?;
        let mut paths = match (self.derivation, realise) {
            (true, _) => installables::derivations(context, &wanted)?,
            (false, true) => installables::store_paths(context, &wanted)?.into_iter().collect(),
            (false, false) => known_paths(context, &wanted)?,
        };
        match paths.len() {
            0 | 1 => Ok(paths.pop_first()),
            _ => Err(self.not_one(context, name)),
        }
    }
}

/// Edges from each path that leads to `to`, on a shortest way.
fn distances(
    references: &BTreeMap<StorePath, BTreeSet<StorePath>>,
    to: &StorePath,
) -> BTreeMap<StorePath, usize> {
    let mut referrers: BTreeMap<&StorePath, Vec<&StorePath>> = BTreeMap::new();
    for (path, references) in references {
        for reference in references {
            referrers.entry(reference).or_default().push(path);
        }
    }
    let mut distances = BTreeMap::from([(to.clone(), 0)]);
    let mut todo = VecDeque::from([(to, 0)]);
    while let Some((path, distance)) = todo.pop_front() {
        for referrer in referrers.get(path).into_iter().flatten() {
            if !distances.contains_key(*referrer) {
                distances.insert((*referrer).clone(), distance + 1);
                todo.push_back((referrer, distance + 1));
            }
        }
    }
    distances
}

struct Show<'a> {
    context: &'a Context,
    store: Arc<dyn Store>,
    all: bool,
    precise: bool,
    /// Package and dependency are the same path, so that it is its reference to itself that is shown.
    same: bool,
    wanted: StorePath,
    references: BTreeMap<StorePath, BTreeSet<StorePath>>,
    distances: BTreeMap<StorePath, usize>,
    visited: BTreeSet<StorePath>,
    out: Vec<u8>,
}

/// A path whose references are being shown.
struct Frame {
    path: StorePath,
    /// Those that lead to the dependency, nearest first.
    next: VecDeque<StorePath>,
    hits: BTreeMap<String, Vec<Vec<u8>>>,
    pad: String,
}

impl Show<'_> {
    fn run(&mut self, top: &StorePath) -> CliResult<()> {
        if !self.precise {
            let line = self.store.store_dir().display(top);
            self.line(line.as_bytes())?;
        }
        let mut stack = Vec::new();
        // The end of the walk is the dependency itself, unless all ways are asked for.
        let mut ended = !self.enter(&mut stack, top, String::new(), "")?;
        while !ended && let Some(frame) = stack.last_mut() {
            let Some(path) = frame.next.pop_front() else {
                stack.pop();
                continue;
            };
            let last = !self.all || frame.next.is_empty();
            let pad = frame.pad.clone();
            let hits = frame.hits.remove(path.hash_part()).unwrap_or_default();
            let parent = frame.path.clone();
            for (index, hit) in hits.iter().enumerate().take(if self.all { usize::MAX } else { 1 }) {
                let joint = match (index == 0, last) {
                    (true, true) => LAST,
                    (true, false) => JOINT,
                    (false, true) => EMPTY,
                    (false, false) => LINE,
                };
                self.line(&[pad.as_bytes(), joint.as_bytes(), hit].concat())?;
            }
            if !self.precise {
                let grey = if self.visited.contains(&path) { GREY } else { "" };
                let joint = if last { LAST } else { JOINT };
                let text = self.store.store_dir().display(&path);
                self.line(format!("{pad}{grey}{joint}{text}{NORMAL}").as_bytes())?;
                self.visited.insert(parent);
            }
            let pad = format!("{pad}{}", if last { EMPTY } else { LINE });
            ended = !self.enter(&mut stack, &path, pad.clone(), &pad)?;
        }
        crate::pager::print(self.context, &self.out)
    }

    /// Shows a path and prepares what it refers to; `false` where the walk ends.
    fn enter(
        &mut self,
        stack: &mut Vec<Frame>,
        path: &StorePath,
        pad: String,
        first: &str,
    ) -> CliResult<bool> {
        if self.precise {
            let grey = if self.visited.contains(path) { GREY } else { "" };
            let arrow = if first.is_empty() { "" } else { "→ " };
            let text = self.store.store_dir().display(path);
            self.line(format!("{first}{grey}{arrow}{text}{NORMAL}").as_bytes())?;
        }
        if *path == self.wanted && !self.all && !self.same {
            return Ok(false);
        }
        if self.visited.contains(path) {
            return Ok(true);
        }
        if self.precise {
            self.visited.insert(path.clone());
        }
        let mut next: Vec<StorePath> = self.references.get(path).into_iter().flatten().cloned().collect();
        next.retain(|reference| (reference != path || self.same) && self.distances.contains_key(reference));
        next.sort_by_key(|reference| self.distances.get(reference).copied());
        let hits = match self.precise {
            true => self.hits(path, &next)?,
            false => BTreeMap::new(),
        };
        stack.push(Frame { path: path.clone(), next: next.into(), hits, pad });
        Ok(true)
    }

    /// The places in the files of `path` that name its references, ready to be shown.
    fn hits(&self, path: &StorePath, references: &[StorePath]) -> CliResult<BTreeMap<String, Vec<Vec<u8>>>> {
        let parts: Vec<String> = references.iter().map(|path| path.hash_part().to_owned()).collect();
        let mentions =
            read_archive(self.context, &*self.store, path, move |archive| find_mentions(archive, &parts))?;
        let mut hits: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for mention in mentions {
            let colour = if mention.hash_part == self.wanted.hash_part() { GREEN } else { BLUE };
            hits.entry(mention.hash_part.clone()).or_default().push(render(&mention, colour));
        }
        Ok(hits)
    }

    fn line(&mut self, line: &[u8]) -> CliResult<()> {
        self.out.extend_from_slice(line);
        self.out.push(b'\n');
        // A pager gets all of it at once; what goes elsewhere need not wait.
        if self.out.len() > 1 << 16 && !std::io::stdout().is_terminal() {
            return self.context.print(&std::mem::take(&mut self.out));
        }
        Ok(())
    }
}

fn render(mention: &Mention, colour: &str) -> Vec<u8> {
    let file: &[u8] = if mention.file.is_empty() { b"/" } else { &mention.file };
    let (at, end) = (mention.at, mention.at + mention.hash_part.len());
    let text = &mention.text;
    let marked = [&text[..at], colour.as_bytes(), &text[at..end], NORMAL.as_bytes(), &text[end..]].concat();
    match mention.is_link {
        true => [file, b" -> ", &marked].concat(),
        false => [file, ": …".as_bytes(), &marked, "…".as_bytes()].concat(),
    }
}

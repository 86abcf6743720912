//! What outputs must fulfil: the hash of fixed ones, and the checks that the derivation asks for.

use crate::environment::info;
use crate::text::paint;
use firn_core::{StorePath, ValidPathInfo};
use firn_derivation::options::{OutputChecks, opaque};
use firn_derivation::{Derivation, DerivationOptions, DerivationOutput, Ref};
use firn_scheduler::BuildFailure;
use firn_store::{BuildStatus, BuildTarget};
use std::collections::{BTreeMap, BTreeSet};

/// Outputs of one build that are to be checked.
pub(crate) struct Outputs<'a> {
    pub target: &'a dyn BuildTarget,
    pub drv_path: &'a StorePath,
    pub drv: &'a Derivation,
    pub options: &'a DerivationOptions,
    /// By output name.
    pub infos: &'a BTreeMap<String, ValidPathInfo>,
}

/// Which references a check looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The output's own.
    Direct,
    /// All of its closure.
    Closure,
}

/// What a list of references means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Allowed,
    Disallowed,
}

fn rejected(message: String) -> BuildFailure {
    BuildFailure::new(BuildStatus::OutputRejected, message)
}

impl Outputs<'_> {
    /// Checks all of them.
    pub fn check(&self) -> Result<(), BuildFailure> {
        for (name, info) in self.infos {
            if let Some(DerivationOutput::CaFixed(wanted)) = self.drv.outputs.get(name) {
                self.check_fixed(info, wanted)?;
            }
            if let Some(checks) = self.options.checks_of(name) {
                self.check_output(name, info, checks)?;
            }
        }
        Ok(())
    }

    fn display(&self, path: &StorePath) -> String {
        paint(self.target.store_dir().display(path))
    }

    fn check_fixed(
        &self,
        info: &ValidPathInfo,
        wanted: &firn_core::ContentAddress,
    ) -> Result<(), BuildFailure> {
        let mismatch = |message| BuildFailure::new(BuildStatus::HashMismatch, message);
        if let Some(got) = &info.ca
            && got.hash != wanted.hash
        {
            return Err(mismatch(format!(
                "hash mismatch in fixed-output derivation '{}':\n  specified: {}\n     got:    {}",
                self.display(self.drv_path),
                paint(wanted.hash.to_sri()),
                paint(got.hash.to_sri())
            )));
        }
        match info.references.first() {
            None => Ok(()),
            Some(first) => Err(mismatch(format!(
                "fixed-output derivations must not reference store paths: '{}' references {} distinct paths, e.g. '{}'",
                self.display(self.drv_path),
                info.references.len(),
                self.display(first)
            ))),
        }
    }

    fn check_output(
        &self,
        name: &str,
        info: &ValidPathInfo,
        checks: &OutputChecks,
    ) -> Result<(), BuildFailure> {
        if let Some(limit) = checks.max_size
            && info.nar_size > limit
        {
            return Err(rejected(format!(
                "path '{}' is too large at {} bytes; limit is {limit} bytes",
                self.display(&info.path),
                info.nar_size
            )));
        }
        if let Some(limit) = checks.max_closure_size {
            let (_, size) = self.closure(&info.path)?;
            if size > limit {
                return Err(rejected(format!(
                    "closure of path '{}' is too large at {size} bytes; limit is {limit} bytes",
                    self.display(&info.path)
                )));
            }
        }
        let run = |refs: &BTreeSet<Ref>, list, reach| {
            self.check_references(name, info, checks.ignore_self_refs, refs, list, reach)
        };
        if let Some(refs) = &checks.allowed_references {
            run(refs, List::Allowed, Reach::Direct)?;
        }
        if let Some(refs) = &checks.allowed_requisites {
            run(refs, List::Allowed, Reach::Closure)?;
        }
        if !checks.disallowed_references.is_empty() {
            run(&checks.disallowed_references, List::Disallowed, Reach::Direct)?;
        }
        if !checks.disallowed_requisites.is_empty() {
            run(&checks.disallowed_requisites, List::Disallowed, Reach::Closure)?;
        }
        Ok(())
    }

    fn check_references(
        &self,
        name: &str,
        info: &ValidPathInfo,
        ignore_self: bool,
        refs: &BTreeSet<Ref>,
        list: List,
        reach: Reach,
    ) -> Result<(), BuildFailure> {
        let mut named = BTreeSet::new();
        for reference in refs {
            match (reference, opaque(reference)) {
                (_, Some(path)) => named.insert(path.clone()),
                (Ref::Output(output), _) => match self.infos.get(output) {
                    Some(info) => named.insert(info.path.clone()),
                    None => return Err(self.unknown_output(name, output)),
                },
                (Ref::Object(_), None) => {
                    return Err(BuildFailure::other("an output check names an output that was not built"));
                }
            };
        }
        let (mut used, parents) = match reach {
            Reach::Direct => (info.references.clone(), BTreeMap::new()),
            Reach::Closure => {
                let (parents, _) = self.closure(&info.path)?;
                (parents.keys().cloned().collect(), parents)
            }
        };
        if reach == Reach::Closure && ignore_self {
            used.remove(&info.path);
        }
        let bad: Vec<&StorePath> =
            used.iter().filter(|path| named.contains(*path) == (list == List::Disallowed)).collect();
        if bad.is_empty() {
            return Ok(());
        }
        let mut message =
            format!("output '{}' is not allowed to refer to the following paths:", self.display(&info.path));
        for path in &bad {
            message += &format!("\n  {}", self.display(path));
        }
        if let (Reach::Closure, Some(first)) = (reach, bad.first()) {
            message += &self.chain(first, &parents);
        }
        Err(rejected(message))
    }

    /// How the closure leads to a path that must not be in it.
    fn chain(&self, path: &StorePath, parents: &BTreeMap<StorePath, Option<StorePath>>) -> String {
        let mut steps = vec![path];
        let mut at = path;
        while let Some(Some(parent)) = parents.get(at) {
            steps.push(parent);
            at = parent;
        }
        if steps.len() < 3 {
            // The output itself refers to it.
            return String::new();
        }
        let mut text = "\nShown is how the first of them is reached:".to_owned();
        for (depth, step) in steps.iter().rev().enumerate() {
            text += &format!("\n  {}{}", "  ".repeat(depth), self.display(step));
        }
        text
    }

    fn unknown_output(&self, name: &str, output: &str) -> BuildFailure {
        let valid: Vec<&str> = self.infos.keys().map(String::as_str).collect();
        rejected(format!(
            "derivation '{}' output check for '{}' contains output name '{}', but this is not a valid output of this \
             derivation. (Valid outputs are [{}].)",
            self.display(self.drv_path),
            paint(name),
            paint(output),
            paint(valid.join(", "))
        ))
    }

    /// The closure, each path with the one that led to it, and its size in bytes. Outputs of the build itself need
    /// not be valid yet.
    fn closure(
        &self,
        start: &StorePath,
    ) -> Result<(BTreeMap<StorePath, Option<StorePath>>, u64), BuildFailure> {
        let own: BTreeMap<&StorePath, &ValidPathInfo> =
            self.infos.values().map(|info| (&info.path, info)).collect();
        let mut parents: BTreeMap<StorePath, Option<StorePath>> = [(start.clone(), None)].into();
        let mut queue = std::collections::VecDeque::from([start.clone()]);
        let mut size = 0;
        while let Some(path) = queue.pop_front() {
            let loaded;
            let info = match own.get(&path) {
                Some(info) => *info,
                None => {
                    loaded = info(self.target, &path)?;
                    &loaded
                }
            };
            size += info.nar_size;
            for reference in &info.references {
                if !parents.contains_key(reference) {
                    parents.insert(reference.clone(), Some(path.clone()));
                    queue.push_back(reference.clone());
                }
            }
        }
        Ok((parents, size))
    }
}

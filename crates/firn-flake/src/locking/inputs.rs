//! The new lock file: entries of the old one that still fit, and new ones for all else.

use super::{Flake, InputSpec, IsFlake, LockFlags, LockSettings, fetch_flake, read_lock};
use crate::InputPath;
use crate::host::{Failure, FlakeHost, Registries};
use crate::lock_file::{Edge, LockFile, Locked, MOST_DEEP, NodeId};
use firn_core::flake_ref::{Attr, Attrs, FlakeRef, Input, Scheme};
use std::collections::{BTreeMap, BTreeSet};

/// So many inputs no flake has: a lock file with entries that are shared over and over would become that many.
const MOST_NODES: usize = 100_000;

/// What an input is instead of what its flake says.
#[derive(Clone)]
struct Override {
    spec: InputSpec,
    /// The folder that relative paths start from.
    dir: Vec<u8>,
    /// The flake that said so; nothing for the command line.
    parent: Option<InputPath>,
}

struct Locking<'a, H> {
    host: &'a H,
    settings: &'a LockSettings,
    flags: &'a LockFlags,
    registries: Registries,
    overrides: BTreeMap<InputPath, Override>,
    overrides_used: BTreeSet<InputPath>,
    updates_used: BTreeSet<InputPath>,
    new: LockFile,
    dirs: BTreeMap<NodeId, Vec<u8>>,
    /// The references that are being looked into.
    parents: Vec<FlakeRef>,
}

/// A flake whose inputs are locked.
struct Place<'a> {
    node: NodeId,
    path: &'a InputPath,
    /// Entries that may still fit.
    old: Option<(&'a LockFile, NodeId)>,
    /// What is followed in `old` is relative to this.
    follows_prefix: &'a InputPath,
    dir: &'a [u8],
    /// The inputs come from the lock file itself.
    trust_lock: bool,
}

fn fail<T, E: Failure>(message: impl Into<String>) -> Result<T, E> {
    Err(E::new(message.into(), 1))
}

pub(super) type Computed = (LockFile, BTreeMap<NodeId, Vec<u8>>);

/// Computes the lock file of `flake`.
pub(super) fn compute<H: FlakeHost>(
    host: &H,
    settings: &LockSettings,
    flags: &LockFlags,
    flake: &Flake,
    old: &LockFile,
    registries: Registries,
) -> Result<Computed, H::Error> {
    let overrides = flags.overrides.iter().map(|(path, reference)| {
        let spec = InputSpec { reference: Some(reference.clone()), ..InputSpec::default() };
        (path.clone(), Override { spec, dir: flake.dir.clone(), parent: None })
    });
    let mut locking = Locking {
        host,
        settings,
        flags,
        registries,
        overrides: overrides.collect(),
        overrides_used: BTreeSet::new(),
        updates_used: BTreeSet::new(),
        new: LockFile::default(),
        dirs: BTreeMap::from([(LockFile::ROOT, flake.dir.clone())]),
        parents: Vec::new(),
    };
    let root = InputPath::default();
    let place = Place {
        node: LockFile::ROOT,
        path: &root,
        old: (!flags.recreate).then_some((old, LockFile::ROOT)),
        follows_prefix: &root,
        dir: &flake.dir,
        trust_lock: false,
    };
    locking.inputs(&flake.spec.inputs, &place)?;
    for (path, reference) in &flags.overrides {
        if !locking.overrides_used.contains(path) {
            host.warn(&format!(
                "the flag '--override-input {path} {}' does not match any input",
                reference.shown()
            ));
        }
    }
    for path in &flags.updates {
        if !locking.updates_used.contains(path) {
            host.warn(&format!("'{path}' does not match any input of this flake"));
        }
    }
    Ok((locking.new, locking.dirs))
}

/// A path without `.` and `..`, which must not lead out of where it starts.
fn resolve(dir: &[u8], relative: &[u8]) -> Vec<u8> {
    let mut out: Vec<&[u8]> = Vec::new();
    for part in dir.split(|c| *c == b'/').chain(relative.split(|c| *c == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(out.pop()),
            part => out.push(part),
        }
    }
    [&b"/"[..], &out.join(&b'/')].concat()
}

impl<H: FlakeHost> Locking<'_, H> {
    /// Notes what a flake says of inputs of its inputs.
    fn note_overrides(&mut self, spec: &InputSpec, path: &InputPath, place: &Place<'_>) {
        for (name, spec) in &spec.overrides {
            let path = path.join(name);
            if spec.reference.is_some() || spec.follows.is_some() {
                // What was said further out counts.
                self.overrides.entry(path.clone()).or_insert_with(|| Override {
                    spec: spec.clone(),
                    dir: place.dir.to_vec(),
                    parent: Some(place.path.clone()),
                });
            }
            self.note_overrides(spec, &path, place);
        }
    }

    fn inputs(&mut self, specs: &BTreeMap<String, InputSpec>, place: &Place<'_>) -> Result<(), H::Error> {
        if place.path.0.len() > MOST_DEEP {
            return fail(format!("inputs are more than {MOST_DEEP} deep in each other, at '{}'", place.path));
        }
        for (name, spec) in specs {
            self.note_overrides(spec, &place.path.join(name), place);
        }
        for path in self.overrides.keys() {
            if let Some((parent, name)) = path.split()
                && parent == &place.path.0[..]
                && !specs.contains_key(name)
            {
                self.host.warn(&format!(
                    "input '{}' has an override for a non-existent input '{name}'",
                    place.path
                ));
            }
        }
        for (name, spec) in specs {
            let path = place.path.join(name);
            self.input(name, spec, &path, place)
                .map_err(|error| error.while_doing(format!("while updating the flake input '{path}'")))?;
        }
        Ok(())
    }

    fn add(&mut self, place: &Place<'_>, name: &str, locked: Locked) -> Result<NodeId, H::Error> {
        if self.new.len() >= MOST_NODES {
            return fail(format!("the flake has more than {MOST_NODES} inputs"));
        }
        let node = self.new.add(locked);
        self.new.connect(place.node, name, Edge::Node(node));
        Ok(node)
    }

    fn input(
        &mut self,
        name: &str,
        own: &InputSpec,
        path: &InputPath,
        place: &Place<'_>,
    ) -> Result<(), H::Error> {
        let found = self.overrides.get(path).cloned();
        if found.is_some() {
            self.overrides_used.insert(path.clone());
        }
        let on_command_line = self.flags.overrides.contains_key(path);
        // Whether it is a flake says the flake that has it, whoever says which.
        let (mut spec, from) = match &found {
            Some(found) => (InputSpec { is_flake: own.is_flake, ..found.spec.clone() }, &found.dir[..]),
            None => (own.clone(), place.dir),
        };
        if let Some(target) = spec.follows.take() {
            self.new.connect(place.node, name, Edge::Follows(target));
            return Ok(());
        }
        let reference = spec.reference.take().unwrap_or_else(|| indirect(name));
        let relative = reference.input.relative_path().map(|path| resolve(from, path));
        let parent = match (&relative, &found) {
            (None, _) => None,
            (Some(_), Some(found)) => found.parent.clone(),
            (Some(_), None) => Some(place.path.clone()),
        };
        self.updates_used.insert(path.clone());
        let kept = self.kept(name, path, place);
        if let Some((old, id, locked)) = kept
            && locked.original.canonical() == reference.canonical()
            && locked.parent == parent
            && !on_command_line
        {
            return self.keep(name, path, place, Keep { old, id, locked, relative });
        }
        let is_relative = relative.is_some();
        if !self.flags.allow_unlocked
            && !reference.input.is_locked(self.settings.trust_forges)
            && !is_relative
        {
            return fail(format!("cannot update unlocked flake input '{path}' in pure mode"));
        }
        // What was asked for stays, so that the next update does not forget what the command line said.
        let original = match (&own.reference, on_command_line) {
            (Some(own), true) => own.clone(),
            _ => reference.clone(),
        };
        let wanted = Wanted { reference, relative, original, parent };
        match spec.is_flake {
            IsFlake::Yes => self.new_flake(name, path, place, wanted, on_command_line),
            IsFlake::No => self.new_tree(name, place, wanted),
        }
    }

    /// The entry of the old lock file, if that is not to be updated.
    fn kept<'p>(
        &self,
        name: &str,
        path: &InputPath,
        place: &Place<'p>,
    ) -> Option<(&'p LockFile, NodeId, &'p Locked)> {
        let (old, node) = place.old?;
        if self.flags.updates.contains(path) {
            return None;
        }
        match old.node(node).inputs.get(name)? {
            Edge::Node(id) => Some((old, *id, old.node(*id).locked.as_ref()?)),
            Edge::Follows(_) => None,
        }
    }

    /// Takes over an entry of the old lock file, and what is below it.
    fn keep(
        &mut self,
        name: &str,
        path: &InputPath,
        place: &Place<'_>,
        keep: Keep<'_>,
    ) -> Result<(), H::Error> {
        let Keep { old, id, locked, relative } = keep;
        let node = self.add(place, name, locked.clone())?;
        let next = self.flags.updates.range(path.clone()..).next();
        let updates_below =
            next.is_some_and(|next| next.0.len() > path.0.len() && next.0.starts_with(&path.0));
        let known = if updates_below { None } else { self.known_inputs(old, id, path, place) };
        let below = |dir, trust_lock| Place {
            node,
            path,
            old: Some((old, id)),
            follows_prefix: place.follows_prefix,
            dir,
            trust_lock,
        };
        match known {
            Some(inputs) => self.inputs(&inputs, &below(place.dir, true)),
            None => {
                let (spec, dir) = match relative {
                    Some(dir) => {
                        let dir = super::join(&dir, &locked.locked.subdir);
                        (self.host.read_flake(&dir, &locked.locked, path)?, dir)
                    }
                    None => {
                        let flake = fetch_flake(self.host, &locked.locked, self.registries, path, true)?;
                        (flake.spec, flake.dir)
                    }
                };
                self.dirs.insert(node, dir.clone());
                self.inputs(&spec.inputs, &below(&dir, false))
            }
        }
    }

    /// The inputs that an entry of the old lock file has; nothing if its flake has to be looked at again.
    fn known_inputs(
        &self,
        old: &LockFile,
        id: NodeId,
        path: &InputPath,
        place: &Place<'_>,
    ) -> Option<BTreeMap<String, InputSpec>> {
        let mut inputs = BTreeMap::new();
        for (name, edge) in &old.node(id).inputs {
            let spec = match edge {
                Edge::Node(child) => {
                    let child = old.node(*child).locked.as_ref()?;
                    let reference = Some(child.original.clone());
                    let is_flake = if child.is_flake { IsFlake::Yes } else { IsFlake::No };
                    InputSpec { reference, is_flake, ..InputSpec::default() }
                }
                Edge::Follows(target) => {
                    // If nobody says so any more, the flake's own input may not be in the lock file.
                    if !place.trust_lock && !self.overrides.contains_key(&path.join(name)) {
                        return None;
                    }
                    let follows = Some(place.follows_prefix.chain(target));
                    InputSpec { follows, ..InputSpec::default() }
                }
            };
            inputs.insert(name.clone(), spec);
        }
        Some(inputs)
    }

    fn new_flake(
        &mut self,
        name: &str,
        path: &InputPath,
        place: &Place<'_>,
        wanted: Wanted,
        on_command_line: bool,
    ) -> Result<(), H::Error> {
        let Wanted { reference, relative, original, parent } = wanted;
        let registries = match on_command_line {
            true => Registries::All,
            false => self.registries,
        };
        let (spec, dir, locked) = match relative {
            Some(dir) => {
                let dir = super::join(&dir, &reference.subdir);
                (self.host.read_flake(&dir, &reference, path)?, dir, reference.clone())
            }
            None => {
                let flake = fetch_flake(self.host, &reference, registries, path, false)?;
                (flake.spec, flake.dir, flake.locked)
            }
        };
        let node = self.add(place, name, Locked { locked, original, is_flake: true, parent })?;
        if self.parents.contains(&reference) {
            return fail(format!("found circular import of flake '{}'", reference.shown()));
        }
        self.parents.push(reference);
        self.dirs.insert(node, dir.clone());
        let lock = read_lock(self.host, self.settings, &dir)?;
        let below = Place {
            node,
            path,
            old: Some((&lock, LockFile::ROOT)),
            follows_prefix: path,
            dir: &dir,
            trust_lock: false,
        };
        let result = self.inputs(&spec.inputs, &below);
        self.parents.pop();
        result
    }

    fn new_tree(&mut self, name: &str, place: &Place<'_>, wanted: Wanted) -> Result<(), H::Error> {
        let Wanted { reference, relative, original, parent } = wanted;
        let (dir, locked) = match relative {
            Some(dir) => (dir, reference),
            None => {
                let input = match (reference.input.is_direct(), self.registries) {
                    (true, _) => reference.input.clone(),
                    (false, Registries::None) => {
                        return fail(format!(
                            "'{}' is an indirect flake reference, but registry lookups are not allowed",
                            reference.shown()
                        ));
                    }
                    (false, registries) => self.host.look_up(&reference.input, registries)?.0,
                };
                let tree = self.host.fetch(&input, false)?;
                (tree.root, FlakeRef { input: tree.input, subdir: reference.subdir.clone() })
            }
        };
        let node = self.add(place, name, Locked { locked, original, is_flake: false, parent })?;
        self.dirs.insert(node, dir);
        Ok(())
    }
}

/// An entry of the old lock file that still fits.
struct Keep<'a> {
    old: &'a LockFile,
    id: NodeId,
    locked: &'a Locked,
    /// Where its flake is, if that is relative to another.
    relative: Option<Vec<u8>>,
}

/// A new entry.
struct Wanted {
    reference: FlakeRef,
    relative: Option<Vec<u8>>,
    original: FlakeRef,
    parent: Option<InputPath>,
}

fn indirect(name: &str) -> FlakeRef {
    let attrs = [("type", "indirect"), ("id", name)];
    let attrs: Attrs = attrs.into_iter().map(|(key, value)| (key.to_owned(), Attr::str(value))).collect();
    FlakeRef { input: Input { attrs, scheme: Some(Scheme::Indirect) }, subdir: Vec::new() }
}

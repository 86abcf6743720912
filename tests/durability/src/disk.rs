//! The model. It is stricter than real disks: a file's content, size and mode are safe once the file was synced, a
//! directory's entries once the directory was, and nothing else is, in any order. A rename is safe in both directories
//! or in none, and so far as either was synced.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// The number of the root directory.
pub const ROOT: u64 = 1;

/// What kind a file is, with its content.
#[derive(Debug, Clone)]
pub enum Content {
    File(Vec<u8>),
    Directory(BTreeMap<OsString, u64>),
    Symlink(OsString),
    /// A socket or FIFO, by its mode's type bits.
    Special(u32),
}

/// Mode, owner and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
}

#[derive(Debug, Clone)]
pub struct Node {
    pub content: Content,
    pub metadata: Metadata,
    pub links: u32,
    /// What the disk has of it; nothing of a new file.
    safe: Option<(Content, Metadata)>,
}

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing: a program was killed.
    Nothing,
    /// All that was not synced.
    Unsynced,
    /// Some of it, by a number that decides.
    Random(u64),
}

/// The whole file system.
#[derive(Debug, Clone)]
pub struct Disk {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// Bytes of content that fit.
    pub capacity: u64,
}

impl Default for Disk {
    fn default() -> Self {
        let metadata = Metadata { mode: 0o755, uid: 0, gid: 0, mtime: (1, 0) };
        let content = Content::Directory(BTreeMap::new());
        let root = Node { safe: Some((content.clone(), metadata)), content, metadata, links: 2 };
        Disk { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1, capacity: u64::MAX }
    }
}

impl Disk {
    pub fn get(&self, number: u64) -> Option<&Node> {
        self.nodes.get(&number)
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&number)
    }

    pub fn lookup(&self, parent: u64, name: &OsStr) -> Option<u64> {
        self.entries(parent)?.get(name).copied()
    }

    pub fn entries(&self, directory: u64) -> Option<&BTreeMap<OsString, u64>> {
        match &self.nodes.get(&directory)?.content {
            Content::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    fn entries_mut(&mut self, directory: u64) -> Option<&mut BTreeMap<OsString, u64>> {
        match &mut self.nodes.get_mut(&directory)?.content {
            Content::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        let size = |node: &Node| match &node.content {
            Content::File(data) => data.len() as u64 + 512,
            _ => 512,
        };
        self.nodes.values().map(size).sum()
    }

    /// Makes a node without a name.
    pub fn create(&mut self, content: Content, metadata: Metadata) -> u64 {
        let number = self.next;
        self.next += 1;
        // What cannot be synced by itself is safe as soon as its name is.
        let safe = match &content {
            Content::Symlink(_) | Content::Special(_) => Some((content.clone(), metadata)),
            _ => None,
        };
        let links = u32::from(matches!(content, Content::Directory(_))) + 1;
        self.nodes.insert(number, Node { content, metadata, links, safe });
        number
    }

    /// Gives a node a name; one that has it goes.
    pub fn link(&mut self, parent: u64, name: &OsStr, number: u64) {
        self.touch(parent);
        if let Some(entries) = self.entries_mut(parent) {
            entries.insert(name.to_owned(), number);
        }
    }

    pub fn unlink(&mut self, parent: u64, name: &OsStr) -> Option<u64> {
        self.touch(parent);
        self.entries_mut(parent)?.remove(name)
    }

    /// Nobody has the node open any more: without a name it goes.
    pub fn drop_unlinked(&mut self, number: u64) {
        if self.nodes.get(&number).is_some_and(|node| node.links == 0) {
            let named = |node: &Node| match &node.safe {
                Some((Content::Directory(entries), _)) => entries.values().any(|n| *n == number),
                _ => false,
            };
            // The disk may still have a name for it.
            if !self.nodes.values().any(named) {
                self.nodes.remove(&number);
            }
        }
    }

    pub fn touch(&mut self, number: u64) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or((0, 0), |time| (time.as_secs() as i64, time.subsec_nanos()));
        if let Some(node) = self.nodes.get_mut(&number) {
            node.metadata.mtime = now;
        }
    }

    /// Makes a file, or the entries of a directory, safe. A rename has both its ends made safe.
    pub fn sync(&mut self, number: u64) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        let moved: Vec<u64> = match (&node.content, &node.safe) {
            (Content::Directory(now), Some((Content::Directory(before), _))) => before
                .iter()
                .filter(|(name, number)| now.get(*name) != Some(number))
                .map(|(_, n)| *n)
                .collect(),
            _ => Vec::new(),
        };
        let came: Vec<u64> = match (&node.content, &node.safe) {
            (Content::Directory(now), Some((Content::Directory(before), _))) => now
                .iter()
                .filter(|(name, number)| before.get(*name) != Some(number))
                .map(|(_, n)| *n)
                .collect(),
            (Content::Directory(now), None) => now.values().copied().collect(),
            _ => Vec::new(),
        };
        node.safe = Some((node.content.clone(), node.metadata));
        // What left this directory for another one: the other one has it by then. What came from one has left it.
        for (other, node) in &mut self.nodes {
            let Content::Directory(now) = &node.content else { continue };
            if *other == number {
                continue;
            }
            if let Some((Content::Directory(safe), _)) = &mut node.safe {
                safe.retain(|name, number| !came.contains(number) || now.get(name) == Some(number));
            }
            let arrived: Vec<(OsString, u64)> = now
                .iter()
                .filter(|(_, number)| moved.contains(number))
                .map(|(name, number)| (name.clone(), *number))
                .collect();
            if let Some((Content::Directory(safe), _)) = &mut node.safe {
                safe.extend(arrived);
            }
        }
    }

    /// Makes everything safe, as an orderly shutdown does.
    pub fn sync_all(&mut self) {
        for node in self.nodes.values_mut() {
            node.safe = Some((node.content.clone(), node.metadata));
        }
    }

    /// The disk as it is found after the power came back.
    pub fn after(&self, cut: Cut) -> Disk {
        let mut disk = self.clone();
        let mut dice = match cut {
            Cut::Nothing => None,
            Cut::Unsynced => Some(None),
            Cut::Random(seed) => Some(Some(Dice(seed | 1))),
        };
        if let Some(dice) = &mut dice {
            for node in disk.nodes.values_mut() {
                let node_cut = match dice {
                    None => true,
                    Some(dice) => dice.roll(2) == 0,
                };
                match (node_cut, dice.as_mut()) {
                    (true, _) => forget(node),
                    (false, Some(dice)) => forget_some(node, dice),
                    (false, None) => {}
                }
            }
        }
        disk.unshare_directories(self);
        disk.drop_unreachable();
        disk.sync_all();
        disk
    }

    /// A directory has one name, whatever was forgotten of a rename: the one that `live` has, if that is there.
    fn unshare_directories(&mut self, live: &Disk) {
        let mut names: BTreeMap<u64, Vec<(u64, OsString)>> = BTreeMap::new();
        for (parent, node) in &self.nodes {
            let Content::Directory(entries) = &node.content else { continue };
            for (name, number) in entries {
                if self.entries(*number).is_some() {
                    names.entry(*number).or_default().push((*parent, name.clone()));
                }
            }
        }
        for (number, names) in names.into_iter().filter(|(_, names)| names.len() > 1) {
            let kept = names.iter().position(|(parent, name)| live.lookup(*parent, name) == Some(number));
            for (index, (parent, name)) in names.iter().enumerate() {
                if index != kept.unwrap_or(0)
                    && let Some(entries) = self.entries_mut(*parent)
                {
                    entries.remove(name);
                }
            }
        }
    }

    fn drop_unreachable(&mut self) {
        let mut reached = BTreeMap::from([(ROOT, 1u32)]);
        let mut todo = vec![ROOT];
        while let Some(directory) = todo.pop() {
            for number in self.entries(directory).into_iter().flat_map(|entries| entries.values().copied()) {
                let count = reached.entry(number).or_insert(0);
                *count += 1;
                if *count == 1 {
                    todo.push(number);
                }
            }
        }
        // A name may outlive its file.
        let known: Vec<u64> = self.nodes.keys().copied().collect();
        for node in self.nodes.values_mut() {
            if let Content::Directory(entries) = &mut node.content {
                entries.retain(|_, number| known.binary_search(number).is_ok());
            }
        }
        self.nodes.retain(|number, node| match reached.get(number) {
            Some(links) => {
                node.links = links + u32::from(matches!(node.content, Content::Directory(_)));
                true
            }
            None => false,
        });
    }
}

/// Puts a node back to what is safe of it.
fn forget(node: &mut Node) {
    match node.safe.clone() {
        Some((content, metadata)) => (node.content, node.metadata) = (content, metadata),
        None => match &mut node.content {
            Content::File(data) => data.clear(),
            Content::Directory(entries) => entries.clear(),
            _ => {}
        },
    }
}

/// Keeps some of what is not safe: whole blocks of files, single entries of directories.
fn forget_some(node: &mut Node, dice: &mut Dice) {
    let empty = match &node.content {
        Content::File(_) => Content::File(Vec::new()),
        Content::Directory(_) => Content::Directory(BTreeMap::new()),
        _ => return,
    };
    let (safe, metadata) = node.safe.clone().unwrap_or((empty, node.metadata));
    if dice.roll(2) == 0 {
        node.metadata = metadata;
    }
    match (&mut node.content, safe) {
        (Content::File(now), Content::File(before)) => {
            if dice.roll(3) == 0 {
                now.truncate(before.len().max(dice.roll(now.len() as u64 + 1) as usize));
            }
            for (index, block) in now.chunks_mut(4096).enumerate() {
                if dice.roll(3) == 0 {
                    let start = index * 4096;
                    let old = before.get(start..).unwrap_or_default();
                    // Where nothing was written yet, there are zeros.
                    block
                        .iter_mut()
                        .enumerate()
                        .for_each(|(at, byte)| *byte = old.get(at).copied().unwrap_or(0));
                }
            }
        }
        (Content::Directory(now), Content::Directory(before)) => {
            let names: Vec<OsString> = now.keys().chain(before.keys()).cloned().collect();
            for name in names {
                if dice.roll(2) == 0 {
                    match before.get(&name) {
                        Some(number) => drop(now.insert(name, *number)),
                        None => drop(now.remove(&name)),
                    }
                }
            }
        }
        _ => {}
    }
}

/// Numbers that look random and follow from a seed (xorshift).
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides.max(1)
    }
}

//! A file with trees: a mark, the trees, an index of them by key, a list of files' states with their texts' keys, both
//! sorted, and a foot that says where those are. Each tree is checked when it is read, the rest when the file is opened.

use firn_eval::{FileStamp, TextKey};
use firn_syntax::ast::NodeSource;
use firn_syntax::{Ast, stored};
use rustix::fs::{Mode, OFlags};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use twox_hash::XxHash3_64;

/// Names of segments that are being written.
pub(super) const UNFINISHED: &str = "unfinished-";
/// The file that processes which clean up lock.
pub(super) const LOCK: &str = "lock";
const MARK: &[u8; 8] = b"firntree";
/// Words of an entry of the index: the key, the number of words, and the place in the file.
pub(super) const ENTRY: usize = 8;
const KEY: usize = 5;
/// Words of a file's state: its hash and the size. The key of its text follows.
const STAMP: usize = KEY + 2;
/// Words of the foot: where the index is, the numbers of entries and of states, a check of both, the mark.
const FOOT: usize = 8;
/// From how many words on a tree may be a large one.
const LARGE: usize = 1 << 16;
/// How many words of a large tree are read at once.
const PIECE: usize = 1 << 16;
/// A tree's check comes before it.
const CHECK: usize = 2;

pub(super) type Entry = [u32; ENTRY];
pub(super) type Stamped = [u32; STAMP + KEY];

fn check_of(words: &[u32]) -> [u32; 2] {
    halves(XxHash3_64::oneshot(bytemuck::cast_slice(words)))
}

fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

fn whole([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn key_words(key: &[u8; 4 * KEY]) -> [u32; KEY] {
    bytemuck::cast(*key)
}

fn stamp_words(stamp: &FileStamp) -> [u32; STAMP] {
    let mut words = [0; STAMP];
    words[..KEY].copy_from_slice(&key_words(&stamp.hash));
    words[KEY..].copy_from_slice(&halves(stamp.size));
    words
}

/// What is read for one check: two tables, one after the other.
fn check_of_both(index: &[Entry], stamps: &[Stamped]) -> [u32; 2] {
    let [a, b] = check_of(index.as_flattened());
    let [c, d] = check_of(stamps.as_flattened());
    [a ^ c.rotate_left(1), b ^ d.rotate_left(1)]
}

pub(super) fn key_of(entry: &Entry) -> &[u32] {
    &entry[..KEY]
}

/// Where a tree is in its file, and how many words it has with its check.
pub(super) fn place(entry: &Entry) -> (u64, usize) {
    (whole([entry[6], entry[7]]), entry[5] as usize)
}

/// The same entry for another place.
pub(super) fn moved(entry: &Entry, place: u64) -> Entry {
    let mut entry = *entry;
    [entry[6], entry[7]] = halves(place);
    entry
}

/// A finished segment.
pub(super) struct Segment {
    pub(super) file: Arc<File>,
    pub(super) index: Vec<Entry>,
    pub(super) stamps: Vec<Stamped>,
    /// Where the trees end.
    end: u64,
    /// One that no other segment of this process has.
    number: u64,
}

/// What was read of a segment. Programs ask for trees in the order in which others asked for them, so that the next ones are
/// read along with the one that is asked for once they follow each other.
#[derive(Default)]
pub(super) struct Window {
    words: Vec<u32>,
    /// The segment's number, and the place of the first word.
    segment: u64,
    place: u64,
    count: usize,
    /// Where the tree that was asked for last ends.
    next: u64,
}

/// How many words are read ahead.
const AHEAD: usize = 1 << 14;

impl Window {
    /// The words from a place on.
    fn get(&mut self, segment: &Segment, place: u64, count: usize) -> Option<&[u32]> {
        let end = place + 4 * count as u64;
        let same = self.segment == segment.number;
        if !same || place < self.place || end > self.place + 4 * self.count as u64 {
            let left = (segment.end.saturating_sub(place) / 4) as usize;
            let wanted = if same && self.next == place { count.max(AHEAD.min(left)) } else { count };
            let words = self.emptied();
            if words.len() < wanted {
                words.resize(wanted, 0);
            }
            read_words(&segment.file, &mut words[..wanted], place)?;
            (self.segment, self.place, self.count) = (segment.number, place, wanted);
        }
        self.next = end;
        let from = (place - self.place) as usize / 4;
        self.words.get(from..from + count)
    }

    /// The memory, for something else.
    fn emptied(&mut self) -> &mut Vec<u32> {
        self.count = 0;
        if self.words.capacity() > super::MAX_SCRATCH {
            self.words = Vec::new();
        }
        &mut self.words
    }
}

fn read_words(file: &File, words: &mut [u32], at: u64) -> Option<()> {
    file.read_exact_at(bytemuck::cast_slice_mut(words), at).ok()
}

impl Segment {
    /// Nothing for a file that is none, or not whole.
    pub(super) fn open(path: &Path) -> Option<Segment> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
        let size = file.metadata().ok()?.len();
        let mut foot = [0; FOOT];
        let foot_at = size.checked_sub(size_of_val(&foot) as u64)?;
        read_words(&file, &mut foot, foot_at)?;
        let [place_low, place_high, count, stamp_count, check_low, check_high, mark_low, mark_high] = foot;
        let mark: [u32; 2] = bytemuck::cast(*MARK);
        let place = whole([place_low, place_high]);
        let index_bytes = u64::from(count) * size_of::<Entry>() as u64;
        let stamp_bytes = u64::from(stamp_count) * size_of::<Stamped>() as u64;
        if [mark_low, mark_high] != mark || place.checked_add(index_bytes + stamp_bytes) != Some(foot_at) {
            return None;
        }
        let mut index: Vec<Entry> = vec![[0; ENTRY]; count as usize];
        let mut stamps: Vec<Stamped> = vec![[0; STAMP + KEY]; stamp_count as usize];
        read_words(&file, index.as_flattened_mut(), place)?;
        read_words(&file, stamps.as_flattened_mut(), place + index_bytes)?;
        let whole = check_of_both(&index, &stamps) == [check_low, check_high];
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        whole.then_some(Segment { file: Arc::new(file), index, stamps, end: place, number })
    }

    /// The key of the text that a file has in a state.
    pub(super) fn key_of(&self, stamp: &FileStamp) -> Option<TextKey> {
        let stamp = stamp_words(stamp);
        let found = self.stamps.binary_search_by(|entry| entry[..STAMP].cmp(&stamp)).ok()?;
        let key: [u32; KEY] = *self.stamps[found].last_chunk()?;
        Some(TextKey(bytemuck::cast(key)))
    }

    /// The tree of a text.
    pub(super) fn tree(&self, key: &TextKey, window: &mut Window) -> Option<Ast> {
        let key = key_words(&key.0);
        let found = self.index.binary_search_by(|entry| key_of(entry).cmp(&key)).ok()?;
        let (place, count) = place(&self.index[found]);
        let mut head = [0; CHECK + stored::HEAD];
        if count >= LARGE {
            read_words(&self.file, &mut head, place)?;
            if let Some(nodes) = stored::far_nodes(&head[CHECK..]) {
                return self.large_tree(place, count, nodes, window.emptied());
            }
        }
        let (check, tree) = window.get(self, place, count)?.split_first_chunk::<CHECK>()?;
        if check_of(tree) == *check { stored::read(tree) } else { None }
    }

    /// The same for one whose nodes are read when they are needed. They are read once to be checked.
    fn large_tree(&self, place: u64, count: usize, nodes: Range<usize>, words: &mut Vec<u32>) -> Option<Ast> {
        let rest = count.checked_sub(CHECK + nodes.len())?;
        if words.len() < rest.max(PIECE) {
            words.resize(rest.max(PIECE), 0);
        }
        let at = |word: usize| place + 4 * (CHECK + word) as u64;
        let mut check = [0; CHECK];
        read_words(&self.file, &mut check, place)?;
        let mut hasher = XxHash3_64::new();
        let mut next = 0;
        while next < count - CHECK {
            let piece = &mut words[..PIECE.min(count - CHECK - next)];
            read_words(&self.file, piece, at(next))?;
            hasher.write(bytemuck::cast_slice(piece));
            next += piece.len();
        }
        if halves(hasher.finish()) != check {
            return None;
        }
        let words = &mut words[..rest];
        let (head, tables) = words.split_at_mut_checked(nodes.start)?;
        read_words(&self.file, head, at(0))?;
        read_words(&self.file, tables, at(nodes.end))?;
        let source = Nodes { file: Arc::clone(&self.file), place: at(0) };
        stored::read_far(words, Box::new(source))
    }
}

/// Nodes of a large tree.
struct Nodes {
    file: Arc<File>,
    /// Where the tree starts.
    place: u64,
}

impl NodeSource for Nodes {
    fn read(&self, start: usize, words: &mut [u32]) -> bool {
        read_words(&self.file, words, self.place + 4 * start as u64).is_some()
    }
}

/// All segments of this version that are whole, the latest first.
pub(super) fn open_all(dir: &Path) -> Vec<Segment> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(stored::SOURCES))
        .collect();
    names.sort();
    names.iter().rev().filter_map(|name| Segment::open(&dir.join(name))).collect()
}

/// A segment that is being written.
pub(super) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    length: u64,
    index: Vec<Entry>,
    keys: HashSet<[u32; KEY]>,
    stamps: HashMap<[u32; STAMP], [u32; KEY]>,
}

impl Writer {
    pub(super) fn new(dir: &Path) -> io::Result<Writer> {
        let path = dir.join(format!("{UNFINISHED}{}", super::new_name()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?);
        let mut writer = Writer {
            path,
            file: BufWriter::with_capacity(256 << 10, file),
            length: 0,
            index: Vec::new(),
            keys: HashSet::new(),
            stamps: HashMap::new(),
        };
        writer.put(&bytemuck::cast::<_, [u32; 2]>(*MARK))?;
        Ok(writer)
    }

    fn put(&mut self, words: &[u32]) -> io::Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(words);
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Adds a tree, by its words.
    pub(super) fn add(&mut self, key: &TextKey, tree: &[u32]) -> io::Result<()> {
        let key = key_words(&key.0);
        let Some(count) = u32::try_from(CHECK + tree.len()).ok().filter(|_| self.keys.insert(key)) else {
            return Ok(());
        };
        let mut entry = [0; ENTRY];
        entry[..KEY].copy_from_slice(&key);
        entry[KEY] = count;
        self.index.push(moved(&entry, self.length));
        self.put(&check_of(tree))?;
        self.put(tree)
    }

    /// Adds a tree that was written before, by its entry there.
    pub(super) fn add_words(&mut self, entry: &Entry, words: &[u32]) -> io::Result<()> {
        let mut key = [0; KEY];
        key.copy_from_slice(key_of(entry));
        if self.keys.insert(key) {
            self.index.push(moved(entry, self.length));
            self.put(words)?;
        }
        Ok(())
    }

    /// Adds a file's state.
    pub(super) fn add_stamp(&mut self, stamp: &FileStamp, key: &TextKey) {
        self.stamps.insert(stamp_words(stamp), key_words(&key.0));
    }

    /// Adds a state that was written before, unless it is there.
    pub(super) fn add_stamped(&mut self, stamped: &Stamped) {
        if let (Some(stamp), Some(key)) = (stamped.first_chunk(), stamped.last_chunk()) {
            self.stamps.entry(*stamp).or_insert(*key);
        }
    }

    /// Gives the segment its name, if there is anything in it.
    pub(super) fn finish(mut self, name: &Path) -> io::Result<()> {
        if self.index.is_empty() && self.stamps.is_empty() {
            return Ok(());
        }
        let mut index = std::mem::take(&mut self.index);
        index.sort_unstable();
        let mut stamps: Vec<Stamped> = Vec::with_capacity(self.stamps.len());
        for (stamp, key) in self.stamps.drain() {
            let mut stamped = [0; STAMP + KEY];
            stamped[..STAMP].copy_from_slice(&stamp);
            stamped[STAMP..].copy_from_slice(&key);
            stamps.push(stamped);
        }
        stamps.sort_unstable();
        let place = halves(self.length);
        let check = check_of_both(&index, &stamps);
        self.put(index.as_flattened())?;
        self.put(stamps.as_flattened())?;
        let mark: [u32; 2] = bytemuck::cast(*MARK);
        let (trees, states) = (index.len() as u32, stamps.len() as u32);
        self.put(&[place[0], place[1], trees, states, check[0], check[1], mark[0], mark[1]])?;
        self.file.flush()?;
        fs::rename(&self.path, name)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // There is none any more when it was finished.
        let _ = fs::remove_file(&self.path);
    }
}

//! What an evaluation saw of the world, and whether the world still looks so.
//!
//! A file is taken for unchanged when its inode, size and times of change are as before, as Git and make do it; where that
//! could be a coincidence, because it was changed in the moment it was looked at, its contents are compared too.

use firn_core::{Hash, HashAlgo, HashFormat};
use firn_eval::{EvalHost, FileKind, FileStamp};
use rustc_hash::FxHasher;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Changes that follow each other faster than this may leave the same times.
const CLOSE: i64 = 2;

/// More files than this below a copied folder are not worth to be looked at each time.
const MOST_FILES: usize = 50_000;

/// Where something is on the disk, and when it was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    place: (u64, u64),
    size: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    fn of(data: &std::fs::Metadata) -> Self {
        Self {
            place: (data.dev(), data.ino()),
            size: data.size(),
            mode: data.mode(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }

    /// Following symlinks; nothing for what is not there.
    pub fn follow(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|data| Self::of(&data))
    }

    /// The state of a regular file, if others surely look different: it was not changed just now, and the time is one that
    /// the kernel took rather than one that whoever made an image of a disk wrote.
    pub fn stamp(data: &std::fs::Metadata, path: &[u8]) -> Option<FileStamp> {
        let stat = Self::of(data);
        if !data.is_file() || stat.is_fresh() || stat.changed.1 == 0 {
            return None;
        }
        let (modified, changed) = (stat.modified, stat.changed);
        // The path only tells apart what is alike by chance.
        let mut path_hash = FxHasher::default();
        path_hash.write(path);
        let numbers = [stat.place.0, stat.place.1, stat.size, path_hash.finish()];
        let times = [modified.0, modified.1, changed.0, changed.1];
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(bytemuck::cast_slice(&numbers));
        bytes[32..].copy_from_slice(bytemuck::cast_slice(&times));
        let mut hash = [0; 20];
        hash.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..20]);
        Some(FileStamp { hash, size: stat.size })
    }

    /// Whether it was changed so recently that another change could look the same.
    fn is_fresh(&self) -> bool {
        self.changed.0 + CLOSE >= now() || self.modified.0 + CLOSE >= now()
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs().try_into().unwrap_or(i64::MAX))
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// The bytes of a file.
    File { stat: Option<Stat>, hash: String },
    /// The names in a folder, with their kinds.
    Folder { stat: Option<Stat>, hash: String },
    /// What a path is, without following it.
    Kind(String),
    /// Where a symlink leads.
    Link(String),
    /// A variable of the environment.
    Variable(Option<String>),
    /// Whether a path of the store was valid.
    Valid(bool),
    /// Everything below a path that was copied to the store.
    Tree(String),
}

pub fn hash_of(bytes: &[u8]) -> String {
    Hash::of(HashAlgo::Sha256, bytes).to_base(HashFormat::Nix32)
}

pub fn hash_of_folder(entries: &BTreeMap<Vec<u8>, FileKind>) -> String {
    let mut text = Vec::new();
    for (name, kind) in entries {
        text.extend_from_slice(name);
        text.push(0);
        text.extend_from_slice(kind_name(Some(*kind)).as_bytes());
        text.push(0);
    }
    hash_of(&text)
}

/// Tells programs from other files, which the language's own names do not.
pub fn kind_name(kind: Option<FileKind>) -> &'static str {
    match kind {
        None => "nothing",
        Some(FileKind::Regular { executable: true }) => "program",
        Some(kind) => kind.name(),
    }
}

/// A hash of where all files below a path are and when they were changed. Nothing where there are too many, or one was
/// changed just now.
pub fn tree(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    let mut todo = vec![path.to_owned()];
    let mut count = 0;
    while let Some(path) = todo.pop() {
        count += 1;
        let data = path.symlink_metadata().ok()?;
        let stat = Stat::of(&data);
        if count > MOST_FILES || stat.is_fresh() {
            return None;
        }
        text.extend_from_slice(path.as_os_str().as_bytes());
        text.extend_from_slice(format!("\0{stat:?}\0").as_bytes());
        if data.is_dir() {
            let mut names: Vec<_> =
                path.read_dir().ok()?.map(|entry| Some(entry.ok()?.path())).collect::<Option<_>>()?;
            names.sort();
            todo.append(&mut names);
        }
    }
    Some(hash_of(&text))
}

impl Seen {
    pub fn file(stat: Option<Stat>, bytes: &[u8]) -> Self {
        Self::File { stat: stat.filter(|stat| !stat.is_fresh()), hash: hash_of(bytes) }
    }

    pub fn folder(stat: Option<Stat>, entries: &BTreeMap<Vec<u8>, FileKind>) -> Self {
        Self::Folder { stat: stat.filter(|stat| !stat.is_fresh()), hash: hash_of_folder(entries) }
    }

    /// Whether `name`, a path or a variable, still is what was seen. `host` is asked as it would be by evaluation.
    pub fn still_holds(&self, name: &str, host: &dyn EvalHost) -> bool {
        let bytes = name.as_bytes();
        let same = |before: &Option<Stat>| {
            let real = host.real_path(bytes);
            before.is_some() && *before == Stat::follow(Path::new(OsStr::from_bytes(&real)))
        };
        match self {
            Self::File { stat, hash } => {
                same(stat) || host.read_file(bytes).is_ok_and(|bytes| hash_of(&bytes) == *hash)
            }
            Self::Folder { stat, hash } => {
                same(stat) || host.read_dir(bytes).is_ok_and(|entries| hash_of_folder(&entries) == *hash)
            }
            Self::Kind(kind) => host.file_kind(bytes).is_ok_and(|now| kind_name(now) == kind),
            Self::Link(target) => host.read_link(bytes).is_ok_and(|now| now == target.as_bytes()),
            Self::Variable(value) => host.env_var(bytes).as_deref() == value.as_deref().map(str::as_bytes),
            Self::Valid(valid) => {
                let path = host.store_dir().parse(name);
                path.is_ok_and(|path| host.is_valid(&path).is_ok_and(|now| now == *valid))
            }
            Self::Tree(hash) => {
                let real = host.real_path(bytes);
                tree(Path::new(OsStr::from_bytes(&real))).is_some_and(|now| now == *hash)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_change_with_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sub/file");
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(&file, "text").unwrap();
        // Made just now.
        assert_eq!(tree(folder.path()), None);
        assert_eq!(tree(Path::new("/nowhere/at/all")), None);
    }

    #[test]
    fn folders_differ_by_names_and_kinds() {
        let folder = |name: &str, kind| hash_of_folder(&BTreeMap::from([(name.as_bytes().to_vec(), kind)]));
        let plain = FileKind::Regular { executable: false };
        assert_ne!(folder("a", plain), folder("b", plain));
        assert_ne!(folder("a", plain), folder("a", FileKind::Regular { executable: true }));
        assert_eq!(folder("a", plain), folder("a", plain));
    }
}

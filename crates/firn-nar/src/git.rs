//! Git's object hash of a file tree: blobs for files and symlinks, trees for directories.
//!
//! Source: Git's documentation of its object format; which modes there are follows the manual's page on content
//! addressing with Git.

use crate::error::{NarError, NarResult};
use crate::fs::{DumpOptions, dump_path};
use crate::reader::{Event, NarReader, Node};
use firn_core::{Hash, HashAlgo, Hasher};
use std::io::{self, BufRead, BufReader, PipeWriter, Write};
use std::path::Path;
use std::thread::JoinHandle;

const REGULAR: &str = "100644";
const EXECUTABLE: &str = "100755";
const SYMLINK: &str = "120000";
const DIRECTORY: &str = "40000";

/// One entry of a tree object.
struct Entry {
    name: Vec<u8>,
    mode: &'static str,
    hash: Hash,
}

impl Entry {
    /// Git sorts directories as if their names ended in a slash.
    fn key(&self) -> Vec<u8> {
        let slash = (self.mode == DIRECTORY).then_some(b'/');
        self.name.iter().copied().chain(slash).collect()
    }
}

/// The object hash of what an archive holds. Only SHA-1 and SHA-256 are Git's.
pub fn hash_archive<R: BufRead>(reader: &mut NarReader<R>, algo: HashAlgo) -> NarResult<Hash> {
    check_algo(algo)?;
    let mut open: Vec<(Vec<u8>, Vec<Entry>)> = Vec::new();
    let mut root = None;
    loop {
        let (name, mode, hash) = match reader.next_event()? {
            None => return root.ok_or_else(|| NarError::bad("the archive is empty")),
            Some(Event::Node { name, node: Node::Directory }) => {
                open.push((name.to_vec(), Vec::new()));
                continue;
            }
            Some(Event::Node { name, node: Node::Symlink { target } }) => {
                let mut hasher = blob(algo, target.len() as u64);
                hasher.update(target);
                (name.to_vec(), SYMLINK, hasher.finish())
            }
            Some(Event::Node { name, node: Node::Regular { executable, size, .. } }) => {
                let name = name.to_vec();
                let mut hasher = blob(algo, size);
                reader.copy_contents(|chunk| {
                    hasher.update(chunk);
                    Ok(())
                })?;
                (name, if executable { EXECUTABLE } else { REGULAR }, hasher.finish())
            }
            Some(Event::EndDirectory) => match open.pop() {
                Some((name, entries)) => (name, DIRECTORY, tree(algo, entries)),
                None => continue,
            },
        };
        match open.last_mut() {
            Some((_, entries)) => entries.push(Entry { name, mode, hash }),
            None => root = Some(hash),
        }
    }
}

/// The object hash of the file, symlink or directory at `path`.
pub fn hash_path(path: &Path, algo: HashAlgo, options: DumpOptions<'_>) -> NarResult<Hash> {
    dump_path(path, GitHasher::start(algo)?, options)?.finish()
}

/// Takes an archive that is written to it and hashes its tree on a thread of its own.
pub struct GitHasher {
    archive: PipeWriter,
    hashing: JoinHandle<NarResult<Hash>>,
}

impl GitHasher {
    pub fn start(algo: HashAlgo) -> NarResult<GitHasher> {
        check_algo(algo)?;
        let (reader, archive) = io::pipe().map_err(NarError::Read)?;
        let hashing = std::thread::spawn(move || {
            hash_archive(&mut NarReader::new(BufReader::with_capacity(64 * 1024, reader)), algo)
        });
        Ok(GitHasher { archive, hashing })
    }

    /// To be called when the whole archive was written.
    pub fn finish(self) -> NarResult<Hash> {
        drop(self.archive);
        self.hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Write for GitHasher {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.archive.write(data)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_algo(algo: HashAlgo) -> NarResult<()> {
    match algo {
        HashAlgo::Sha1 | HashAlgo::Sha256 => Ok(()),
        other => Err(NarError::bad(format!("Unsupported hash algorithm for git trees: {other}"))),
    }
}

fn blob(algo: HashAlgo, size: u64) -> Hasher {
    let mut hasher = Hasher::new(algo);
    hasher.update(format!("blob {size}\0").as_bytes());
    hasher
}

fn tree(algo: HashAlgo, mut entries: Vec<Entry>) -> Hash {
    entries.sort_by_cached_key(Entry::key);
    let mut body = Vec::new();
    for entry in &entries {
        body.extend_from_slice(entry.mode.as_bytes());
        body.push(b' ');
        body.extend_from_slice(&entry.name);
        body.push(0);
        body.extend_from_slice(entry.hash.digest());
    }
    let mut hasher = Hasher::new(algo);
    hasher.update(format!("tree {}\0", body.len()).as_bytes());
    hasher.update(&body);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NarWriter;
    use firn_core::HashFormat;

    #[track_caller]
    fn check(algo: HashAlgo, fill: impl FnOnce(&mut NarWriter<Vec<u8>>) -> NarResult<()>, expected: &str) {
        let mut writer = NarWriter::new(Vec::new());
        fill(&mut writer).unwrap();
        let nar = writer.finish().unwrap();
        let hash = hash_archive(&mut NarReader::new(&nar[..]), algo).unwrap();
        assert_eq!(hash.to_base(HashFormat::Base16), expected);
        let mut pipe = GitHasher::start(algo).unwrap();
        pipe.write_all(&nar).unwrap();
        assert_eq!(pipe.finish().unwrap(), hash);
    }

    #[test]
    fn hashes_as_git_does() {
        // Expected values from `git hash-object` and `git write-tree`.
        let empty = |w: &mut NarWriter<Vec<u8>>| w.regular(b"", false, b"");
        check(HashAlgo::Sha1, empty, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        let none = |w: &mut NarWriter<Vec<u8>>| w.start_directory(b"").and_then(|()| w.end_directory());
        check(HashAlgo::Sha1, none, "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
        check(HashAlgo::Sha256, none, "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321");
        // `a.b` sorts before the directory `a`, as `a/` would.
        let order = |w: &mut NarWriter<Vec<u8>>| {
            w.start_directory(b"")?;
            w.start_directory(b"a")?;
            w.regular(b"x", true, b"hello\n")?;
            w.end_directory()?;
            w.regular(b"a.b", false, b"hello\n")?;
            w.symlink(b"l", b"a/x")?;
            w.end_directory()
        };
        check(HashAlgo::Sha1, order, "72dc5d148fb994fb8a7e1145ecd4bfb3085d864b");
    }

    #[test]
    fn refuses_other_algorithms() {
        assert!(GitHasher::start(HashAlgo::Sha512).is_err());
    }
}

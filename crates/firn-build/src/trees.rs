//! Reading, rewriting and moving trees of outputs.

use crate::text::{io_failure, quote};
use firn_core::{CaMethod, Hash, HashAlgo, StorePath};
use firn_nar::fs::{Canonical, DumpOptions, RestoreOptions, dump_path, restore};
use firn_nar::{HashSink, ModuloHasher, NarReader, RefScanner, Rewriter};
use firn_scheduler::BuildFailure;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Hash parts to replace.
pub(crate) type HashRewrites = BTreeMap<String, String>;

/// Writes to two sinks.
struct Tee<A, B>(A, B);

impl<A: Write, B: Write> Write for Tee<A, B> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write_all(data)?;
        self.1.write_all(data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which of `candidates` the tree refers to, and the hash and size of its archive.
pub(crate) fn scan_and_hash(
    path: &Path,
    candidates: &BTreeSet<StorePath>,
) -> Result<(BTreeSet<StorePath>, Hash, u64), BuildFailure> {
    let scanner = RefScanner::new(candidates.iter().map(StorePath::hash_part));
    let Tee(scanner, sink) =
        dump_path(path, Tee(scanner, HashSink::new(HashAlgo::Sha256)), DumpOptions::default())
            .map_err(BuildFailure::other)?;
    let found = scanner.into_found();
    let references = candidates.iter().filter(|p| found.contains(p.hash_part())).cloned().collect();
    let (hash, size) = sink.finish();
    Ok((references, hash, size))
}

/// The hash and size of a tree's archive.
pub(crate) fn nar_hash(path: &Path) -> Result<(Hash, u64), BuildFailure> {
    dump_path(path, HashSink::new(HashAlgo::Sha256), DumpOptions::default())
        .map(HashSink::finish)
        .map_err(BuildFailure::other)
}

/// The hash of an output's content by `method`, `self_hash` (its own hash part) counting as zeroes.
pub(crate) fn content_hash(
    path: &Path,
    method: CaMethod,
    algo: HashAlgo,
    self_hash: &str,
) -> Result<Hash, BuildFailure> {
    let mut hasher = ModuloHasher::new(algo, self_hash).map_err(BuildFailure::other)?;
    match method {
        CaMethod::Flat | CaMethod::Text => {
            let mut file = fs::File::open(path).map_err(io_failure("opening file", path))?;
            io::copy(&mut file, &mut hasher).map_err(io_failure("reading file", path))?;
        }
        CaMethod::NixArchive => {
            hasher = dump_path(path, hasher, DumpOptions::default()).map_err(BuildFailure::other)?;
        }
        CaMethod::Git => {
            // There is no Git hash modulo self-references, so an output that has any does not match.
            return firn_nar::git::hash_path(path, algo, DumpOptions::default()).map_err(BuildFailure::other);
        }
    }
    hasher.finish().map(|(hash, _)| hash).map_err(BuildFailure::other)
}

/// Copies a tree to `dest`, which does not exist, replacing hash parts on the way.
pub(crate) fn copy_rewritten(
    source: &Path,
    dest: &Path,
    rewrites: &HashRewrites,
) -> Result<(), BuildFailure> {
    let (reader, writer) = io::pipe().map_err(io_failure("creating a pipe for", source))?;
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || -> Result<(), BuildFailure> {
            let rules = rewrites.iter().map(|(from, to)| (from.as_bytes(), to.as_bytes()));
            let rewriter = Rewriter::new(rules, BufWriter::new(writer)).map_err(BuildFailure::other)?;
            let rewriter =
                dump_path(source, rewriter, DumpOptions::default()).map_err(BuildFailure::other)?;
            let (mut out, _, _) = rewriter.finish().map_err(BuildFailure::other)?;
            out.flush().map_err(BuildFailure::other)
        });
        let options = RestoreOptions { canonical: Canonical::Yes, ..Default::default() };
        let mut input = BufReader::with_capacity(64 * 1024, reader);
        let restored = restore(&mut NarReader::new(&mut input), dest, options).map_err(BuildFailure::other);
        // If it failed, the producer must be able to finish, so that its own error, if any, is the true one.
        if restored.is_err() {
            let _ = io::copy(&mut input, &mut io::sink());
        }
        drop(input);
        let produced = producer
            .join()
            .unwrap_or_else(|_| Err(BuildFailure::other("copying an output ended unexpectedly")));
        produced.and(restored)
    })
}

/// Moves a file or tree within a file system, over nothing. A directory that we may not write to is made writable
/// for the time of it, since its entry `..` changes.
pub(crate) fn move_tree(source: &Path, dest: &Path) -> Result<(), BuildFailure> {
    let meta = fs::symlink_metadata(source).map_err(io_failure("getting status of", source))?;
    let mode = meta.permissions().mode();
    let change = meta.is_dir() && mode & 0o200 == 0 && !rustix::process::geteuid().is_root();
    let set = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(io_failure("changing permissions of", path))
    };
    if change {
        set(source, mode | 0o200)?;
    }
    fs::rename(source, dest).map_err(|e| {
        BuildFailure::other(format!("moving {} to {}: {}", quote(source), quote(dest), crate::text::os(&e)))
    })?;
    if change {
        // The modification time of the directory changed only where its entries did, which they did not.
        set(dest, mode)?;
    }
    Ok(())
}

/// `path` with text appended to its last component.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

//! Files of a commit, or of a working tree, as they are in Git: no filters, no line ends changed.

use super::command::{Git, os, parts};
use crate::error::{FetchError, FetchResult};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

/// A file of a commit.
struct Entry {
    mode: Vec<u8>,
    hash: String,
    path: Vec<u8>,
}

/// A place where another repository is mounted, with its commit.
pub struct Gitlink {
    pub path: Vec<u8>,
    pub rev: String,
}

/// What was written of a commit.
pub struct Exported {
    pub links: Vec<Gitlink>,
    /// The files that Git LFS looks after.
    pub large: Vec<Vec<u8>>,
}

fn bad(text: String) -> FetchError {
    FetchError::Other(text)
}

/// Paths come from others: they stay below the folder that is written to.
fn checked(path: &[u8]) -> FetchResult<PathBuf> {
    let relative = PathBuf::from(os(path));
    let good = relative.components().all(|part| matches!(part, Component::Normal(name) if name != ".git"));
    match good && !path.is_empty() {
        true => Ok(relative),
        false => {
            Err(bad(format!("the Git tree has a file with the forbidden name '{}'", relative.display())))
        }
    }
}

/// What is written below a folder. Nothing is written through a symlink.
struct Writer<'a> {
    root: &'a Path,
    links: BTreeSet<PathBuf>,
}

impl Writer<'_> {
    fn place(&self, path: &[u8]) -> FetchResult<PathBuf> {
        let relative = checked(path)?;
        if relative.ancestors().skip(1).any(|above| self.links.contains(above)) {
            return Err(bad(format!("the Git tree has '{}' below a symlink", relative.display())));
        }
        let place = self.root.join(&relative);
        if let Some(folder) = place.parent() {
            std::fs::create_dir_all(folder).map_err(FetchError::io("creating directory", folder))?;
        }
        Ok(place)
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> FetchResult<()> {
        let place = self.place(path)?;
        symlink(os(target), &place).map_err(FetchError::io("creating symlink", &place))?;
        self.links.insert(checked(path)?);
        Ok(())
    }

    fn file(&self, path: &[u8], executable: bool) -> FetchResult<(File, PathBuf)> {
        let place = self.place(path)?;
        let file = File::create_new(&place).map_err(FetchError::io("creating file", &place))?;
        let mode = if executable { 0o755 } else { 0o644 };
        file.set_permissions(Permissions::from_mode(mode)).map_err(FetchError::io("changing", &place))?;
        Ok((file, place))
    }
}

impl Git {
    /// Writes the files of commit `rev` below `to`, and gives the places of other repositories and, if `large` are wanted, those
    /// of pointers to large files.
    pub fn export(&self, rev: &str, to: &Path, export_ignore: bool, large: bool) -> FetchResult<Exported> {
        let listing = self.run(&["ls-tree", "-r", "-z", "--full-tree", rev])?;
        let mut entries = Vec::new();
        let mut links = Vec::new();
        for line in parts(&listing) {
            let entry = entry(line)
                .ok_or_else(|| bad(format!("'git ls-tree' printed '{}'", String::from_utf8_lossy(line))))?;
            match &entry.mode[..] {
                b"160000" => links.push(Gitlink { path: entry.path, rev: entry.hash }),
                _ => entries.push(entry),
            }
        }
        let has_attributes = entries.iter().any(|entry| entry.path.ends_with(b".gitattributes"));
        if export_ignore && has_attributes {
            let paths: Vec<&[u8]> = entries.iter().map(|entry| &entry.path[..]).collect();
            let ignored = self.ignored(&paths, Some(rev))?;
            entries.retain(|entry| !is_below(&entry.path, &ignored));
        }
        std::fs::create_dir_all(to).map_err(FetchError::io("creating directory", to))?;
        self.write_blobs(&entries, to)?;
        for link in &links {
            let place = to.join(checked(&link.path)?);
            std::fs::create_dir_all(&place).map_err(FetchError::io("creating directory", &place))?;
        }
        let files = entries.iter().filter(|entry| entry.mode.starts_with(b"100"));
        let large = match large && has_attributes {
            true => self.with_attribute("filter", b"lfs", files.map(|entry| &entry.path[..]), Some(rev))?,
            false => Vec::new(),
        };
        Ok(Exported { links, large })
    }

    fn write_blobs(&self, entries: &[Entry], to: &Path) -> FetchResult<()> {
        let args = ["cat-file", "--batch"].map(OsStr::new);
        let mut child = self
            .command(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(FetchError::io("starting", "git"))?;
        let result = match (child.stdin.take(), child.stdout.take()) {
            (Some(mut asks), Some(answers)) => {
                copy_blobs(entries, to, &mut asks, &mut BufReader::new(answers))
            }
            _ => Err(bad("'git cat-file' has no pipes".to_owned())),
        };
        // Its input is closed by now, so it ends.
        if result.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(FetchError::io("waiting for", "git"))?;
        result?;
        match status.success() {
            true => Ok(()),
            false => Err(bad(format!("'git cat-file' in '{}' failed", self.dir.display()))),
        }
    }

    /// Those of `paths`, and of the folders above them, that have the attribute `export-ignore`; in the working tree if no
    /// commit is named.
    fn ignored(&self, paths: &[&[u8]], rev: Option<&str>) -> FetchResult<BTreeSet<Vec<u8>>> {
        let mut all: BTreeSet<&[u8]> = BTreeSet::new();
        for path in paths {
            all.insert(path);
            for (at, byte) in path.iter().enumerate() {
                if *byte == b'/' {
                    all.insert(&path[..at]);
                }
            }
        }
        let ignored = self.with_attribute("export-ignore", b"set", all, rev)?;
        Ok(ignored.into_iter().collect())
    }

    /// Those of `paths` whose attribute has this value; in the working tree if no commit is named.
    fn with_attribute<'a>(
        &self,
        attribute: &str,
        value: &[u8],
        paths: impl IntoIterator<Item = &'a [u8]>,
        rev: Option<&str>,
    ) -> FetchResult<Vec<Vec<u8>>> {
        let index = rev.map(|rev| self.index_of(rev)).transpose()?;
        let mut args = vec!["check-attr", "-z", "--stdin"];
        args.extend(index.is_some().then_some("--cached"));
        args.push(attribute);
        let args: Vec<&OsStr> = args.into_iter().map(OsStr::new).collect();
        let mut command = self.command(&args);
        if let Some(index) = &index {
            command.env("GIT_INDEX_FILE", index.path().join("index"));
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(FetchError::io("starting", "git"))?;
        let mut text = Vec::new();
        for path in paths {
            text.extend_from_slice(path);
            text.push(0);
        }
        let input = child.stdin.take();
        // It answers while it reads.
        let asking = std::thread::spawn(move || input.map(|mut input| input.write_all(&text)));
        let output = child.wait_with_output().map_err(FetchError::io("reading from", "git"))?;
        let _ = asking.join();
        if !output.status.success() {
            return Err(bad(format!("'git check-attr' in '{}' failed", self.dir.display())));
        }
        // Path, attribute, value.
        let fields: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
        let found = fields.chunks_exact(3).filter(|fields| fields[2] == value);
        Ok(found.map(|fields| fields[0].to_vec()).collect())
    }

    /// A folder with an `index` of a commit. Attributes of a commit can be asked for since version 2.40 of Git only, those of an
    /// index always.
    fn index_of(&self, rev: &str) -> FetchResult<tempfile::TempDir> {
        let folder = tempfile::TempDir::new()
            .map_err(FetchError::io("creating temporary directory in", std::env::temp_dir()))?;
        // Nothing is to be written into the repository.
        let args = ["-c", "core.splitIndex=false", "read-tree", rev].map(OsStr::new);
        let mut command = self.command(&args);
        command.env("GIT_INDEX_FILE", folder.path().join("index"));
        let output = command.output().map_err(FetchError::io("starting", "git"))?;
        match output.status.success() {
            true => Ok(folder),
            false => Err(bad(format!(
                "'git read-tree {rev}' in '{}' failed: {}",
                self.dir.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            ))),
        }
    }

    /// Where the index has other repositories.
    pub fn modules(&self) -> FetchResult<Vec<Vec<u8>>> {
        let listing = self.run(&["ls-files", "-z", "--cached", "--stage", "--full-name"])?;
        let modules = parts(&listing).filter(|line| line.starts_with(b"160000 "));
        let path =
            |line: &[u8]| line.iter().position(|byte| *byte == b'\t').map(|tab| line[tab + 1..].to_vec());
        Ok(modules.filter_map(path).collect())
    }

    /// Copies the tracked files of the working tree below `to`, as they are on the disk; gives the places of other
    /// repositories.
    pub fn copy_tracked(&self, to: &Path, export_ignore: bool) -> FetchResult<Vec<Gitlink>> {
        let listing = self.run(&["ls-files", "-z", "--cached", "--stage", "--full-name"])?;
        let mut paths: Vec<&[u8]> = Vec::new();
        let mut links = Vec::new();
        for line in parts(&listing) {
            let Some(tab) = line.iter().position(|byte| *byte == b'\t') else { continue };
            let path = &line[tab + 1..];
            let mut words = line[..tab].split(|byte| *byte == b' ');
            match (words.next(), words.next()) {
                (Some(b"160000"), Some(rev)) => {
                    links.push(Gitlink {
                        path: path.to_vec(),
                        rev: String::from_utf8_lossy(rev).into_owned(),
                    });
                }
                // In a conflict there are several entries.
                _ if paths.last() == Some(&path) => {}
                _ => paths.push(path),
            }
        }
        let ignored = match export_ignore && paths.iter().any(|path| path.ends_with(b".gitattributes")) {
            true => self.ignored(&paths, None)?,
            false => BTreeSet::new(),
        };
        std::fs::create_dir_all(to).map_err(FetchError::io("creating directory", to))?;
        let mut writer = Writer { root: to, links: BTreeSet::new() };
        for path in paths {
            if is_below(path, &ignored) {
                continue;
            }
            let from = self.dir.join(checked(path)?);
            // Deleted without telling Git.
            let Ok(data) = from.symlink_metadata() else { continue };
            if data.is_symlink() {
                let target = std::fs::read_link(&from).map_err(FetchError::io("reading link", &from))?;
                writer.link(path, std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()))?;
            } else if data.is_file() {
                let executable = data.permissions().mode() & 0o100 != 0;
                let (mut file, place) = writer.file(path, executable)?;
                let mut source = File::open(&from).map_err(FetchError::io("opening", &from))?;
                std::io::copy(&mut source, &mut file).map_err(FetchError::io("writing", &place))?;
            }
        }
        Ok(links)
    }
}

fn entry(line: &[u8]) -> Option<Entry> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let mut words = line[..tab].split(|byte| *byte == b' ');
    let (mode, _, hash) = (words.next()?, words.next()?, words.next()?);
    Some(Entry {
        mode: mode.to_vec(),
        hash: String::from_utf8(hash.to_vec()).ok()?,
        path: line[tab + 1..].to_vec(),
    })
}

/// Whether a path or a folder above it is in the set.
fn is_below(path: &[u8], set: &BTreeSet<Vec<u8>>) -> bool {
    let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    set.contains(path) || above.into_iter().any(|folder| set.contains(folder))
}

/// Asks for one blob after the other, so that neither side waits for the other with a full pipe.
fn copy_blobs(
    entries: &[Entry],
    to: &Path,
    asks: &mut dyn Write,
    answers: &mut dyn BufRead,
) -> FetchResult<()> {
    let mut writer = Writer { root: to, links: BTreeSet::new() };
    let lost = |source| FetchError::Io { operation: "talking to", path: "git".into(), source };
    for entry in entries {
        writeln!(asks, "{}", entry.hash).and_then(|()| asks.flush()).map_err(lost)?;
        let mut head = String::new();
        answers.read_line(&mut head).map_err(lost)?;
        let size: Option<u64> = head.trim_end().rsplit_once(' ').and_then(|(_, size)| size.parse().ok());
        let size = size.ok_or_else(|| bad(format!("'git cat-file' printed '{}'", head.trim_end())))?;
        let mut content = answers.take(size);
        match &entry.mode[..] {
            b"120000" => {
                let mut target = Vec::new();
                content.read_to_end(&mut target).map_err(lost)?;
                writer.link(&entry.path, &target)?;
            }
            mode => {
                let (mut file, place) = writer.file(&entry.path, mode == b"100755")?;
                let copied =
                    std::io::copy(&mut content, &mut file).map_err(FetchError::io("writing", &place))?;
                if copied != size {
                    return Err(bad(format!("'git cat-file' ended in the middle of '{}'", entry.hash)));
                }
            }
        }
        // A line end follows.
        answers.read_exact(&mut [0]).map_err(lost)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for bad in ["../x", "/x", "a/../b", ".git/config", "a/.git", ""] {
            assert!(checked(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(checked(b"a/b.c").is_ok());
    }

    #[test]
    fn folders_are_ignored_with_what_is_in_them() {
        let set = BTreeSet::from([b"a/b".to_vec()]);
        assert!(is_below(b"a/b/c", &set) && is_below(b"a/b", &set));
        assert!(!is_below(b"a/bc", &set) && !is_below(b"a", &set));
    }
}

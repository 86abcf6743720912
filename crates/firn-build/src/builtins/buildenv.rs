//! `builtin:buildenv`: a tree of links to the files of several packages, by priority.
//!
//! The tree is planned in memory and written once. A folder that only one package has becomes one link to it; one that
//! several have becomes a folder of links.

use super::Context;
use super::listings::{self, Listings};
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use thiserror::Error;

/// Priorities of packages that other packages bring along start here.
const PROPAGATED_PRIORITY: i64 = 1000;

/// A package's output that goes into an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub path: PathBuf,
    /// Packages that are not active are left out.
    pub active: bool,
    /// Smaller numbers win.
    pub priority: i64,
}

/// Why an environment cannot be built.
#[derive(Debug, Error)]
pub enum EnvironmentError {
    #[error(
        "Unable to build profile. There is a conflict for the following files:\n\n  \"{}\"\n  \"{}\"",
        first.display(),
        second.display()
    )]
    Conflict { first: PathBuf, second: PathBuf, priority: i64 },
    #[error("collision between \"{}\" and non-directory \"{}\"", folder.display(), file.display())]
    FolderOverFile { folder: PathBuf, file: PathBuf },
    #[error("collision between non-directory '{}' and directory '{}'", file.display(), folder.display())]
    FileOverFolder { file: PathBuf, folder: PathBuf },
    #[error("{operation} '{}': {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EnvironmentError {
    let path = path.to_owned();
    move |source| EnvironmentError::Io { operation, path, source }
}

type Folder = BTreeMap<OsString, Node>;

enum Node {
    Link { target: PathBuf, is_folder: bool, priority: i64 },
    Folder(Folder),
}

/// Makes the folder `out` with links to the files of all `packages`. `warn` gets what is left out.
pub fn build_environment(
    out: &Path,
    mut packages: Vec<Package>,
    warn: &mut dyn FnMut(&str),
) -> Result<(), EnvironmentError> {
    packages.sort_by(|a, b| (a.priority, &a.path).cmp(&(b.priority, &b.path)));
    let roots: Vec<&Path> =
        packages.iter().filter(|package| package.active).map(|package| package.path.as_path()).collect();
    let listings = listings::of(&roots);
    let mut plan = Plan { out, warn, done: HashSet::new(), postponed: BTreeSet::new(), listings };
    let mut root = Folder::new();
    for package in packages.iter().filter(|package| package.active) {
        plan.package(&mut root, &package.path, package.priority)?;
    }
    let mut priority = PROPAGATED_PRIORITY;
    while !plan.postponed.is_empty() {
        for path in std::mem::take(&mut plan.postponed) {
            plan.package(&mut root, &path, priority)?;
            priority += 1;
        }
    }
    write(out, root)
}

struct Plan<'a> {
    out: &'a Path,
    warn: &'a mut dyn FnMut(&str),
    done: HashSet<PathBuf>,
    /// What packages want to have installed with them.
    postponed: BTreeSet<PathBuf>,
    /// Folders that were read ahead.
    listings: Listings,
}

impl Plan<'_> {
    fn package(&mut self, root: &mut Folder, path: &Path, priority: i64) -> Result<(), EnvironmentError> {
        if !self.done.insert(path.to_owned()) {
            return Ok(());
        }
        let out = self.out.to_owned();
        self.folder(root, path, &out, priority)?;
        let list = path.join("nix-support/propagated-user-env-packages");
        match fs::read(&list) {
            Ok(text) => {
                let words = text.split(|byte| matches!(byte, b' ' | b'\n')).filter(|word| !word.is_empty());
                for word in words.map(|word| PathBuf::from(OsStr::from_bytes(word))) {
                    if !self.done.contains(&word) {
                        self.postponed.insert(word);
                    }
                }
                Ok(())
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            Err(e) => Err(io_error("reading", &list)(e)),
        }
    }

    /// Adds the files of the folder `source` to `folder`, which will be `place`.
    fn folder(
        &mut self,
        folder: &mut Folder,
        source: &Path,
        place: &Path,
        priority: i64,
    ) -> Result<(), EnvironmentError> {
        let listed = match self.listings.remove(source) {
            Some(listed) => Ok(listed),
            None => listings::list(source),
        };
        let mut entries = match listed {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotADirectory => {
                (self.warn)(&format!(
                    "not including \"{}\" in the user environment because it's not a directory",
                    source.display()
                ));
                return Ok(());
            }
            Err(e) => return Err(io_error("reading directory", source)(e)),
        };
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in entries {
            if name.as_bytes().starts_with(b".") || is_left_out(source, &name) {
                continue;
            }
            let file = source.join(&name);
            let is_folder = match kind.is_symlink() {
                false => kind.is_dir(),
                true => match fs::metadata(&file) {
                    Ok(meta) => meta.is_dir(),
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                        let place = place.join(&name);
                        (self.warn)(&format!("skipping dangling symlink '{}'", place.display()));
                        continue;
                    }
                    Err(e) => return Err(io_error("getting status of", &file)(e)),
                },
            };
            let place = place.join(&name);
            match is_folder {
                true => self.add_folder(folder, name, file, &place, priority)?,
                false => add_file(folder, name, file, &place, priority)?,
            }
        }
        Ok(())
    }

    fn add_folder(
        &mut self,
        folder: &mut Folder,
        name: OsString,
        source: PathBuf,
        place: &Path,
        priority: i64,
    ) -> Result<(), EnvironmentError> {
        let (target, old_priority) = match folder.get_mut(&name) {
            Some(Node::Folder(inner)) => return self.folder(inner, &source, place, priority),
            Some(Node::Link { target, is_folder: true, priority }) => {
                (fs::canonicalize(&*target).map_err(io_error("resolving", target))?, *priority)
            }
            Some(Node::Link { target, .. }) => {
                return Err(EnvironmentError::FolderOverFile { folder: source, file: target.clone() });
            }
            None => {
                folder.insert(name, Node::Link { target: source, is_folder: true, priority });
                return Ok(());
            }
        };
        let mut inner = Folder::new();
        self.folder(&mut inner, &target, place, old_priority)?;
        self.folder(&mut inner, &source, place, priority)?;
        folder.insert(name, Node::Folder(inner));
        Ok(())
    }
}

fn add_file(
    folder: &mut Folder,
    name: OsString,
    file: PathBuf,
    place: &Path,
    priority: i64,
) -> Result<(), EnvironmentError> {
    match folder.get(&name) {
        Some(Node::Folder(_)) => {
            return Err(EnvironmentError::FileOverFolder { file, folder: place.to_owned() });
        }
        Some(Node::Link { target, priority: old, .. }) if *old == priority => {
            return Err(EnvironmentError::Conflict { first: target.clone(), second: file, priority });
        }
        Some(Node::Link { priority: old, .. }) if *old < priority => return Ok(()),
        _ => {}
    }
    folder.insert(name, Node::Link { target: file, is_folder: false, priority });
    Ok(())
}

/// Files that are of no use in an environment, or that every package has for itself.
fn is_left_out(folder: &Path, name: &OsStr) -> bool {
    match name.as_bytes() {
        b"propagated-build-inputs"
        | b"nix-support"
        | b"perllocal.pod"
        | b"log"
        | b"manifest.nix"
        | b"manifest.json" => true,
        b"dir" => folder.file_name() == Some(OsStr::new("info")),
        _ => false,
    }
}

/// With fewer links than this, starting threads takes longer than they save.
const FEW: usize = 200;

/// The links of one folder: names with their targets.
struct Links {
    place: PathBuf,
    links: Vec<(OsString, PathBuf)>,
}

/// Makes what was planned. Folders wait on a list, so their depth does not matter; the links of several are made at once.
fn write(out: &Path, root: Folder) -> Result<(), EnvironmentError> {
    let mut todo = vec![(out.to_owned(), root)];
    let mut folders = Vec::new();
    while let Some((place, folder)) = todo.pop() {
        fs::create_dir_all(&place).map_err(io_error("creating directory", &place))?;
        let mut links = Vec::new();
        for (name, node) in folder {
            match node {
                Node::Folder(inner) => todo.push((place.join(name), inner)),
                Node::Link { target, .. } => links.push((name, target)),
            }
        }
        folders.push(Links { place, links });
    }
    // Those that take longest begin first.
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.links.len()));
    let total: usize = folders.iter().map(|folder| folder.links.len()).sum();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if total < FEW { 1 } else { cores.min(folders.len()).min(8) };
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(folder) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            folder.make()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().fold(own, |result, thread| match thread.join() {
            Ok(theirs) => result.and(theirs),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

impl Links {
    fn make(&self) -> Result<(), EnvironmentError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.place, flags, Mode::empty())
            .map_err(|e| io_error("opening directory", &self.place)(e.into()))?;
        for (name, target) in &self.links {
            rustix::fs::symlinkat(target, &folder, name)
                .map_err(|e| io_error("creating symlink", &self.place.join(name))(e.into()))?;
        }
        Ok(())
    }
}

/// Reads the builder's argument: for each element whether it is active, its priority, how many outputs, and those.
fn parse(text: &str) -> Result<Vec<Package>, String> {
    let mut words = text.split_ascii_whitespace();
    let mut packages = Vec::new();
    while let Some(active) = words.next() {
        let bad = || format!("attribute 'derivations' is malformed after '{active}'");
        let priority: i64 = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
        let outputs: usize = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
        for _ in 0..outputs {
            let path = PathBuf::from(words.next().ok_or_else(bad)?);
            packages.push(Package { path, active: active != "false", priority });
        }
    }
    Ok(packages)
}

pub(super) fn run(context: &Context) -> Result<(), String> {
    let out = context.output("out")?;
    let packages = parse(context.attribute("derivations")?)?;
    // The standard error is the build's log.
    let mut warn = |text: &str| drop(writeln!(io::stderr(), "warning: {text}"));
    build_environment(out, packages, &mut warn).map_err(|e| e.to_string())?;
    let manifest = out.join("manifest.nix");
    std::os::unix::fs::symlink(context.attribute("manifest")?, &manifest)
        .map_err(|e| format!("creating symlink '{}': {e}", manifest.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes packages from `name:file,file…` and gives what the environment of them holds, or the error.
    #[track_caller]
    fn check(packages: &[(&str, i64, &[&str])], expected: &[&str]) {
        let tmp = tempfile::tempdir().unwrap();
        let base = tmp.path();
        let mut list = Vec::new();
        for (name, priority, files) in packages {
            let path = base.join(name);
            for file in *files {
                let (file, content) = file.split_once('=').unwrap_or((file, ""));
                let file = path.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, content.replace('@', &format!("{}/", base.display()))).unwrap();
            }
            list.push(Package { path, active: *priority >= 0, priority: *priority });
        }
        let out = base.join("out");
        let mut found = Vec::new();
        match build_environment(&out, list, &mut |text| found.push(text.to_owned())) {
            Err(error) => found.push(error.to_string()),
            Ok(()) => {
                let mut todo = vec![out.clone()];
                while let Some(folder) = todo.pop() {
                    for entry in fs::read_dir(folder).unwrap() {
                        let path = entry.unwrap().path();
                        match fs::read_link(&path) {
                            Ok(target) => found.push(format!("{} -> {}", path.display(), target.display())),
                            Err(_) => todo.push(path),
                        }
                    }
                }
            }
        }
        let prefix = format!("{}/", base.display());
        let mut found: Vec<String> = found.iter().map(|line| line.replace(&prefix, "")).collect();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn trees() {
        check(&[("a", 5, &["bin/a", "share/x/y"])], &["out/bin -> a/bin", "out/share -> a/share"]);
        check(
            &[("a", 5, &["bin/a", "share/x"]), ("b", 5, &["bin/b", "nix-support/z", ".hidden"])],
            &["out/bin/a -> a/bin/a", "out/bin/b -> b/bin/b", "out/share -> a/share"],
        );
        check(&[("a", 5, &["x"]), ("b", 4, &["x"])], &["out/x -> b/x"]);
        check(&[("a", -1, &["x"])], &[]);
        check(&[("a", 5, &["info/dir", "info/a", "dir/b"])], &["out/dir -> a/dir", "out/info -> a/info"]);
        check(
            &[("a", 5, &["info/dir", "info/a"]), ("b", 5, &["info/dir", "info/b"])],
            &["out/info/a -> a/info/a", "out/info/b -> b/info/b"],
        );
    }

    #[test]
    fn collisions() {
        check(
            &[("a", 5, &["x/f"]), ("b", 5, &["x/f"])],
            &[
                "Unable to build profile. There is a conflict for the following files:\n\n  \"a/x/f\"\n  \"b/x/f\"",
            ],
        );
        check(
            &[("a", 5, &["x"]), ("b", 5, &["x/f"])],
            &["collision between \"b/x\" and non-directory \"a/x\""],
        );
        check(
            &[("a", 4, &["x/f"]), ("b", 4, &["x/g"]), ("c", 5, &["x"])],
            &["collision between non-directory 'c/x' and directory 'out/x'"],
        );
    }

    #[test]
    fn many_links_are_made_at_once() {
        let files = |package: &str| -> Vec<String> {
            (0..60).flat_map(|n| ["x", "y/z", "y"].map(|at| format!("{at}/{package}{n}"))).collect()
        };
        let (a, b) = (files("a"), files("b"));
        let all = |package: &str, files: &[String]| -> Vec<String> {
            files.iter().map(|file| format!("out/{file} -> {package}/{file}")).collect()
        };
        let mut expected = [all("a", &a), all("b", &b)].concat();
        expected.sort();
        fn refs(list: &[String]) -> Vec<&str> {
            list.iter().map(String::as_str).collect()
        }
        check(&[("a", 5, &refs(&a)), ("b", 5, &refs(&b))], &refs(&expected));
    }

    #[test]
    fn propagated() {
        check(
            &[
                ("a", 5, &["bin/a", "nix-support/propagated-user-env-packages=@c @a\n"]),
                ("c", -1, &["bin/c", "bin/a"]),
            ],
            &["out/bin/a -> a/bin/a", "out/bin/c -> c/bin/c"],
        );
    }

    #[test]
    fn arguments() {
        let package = |path: &str, active, priority| Package { path: path.into(), active, priority };
        assert_eq!(
            parse("true 5 2 /a /b\nfalse -1 1 /c").unwrap(),
            [package("/a", true, 5), package("/b", true, 5), package("/c", false, -1)]
        );
        for bad in ["true", "true x 1 /a", "true 5 2 /a", "true 5 -1"] {
            assert!(parse(bad).unwrap_err().contains("malformed"), "{bad}");
        }
    }
}

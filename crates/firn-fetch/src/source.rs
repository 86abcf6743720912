//! Inputs that are the user's own: where their files are, changing one, and copies to work on.

use crate::Fetcher;
use crate::error::{FetchError, FetchResult};
use crate::git::{Location, location};
use crate::tree::{shown, text};
use firn_core::flake_ref::{FlakeRef, Input, ParseContext, Scheme};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn fail<T>(message: String) -> FetchResult<T> {
    Err(FetchError::Other(message))
}

fn url(input: &Input) -> String {
    String::from_utf8_lossy(text(&input.attrs, "url").unwrap_or_default()).into_owned()
}

/// A program of version control, as the user would start it.
#[expect(clippy::disallowed_methods, reason = "git and hg know their repositories, hooks and keys")]
fn program(name: &str) -> Command {
    Command::new(name)
}

fn run(mut command: Command, input: Option<&str>) -> FetchResult<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let shown = || {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        format!("{name} {}", words.join(" "))
    };
    let line = shown();
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::inherit() });
    // Its standard output is not ours.
    command.stdout(Stdio::null());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            FetchError::Other(format!("the program '{name}' is needed, and is not in PATH"))
        }
        _ => FetchError::Io { operation: "starting", path: name.clone().into(), source: error },
    })?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // One that does not read says why when it ends.
        let _ = pipe.write_all(input.as_bytes());
    }
    let status = child.wait().map_err(FetchError::io("waiting for", name.as_str()))?;
    match status.success() {
        true => Ok(()),
        false => fail(format!("program '{line}' failed with {status}")),
    }
}

/// Writes a file whole or not at all; through a symlink, what that leads to.
pub fn write_file(path: &Path, contents: &[u8]) -> FetchResult<()> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(".firn-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(FetchError::io("creating temporary file in", folder))?;
    file.write_all(contents).map_err(FetchError::io("writing", &path))?;
    if let Ok(data) = path.metadata() {
        file.as_file().set_permissions(data.permissions()).map_err(FetchError::io("changing", &path))?;
    }
    file.persist(&path).map_err(|error| FetchError::Io {
        operation: "writing",
        path: path.clone(),
        source: error.error,
    })?;
    Ok(())
}

impl Fetcher {
    /// Where the files of an input are that can be changed.
    pub fn source_path(&self, input: &Input) -> FetchResult<Option<PathBuf>> {
        let path = match input.scheme {
            Some(Scheme::Path) => {
                let path = Path::new(OsStr::from_bytes(text(&input.attrs, "path").unwrap_or_default()));
                if !path.is_absolute() {
                    return fail(format!(
                        "cannot fetch input '{}' because it uses a relative path",
                        shown(input)
                    ));
                }
                Some(path.to_owned())
            }
            Some(Scheme::Git) => match location(&url(input)) {
                Location::Local(path) => Some(path),
                Location::Remote(_) => None,
            },
            Some(Scheme::Mercurial) => {
                let has = |name: &str| input.attrs.contains_key(name);
                match url(input).strip_prefix("file://") {
                    Some(path) if !has("ref") && !has("rev") => {
                        Some(PathBuf::from(firn_http::auth::percent_decode(path)))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        Ok(path)
    }

    /// Writes a file below the source path of an input, and makes version control know of it. With a message, it is
    /// committed too.
    pub fn put_file(
        &self,
        input: &Input,
        path: &[u8],
        contents: &[u8],
        commit_message: Option<&str>,
    ) -> FetchResult<()> {
        let name = OsStr::from_bytes(path);
        let Some(root) = self.source_path(input)? else {
            return fail(format!(
                "input '{}' does not support modifying file '{}'",
                shown(input),
                Path::new(name).display()
            ));
        };
        write_file(&root.join(name), contents)?;
        self.forget();
        match input.scheme {
            Some(Scheme::Git) => put_in_git(&root, name, commit_message),
            Some(Scheme::Mercurial) => put_in_hg(&root, name, commit_message),
            _ => Ok(()),
        }
    }

    /// Makes a copy of an input that can be worked on.
    pub async fn clone_input(&self, input: &Input, to: &Path) -> FetchResult<()> {
        let attribute = |name: &str| text(&input.attrs, name).map(OsStr::from_bytes);
        let forge = |url: String| -> FetchResult<Input> {
            let mut context = ParseContext { has_feature: &|_| true, warnings: Vec::new() };
            let bad = |error: firn_core::flake_ref::FlakeRefError| FetchError::Other(error.message);
            let repository = FlakeRef::parse(url.as_bytes(), &mut context).map_err(bad)?.input;
            let (name, rev) = (text(&input.attrs, "ref"), text(&input.attrs, "rev"));
            repository.at(name, rev).map_err(bad)
        };
        let part =
            |name: &str| String::from_utf8_lossy(text(&input.attrs, name).unwrap_or_default()).into_owned();
        let host = |default: &str| match text(&input.attrs, "host") {
            Some(host) => String::from_utf8_lossy(host).into_owned(),
            None => default.to_owned(),
        };
        let (owner, repo) = (part("owner"), part("repo"));
        let repository = match input.scheme {
            Some(Scheme::Git) => input.clone(),
            Some(Scheme::GitHub) => forge(format!("git+https://{}/{owner}/{repo}.git", host("github.com")))?,
            Some(Scheme::GitLab) => forge(format!("git+https://{}/{owner}/{repo}.git", host("gitlab.com")))?,
            Some(Scheme::SourceHut) => forge(format!("git+https://{}/{owner}/{repo}", host("git.sr.ht")))?,
            _ => return self.unpack_copy(input, to).await,
        };
        if attribute("rev").is_some() {
            return fail("cloning a specific revision is not implemented".to_owned());
        }
        let from = match location(&url(&repository)) {
            Location::Local(path) => path.into_os_string(),
            Location::Remote(url) => OsString::from(url),
        };
        let mut git = program("git");
        git.arg("clone");
        if let Some(name) = attribute("ref") {
            git.arg("--branch").arg(name);
        }
        git.arg("--").arg(from).arg(to);
        run(git, None)
    }

    async fn unpack_copy(&self, input: &Input, to: &Path) -> FetchResult<()> {
        if to.symlink_metadata().is_ok() {
            return fail(format!("cannot clone into existing path \"{}\"", to.display()));
        }
        let tree = self.fetch_tree(input).await?;
        let Some(local) = self.store().as_local_fs() else {
            return fail("the store's files are not on this machine".to_owned());
        };
        let from = local.real_store_dir().join(tree.store_path.base_name());
        let to = to.to_owned();
        let copying = tokio::task::spawn_blocking(move || copy(&from, &to));
        copying.await.map_err(|error| FetchError::Other(error.to_string()))?
    }
}

/// Copies a tree, which the user may change then.
fn copy(from: &Path, to: &Path) -> FetchResult<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut todo = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = todo.pop() {
        let data = from.symlink_metadata().map_err(FetchError::io("getting status of", &from))?;
        if data.is_symlink() {
            let target = std::fs::read_link(&from).map_err(FetchError::io("reading link", &from))?;
            std::os::unix::fs::symlink(target, &to).map_err(FetchError::io("creating symlink", &to))?;
        } else if data.is_dir() {
            std::fs::create_dir(&to).map_err(FetchError::io("creating directory", &to))?;
            for entry in from.read_dir().map_err(FetchError::io("reading directory", &from))? {
                let entry = entry.map_err(FetchError::io("reading directory", &from))?;
                todo.push((entry.path(), to.join(entry.file_name())));
            }
        } else {
            let mut source = std::fs::File::open(&from).map_err(FetchError::io("opening", &from))?;
            let mut file = std::fs::File::create_new(&to).map_err(FetchError::io("creating file", &to))?;
            std::io::copy(&mut source, &mut file).map_err(FetchError::io("writing", &to))?;
            if data.permissions().mode() & 0o111 != 0 {
                let mode =
                    file.metadata().map_err(FetchError::io("getting status of", &to))?.permissions().mode();
                let executable = std::fs::Permissions::from_mode(mode | ((mode & 0o444) >> 2));
                file.set_permissions(executable).map_err(FetchError::io("changing", &to))?;
            }
        }
    }
    Ok(())
}

/// Makes Git know of files of a repository, without their contents.
pub fn add_to_git(root: &Path, files: &[PathBuf]) -> FetchResult<()> {
    let mut git = program("git");
    git.arg("-C").arg(root).args(["add", "--intent-to-add", "--force", "--"]).args(files);
    run(git, None)
}

fn put_in_git(root: &Path, name: &OsStr, message: Option<&str>) -> FetchResult<()> {
    let git = |words: &[&str]| {
        let mut command = program("git");
        command.arg("-C").arg(root).args(words);
        command
    };
    let mut ignored = git(&["check-ignore", "--quiet", "--"]);
    let ignored = ignored.arg(name).stdin(Stdio::null()).status();
    if ignored.map_err(FetchError::io("starting", "git"))?.success() {
        return Ok(());
    }
    let mut add = git(&["add", "--intent-to-add", "--"]);
    add.arg(name);
    run(add, None)?;
    let Some(message) = message else { return Ok(()) };
    let mut commit = git(&["commit", "--quiet", "-F", "-", "--"]);
    commit.arg(name);
    run(commit, Some(message))
}

fn put_in_hg(root: &Path, name: &OsStr, message: Option<&str>) -> FetchResult<()> {
    let hg = |words: &[&str]| {
        let mut command = program("hg");
        command.env("HGPLAIN", "").args(words).arg("-R").arg(root);
        command
    };
    let file = root.join(name);
    let mut add = hg(&["add"]);
    add.arg("--").arg(&file);
    run(add, None)?;
    let Some(message) = message else { return Ok(()) };
    let mut commit = hg(&["commit", "-m", message]);
    commit.arg("--").arg(&file);
    run(commit, None)
}

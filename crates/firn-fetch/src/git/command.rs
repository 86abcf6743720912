//! Running `git`.

use crate::error::{FetchError, FetchResult};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A repository, worked on by the user's `git`.
pub struct Git {
    pub dir: PathBuf,
}

/// Variables that would lead `git` to another repository.
const ELSEWHERE: &[&str] =
    &["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"];

impl Git {
    /// `git` in the folder, with what all calls have.
    pub fn command(&self, args: &[&OsStr]) -> Command {
        #[expect(
            clippy::disallowed_methods,
            reason = "git itself knows its transports, credentials and formats"
        )]
        let mut command = Command::new("git");
        // Repositories of others are only read, and their hooks and monitors not run.
        command.arg("-C").arg(&self.dir).args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"]);
        command.args(["-c", "core.hooksPath=/dev/null", "--no-optional-locks"]).args(args);
        for name in ELSEWHERE {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    /// What `git` prints, and whether it ended well.
    pub fn output(&self, args: &[&OsStr]) -> FetchResult<std::process::Output> {
        self.command(args).output().map_err(not_started)
    }

    /// What `git` prints.
    pub fn run(&self, args: &[&str]) -> FetchResult<Vec<u8>> {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let output = self.output(&args)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        let command = words.join(" ");
        Err(FetchError::Other(format!("'git {command}' in '{}' failed: {}", self.dir.display(), said.trim())))
    }

    /// The same as one line of text; nothing if `git` says no.
    pub fn line(&self, args: &[&str]) -> FetchResult<Option<String>> {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let output = self.output(&args)?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned()))
    }

    /// A number that `git` prints.
    pub fn number(&self, args: &[&str]) -> FetchResult<u64> {
        let text = self.run(args)?;
        let text = String::from_utf8_lossy(&text);
        let bad = || FetchError::Other(format!("'git {}' printed '{}'", args.join(" "), text.trim()));
        text.trim().parse().map_err(|_| bad())
    }

    /// Fetches `refspec` from `url`; progress is the user's to see.
    pub fn fetch(&self, url: &str, refspec: &str, shallow: bool) -> FetchResult<()> {
        let mut args = vec!["fetch", "--quiet", "--force", "--no-write-fetch-head", "--no-auto-gc"];
        if shallow {
            args.extend(["--depth", "1"]);
        }
        args.extend(["--", url, refspec]);
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let status = self.command(&args).stdout(Stdio::null()).status().map_err(not_started)?;
        match status.success() {
            true => Ok(()),
            false => Err(FetchError::Other(format!("Failed to fetch git repository '{url}'"))),
        }
    }

    /// Makes an empty bare repository at `dir`, whole or not at all.
    pub fn create(dir: &Path) -> FetchResult<Git> {
        let git = Git { dir: dir.to_owned() };
        if dir.exists() {
            return Ok(git);
        }
        let mut part: OsString = dir.as_os_str().to_owned();
        part.push(".new");
        let part = PathBuf::from(part);
        let _ = std::fs::remove_dir_all(&part);
        std::fs::create_dir_all(&part).map_err(FetchError::io("creating directory", &part))?;
        let new = Git { dir: part.clone() };
        new.run(&["-c", "init.defaultBranch=none", "init", "--quiet", "--bare"])?;
        std::fs::rename(&part, dir).map_err(FetchError::io("renaming", &part))?;
        Ok(git)
    }
}

fn not_started(error: std::io::Error) -> FetchError {
    match error.kind() {
        std::io::ErrorKind::NotFound => FetchError::Other(
            "the program 'git' is needed to fetch Git repositories, and is not in PATH".to_owned(),
        ),
        _ => FetchError::Io { operation: "starting", path: "git".into(), source: error },
    }
}

/// The parts of what `git` prints with `-z`.
pub fn parts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty())
}

pub fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

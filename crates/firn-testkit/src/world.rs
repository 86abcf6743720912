//! A store, its state, settings and a home of their own.

use crate::programs::program_dir;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A private world. Everything in it goes when it is dropped.
pub struct World {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
    /// What runs the programs: a command that takes a program and its arguments. Empty: they run directly.
    pub(crate) wrapper: Vec<String>,
    /// Where the programs are.
    pub(crate) programs: PathBuf,
    /// Where builds run, if that is not in the world.
    pub(crate) builds: Option<tempfile::TempDir>,
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Run {
    program: String,
    output: Output,
}

impl World {
    /// An empty store; the feature `nix-command` is on, substituters are off.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("firn-test-").tempdir().expect("a temporary folder");
        for name in ["etc", "home", "tmp", "work"] {
            fs::create_dir(dir.path().join(name)).expect("a folder");
        }
        let world = Self {
            dir,
            env: Vec::new(),
            wrapper: Vec::new(),
            programs: program_dir().to_owned(),
            builds: None,
        };
        world.write_conf(b"experimental-features = nix-command\nsubstituters =\nbuild-users-group =\n");
        world
    }

    fn write_conf(&self, bytes: &[u8]) {
        fs::write(self.path("etc/nix.conf"), bytes).expect("nix.conf is written");
    }

    /// Adds lines to the world's `nix.conf`.
    pub fn conf(self, lines: &str) -> Self {
        self.conf_bytes(lines.as_bytes())
    }

    /// Adds lines that need not be text to the world's `nix.conf`.
    pub fn conf_bytes(self, lines: &[u8]) -> Self {
        let mut text = fs::read(self.path("etc/nix.conf")).expect("nix.conf is read");
        text.extend_from_slice(lines);
        text.push(b'\n');
        self.write_conf(&text);
        self
    }

    /// Sets a variable for the programs that run in this world.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A path in the world, such as `store`, `home` or `work/default.nix`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder in which programs run.
    pub fn work_dir(&self) -> PathBuf {
        self.path("work")
    }

    /// Writes a file in the folder in which programs run.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.work_dir().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file is written");
        path
    }

    /// The command `program`, ready to run in this world.
    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    pub fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match self.wrapper.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", format!("{}:{path}", self.programs.display()))
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("NIX_STORE_DIR", self.path("store"))
            .env("NIX_STATE_DIR", self.path("var/nix"))
            .env("NIX_LOG_DIR", self.path("var/log/nix"))
            .env("NIX_CONF_DIR", self.path("etc"))
            .env("NIX_USER_CONF_FILES", "")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.work_dir())
            .stdin(Stdio::null());
        command
    }

    /// Runs `program` to its end.
    pub fn run(&self, program: &str, args: &[&str]) -> Run {
        let output = self.command(program).args(args).output().expect("the program runs");
        Run { program: format!("{program} {}", args.join(" ")), output }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Store paths are read-only folders, which only their owner can open up.
        make_writable(&self.path("store"));
    }
}

fn make_writable(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(entries) = fs::read_dir(dir) else { return };
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o755));
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

impl Run {
    pub(crate) fn new(program: String, output: Output) -> Run {
        Run { program, output }
    }

    /// Asserts that the program succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(self.output.status.success(), "{self:?}");
        self
    }

    /// Asserts that the program ended with that exit code.
    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(code), "{self:?}");
        self
    }

    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    pub fn stdout(&self) -> &[u8] {
        &self.output.stdout
    }

    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> &[u8] {
        &self.output.stderr
    }

    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// What was run.
    pub fn program(&self) -> &str {
        &self.program
    }
}

//! A place with a mount point, sources and a configuration, and one round in it.

use crate::workloads::{Workload, expressions};
use firn_testkit::program_dir;
use firn_tests_durability::faults::Progress;
use firn_tests_durability::{Cut, Disk, Fault, Mounted, Plan};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than any command takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who sees to it that a command does not run forever.
#[derive(Clone, Copy)]
enum Ends {
    /// It is killed when it takes too long.
    InTime,
    ByUs,
}

pub struct Lab {
    base: tempfile::TempDir,
    mount: PathBuf,
}

/// A workload with its set-up done.
pub struct Prepared {
    disk: Disk,
    names: BTreeMap<String, String>,
    /// A path that has a root all the time.
    kept: Option<String>,
    /// How many operations the work takes.
    pub operations: u64,
    /// What the work prints.
    output: Vec<u8>,
}

impl Lab {
    pub fn new() -> Lab {
        let base = tempfile::Builder::new().prefix("firn-durability-").tempdir().expect("a temporary folder");
        let path = base.path();
        for name in ["etc", "home", "mount", "expressions", "source/sub", "kept"] {
            fs::create_dir_all(path.join(name)).expect("a folder");
        }
        fs::write(
            path.join("etc/nix.conf"),
            "build-users-group =\nsandbox = false\nsubstituters =\nexperimental-features = nix-command\n\
             fsync-store-paths = true\ngc-reserved-space = 4096\n",
        )
        .expect("nix.conf");
        for (name, text) in expressions() {
            fs::write(path.join("expressions").join(name), text).expect("an expression");
        }
        let source = path.join("source");
        fs::write(source.join("small"), "a small file\n").expect("a file");
        fs::write(source.join("empty"), "").expect("a file");
        fs::write(source.join("sub/large"), vec![7; 20_000]).expect("a file");
        fs::write(source.join("sub/run"), "#! /bin/sh\n").expect("a file");
        fs::set_permissions(source.join("sub/run"), PermissionsExt::from_mode(0o755)).expect("a mode");
        std::os::unix::fs::symlink("sub/run", source.join("link")).expect("a link");
        fs::create_dir(path.join("twin")).expect("a folder");
        for name in ["small", "other"] {
            fs::write(path.join("twin").join(name), "a small file\n").expect("a file");
        }
        fs::write(path.join("kept/file"), "this stays\n").expect("a file");
        let mount = path.join("mount");
        Lab { base, mount }
    }

    /// Replaces `@name` in a word.
    fn expand(&self, word: &str, names: &BTreeMap<String, String>) -> String {
        let Some(at) = word.find('@') else { return word.to_owned() };
        let (before, rest) = (&word[..at], &word[at + 1..]);
        let end = rest.find('/').unwrap_or(rest.len());
        let place = match &rest[..end] {
            "base" => self.base.path().display().to_string(),
            "mount" => self.mount.display().to_string(),
            name => match names.get(name) {
                Some(value) => value.clone(),
                None => self.base.path().join(name).display().to_string(),
            },
        };
        format!("{before}{place}{}", &rest[end..])
    }

    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    fn command(&self, line: &str, names: &BTreeMap<String, String>, ends: Ends) -> (Command, Option<String>) {
        let mut words = line.split(' ');
        let program = program_dir().join(words.next().unwrap_or_default());
        let mut command = match ends {
            Ends::ByUs => Command::new(program),
            Ends::InTime => {
                let mut command = Command::new("timeout");
                command.arg("--signal=KILL").arg(PATIENCE.as_secs().to_string()).arg(program);
                command
            }
        };
        let (base, mount) = (self.base.path(), &self.mount);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", base.join("home"))
            .env("NIX_CONF_DIR", base.join("etc"))
            .env("NIX_STORE_DIR", mount.join("store"))
            .env("NIX_STATE_DIR", mount.join("var"))
            .env("NIX_LOG_DIR", mount.join("log"))
            .env("NIX_REMOTE", "")
            .env("TMPDIR", base)
            .current_dir(base)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut output = None;
        for word in words {
            let word = self.expand(word, names);
            if let Some(file) = word.strip_prefix(">>") {
                command.stdout(fs::File::create(file).expect("a file for the output"));
            } else if let Some(name) = word.strip_prefix('>') {
                output = Some(name.to_owned());
            } else if let Some(file) = word.strip_prefix('<') {
                command.stdin(fs::File::open(file).expect("a file for the input"));
            } else {
                command.arg(word);
            }
        }
        (command, output)
    }

    fn run(&self, line: &str, names: &BTreeMap<String, String>) -> Output {
        self.command(line, names, Ends::InTime).0.output().expect("the program runs")
    }

    /// Runs what must succeed.
    fn must(&self, line: &str, names: &BTreeMap<String, String>, when: &str) -> Vec<u8> {
        let output = self.run(line, names);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{when}: '{line}' failed: {said}");
        output.stdout
    }

    pub fn prepare(&self, workload: &Workload) -> Prepared {
        let mounted = Mounted::new(Disk::default(), Plan::default(), &self.mount).expect("a mount");
        let mut names = BTreeMap::new();
        let fresh = workload.set_up == ["!fresh"];
        let mut kept = None;
        if !fresh {
            let path = self.must("nix-store --add @kept", &names, "set-up");
            let path = String::from_utf8_lossy(&path).trim().to_owned();
            let root = self.mount.join("var/gcroots/kept");
            std::os::unix::fs::symlink(&path, root).expect("a root");
            kept = Some(path);
            for line in workload.set_up {
                let (mut command, name) = self.command(line, &names, Ends::InTime);
                let output = command.output().expect("the program runs");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "set-up '{line}': {said}");
                if let Some(name) = name {
                    let text = String::from_utf8_lossy(&output.stdout);
                    names.insert(name, text.lines().next().unwrap_or_default().to_owned());
                }
            }
        }
        let (mut disk, _) = mounted.unmount();
        disk.sync_all();
        let mounted = Mounted::new(disk.clone(), Plan::default(), &self.mount).expect("a mount");
        let output = self.must(workload.work, &names, "without faults");
        let (_, progress) = mounted.unmount();
        Prepared { disk, names, kept, operations: progress.count, output }
    }

    /// Runs the work into a fault, then looks at what is left and does the work again.
    /// Answers whether the work got so far.
    pub fn round(&self, workload: &Workload, prepared: &Prepared, at: u64, fault: Fault, cut: Cut) -> bool {
        let when = format!("{} with {fault:?} at operation {at}, {cut:?} lost", workload.name);
        let plan = Plan { at: Some((at, fault)) };
        let mounted = Mounted::new(prepared.disk.clone(), plan, &self.mount).expect("a mount");
        self.run_until_cut(workload, prepared, &mounted, &when);
        let (disk, progress) = mounted.unmount();
        let operation = match (progress, fault) {
            (Progress { struck: Some(operation), .. }, _) => operation,
            // The power goes when all is done.
            (_, Fault::Power) => "the end",
            _ => return false,
        };
        let when = format!("{when} ({operation})");
        let mounted = Mounted::new(disk.after(cut), Plan::default(), &self.mount).expect("a mount");
        // Folders that were being optimised are put right by the next who optimises.
        self.check(prepared, &when, workload.name != "optimise");
        let output = self.must(workload.work, &prepared.names, &when);
        // A collection that goes on has less to do.
        if workload.name != "gc" && workload.name != "delete" {
            assert_eq!(output, prepared.output, "{when}: the output differs");
        }
        self.check(prepared, &when, true);
        self.must("nix-store --gc", &prepared.names, &when);
        self.check(prepared, &when, true);
        self.check_clean(prepared, &when);
        mounted.unmount();
        true
    }

    fn run_until_cut(&self, workload: &Workload, prepared: &Prepared, mounted: &Mounted, when: &str) {
        let mut child =
            self.command(workload.work, &prepared.names, Ends::ByUs).0.spawn().expect("the program runs");
        let start = Instant::now();
        loop {
            if child.try_wait().expect("a child").is_some() {
                return;
            }
            if mounted.progress().off {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            if start.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("{when}: hangs");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// No valid path is wrong, and what has a root is there.
    fn check(&self, prepared: &Prepared, when: &str, metadata: bool) {
        let output = self.run("nix-store --verify --check-contents", &prepared.names);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let bad = ["modified", "disappeared", "error", "corrupt"].iter().any(|word| said.contains(word));
        assert!(output.status.success() && !bad, "{when}: {said}");
        if let Some(kept) = &prepared.kept {
            self.must(&format!("nix-store --check-validity {kept}"), &prepared.names, when);
            let text = fs::read_to_string(Path::new(kept).join("file")).expect("the kept file");
            assert_eq!(text, "this stays\n", "{when}");
        }
        if !metadata {
            return;
        }
        let all = self.must("nix-store --dump-db", &prepared.names, when);
        let store = self.mount.join("store").display().to_string();
        for line in String::from_utf8_lossy(&all).lines().filter(|line| line.starts_with(&store)) {
            if Path::new(line).symlink_metadata().is_ok() {
                check_metadata(Path::new(line), when);
            }
        }
    }

    /// After a collection there is nothing but what lives.
    fn check_clean(&self, prepared: &Prepared, when: &str) {
        let live = self.must("nix-store --gc --print-live", &prepared.names, when);
        let live = String::from_utf8_lossy(&live).into_owned();
        for entry in fs::read_dir(self.mount.join("store")).expect("the store") {
            let path = entry.expect("an entry").path();
            let known = path.ends_with(".links") || live.lines().any(|line| Path::new(line) == path);
            assert!(known, "{when}: '{}' is left", path.display());
        }
        let left = fs::read_dir(self.mount.join("var/temproots")).expect("temporary roots").count();
        assert_eq!(left, 0, "{when}: temporary roots are left");
    }
}

/// Store objects have the modes and times of such.
fn check_metadata(path: &Path, when: &str) {
    let metadata = path.symlink_metadata().expect("a file of a valid path");
    let mode = metadata.mode() & 0o7777;
    let fine = metadata.is_symlink() || mode == 0o555 || (mode == 0o444 && metadata.is_file());
    assert!(fine, "{when}: '{}' has mode {mode:o}", path.display());
    assert_eq!(metadata.mtime(), 1, "{when}: the time of '{}'", path.display());
    if metadata.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            check_metadata(&entry.expect("an entry").path(), when);
        }
    }
}

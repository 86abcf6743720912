//! Installing below a folder, and giving it back.

use firn_install::{Journal, Kind, Machine, Options, Plan, Step, Todo, journal_path, uninstall};
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Every path below `root` with its mode and its text or target.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let data = path.symlink_metadata().unwrap();
            let content = match (data.is_symlink(), data.is_dir()) {
                (true, _) => format!("-> {}", std::fs::read_link(&path).unwrap().display()),
                (_, true) => String::new(),
                _ => std::fs::read_to_string(&path).unwrap(),
            };
            if data.is_dir() {
                todo.push(path.clone());
            }
            all.insert(path, format!("{:o} {content}", data.permissions().mode()));
        }
    }
    all
}

struct World {
    scratch: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { scratch: tempfile::tempdir().unwrap() };
        world.write("program", "firn itself");
        std::fs::create_dir_all(world.root().join("home/ann")).unwrap();
        world
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.scratch.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn options(&self) -> Options {
        Options {
            kind: Kind::SingleUser,
            prefix: None,
            program: self.scratch.path().join("program"),
            names: [
                "nix",
                "nix-build",
                "nix-store",
                "nix-env",
                "nix-shell",
                "nix-hash",
                "nix-daemon",
                "nix-channel",
            ]
            .map(str::to_owned)
            .into(),
            build_users: 2,
            shells: true,
            systemd: true,
            share: vec![("man/man1/nix.1".into(), "page\n".into())],
        }
    }

    fn plan(&self) -> Plan {
        Plan::make(&self.options(), &Machine::look(&self.root(), Path::new("/home/ann"))).unwrap()
    }

    fn remove(&self) -> firn_install::Result<Vec<String>> {
        let mut told = Vec::new();
        let journal = journal_path(Kind::SingleUser, Path::new("/home/ann"));
        uninstall(&self.root(), &journal, false, &mut |line| told.push(line.to_owned()))?;
        Ok(told)
    }
}

#[test]
fn a_machine_is_as_before_after_all() {
    let world = World::new();
    world.write("root/home/ann/.bashrc", "alias ll='ls -l'\n");
    world.write("root/home/ann/.profile", "");
    let before = snapshot(&world.root());
    let plan = world.plan();
    assert!(!plan.is_done());
    plan.apply(&mut |_, _| {}).unwrap();
    let bin = world.root().join("home/ann/.local/bin");
    assert_eq!(std::fs::read_to_string(bin.join("nix-build")).unwrap(), "firn itself");
    assert!(std::fs::read_to_string(world.root().join("home/ann/.bashrc")).unwrap().starts_with("alias ll"));
    assert!(world.root().join("nix/store").is_dir());
    assert!(world.plan().is_done(), "{:?}", world.plan());
    world.remove().unwrap();
    assert_eq!(snapshot(&world.root()), before);
}

#[test]
fn what_stood_there_is_kept_and_given_back() {
    let world = World::new();
    let bin = world.root().join("home/ann/.local/bin");
    world.write("root/home/ann/.local/bin/nix", "another nix");
    symlink("/opt/nix/bin/nix-store", bin.join("nix-store")).unwrap();
    world.write("root/nix/store/x", "a path");
    let before = snapshot(&world.root());
    world.plan().apply(&mut |_, _| {}).unwrap();
    assert_eq!(std::fs::read_to_string(bin.join("nix")).unwrap(), "firn itself");
    // A newer version of the program comes in place, and what was there first stays kept.
    world.write("program", "firn, newer");
    world.plan().apply(&mut |_, _| {}).unwrap();
    assert_eq!(std::fs::read_to_string(bin.join("nix")).unwrap(), "firn, newer");
    world.remove().unwrap();
    assert_eq!(snapshot(&world.root()), before);
}

#[test]
fn an_installation_that_was_cut_off_goes_on_or_is_undone() {
    for cut in (0..).step_by(3) {
        let world = World::new();
        world.write("root/home/ann/.local/bin/nix", "another nix");
        let before = snapshot(&world.root());
        let mut count = 0;
        // A kill between two steps, as far as the disk can tell.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.plan().apply(&mut |_, _| {
                if count == cut {
                    std::panic::resume_unwind(Box::new("cut off"));
                }
                count += 1;
            })
        }));
        if result.is_ok() {
            assert!(cut > 20, "only {cut} steps");
            return;
        }
        if cut % 2 == 0 {
            world.plan().apply(&mut |_, _| {}).unwrap();
            assert!(world.plan().is_done());
        }
        match world.remove() {
            Ok(_) => assert_eq!(snapshot(&world.root()), before, "cut off before step {cut}"),
            Err(error) => assert!(cut == 0 && matches!(error, firn_install::Error::NotInstalled { .. })),
        }
    }
}

#[test]
fn what_was_changed_since_is_left() {
    let world = World::new();
    world.plan().apply(&mut |_, _| {}).unwrap();
    let script = world.root().join("home/ann/.local/etc/profile.d/firn.sh");
    std::fs::write(&script, "mine now").unwrap();
    let rc = world.root().join("home/ann/.profile");
    let text = std::fs::read_to_string(&rc).unwrap();
    std::fs::write(&rc, format!("{text}export EDITOR=ed\n")).unwrap();
    let told = world.remove().unwrap();
    assert!(
        told.iter().any(|line| line.starts_with("left: file") && line.contains("changed since")),
        "{told:?}"
    );
    assert_eq!(std::fs::read_to_string(&script).unwrap(), "mine now");
    assert_eq!(std::fs::read_to_string(&rc).unwrap(), "export EDITOR=ed\n");
    let again = world.remove().unwrap_err().to_string();
    assert!(again.contains("nothing to undo"), "{again}");
}

#[test]
fn records_that_are_none_are_told_of() {
    let world = World::new();
    let journal = journal_path(Kind::SingleUser, Path::new("/home/ann"));
    for (text, expected) in
        [("{", "EOF"), (r#"{"format":9,"kind":"single-user","prefix":"/","entries":[]}"#, "format is 9")]
    {
        world.write("root/home/ann/.local/state/firn/install.json", text);
        let error = Journal::load(&world.root(), &journal).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(Plan::make(&world.options(), &Machine::look(&world.root(), Path::new("/home/ann"))).is_err());
    }
}

/// As root: users, units and the settings of a machine that has another Nix.
#[test]
fn a_machine_with_nix_is_taken_over() {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/sbin/useradd").exists() {
        eprintln!("NOT TESTED: taking over a machine needs root and useradd");
        return;
    }
    let world = World::new();
    world.write("root/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    world.write("root/etc/group", "root:x:0:\n");
    world.write("root/etc/login.defs", "SYS_UID_MAX 999\n");
    world.write("root/usr/lib/systemd/systemd", "");
    world.write(
        "root/usr/lib/systemd/system/nix-daemon.service",
        "[Service]\nExecStart=/usr/bin/nix-daemon\n",
    );
    world.write("root/usr/bin/nix-store", "another");
    world.write("root/etc/nix/nix.conf", "sandbox = true\n");
    world.write("root/etc/bash.bashrc", "# bash\n");
    let before = snapshot(&world.root());
    let options = Options { kind: Kind::MultiUser, ..world.options() };
    let plan = || Plan::make(&options, &Machine::look(&world.root(), Path::new("/root"))).unwrap();
    let first = plan();
    assert!(first.notes.iter().any(|note| note.contains("starts firn's daemon")), "{:?}", first.notes);
    let users = |plan: &Plan| {
        plan.steps
            .iter()
            .filter(|(step, todo)| matches!(step, Step::User { .. }) && *todo == Todo::Make)
            .count()
    };
    assert_eq!(users(&first), 2);
    first.apply(&mut |_, _| {}).unwrap();
    assert!(plan().is_done());
    let text = |path: &str| std::fs::read_to_string(world.root().join(path)).unwrap();
    assert!(
        text("etc/systemd/system/nix-daemon.service.d/firn.conf")
            .contains("/usr/local/bin/nix-daemon --daemon")
    );
    assert!(text("etc/passwd").contains(":30002:30000:runs builds"), "{}", text("etc/passwd"));
    assert_eq!(text("etc/nix/nix.conf"), "sandbox = true\n");
    let mode = world.root().join("nix/store").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o1737);
    let journal = journal_path(Kind::MultiUser, Path::new("/root"));
    uninstall(&world.root(), &journal, false, &mut |_| {}).unwrap();
    let mut after = snapshot(&world.root());
    // Copies that useradd makes.
    after.retain(|path, _| !path.to_string_lossy().ends_with('-'));
    assert_eq!(after, before);
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is() {
    let world = World::new();
    let refused = |options: Options| {
        Plan::make(&options, &Machine::look(&world.root(), Path::new("/home/ann"))).unwrap_err().to_string()
    };
    let relative = Options { prefix: Some("here".into()), ..world.options() };
    assert!(refused(relative).contains("not an absolute path"));
    if !rustix::process::geteuid().is_root() {
        assert!(refused(Options { kind: Kind::MultiUser, ..world.options() }).contains("made by root"));
    }
    world.plan().apply(&mut |_, _| {}).unwrap();
    let elsewhere = Options { prefix: Some("/opt".into()), ..world.options() };
    assert!(refused(elsewhere).contains("already"));
}

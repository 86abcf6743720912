//! What an installation will do.

use crate::accounts::{self, USERS};
use crate::files::beside;
use crate::journal::{Entry, Journal, journal_path};
use crate::machine::Machine;
use crate::step::{Step, Todo};
use crate::{Error, Result, below, texts};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The group whose members builds run as, under the name that Nix gives it too.
pub const BUILD_GROUP: &str = "nixbld";

/// The number that Nix's installer gives to that group; users follow it.
const FIRST_ID: u32 = 30_000;

/// For whom the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One user owns it and works on it directly.
    SingleUser,
    /// Root owns it; others go through the daemon, and builds run as users of their own.
    MultiUser,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    pub kind: Kind,
    /// `bin` and `share` are below it; `/usr/local` or `~/.local` if nothing is said.
    pub prefix: Option<PathBuf>,
    /// The program to install.
    pub program: PathBuf,
    /// The names that it answers to besides its own, which become links.
    pub names: Vec<String>,
    /// How many users for builds.
    pub build_users: u32,
    /// Whether files that shells read at their start are changed.
    pub shells: bool,
    /// Whether units for systemd are installed, where it is.
    pub systemd: bool,
    /// More files, below the prefix: manual pages and completions.
    pub share: Vec<(PathBuf, String)>,
}

/// Steps that bring the machine to where it was asked to be, and what a person should know of it.
#[derive(Debug)]
pub struct Plan {
    pub kind: Kind,
    pub prefix: PathBuf,
    pub steps: Vec<(Step, Todo)>,
    pub notes: Vec<String>,
    root: PathBuf,
    journal: Journal,
    journal_path: PathBuf,
}

impl Plan {
    /// Makes the plan. Nothing is written.
    ///
    /// # Errors
    /// What cannot be done here, such as an installation for many users by one who is not root.
    pub fn make(options: &Options, machine: &Machine) -> Result<Self> {
        let multi = options.kind == Kind::MultiUser;
        if multi && !machine.is_root {
            return Err(Error::Refused(
                "an installation for many users is made by root; '--single-user' makes one for you alone"
                    .to_owned(),
            ));
        }
        let prefix = options.prefix.clone().unwrap_or_else(|| match options.kind {
            Kind::MultiUser => PathBuf::from("/usr/local"),
            Kind::SingleUser => machine.home.join(".local"),
        });
        if !prefix.is_absolute() {
            return Err(Error::Refused(format!("the prefix '{}' is not an absolute path", prefix.display())));
        }
        let mut making = Making { options, machine, prefix: &prefix, steps: Vec::new(), notes: Vec::new() };
        making.programs();
        if multi {
            making.accounts();
        }
        making.store()?;
        making.settings();
        if multi {
            making.services();
        }
        making.shells();
        let Making { steps, notes, .. } = making;
        let path = journal_path(options.kind, &machine.home);
        let journal =
            Journal::load(&machine.root, &path)?.unwrap_or_else(|| Journal::new(options.kind, &prefix));
        if journal.prefix != prefix {
            return Err(Error::Refused(format!(
                "firn is installed below '{}' already; uninstall it first, or take that prefix",
                journal.prefix.display()
            )));
        }
        let steps = with_folders(&machine.root, steps)
            .into_iter()
            .map(|step| {
                let ours = journal.earlier(&step).is_some();
                let todo = step.todo(&machine.root, ours);
                (step, todo)
            })
            .collect();
        Ok(Self {
            kind: options.kind,
            prefix,
            steps,
            notes,
            root: machine.root.clone(),
            journal,
            journal_path: path,
        })
    }

    /// Whether everything is as it shall be.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let is_service = |step: &Step| matches!(step, Step::Service { .. });
        self.steps.iter().all(|(step, todo)| *todo == Todo::Nothing || is_service(step))
    }

    /// Does what is to be done, and tells `told` of each step before it. May be called again after an error.
    ///
    /// # Errors
    /// The first step that fails; those before it stay, and are on record.
    pub fn apply(mut self, told: &mut dyn FnMut(&Step, Todo)) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        for (step, todo) in &self.steps {
            if *todo == Todo::Nothing {
                continue;
            }
            told(step, *todo);
            let backup = match (self.journal.earlier(step), *todo) {
                (Some(entry), _) => entry.backup.clone(),
                (None, Todo::Replace) => step.path().map(|path| free_backup(&self.root, path)),
                (None, _) => None,
            };
            let existed = match self.journal.earlier(step) {
                Some(entry) => entry.existed,
                None => step.path().is_some_and(|path| below(&self.root, path).symlink_metadata().is_ok()),
            };
            let entry = Entry { step: step.clone(), done: false, backup: backup.clone(), existed };
            let index = match self.journal.entries.iter().position(|entry| entry.step.same_place(step)) {
                Some(index) => {
                    self.journal.entries[index] = entry;
                    index
                }
                None => {
                    self.journal.entries.push(entry);
                    self.journal.entries.len() - 1
                }
            };
            self.journal.save(&self.root, &self.journal_path)?;
            // What is ours already is not moved away again.
            let keep = if *todo == Todo::Replace { backup } else { None };
            step.apply(&self.root, keep.as_deref())?;
            self.journal.entries[index].done = true;
        }
        self.journal.save(&self.root, &self.journal_path)
    }
}

/// The steps with folders before them that are missing on the way to their files, so that these go away again too.
fn with_folders(root: &Path, steps: Vec<Step>) -> Vec<Step> {
    let mut all: Vec<Step> = Vec::new();
    for step in steps {
        let missing = |folder: &&Path| below(root, folder).symlink_metadata().is_err();
        let folders: Vec<PathBuf> = match step.path() {
            Some(path) => path.ancestors().skip(1).take_while(missing).map(Path::to_owned).collect(),
            None => Vec::new(),
        };
        for path in folders.into_iter().rev() {
            if !all.iter().any(|step| matches!(step, Step::Folder { .. }) && step.path() == Some(&path)) {
                all.push(Step::Folder { path, mode: 0o755, group: None });
            }
        }
        all.push(step);
    }
    all
}

/// Where what stands at `path` can be kept.
fn free_backup(root: &Path, path: &Path) -> PathBuf {
    let mut number = 0;
    loop {
        let suffix = if number == 0 { ".before-firn".to_owned() } else { format!(".before-firn-{number}") };
        let backup = beside(path, &suffix);
        if below(root, &backup).symlink_metadata().is_err() {
            return backup;
        }
        number += 1;
    }
}

struct Making<'a> {
    options: &'a Options,
    machine: &'a Machine,
    prefix: &'a Path,
    steps: Vec<Step>,
    notes: Vec<String>,
}

impl Making<'_> {
    fn folder(&mut self, path: impl Into<PathBuf>, mode: u32) {
        self.steps.push(Step::Folder { path: path.into(), mode, group: None });
    }

    fn file(&mut self, path: impl Into<PathBuf>, text: String) {
        self.steps.push(Step::File { path: path.into(), text, mode: 0o644 });
    }

    fn programs(&mut self) {
        let bin = self.prefix.join("bin");
        self.folder(&bin, 0o755);
        self.steps.push(Step::Program { path: bin.join("firn"), source: self.options.program.clone() });
        for name in &self.options.names {
            self.steps.push(Step::Link { path: bin.join(name), target: PathBuf::from("firn") });
        }
        for (path, text) in &self.options.share {
            self.steps.push(Step::File {
                path: self.prefix.join("share").join(path),
                text: text.clone(),
                mode: 0o644,
            });
        }
        for program in &self.machine.other_programs {
            if program.parent() != Some(&bin) {
                self.notes.push(format!(
                    "{} stays where it is; firn's programs in {} come before it in PATH",
                    program.display(),
                    bin.display()
                ));
            }
        }
    }

    fn accounts(&mut self) {
        let root = &self.machine.root;
        let members = |id: u32| {
            accounts::table(root, accounts::GROUPS)
                .into_iter()
                .find(|group| group.id == id)
                .map_or(0, |group| group.last.split(',').filter(|name| !name.is_empty()).count())
        };
        if let Some(id) = accounts::id_of(root, accounts::GROUPS, BUILD_GROUP) {
            match members(id) {
                0 => self.notes.push(format!(
                    "the group {BUILD_GROUP} is there but has no members: builds need at least one user in it"
                )),
                count => {
                    self.notes.push(format!("builds run as the {count} members of the group {BUILD_GROUP}"))
                }
            }
            return;
        }
        let first = accounts::free_range(root, FIRST_ID, self.options.build_users);
        self.steps.push(Step::Group { name: BUILD_GROUP.to_owned(), id: first });
        for number in 1..=self.options.build_users {
            let name = format!("{BUILD_GROUP}{number}");
            if accounts::id_of(root, USERS, &name).is_some() {
                self.notes
                    .push(format!("the user {name} is there already, and is not put into {BUILD_GROUP}"));
                continue;
            }
            self.steps.push(Step::User {
                name,
                id: first + number,
                group: BUILD_GROUP.to_owned(),
                comment: format!("runs builds of firn ({number})"),
            });
        }
    }

    fn store(&mut self) -> Result<()> {
        if self.machine.has_store {
            self.notes
                .push("the store /nix/store and its database stay as they are, and are used".to_owned());
        }
        let multi = self.options.kind == Kind::MultiUser;
        if !multi && !self.machine.is_root {
            let nix = below(&self.machine.root, Path::new("/nix"));
            let parent = nix.parent().unwrap_or(Path::new("/"));
            let writable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
            match nix.exists() {
                true if writable(&nix) => {}
                true => {
                    return Err(Error::Refused(
                        "/nix belongs to somebody else: ask root for 'firn install --multi-user', or work with \
                         '--store ~/store' without an installation"
                            .to_owned(),
                    ));
                }
                false if writable(parent) => {}
                false => {
                    return Err(Error::Refused(
                        "/nix has to be made by root once: 'sudo install -d -m 755 -o \"$USER\" /nix', then try again"
                            .to_owned(),
                    ));
                }
            }
        }
        self.folder("/nix", 0o755);
        match multi {
            // What R6 asks for: build users can use the paths they know, and cannot list the others.
            true => self.steps.push(Step::Folder {
                path: "/nix/store".into(),
                mode: 0o1737,
                group: Some(BUILD_GROUP.to_owned()),
            }),
            false => self.folder("/nix/store", 0o755),
        }
        for path in ["/nix/var", "/nix/var/nix", "/nix/var/nix/profiles", "/nix/var/nix/gcroots"] {
            self.folder(path, 0o755);
        }
        if multi {
            for path in ["/nix/var/nix/daemon-socket", "/nix/var/nix/builds"] {
                self.folder(path, 0o755);
            }
        }
        Ok(())
    }

    fn settings(&mut self) {
        let multi = self.options.kind == Kind::MultiUser;
        if !multi && !self.machine.is_root {
            return;
        }
        if self.machine.has_nix_conf {
            self.notes.push("the settings in /etc/nix/nix.conf stay as they are".to_owned());
            return;
        }
        self.file("/etc/nix/nix.conf", texts::nix_conf(if multi { BUILD_GROUP } else { "" }));
    }

    fn services(&mut self) {
        const UNITS: &str = "/etc/systemd/system";
        if !self.machine.has_systemd || !self.options.systemd {
            self.notes.push(format!(
                "systemd does not run here: let '{}/bin/nix-daemon' be started at boot, as root",
                self.prefix.display()
            ));
            return;
        }
        let units = Path::new(UNITS);
        let taken = self.machine.other_daemon.clone();
        if let Some(unit) = &taken {
            self.notes.push(format!(
                "{} stays, but starts firn's daemon; 'firn uninstall' gives it back",
                unit.display()
            ));
            self.file(units.join("nix-daemon.service.d/firn.conf"), texts::drop_in(self.prefix));
        } else {
            self.file(units.join("nix-daemon.service"), texts::service_unit(self.prefix));
            self.file(units.join("nix-daemon.socket"), texts::socket_unit());
            self.file("/etc/tmpfiles.d/nix-daemon.conf", texts::tmpfiles());
            // What `systemctl enable` does, also where systemd does not run at the moment.
            self.steps.push(Step::Link {
                path: units.join("sockets.target.wants/nix-daemon.socket"),
                target: units.join("nix-daemon.socket"),
            });
        }
        if self.machine.is_booted {
            let unit = if taken.is_some() { "nix-daemon.service" } else { "nix-daemon.socket" };
            self.steps.push(Step::Service { unit: unit.to_owned(), start: taken.is_none() });
        }
    }

    fn shells(&mut self) {
        if !self.options.shells {
            let script = self.prefix.join("etc/profile.d/firn.sh");
            self.file(&script, texts::profile_sh(self.prefix));
            self.notes.push(format!("shells are not changed: source {} in yours", script.display()));
            return;
        }
        let there = |path: &Path| below(&self.machine.root, path).exists();
        match self.options.kind {
            Kind::MultiUser => {
                // After what other installations put there, so that our programs come first.
                self.file("/etc/profile.d/zz-firn.sh", texts::profile_sh(self.prefix));
                let script = texts::source_sh(Path::new("/etc/profile.d/zz-firn.sh"));
                for rc in ["/etc/bash.bashrc", "/etc/bashrc", "/etc/zsh/zshenv", "/etc/zshenv"] {
                    if there(Path::new(rc)) {
                        self.steps.push(Step::Block { path: rc.into(), text: script.clone() });
                    }
                }
                if there(Path::new("/etc/fish")) {
                    self.file("/etc/fish/conf.d/zz-firn.fish", texts::profile_fish(self.prefix));
                }
            }
            Kind::SingleUser => {
                let home = self.machine.home.clone();
                let script = self.prefix.join("etc/profile.d/firn.sh");
                self.file(&script, texts::profile_sh(self.prefix));
                let text = texts::source_sh(&script);
                for (name, always) in
                    [(".profile", true), (".bash_profile", false), (".bashrc", false), (".zshenv", false)]
                {
                    let path = home.join(name);
                    if always || there(&path) {
                        self.steps.push(Step::Block { path, text: text.clone() });
                    }
                }
                let fish = home.join(".config/fish");
                if there(&fish) {
                    self.file(fish.join("conf.d/zz-firn.fish"), texts::profile_fish(self.prefix));
                }
            }
        }
    }
}

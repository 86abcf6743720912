//! One step of an installation.

use crate::accounts::{self, GROUPS, USERS};
use crate::files::{self, beside, replace, replace_text};
use crate::{Error, Result, at, below};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// Something that shall be so on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// A folder is there. One that is there already is left as it is.
    Folder { path: PathBuf, mode: u32, group: Option<String> },
    /// A program is a copy of `source`, a path of the machine that firn runs on.
    Program { path: PathBuf, source: PathBuf },
    /// A symlink.
    Link { path: PathBuf, target: PathBuf },
    /// A file with this text.
    File { path: PathBuf, text: String, mode: u32 },
    /// A file, which may have other text, has this between marks.
    Block { path: PathBuf, text: String },
    /// A group.
    Group { name: String, id: u32 },
    /// A user that nobody can log in as.
    User { name: String, id: u32, group: String, comment: String },
    /// systemd reads its units again and starts the socket, or starts a daemon anew that runs.
    Service { unit: String, start: bool },
}

/// What there is to do for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// It is so already.
    Nothing,
    Make,
    /// Something else is there, which is kept.
    Replace,
    /// What we made earlier is there in an older form.
    Update,
}

impl Step {
    /// The place of those that have one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Folder { path, .. }
            | Self::Program { path, .. }
            | Self::Link { path, .. }
            | Self::File { path, .. }
            | Self::Block { path, .. } => Some(path),
            Self::Group { .. } | Self::User { .. } | Self::Service { .. } => None,
        }
    }

    /// Whether both are about the same file, account or unit.
    pub(crate) fn same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Group { name: a, .. }, Self::Group { name: b, .. })
            | (Self::User { name: a, .. }, Self::User { name: b, .. })
            | (Self::Service { unit: a, .. }, Self::Service { unit: b, .. }) => a == b,
            _ => self.path().is_some() && self.path() == other.path(),
        }
    }

    /// What there is to do below `root`; `ours` says that an earlier installation made what stands there.
    #[must_use]
    pub fn todo(&self, root: &Path, ours: bool) -> Todo {
        let real = self.path().map(|path| below(root, path)).unwrap_or_default();
        let there = real.symlink_metadata().is_ok();
        let done = match self {
            Self::Folder { .. } => real.is_dir(),
            Self::Program { source, .. } => {
                let linked = real.symlink_metadata().is_ok_and(|data| data.is_symlink());
                !linked && (is_same_file(&real, source) || files::same(&real, source))
            }
            Self::Link { target, .. } => std::fs::read_link(&real).is_ok_and(|to| to == *target),
            Self::File { text, .. } => {
                !real.is_symlink() && std::fs::read(&real).is_ok_and(|bytes| bytes == text.as_bytes())
            }
            Self::Block { text, .. } => {
                std::fs::read_to_string(&real).is_ok_and(|all| files::has_block(&all, text))
            }
            Self::Group { name, .. } => accounts::id_of(root, GROUPS, name).is_some(),
            Self::User { name, .. } => accounts::id_of(root, USERS, name).is_some(),
            Self::Service { .. } => false,
        };
        match self {
            _ if done => Todo::Nothing,
            Self::Block { .. } if there => Todo::Update,
            _ if !there => Todo::Make,
            _ if ours => Todo::Update,
            _ => Todo::Replace,
        }
    }

    /// What the step does, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Folder { path, mode, group } => {
                let group = group.as_ref().map(|group| format!(", group {group}")).unwrap_or_default();
                format!("folder {} (mode {mode:o}{group})", path.display())
            }
            Self::Program { path, .. } => format!("program {}", path.display()),
            Self::Link { path, target } => format!("link {} -> {}", path.display(), target.display()),
            Self::File { path, .. } => format!("file {}", path.display()),
            Self::Block { path, .. } => format!("a few lines at the end of {}", path.display()),
            Self::Group { name, id } => format!("group {name} ({id})"),
            Self::User { name, id, .. } => format!("user {name} ({id}), for builds"),
            Self::Service { unit, start: true } => format!("systemd: start {unit}"),
            Self::Service { unit, start: false } => format!("systemd: start {unit} anew if it runs"),
        }
    }

    /// Does it below `root`. What is replaced goes to `backup`.
    pub(crate) fn apply(&self, root: &Path, backup: Option<&Path>) -> Result<()> {
        let real = self.path().map(|path| below(root, path)).unwrap_or_default();
        if let Some(backup) = backup {
            let backup = below(root, backup);
            // Interrupted after this the last time: what stands there now is ours.
            if backup.symlink_metadata().is_err() && real.symlink_metadata().is_ok() {
                std::fs::rename(&real, &backup).map_err(at("moving away", &real))?;
            }
        }
        if let (Some(folder), false) = (real.parent(), matches!(self, Self::Folder { .. })) {
            std::fs::create_dir_all(folder).map_err(at("making", folder))?;
        }
        match self {
            Self::Folder { mode, group, .. } => make_folder(root, &real, *mode, group.as_deref()),
            Self::Program { source, .. } => {
                let mut from = std::fs::File::open(source).map_err(at("reading", source))?;
                replace(&real, 0o755, &mut |file| std::io::copy(&mut from, file).map(|_| ()))
            }
            Self::Link { target, .. } => {
                let part = beside(&real, ".firn-new");
                let _ = std::fs::remove_file(&part);
                symlink(target, &part).map_err(at("linking", &part))?;
                std::fs::rename(&part, &real).map_err(at("linking", &real))
            }
            Self::File { text, mode, .. } => replace_text(&real, *mode, text),
            Self::Block { text, .. } => change_text(&real, &|all| files::with_block(all, text)),
            Self::Group { name, id } => {
                let mut args = accounts::under(root);
                args.extend(["--system", "--gid", &id.to_string(), name].map(str::to_owned));
                accounts::run("groupadd", &args)
            }
            Self::User { name, id, group, comment } => {
                let mut args = accounts::under(root);
                let id = id.to_string();
                args.extend(
                    [
                        "--system",
                        "--uid",
                        &id,
                        "--gid",
                        group,
                        "--groups",
                        group,
                        "--no-user-group",
                        "--no-create-home",
                    ]
                    .map(str::to_owned),
                );
                let shell =
                    ["--home-dir", "/var/empty", "--shell", "/usr/sbin/nologin", "--comment", comment, name];
                args.extend(shell.map(str::to_owned));
                accounts::run("useradd", &args)
            }
            Self::Service { unit, start } => start_service(unit, *start),
        }
    }
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| path.metadata().map(|data| (data.dev(), data.ino())).ok();
    id(a).is_some() && id(a) == id(b)
}

fn make_folder(root: &Path, real: &Path, mode: u32, group: Option<&str>) -> Result<()> {
    std::fs::create_dir_all(real).map_err(at("making", real))?;
    if let Some(group) = group {
        let id = accounts::id_of(root, GROUPS, group)
            .ok_or_else(|| Error::Refused(format!("there is no group '{group}'")))?;
        chown(real, None, Some(id)).map_err(at("changing the group of", real))?;
    }
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(real, mode).map_err(at("setting the mode of", real))
}

/// Writes a file of somebody else's anew, with its mode and owner. A link stays one.
pub(crate) fn change_text(real: &Path, change: &dyn Fn(&str) -> String) -> Result<()> {
    let target = real.canonicalize().unwrap_or_else(|_| real.to_owned());
    let before = match std::fs::read_to_string(&target) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(at("reading", &target)(error)),
    };
    let data = target.metadata().ok();
    let mode = data.as_ref().map_or(0o644, |data| data.permissions().mode() & 0o7777);
    replace_text(&target, mode, &change(&before))?;
    if let Some(data) = data {
        chown(&target, Some(data.uid()), Some(data.gid())).map_err(at("changing the owner of", &target))?;
    }
    Ok(())
}

pub(crate) fn start_service(unit: &str, start: bool) -> Result<()> {
    accounts::run("systemctl", &["daemon-reload".to_owned()])?;
    let verb = if start { "start" } else { "try-restart" };
    accounts::run("systemctl", &[verb.to_owned(), unit.to_owned()])
}

//! What a machine has before firn is installed.

use crate::accounts::{self, GROUPS};
use crate::below;
use std::path::{Path, PathBuf};

/// Folders in which systemd looks for units, in its order.
const UNIT_FOLDERS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Where other installations keep their programs.
const OTHERS: &[&str] =
    &["/usr/bin/nix-store", "/usr/local/bin/nix-store", "/nix/var/nix/profiles/default/bin/nix-store"];

/// What was found.
#[derive(Debug)]
pub struct Machine {
    /// `/`, or where the machine's root is mounted.
    pub root: PathBuf,
    pub home: PathBuf,
    pub is_root: bool,
    /// systemd is what starts services here.
    pub has_systemd: bool,
    /// systemd runs now, and this is its machine.
    pub is_booted: bool,
    /// The unit of a daemon that is not ours.
    pub other_daemon: Option<PathBuf>,
    /// Another Nix's `nix-store`.
    pub other_programs: Vec<PathBuf>,
    pub has_store: bool,
    pub has_nix_conf: bool,
    pub has_build_group: bool,
}

impl Machine {
    /// Looks at the machine below `root`, for a user whose home is `home`.
    #[must_use]
    pub fn look(root: &Path, home: &Path) -> Self {
        let there = |path: &str| below(root, Path::new(path)).exists();
        let units = UNIT_FOLDERS.iter().map(|folder| Path::new(folder).join("nix-daemon.service"));
        let is_ours = |path: &Path| {
            let text = std::fs::read(below(root, path)).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(crate::texts::MADE_BY)
        };
        let other_daemon =
            units.into_iter().find(|path| below(root, path).symlink_metadata().is_ok() && !is_ours(path));
        // Links to firn are no other programs.
        let is_other = |path: &&&str| {
            let real = below(root, Path::new(path)).canonicalize();
            real.is_ok_and(|real| real.file_name().is_some_and(|name| name != "firn"))
        };
        let is_here = root == Path::new("/");
        Self {
            root: root.to_owned(),
            home: home.to_owned(),
            is_root: rustix::process::geteuid().is_root(),
            has_systemd: there("/run/systemd/system")
                || there("/usr/lib/systemd/systemd")
                || there("/lib/systemd/systemd"),
            is_booted: is_here && there("/run/systemd/system"),
            other_daemon,
            other_programs: OTHERS.iter().filter(is_other).map(PathBuf::from).collect(),
            has_store: there("/nix/store"),
            has_nix_conf: there("/etc/nix/nix.conf"),
            has_build_group: accounts::id_of(root, GROUPS, crate::plan::BUILD_GROUP).is_some(),
        }
    }
}

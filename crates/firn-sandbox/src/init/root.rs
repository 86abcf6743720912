//! The new root's directories, files and mount points, made by the calling user before the builder's process exists.
//!
//! Nobody else can reach the root then: it lies in a directory of mode 0700.

use super::{SetupError, SetupResult, ids_inside};
use crate::spec::{Isolation, SandboxSpec, to_path};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Devices of the host that every build sees.
pub(super) const DEVICES: [&str; 6] =
    ["/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"];

/// What is at the source of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Symlink,
    Other,
}

/// Where `inside` is on the host.
pub(super) fn place(isolation: &Isolation, inside: &[u8]) -> SetupResult<PathBuf> {
    let mut path = to_path(&isolation.root);
    for component in to_path(inside).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(SetupError::Failed(format!(
                    "path '{}' in the sandbox must not contain '..'",
                    String::from_utf8_lossy(inside)
                )));
            }
        }
    }
    Ok(path)
}

/// Whether `path` is among the mounts' targets.
pub(super) fn is_mounted(isolation: &Isolation, path: &str) -> bool {
    isolation.mounts.iter().any(|mount| mount.target == path.as_bytes())
}

/// Makes everything that mounting needs.
pub(super) fn prepare(isolation: &Isolation, spec: &SandboxSpec) -> SetupResult<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut maker = Maker { isolation, made: BTreeSet::new() };
    for directory in ["/tmp", "/etc", "/proc"] {
        maker.directory(&place(isolation, directory.as_bytes())?)?;
    }
    maker.mode(&place(isolation, b"/tmp")?, 0o1777)?;
    if isolation.whole_system {
        maker.directory(&place(isolation, b"/sys")?)?;
    }
    if !is_mounted(isolation, "/dev") {
        maker.directory(&place(isolation, b"/dev/shm")?)?;
        maker.directory(&place(isolation, b"/dev/pts")?)?;
        for device in DEVICES {
            if Path::new(device).exists() {
                maker.file(&place(isolation, device.as_bytes())?, b"", 0o644)?;
            }
        }
        for (link, target) in [
            ("/dev/fd", "/proc/self/fd"),
            ("/dev/stdin", "/proc/self/fd/0"),
            ("/dev/stdout", "/proc/self/fd/1"),
            ("/dev/stderr", "/proc/self/fd/2"),
        ] {
            maker.symlink(&place(isolation, link.as_bytes())?, target.as_ref())?;
        }
        if isolation.private_pts && !is_mounted(isolation, "/dev/pts") && Path::new("/dev/pts/ptmx").exists()
        {
            maker.symlink(&place(isolation, b"/dev/ptmx")?, "/dev/pts/ptmx".as_ref())?;
        }
    }
    accounts(&mut maker, isolation, spec)?;
    for file in &isolation.files {
        maker.file(&place(isolation, &file.path)?, &file.contents, file.mode)?;
    }
    for link in &isolation.symlinks {
        maker.symlink(&place(isolation, &link.path)?, &to_path(&link.target))?;
    }
    for mount in &isolation.mounts {
        let source = to_path(&mount.source);
        let target = place(isolation, &mount.target)?;
        match kind(&source) {
            Ok(Kind::Directory) => maker.directory(&target)?,
            Ok(Kind::Symlink) => {
                let to = fs::read_link(&source)
                    .map_err(SetupError::os(format!("reading the symlink '{}'", source.display())))?;
                maker.symlink(&target, &to)?;
            }
            Ok(Kind::Other) => maker.mount_point_file(&target)?,
            Err(e) if mount.optional && e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => {
                return Err(SetupError::os(format!("getting attributes of path '{}'", source.display()))(e));
            }
        }
    }
    let etc = place(isolation, b"/etc")?;
    if let (true, Some(user)) = (isolation.whole_system, &spec.user) {
        std::os::unix::fs::chown(&etc, Some(user.uid), Some(user.gid))
            .map_err(SetupError::os("changing the owner of /etc"))?;
    } else {
        maker.mode(&etc, 0o555)?;
    }
    Ok(())
}

fn kind(source: &Path) -> std::io::Result<Kind> {
    let kind = fs::symlink_metadata(source)?.file_type();
    Ok(if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Symlink
    } else {
        Kind::Other
    })
}

/// `/etc/passwd` and `/etc/group`, so that the builder's ids have names.
fn accounts(maker: &mut Maker<'_>, isolation: &Isolation, spec: &SandboxSpec) -> SetupResult<()> {
    let (uid, gid) = ids_inside(spec.user.as_ref());
    let home = String::from_utf8_lossy(&isolation.home);
    let passwd = format!(
        "root:x:0:0:Nix build user:{home}:/noshell\n\
         nixbld:x:{uid}:{gid}:Nix build user:{home}:/noshell\n\
         nobody:x:65534:65534:Nobody:/:/noshell\n"
    );
    let group = format!("root:x:0:\nnixbld:!:{gid}:\nnogroup:x:65534:\n");
    maker.file(&place(isolation, b"/etc/passwd")?, passwd.as_bytes(), 0o644)?;
    maker.file(&place(isolation, b"/etc/group")?, group.as_bytes(), 0o644)
}

struct Maker<'a> {
    isolation: &'a Isolation,
    made: BTreeSet<PathBuf>,
}

impl Maker<'_> {
    /// A directory with its parents.
    fn directory(&mut self, path: &Path) -> SetupResult<()> {
        if self.made.contains(path) || path == to_path(&self.isolation.root) {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(SetupError::os(format!("creating directory '{}'", path.display())))?;
        self.made.insert(path.to_owned());
        Ok(())
    }

    fn parent(&mut self, path: &Path) -> SetupResult<()> {
        path.parent().map_or(Ok(()), |parent| self.directory(parent))
    }

    fn mode(&self, path: &Path, mode: u32) -> SetupResult<()> {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(SetupError::os(format!("changing the mode of '{}'", path.display())))
    }

    fn file(&mut self, path: &Path, contents: &[u8], mode: u32) -> SetupResult<()> {
        self.parent(path)?;
        let fail = || SetupError::os(format!("creating file '{}'", path.display()));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(fail())?;
        file.write_all(contents).map_err(fail())?;
        file.set_permissions(Permissions::from_mode(mode)).map_err(fail())
    }

    /// An empty file to mount upon, unless something is there already.
    fn mount_point_file(&mut self, path: &Path) -> SetupResult<()> {
        if fs::symlink_metadata(path).is_ok() {
            return Ok(());
        }
        self.file(path, b"", 0o644)
    }

    fn symlink(&mut self, path: &Path, target: &Path) -> SetupResult<()> {
        self.parent(path)?;
        if fs::symlink_metadata(path).is_ok() {
            return Ok(());
        }
        std::os::unix::fs::symlink(target, path)
            .map_err(SetupError::os(format!("creating symlink '{}'", path.display())))
    }
}

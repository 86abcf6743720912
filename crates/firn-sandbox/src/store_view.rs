//! Runs a program that sees a store which really lies elsewhere at its usual place.
//!
//! Changing namespaces needs a process with one thread, so the caller executes this program again.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::personality::{self, Persona};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first argument of a process that is to do this.
const ARGUMENT: &str = "__run-in-store";

/// What to run and where.
#[derive(Debug)]
pub struct StoreView<'a> {
    /// The store directory that the program is to see.
    pub logical: &'a Path,
    /// Where it really is.
    pub real: &'a Path,
    /// The system that the program is for; empty for this one.
    pub system: &'a str,
    pub program: &'a Path,
    /// The program's name for itself, and its arguments.
    pub name: &'a OsStr,
    pub args: &'a [OsString],
}

impl StoreView<'_> {
    /// The arguments for `/proc/self/exe`.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec![
            ARGUMENT.into(),
            self.logical.into(),
            self.real.into(),
            self.system.into(),
            self.program.into(),
            self.name.into(),
        ];
        all.extend_from_slice(self.args);
        all
    }
}

/// If this process was started with [`StoreView::arguments`], becomes the program and never returns.
pub fn run_in_store_if_requested() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|arg| arg != ARGUMENT) {
        return;
    }
    let Err(error) = run(args);
    // There is no logger here.
    eprintln!("error: {error}");
    std::process::exit(1);
}

fn run(mut args: impl Iterator<Item = OsString>) -> Result<std::convert::Infallible, String> {
    let mut next = || args.next().ok_or_else(|| format!("'{ARGUMENT}' is for internal use"));
    let (logical, real): (PathBuf, PathBuf) = (next()?.into(), next()?.into());
    let (system, program, name) = (next()?, next()?, next()?);
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let own_user = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).is_ok();
    if !own_user {
        // Root can do without, where user namespaces are off.
        unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|e| format!("setting up a private mount namespace: {}", io::Error::from(e)))?;
        let flags = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount_at(None, Path::new("/"), flags).map_err(|e| format!("making mounts private: {e}"))?;
    }
    show(&logical, &real)?;
    if own_user {
        for (file, text) in [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/uid_map", format!("{uid} {uid} 1")),
            ("/proc/self/gid_map", format!("{gid} {gid} 1")),
        ] {
            fs::write(file, text).map_err(|e| format!("writing '{file}': {e}"))?;
        }
    }
    set_personality(&system);
    #[expect(clippy::disallowed_methods, reason = "this process becomes what the user asked for")]
    let error = Command::new(&program).arg0(name).args(args).exec();
    Err(format!("executing '{}': {error}", Path::new(&program).display()))
}

/// Programs for 32-bit systems see a machine of that kind. Best effort: few of them look.
fn set_personality(system: &OsStr) {
    /// From <linux/personality.h>.
    const PER_LINUX32: i32 = 8;
    let is_32_bit = ["i686-linux", "i386-linux", "armv5tel-linux", "armv6l-linux", "armv7l-linux"]
        .iter()
        .any(|name| system == *name);
    if is_32_bit {
        let _ = personality::set(Persona::from_bits_retain(PER_LINUX32));
    }
}

fn mount_at(source: Option<&Path>, target: &Path, flags: MsFlags) -> io::Result<()> {
    mount(source, target, None::<&str>, flags, None::<&str>).map_err(io::Error::from)
}

fn bind(source: &Path, target: &Path) -> Result<(), String> {
    mount_at(Some(source), target, MsFlags::MS_BIND | MsFlags::MS_REC)
        .map_err(|e| format!("mounting '{}' on '{}': {e}", source.display(), target.display()))
}

/// Lets `real` be seen at `logical`. Where that folder does not exist, in a new root with everything else of the old.
fn show(logical: &Path, real: &Path) -> Result<(), String> {
    if logical.exists() {
        // Paths of the store that is there stay visible where the kernel can show both.
        let both = format!("lowerdir={}:{}", logical.display(), real.display());
        return match mount(Some("overlay"), logical, Some("overlay"), MsFlags::empty(), Some(both.as_str())) {
            Ok(()) => Ok(()),
            Err(_) => bind(real, logical),
        };
    }
    let root = temporary_root()?;
    let inside = root.join(logical.strip_prefix("/").unwrap_or(logical));
    fs::create_dir_all(&inside).map_err(|e| format!("creating directory '{}': {e}", inside.display()))?;
    bind(real, &inside)?;
    fill(Path::new("/"), &root, &inside)?;
    let current = std::env::current_dir().map_err(|e| format!("finding the current directory: {e}"))?;
    rustix::process::chroot(&root).map_err(|e| format!("changing the root to '{}': {e}", root.display()))?;
    std::env::set_current_dir(&current).map_err(|e| format!("going back to '{}': {e}", current.display()))
}

/// Brings everything that is in `source` to `target`, and to those folders of `target` that lead to `store`.
fn fill(source: &Path, target: &Path, store: &Path) -> Result<(), String> {
    let failed = |e: io::Error| format!("reading directory '{}': {e}", source.display());
    let made = |place: &Path| {
        let place = place.to_owned();
        move |e: io::Error| format!("creating '{}': {e}", place.display())
    };
    // What goes away while this looks at it (other programs' files in /tmp) is left out.
    let is_gone = |source: &Path| source.symlink_metadata().is_err();
    for entry in fs::read_dir(source).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (source, place) = (entry.path(), target.join(entry.file_name()));
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(_) if is_gone(&source) => continue,
            Err(e) => return Err(failed(e)),
        };
        if place == store {
            continue;
        }
        if store.starts_with(&place) {
            if kind.is_dir() {
                fill(&source, &place, store)?;
            }
        } else if kind.is_symlink() {
            let link = match fs::read_link(&source) {
                Ok(link) => link,
                Err(_) if is_gone(&source) => continue,
                Err(e) => return Err(failed(e)),
            };
            std::os::unix::fs::symlink(link, &place).map_err(made(&place))?;
        } else if kind.is_dir() {
            fs::create_dir(&place).map_err(made(&place))?;
            bind(&source, &place).or_else(|e| if is_gone(&source) { Ok(()) } else { Err(e) })?;
        } else {
            fs::write(&place, "").map_err(made(&place))?;
            bind(&source, &place).or_else(|e| if is_gone(&source) { Ok(()) } else { Err(e) })?;
        }
    }
    Ok(())
}

fn temporary_root() -> Result<PathBuf, String> {
    for attempt in 0..1000 {
        let path = std::env::temp_dir().join(format!("nix-store-view-{}-{attempt}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(format!("creating directory '{}': {e}", path.display())),
        }
    }
    Err(format!("no name is free in '{}'", std::env::temp_dir().display()))
}

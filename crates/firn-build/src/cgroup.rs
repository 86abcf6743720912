//! Cgroups of builds (version 2): one for each build, so that its processes are counted together and end together.

use crate::text::io_failure;
use firn_sandbox::BuildUser;
use firn_scheduler::BuildFailure;
use firn_store::CpuTimes;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Greatest number of processes, where the kernel lets this be limited.
const MAX_PROCESSES: u32 = 16384;

/// How often, and after which pauses, processes of a cgroup are waited for.
const PATIENCE: (u32, Duration) = (500, Duration::from_millis(10));

/// A build's cgroup. Dropping it kills what is in it and removes it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    /// Where it is noted, for whoever gets the build user next.
    note: Option<PathBuf>,
}

impl Cgroup {
    /// Makes one below this process's own. `None` where cgroups of version 2 are not mounted.
    pub fn create(state_dir: &Path, user: Option<&BuildUser>) -> Result<Option<Cgroup>, BuildFailure> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let (Some(mounted), Some(own)) = (mount_point(), own_group()) else { return Ok(None) };
        let parent = builds_of(&mounted.join(own.strip_prefix("/").unwrap_or(&own)));
        let mut note = None;
        let name = match user {
            Some(user) => {
                let notes = state_dir.join("cgroups");
                fs::create_dir_all(&notes).map_err(io_failure("creating directory", &notes))?;
                let file = notes.join(user.uid.to_string());
                // Left by somebody who was killed; the build user is ours now.
                if let Ok(previous) = fs::read_to_string(&file) {
                    destroy(Path::new(previous.trim()))?;
                }
                note = Some(file);
                format!("nix-build-uid-{}", user.uid)
            }
            None => {
                let number = COUNTER.fetch_add(1, Ordering::Relaxed);
                if number == 0 {
                    destroy_abandoned(&parent);
                }
                format!("{PREFIX}{}-{number}", std::process::id())
            }
        };
        let path = parent.join(name);
        destroy(&path)?;
        if let Some(note) = &note {
            fs::write(note, path.display().to_string()).map_err(io_failure("writing", note))?;
        }
        fs::create_dir(&path).map_err(io_failure("creating cgroup", &path))?;
        let group = Cgroup { path, note };
        // Controllers are the administrator's to delegate.
        for (file, value) in [("pids.max", MAX_PROCESSES.to_string()), ("memory.oom.group", "1".into())] {
            let file = group.path.join(file);
            if file.exists() {
                let _ = fs::write(file, value);
            }
        }
        if let Some(user) = user {
            for name in ["", "cgroup.procs", "cgroup.threads"] {
                let path = group.path.join(name);
                chown(&path, Some(user.uid), Some(user.gid))
                    .map_err(io_failure("cannot change ownership of", &path))?;
            }
        }
        Ok(Some(group))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The processor time of everything that ran in it.
    pub fn cpu_times(&self) -> Option<CpuTimes> {
        let text = fs::read_to_string(self.path.join("cpu.stat")).ok()?;
        let number =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().parse().ok());
        Some(CpuTimes { user: number("user_usec ")?, system: number("system_usec ")? })
    }

    /// Whether the kernel killed processes because there was no memory left for them.
    pub fn ran_out_of_memory(&self) -> bool {
        fs::read_to_string(self.path.join("memory.events")).is_ok_and(|text| {
            text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if destroy(&self.path).is_ok()
            && let Some(note) = &self.note
        {
            let _ = fs::remove_file(note);
        }
    }
}

/// What names of cgroups without a build user begin with; the process and a number follow.
const PREFIX: &str = "nix-build-pid-";

/// Removes cgroups of processes that were killed.
fn destroy_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok());
        if pid.and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
            // Others may be about to do the same, and those of another container are not ours to judge.
            let _ = remove(&entry.path());
        }
    }
}

/// Kills everything in a cgroup and those below it, and removes it. One that is not there is fine.
fn destroy(path: &Path) -> Result<(), BuildFailure> {
    if !path.join("cgroup.procs").exists() {
        return Ok(());
    }
    let kill = path.join("cgroup.kill");
    fs::write(&kill, "1").map_err(io_failure("writing", &kill))?;
    for _ in 0..PATIENCE.0 {
        match remove(path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(PATIENCE.1),
            Err(e) => return Err(io_failure("deleting cgroup", path)(e)),
        }
    }
    Err(BuildFailure::other(format!("cannot kill cgroup '{}'", path.display())))
}

/// Removes a cgroup and those below it, from the bottom up.
fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// The daemon's own cgroup below the one that it was started in, which is that of builds then: the kernel gives
/// controllers only to cgroups beside which there are no processes.
const DAEMON: &str = "nix-daemon";

/// Where builds of processes in a cgroup have theirs.
fn builds_of(own: &Path) -> PathBuf {
    match own.parent() {
        Some(parent) if own.ends_with(DAEMON) => parent.to_owned(),
        _ => own.to_owned(),
    }
}

/// Moves this process, a daemon, into a cgroup below its own, and hands on to the builds' cgroups, which come to stand beside
/// it, what controllers were delegated. Where cgroups of version 2 are not mounted nothing is done; builds tell of that.
pub fn make_room_for_builds() -> io::Result<()> {
    let (Some(mounted), Some(own)) = (mount_point(), own_group()) else { return Ok(()) };
    let own = mounted.join(own.strip_prefix("/").unwrap_or(&own));
    let root = builds_of(&own);
    if own == root {
        let daemon = root.join(DAEMON);
        match fs::create_dir(&daemon) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        fs::write(daemon.join("cgroup.procs"), std::process::id().to_string())?;
    }
    // What the whole machine's processes are counted by is not ours to choose.
    let controllers = if root == mounted { [].as_slice() } else { &["cpu", "memory", "pids"] };
    for controller in controllers {
        // Not all need be there, and others may still be in the cgroup.
        let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(())
}

/// Where cgroups of version 2 are mounted.
fn mount_point() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    })
}

/// This process's own group.
fn own_group() -> Option<PathBuf> {
    parse_own(&fs::read_to_string("/proc/self/cgroup").ok()?)
}

fn parse_own(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(parse_own(text), expected.map(PathBuf::from));
    }

    #[test]
    fn builds_are_beside_the_daemon() {
        assert_eq!(builds_of(Path::new("/c/x.service/nix-daemon")), Path::new("/c/x.service"));
        assert_eq!(builds_of(Path::new("/c/nix-daemon.service")), Path::new("/c/nix-daemon.service"));
    }

    #[test]
    fn own_groups() {
        check("0::/system.slice/nix-daemon.service\n", Some("/system.slice/nix-daemon.service"));
        check("4:memory:/x\n0::/\n", Some("/"));
        check("4:memory:/x\n", None);
    }
}

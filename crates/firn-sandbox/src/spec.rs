//! The specification of one build: plain data that crosses from the program to its init.

use serde::{Deserialize, Serialize};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Bytes: paths, arguments and environments need not be UTF-8.
pub type Bytes = Vec<u8>;

/// A path's bytes.
pub fn path_bytes(path: impl AsRef<std::path::Path>) -> Bytes {
    path.as_ref().as_os_str().as_bytes().to_vec()
}

/// The path that bytes stand for.
pub fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

/// What runs as the builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// An executable inside the sandbox; `args` begins with the name that the program sees as its own.
    Execute { path: Bytes, args: Vec<Bytes> },
    /// One of the program's own builders, run in the sandbox as the build's user.
    Builtin { name: String, payload: Bytes },
}

/// Whom the builder runs as on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildUser {
    /// First user id.
    pub uid: u32,
    pub gid: u32,
    /// How many user and group ids the build gets; 1 but for `uid-range` builds.
    pub count: u32,
    pub supplementary_gids: Vec<u32>,
}

/// Something of the host that is seen inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host.
    pub source: Bytes,
    /// Absolute, inside.
    pub target: Bytes,
    /// Whether it may be missing.
    pub optional: bool,
}

/// A file made in the new root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Absolute, inside.
    pub path: Bytes,
    pub contents: Bytes,
    pub mode: u32,
}

/// A symlink made in the new root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symlink {
    /// Absolute, inside.
    pub path: Bytes,
    pub target: Bytes,
}

/// The namespaces and the new root of a sandboxed build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// An existing directory of the host that becomes `/`. Nobody but the caller may reach it.
    pub root: Bytes,
    /// Whether the build sees nothing but a loopback interface.
    pub private_network: bool,
    pub mounts: Vec<Mount>,
    pub files: Vec<File>,
    pub symlinks: Vec<Symlink>,
    /// Size of `/dev/shm`, as tmpfs takes it (`50%`).
    pub shm_size: String,
    /// Whether `/dev/pts` is a new instance.
    pub private_pts: bool,
    /// Home directory in the generated `/etc/passwd`.
    pub home: Bytes,
    /// A directory inside in which more can be made visible while the build runs ([`crate::Mounter`]).
    pub grows: Option<Bytes>,
    /// Whether `/etc` stays writable and `/sys` is mounted (`uid-range` builds).
    pub whole_system: bool,
}

/// One build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub program: Program,
    /// The whole environment, `NAME=value` each.
    pub env: Vec<Bytes>,
    /// Working directory, inside.
    pub cwd: Bytes,
    /// `None`: as the calling user.
    pub user: Option<BuildUser>,
    /// `None`: no namespaces, the host's file system.
    pub isolation: Option<Isolation>,
    /// A cgroup (of version 2) on the host that the build's processes are put into.
    pub cgroup: Option<Bytes>,
    /// Whether failing to drop supplementary groups is an error.
    pub require_drop_groups: bool,
    /// Whether a 32-bit machine is shown.
    pub linux32: bool,
    /// Whether kernel version 2.6 is shown.
    pub linux26: bool,
    /// Whether system calls are filtered: no set-user-id files, no extended attributes.
    pub filter_syscalls: bool,
    /// Whether programs may gain privileges by being executed.
    pub allow_new_privileges: bool,
}

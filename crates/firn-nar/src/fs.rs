//! Archives and the disk: dumping a file tree, and restoring one.
//!
//! Both walk by directory descriptors and never follow a symlink below the path they were given, so that nobody who
//! can write to the tree can lead them out of it.

mod dump;
mod restore;

pub use dump::{DumpOptions, Filter, dump_path};
pub use restore::{Canonical, RestoreOptions, restore, restore_flat};

/// What a directory entry is, as filters see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    /// Devices, sockets, FIFOs; not representable in an archive.
    Other,
}

impl FileKind {
    /// The name that `builtins.filterSource` and `readDir` use.
    pub const fn name(self) -> &'static str {
        match self {
            FileKind::Regular => "regular",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
            FileKind::Other => "unknown",
        }
    }

    fn of(kind: rustix::fs::FileType) -> FileKind {
        match kind {
            rustix::fs::FileType::RegularFile => FileKind::Regular,
            rustix::fs::FileType::Directory => FileKind::Directory,
            rustix::fs::FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Other,
        }
    }
}

#[cfg(test)]
mod tests;

//! Reading files, with a memory for what was looked at.

use crate::stamps::Stat;
use firn_core::StoreDir;
use firn_eval::{FileKind, FileStamp, HostError, HostResult};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Files from this size on are read piece by piece.
const MAX_AT_ONCE: usize = 64 << 20;

/// For how long a look at a file counts as one at its state.
const JUST_NOW: Duration = Duration::from_millis(50);

thread_local! {
    /// The file that was looked at last, where it really is, and when: what is imported was looked at just before.
    static LOOKED_AT: Cell<Option<(PathBuf, std::fs::Metadata, Instant)>> = const { Cell::new(None) };
}

/// File access; paths in the store directory lead to where the store really is, unless there is something at the path
/// itself.
pub(crate) struct Files {
    store_dir: StoreDir,
    real_dir: Option<PathBuf>,
    kinds: Mutex<FxHashMap<Vec<u8>, Option<FileKind>>>,
    /// The same for what is in the store.
    stored: Mutex<FxHashMap<Vec<u8>, FileKind>>,
    /// By device, whether it is this machine's.
    local: Mutex<FxHashMap<u64, bool>>,
}

fn error(doing: &str, path: &[u8], e: &std::io::Error) -> HostError {
    let text = e.to_string();
    let reason = text.split(" (os error").next().unwrap_or(&text);
    let not_found = e.kind() == std::io::ErrorKind::NotFound;
    let shown = String::from_utf8_lossy(path);
    let message = if not_found {
        format!("path '{shown}' does not exist")
    } else {
        format!("{doing} '{shown}': {reason}")
    };
    HostError { not_found, ..HostError::new(message) }
}

fn kind_of(meta: &std::fs::Metadata) -> FileKind {
    use std::os::unix::fs::PermissionsExt;
    let kind = meta.file_type();
    if kind.is_symlink() {
        FileKind::Symlink
    } else if kind.is_dir() {
        FileKind::Directory
    } else if kind.is_file() {
        FileKind::Regular { executable: meta.permissions().mode() & 0o100 != 0 }
    } else {
        FileKind::Other
    }
}

/// Whether a path is on a file system of this machine, of a kind that is known to change times with contents.
#[cfg(target_os = "linux")]
fn is_local(path: &Path) -> bool {
    /// Magic numbers of ext4, XFS, Btrfs, ZFS, bcachefs, F2FS, tmpfs and overlayfs.
    const KINDS: [u64; 8] =
        [0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e, 0xf2f5_2010, 0x0102_1994, 0x794c_7630];
    rustix::fs::statfs(path).is_ok_and(|stat| KINDS.contains(&(stat.f_type as u64)))
}

#[cfg(not(target_os = "linux"))]
fn is_local(_: &Path) -> bool {
    false
}

impl Files {
    pub(crate) fn new(store_dir: StoreDir, real_dir: Option<PathBuf>) -> Files {
        let real_dir = real_dir.filter(|real| real != Path::new(store_dir.as_str()));
        Files {
            store_dir,
            real_dir,
            kinds: Mutex::default(),
            stored: Mutex::default(),
            local: Mutex::default(),
        }
    }

    pub(crate) fn real(&self, path: &[u8]) -> PathBuf {
        let named = Path::new(OsStr::from_bytes(path));
        if let Some(real) = &self.real_dir {
            let prefix = self.store_dir.as_str().as_bytes();
            match path.strip_prefix(prefix) {
                Some(b"") => return real.clone(),
                // Another store may be where this one is only said to be: what is evaluated can be in that.
                Some([b'/', rest @ ..]) if named.symlink_metadata().is_err() => {
                    return real.join(OsStr::from_bytes(rest));
                }
                _ => {}
            }
        }
        named.to_owned()
    }

    fn in_store(&self, path: &[u8]) -> bool {
        path.starts_with(self.store_dir.as_str().as_bytes())
    }

    /// What kind a path was found to have.
    fn known_kind(&self, path: &[u8]) -> Option<Option<FileKind>> {
        match self.in_store(path) {
            true => self.stored.lock().get(path).copied().map(Some),
            false => self.kinds.lock().get(path).copied(),
        }
    }

    pub(crate) fn read(&self, path: &[u8]) -> HostResult<Vec<u8>> {
        // What is opened for this only must not be a named pipe.
        if let Some(Some(FileKind::Regular { .. })) = self.known_kind(path) {
            if let Some(text) = self.read_regular(path) {
                return Ok(text);
            }
        }
        let real = self.real(path);
        std::fs::read(&real).map_err(|e| match e.kind() {
            // As the reference's attempt to read it says.
            std::io::ErrorKind::IsADirectory => {
                let size = std::fs::metadata(&real).map_or(0, |meta| meta.len());
                HostError::new(format!("read of {size} bytes: Is a directory"))
            }
            _ => error("reading file", path, &e),
        })
    }

    /// The contents of a file that is no symlink, in three system calls.
    pub(crate) fn read_regular(&self, path: &[u8]) -> Option<Vec<u8>> {
        use rustix::fs::{FileType, Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(self.real(path), flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let size = usize::try_from(stat.st_size).ok().filter(|size| *size < MAX_AT_ONCE)?;
        let mut text = vec![0; size + 1];
        let read = rustix::io::read(&file, &mut text[..]).ok()?;
        text.truncate(read);
        // One byte more was asked for than there should be. Where the size was not the truth, as in /proc, or a signal
        // came, the rest has to be looked for.
        if read != size || size == 0 {
            std::fs::File::from(file).read_to_end(&mut text).ok()?;
        }
        Some(text)
    }

    /// The state of a regular file on a file system of this machine: elsewhere what is known of a file may be older than
    /// what is read of it.
    pub(crate) fn stamp(&self, path: &[u8]) -> Option<FileStamp> {
        let real = self.real(path);
        let data = match LOOKED_AT.take() {
            Some((seen, data, when)) if seen == real && when.elapsed() < JUST_NOW => data,
            _ => std::fs::symlink_metadata(&real).ok()?,
        };
        let stamp = Stat::stamp(&data, path)?;
        let known = self.local.lock().get(&data.dev()).copied();
        let local = known.unwrap_or_else(|| {
            let local = is_local(&real);
            self.local.lock().insert(data.dev(), local);
            local
        });
        local.then_some(stamp)
    }

    pub(crate) fn kind(&self, path: &[u8]) -> HostResult<Option<FileKind>> {
        if let Some(known) = self.known_kind(path) {
            return Ok(known);
        }
        let in_store = self.in_store(path);
        let real = self.real(path);
        let kind = match std::fs::symlink_metadata(&real) {
            Ok(meta) => {
                let kind = kind_of(&meta);
                if meta.is_file() {
                    LOOKED_AT.set(Some((real, meta, Instant::now())));
                }
                Some(kind)
            }
            Err(e) => match e.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => None,
                _ => return Err(error("getting status of", path, &e)),
            },
        };
        // What is in the store can appear while we run.
        match kind {
            Some(kind) if in_store => {
                self.stored.lock().insert(path.to_vec(), kind);
            }
            None if in_store => {}
            _ => {
                self.kinds.lock().insert(path.to_vec(), kind);
            }
        }
        Ok(kind)
    }

    pub(crate) fn list(&self, path: &[u8]) -> HostResult<BTreeMap<Vec<u8>, FileKind>> {
        let fail = |e: std::io::Error| {
            let failed = error("reading directory", path, &e);
            if failed.not_found {
                return failed;
            }
            let (shown, reason) = (String::from_utf8_lossy(path), e.to_string());
            let reason = reason.split(" (os error").next().unwrap_or(&reason).to_owned();
            HostError { message: format!("cannot read directory \"{shown}\": {reason}"), ..failed }
        };
        let mut entries = BTreeMap::new();
        for entry in std::fs::read_dir(self.real(path)).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let kind = entry.file_type().map_err(fail)?;
            let kind = if kind.is_symlink() {
                FileKind::Symlink
            } else if kind.is_dir() {
                FileKind::Directory
            } else if kind.is_file() {
                FileKind::Regular { executable: false }
            } else {
                FileKind::Other
            };
            entries.insert(entry.file_name().into_vec(), kind);
        }
        Ok(entries)
    }

    pub(crate) fn link(&self, path: &[u8]) -> HostResult<Vec<u8>> {
        let target =
            std::fs::read_link(self.real(path)).map_err(|e| error("reading symbolic link", path, &e))?;
        Ok(target.into_os_string().into_vec())
    }

    /// Forgets what was seen: the store has changed.
    pub(crate) fn forget(&self) {
        self.stored.lock().clear();
    }
}

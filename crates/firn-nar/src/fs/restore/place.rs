//! Directories and files as they are made: every system call of restoring is here.

use super::{Canonical, RestoreOptions};
use crate::error::{NarError, NarResult};
use rustix::fs::{self, AtFlags, CWD, FallocateFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// An open directory. It is finished (its mode, its time, its durability) once nothing more is made in it, whoever
/// made the last thing.
pub(super) struct Dir {
    fd: OwnedFd,
    name: Vec<u8>,
    parent: Option<Arc<Dir>>,
}

/// Where something is made: a name in a directory, or the path that all goes to.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) dir: Option<&'a Arc<Dir>>,
    pub(super) name: &'a [u8],
}

impl Place<'_> {
    fn fd(&self) -> BorrowedFd<'_> {
        self.dir.map_or(CWD, |dir| dir.fd.as_fd())
    }

    pub(super) fn path(&self) -> PathBuf {
        let name = Path::new(OsStr::from_bytes(self.name));
        self.dir.map_or(name.to_owned(), |dir| dir.path().join(name))
    }

    fn io(&self, operation: &'static str) -> impl FnOnce(Errno) -> NarError {
        move |source| NarError::Io { operation, path: self.path(), source: source.into() }
    }
}

/// Directories that are open for restoring, in all threads.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Whether so many directories are open that files which wait to be made should be made now.
pub(super) fn too_many_open() -> bool {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    let limit = *LIMIT.get_or_init(|| {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        files.map_or(1024, |files| usize::try_from(files / 4).unwrap_or(usize::MAX).min(1024))
    });
    OPEN.load(Ordering::Relaxed) > limit
}

impl Drop for Dir {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dir {
    pub(super) fn path(&self) -> PathBuf {
        Place { dir: self.parent.as_ref(), name: &self.name }.path()
    }

    pub(super) fn make(place: Place<'_>) -> NarResult<Arc<Dir>> {
        if let Err(error) = fs::mkdirat(place.fd(), place.name, Mode::from_raw_mode(0o777)) {
            let occupied = place.dir.is_none()
                && error == Errno::EXIST
                && fs::stat(place.path()).is_ok_and(|s| fs::FileType::from_raw_mode(s.st_mode).is_dir());
            return Err(match occupied {
                true => NarError::AlreadyExists(place.path()),
                false => place.io("creating directory")(error),
            });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(place.fd(), place.name, flags, Mode::empty())
            .map_err(place.io("opening directory"))?;
        OPEN.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Dir { fd, name: place.name.to_vec(), parent: place.dir.cloned() }))
    }

    /// Lets go of a directory; who does so last finishes it, and lets go of its parent.
    pub(super) fn release(mut dir: Arc<Dir>, options: RestoreOptions) -> NarResult<()> {
        while let Some(mut last) = Arc::into_inner(dir) {
            last.finish(options)?;
            match last.parent.take() {
                Some(parent) => dir = parent,
                None => break,
            }
        }
        Ok(())
    }

    fn finish(&self, options: RestoreOptions) -> NarResult<()> {
        let place = Place { dir: self.parent.as_ref(), name: &self.name };
        if options.canonical == Canonical::Yes {
            fs::fchmod(&self.fd, Mode::from_raw_mode(0o555)).map_err(place.io("changing mode of"))?;
            fs::futimens(&self.fd, &CANONICAL_TIMES).map_err(place.io("changing modification time of"))?;
        }
        if options.sync {
            fs::fsync(&self.fd).map_err(place.io("syncing"))?;
        }
        Ok(())
    }
}

pub(super) fn symlink(place: Place<'_>, target: &[u8], options: RestoreOptions) -> NarResult<()> {
    fs::symlinkat(target, place.fd(), place.name).map_err(place.io("creating symlink"))?;
    if options.canonical == Canonical::Yes {
        fs::utimensat(place.fd(), place.name, &CANONICAL_TIMES, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(place.io("changing modification time of"))?;
    }
    Ok(())
}

/// Whether files get the mode they are created with (plain, executable), or the umask takes some of it; known from
/// the first of each kind.
#[derive(Default)]
pub(super) struct Modes([AtomicU8; 2]);

const STICKS: u8 = 1;
const SET: u8 = 2;

/// A regular file that is being written.
pub(super) struct File<'a> {
    fd: OwnedFd,
    place: Place<'a>,
    executable: bool,
    set_mode: bool,
    options: RestoreOptions,
    /// Zeros that were passed over, up to where the file ends so far.
    hole_until: Option<u64>,
    position: u64,
}

/// A piece of so many zeros becomes a hole.
const HOLE: usize = 64 * 1024;

impl<'a> File<'a> {
    pub(super) fn create(
        place: Place<'a>,
        executable: bool,
        size: u64,
        options: RestoreOptions,
        modes: &Modes,
    ) -> NarResult<File<'a>> {
        // O_EXCL: an existing file, also a dangling symlink, is an error and never written to.
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = match (options.canonical, executable) {
            (Canonical::No, _) => 0o666,
            (Canonical::Yes, false) => 0o444,
            (Canonical::Yes, true) => 0o555,
        };
        let fd = fs::openat(place.fd(), place.name, flags, Mode::from_raw_mode(mode))
            .map_err(place.io("creating file"))?;
        let known = &modes.0[usize::from(executable)];
        if known.load(Ordering::Relaxed) == 0 {
            let made = fs::fstat(&fd).map_err(place.io("getting status of"))?.st_mode;
            known.store(if made & 0o7777 == mode { STICKS } else { SET }, Ordering::Relaxed);
        }
        let set_mode = match options.canonical {
            Canonical::Yes => known.load(Ordering::Relaxed) == SET,
            Canonical::No => executable,
        };
        if options.preallocate && size > 0 {
            match fs::fallocate(&fd, FallocateFlags::empty(), 0, size) {
                Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(place.io("preallocating file")(error)),
            }
        }
        Ok(File { fd, place, executable, set_mode, options, hole_until: None, position: 0 })
    }

    pub(super) fn write(&mut self, mut chunk: &[u8]) -> NarResult<()> {
        let end = self.position + chunk.len() as u64;
        if chunk.len() >= HOLE && !self.options.preallocate && is_zero(chunk) {
            fs::seek(&self.fd, fs::SeekFrom::Start(end)).map_err(self.place.io("seeking in"))?;
            self.hole_until = Some(end);
            self.position = end;
            return Ok(());
        }
        self.hole_until = None;
        self.position = end;
        while !chunk.is_empty() {
            match rustix::io::write(&self.fd, chunk) {
                Ok(0) => return Err(self.place.io("writing")(Errno::NOSPC)),
                Ok(n) => chunk = &chunk[n..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.place.io("writing")(error)),
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> NarResult<()> {
        let io = |operation| self.place.io(operation);
        if let Some(end) = self.hole_until {
            fs::ftruncate(&self.fd, end).map_err(io("setting the size of"))?;
        }
        if self.set_mode {
            let mode = match (self.options.canonical, self.executable) {
                (Canonical::Yes, true) => 0o555,
                (Canonical::Yes, false) => 0o444,
                (Canonical::No, _) => {
                    let stat = fs::fstat(&self.fd).map_err(io("getting status of"))?;
                    (stat.st_mode & 0o7777) | 0o111
                }
            };
            fs::fchmod(&self.fd, Mode::from_raw_mode(mode)).map_err(io("changing mode of"))?;
        }
        if self.options.canonical == Canonical::Yes {
            fs::futimens(&self.fd, &CANONICAL_TIMES).map_err(io("changing modification time of"))?;
        }
        if self.options.sync {
            fs::fsync(&self.fd).map_err(io("syncing"))?;
        }
        Ok(())
    }
}

/// Whether there is nothing but zeros: by words, which the compiler makes vectors of.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Modification time 1, access time as it is.
const CANONICAL_TIMES: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
    last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
};

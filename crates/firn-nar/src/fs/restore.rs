//! Archive to disk.

use crate::error::{NarError, NarResult};
use crate::{CASE_HACK_SUFFIX, Event, NarReader, Node};
use memchr::memmem;
use rustix::fs::{self, AtFlags, CWD, FallocateFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Which metadata restored files get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Canonical {
    /// What the process's umask and clock give.
    #[default]
    No,
    /// Modes 0444 and 0555, modification time one second after the epoch: what store objects have. Saves a second
    /// walk over the tree.
    Yes,
}

/// How to restore.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions {
    /// Give names that collide when case is folded a suffix (setting `use-case-hack`).
    pub case_hack: bool,
    pub canonical: Canonical,
    /// Reserve the space of each file before writing it (setting `preallocate-contents`).
    pub preallocate: bool,
    /// Make every file and directory durable before returning. The directory that holds `dest` is the caller's.
    pub sync: bool,
}

/// Creates `dest` and what is below it from an archive. `dest` must not exist. After an error what was made so far
/// is left for the caller to remove.
pub fn restore<R: BufRead>(reader: &mut NarReader<R>, dest: &Path, options: RestoreOptions) -> NarResult<()> {
    let mut tree = Restore::new(dest, options);
    loop {
        let file = match reader.next_event()? {
            None => return Ok(()),
            Some(Event::EndDirectory) => {
                tree.end_directory()?;
                continue;
            }
            Some(Event::Node { name, node }) => {
                tree.enter(name)?;
                match node {
                    Node::Directory => {
                        tree.directory()?;
                        continue;
                    }
                    Node::Symlink { target } => {
                        tree.symlink(target)?;
                        tree.leave();
                        continue;
                    }
                    Node::Regular { executable, size, .. } => tree.create(executable, size)?,
                }
            }
        };
        reader.copy_contents(|chunk| file.write(chunk, &tree))?;
        file.finish(&tree)?;
        tree.leave();
    }
}

/// Creates the regular, non-executable file `dest` with what `input` holds, under the same options.
pub fn restore_flat(mut input: impl BufRead, dest: &Path, options: RestoreOptions) -> NarResult<()> {
    let mut tree = Restore::new(dest, options);
    tree.enter(b"")?;
    let file = tree.create(false, 0)?;
    loop {
        let chunk = input.fill_buf().map_err(NarError::read)?;
        if chunk.is_empty() {
            return file.finish(&tree);
        }
        file.write(chunk, &tree)?;
        let n = chunk.len();
        input.consume(n);
    }
}

struct Restore {
    options: RestoreOptions,
    stack: Vec<Frame>,
    /// The path of the node being made.
    path: Vec<u8>,
    /// Whether files get the mode they are created with (plain, executable), or the umask takes some of it; known
    /// from the first of each kind.
    modes_stick: [Cell<Option<bool>>; 2],
}

struct Frame {
    fd: OwnedFd,
    /// Where the parent's path ends.
    parent_len: usize,
    /// Where the name of the current child starts.
    child_start: usize,
    /// Lower-case names with how often they collided, and the first name that carries the suffix; only with the
    /// case hack.
    folded: BTreeMap<Vec<u8>, (u32, Vec<u8>)>,
    suffixed: Option<Vec<u8>>,
}

struct OpenFile {
    fd: OwnedFd,
    executable: bool,
}

impl Restore {
    fn new(dest: &Path, options: RestoreOptions) -> Restore {
        let path = dest.as_os_str().as_bytes().to_vec();
        Restore { options, stack: Vec::new(), path, modes_stick: Default::default() }
    }

    fn here(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.path))
    }

    fn io(&self, operation: &'static str) -> impl FnOnce(Errno) -> NarError {
        let path = self.here();
        move |source| NarError::Io { operation, path, source: source.into() }
    }

    /// The directory and name to work on.
    fn place(&self) -> (BorrowedFd<'_>, &[u8]) {
        match self.stack.last() {
            Some(frame) => (frame.fd.as_fd(), &self.path[frame.child_start..]),
            None => (CWD, &self.path),
        }
    }

    fn enter(&mut self, name: &[u8]) -> NarResult<()> {
        let case_hack = self.options.case_hack;
        let Some(frame) = self.stack.last_mut() else { return Ok(()) };
        self.path.push(b'/');
        frame.child_start = self.path.len();
        self.path.extend_from_slice(name);
        if case_hack {
            let hacked = frame.hacked_name(name)?;
            self.path.truncate(frame.child_start);
            self.path.extend_from_slice(&hacked);
        }
        Ok(())
    }

    fn leave(&mut self) {
        if let Some(frame) = self.stack.last() {
            self.path.truncate(frame.child_start - 1);
        }
    }

    fn directory(&mut self) -> NarResult<()> {
        let (dir, name) = self.place();
        if let Err(error) = fs::mkdirat(dir, name, Mode::from_raw_mode(0o777)) {
            let occupied = self.stack.is_empty()
                && error == Errno::EXIST
                && fs::stat(self.here()).is_ok_and(|s| fs::FileType::from_raw_mode(s.st_mode).is_dir());
            return Err(match occupied {
                true => NarError::AlreadyExists(self.here()),
                false => self.io("creating directory")(error),
            });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(dir, name, flags, Mode::empty()).map_err(self.io("opening directory"))?;
        let parent_len = self.stack.last().map_or(self.path.len(), |frame| frame.child_start - 1);
        let child_start = self.path.len() + 1;
        self.stack.push(Frame { fd, parent_len, child_start, folded: BTreeMap::new(), suffixed: None });
        Ok(())
    }

    fn end_directory(&mut self) -> NarResult<()> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        if let Some(name) = frame.suffixed {
            return Err(NarError::bad(format!(
                "NAR contains file name '{}', which already carries the case hack's suffix, in '{}'; it would not \
                 be the same when dumped again",
                String::from_utf8_lossy(&name),
                self.here().display()
            )));
        }
        if self.options.canonical == Canonical::Yes {
            fs::fchmod(&frame.fd, Mode::from_raw_mode(0o555)).map_err(self.io("changing mode of"))?;
            fs::futimens(&frame.fd, &CANONICAL_TIMES).map_err(self.io("changing modification time of"))?;
        }
        if self.options.sync {
            fs::fsync(&frame.fd).map_err(self.io("syncing"))?;
        }
        self.path.truncate(frame.parent_len);
        Ok(())
    }

    fn symlink(&self, target: &[u8]) -> NarResult<()> {
        let (dir, name) = self.place();
        fs::symlinkat(target, dir, name).map_err(self.io("creating symlink"))?;
        if self.options.canonical == Canonical::Yes {
            fs::utimensat(dir, name, &CANONICAL_TIMES, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(self.io("changing modification time of"))?;
        }
        Ok(())
    }

    fn create(&self, executable: bool, size: u64) -> NarResult<OpenFile> {
        let (dir, name) = self.place();
        // O_EXCL: an existing file, also a dangling symlink, is an error and never written to.
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = match (self.options.canonical, executable) {
            (Canonical::No, _) => 0o666,
            (Canonical::Yes, false) => 0o444,
            (Canonical::Yes, true) => 0o555,
        };
        let fd = fs::openat(dir, name, flags, Mode::from_raw_mode(mode)).map_err(self.io("creating file"))?;
        let sticks = &self.modes_stick[usize::from(executable)];
        if sticks.get().is_none() {
            let made = fs::fstat(&fd).map_err(self.io("getting status of"))?.st_mode;
            sticks.set(Some(made & 0o7777 == mode));
        }
        if self.options.preallocate && size > 0 {
            match fs::fallocate(&fd, FallocateFlags::empty(), 0, size) {
                Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(self.io("preallocating file")(error)),
            }
        }
        Ok(OpenFile { fd, executable })
    }
}

impl OpenFile {
    fn write(&self, mut chunk: &[u8], tree: &Restore) -> NarResult<()> {
        while !chunk.is_empty() {
            match rustix::io::write(&self.fd, chunk) {
                Ok(0) => return Err(tree.io("writing")(Errno::NOSPC)),
                Ok(n) => chunk = &chunk[n..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(tree.io("writing")(error)),
            }
        }
        Ok(())
    }

    fn finish(self, tree: &Restore) -> NarResult<()> {
        match tree.options.canonical {
            Canonical::Yes => {
                if tree.modes_stick[usize::from(self.executable)].get() != Some(true) {
                    let mode = if self.executable { 0o555 } else { 0o444 };
                    fs::fchmod(&self.fd, Mode::from_raw_mode(mode)).map_err(tree.io("changing mode of"))?;
                }
                fs::futimens(&self.fd, &CANONICAL_TIMES).map_err(tree.io("changing modification time of"))?;
            }
            Canonical::No if self.executable => {
                let stat = fs::fstat(&self.fd).map_err(tree.io("getting status of"))?;
                let mode = Mode::from_raw_mode((stat.st_mode & 0o7777) | 0o111);
                fs::fchmod(&self.fd, mode).map_err(tree.io("changing mode of"))?;
            }
            Canonical::No => {}
        }
        if tree.options.sync {
            fs::fsync(&self.fd).map_err(tree.io("syncing"))?;
        }
        Ok(())
    }
}

impl Frame {
    /// The name on disk. Case is folded for ASCII letters, as the reference does.
    fn hacked_name(&mut self, name: &[u8]) -> NarResult<Vec<u8>> {
        if memmem::find(name, CASE_HACK_SUFFIX).is_some() {
            self.suffixed.get_or_insert_with(|| name.to_vec());
        }
        let Some((count, _)) = self.folded.get_mut(&name.to_ascii_lowercase()) else {
            self.folded.insert(name.to_ascii_lowercase(), (0, name.to_vec()));
            return Ok(name.to_vec());
        };
        *count += 1;
        let mut hacked = name.to_vec();
        hacked.extend_from_slice(CASE_HACK_SUFFIX);
        hacked.extend_from_slice(count.to_string().as_bytes());
        if let Some((_, other)) = self.folded.get(&hacked.to_ascii_lowercase()) {
            return Err(NarError::bad(format!(
                "NAR contains file name '{}' that collides with case-hacked file name '{}'",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(other)
            )));
        }
        Ok(hacked)
    }
}

/// Modification time 1, access time as it is.
const CANONICAL_TIMES: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
    last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
};

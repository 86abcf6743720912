//! Disk to archive.

mod ahead;

use super::FileKind;
use crate::error::{NarError, NarResult};
use crate::{CASE_HACK_SUFFIX, MAX_DEPTH, NarWriter};
use ahead::{Ahead, Batch, Contents, Found, Readers};
use memchr::memmem;
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Decides whether a file (given by its full path below the dumped one) goes into the archive. A directory that does
/// not go in is not read. The root is not asked for.
pub type Filter<'a> =
    &'a mut dyn FnMut(&Path, FileKind) -> Result<bool, Box<dyn std::error::Error + Send + Sync>>;

/// How to dump.
#[derive(Default)]
pub struct DumpOptions<'a> {
    /// Strip the case hack's suffixes from names (setting `use-case-hack`).
    pub undo_case_hack: bool,
    pub filter: Option<Filter<'a>>,
}

/// Writes the archive of the file, symlink or directory at `path`; returns the sink.
///
/// The path itself may lead through symlinks up to its last component, which is taken as it is.
pub fn dump_path<W: Write>(path: &Path, out: W, options: DumpOptions<'_>) -> NarResult<W> {
    let stat =
        fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(NarError::io("getting status of", path))?;
    let mut writer = NarWriter::new(out);
    match FileKind::of(fs::FileType::from_raw_mode(stat.st_mode)) {
        FileKind::Regular => {
            let (fd, executable, size) = open_regular(CWD, path, || path.to_owned())?;
            copy(&mut writer, b"", executable, size, &fd, || path.to_owned())?;
        }
        FileKind::Symlink => writer.symlink(b"", &read_link(CWD, path, || path.to_owned())?)?,
        FileKind::Directory => {
            let root = Dir::open(CWD, path, path.as_os_str().as_bytes().to_vec(), &options)?;
            let readers = Readers::default();
            writer = std::thread::scope(|scope| {
                let ahead = Ahead::new(&readers, scope);
                Dump { writer, steps: VecDeque::new(), ahead, current: None, options }.directory(root)
            })?;
        }
        FileKind::Other => return Err(NarError::UnsupportedType(path.to_owned())),
    }
    writer.finish()
}

/// What is to be written. The tree is walked a little ahead of this, so that others can read files meanwhile.
enum Step {
    Start(Vec<u8>),
    End,
    Symlink(Vec<u8>, Vec<u8>),
    /// The next one of those that are read ahead.
    File,
}

/// So many steps may wait, in case that there are no files between them.
const MAX_STEPS: usize = 4096;

struct Dump<'a, 'scope, 'env, W> {
    writer: NarWriter<W>,
    steps: VecDeque<Step>,
    ahead: Ahead<'scope, 'env>,
    /// The batch of files that are written now, and the next one of them.
    current: Option<(Arc<Batch>, Contents, usize)>,
    options: DumpOptions<'a>,
}

/// An open directory with its entries. Names lie in one buffer, so that a directory costs few allocations.
struct Dir {
    fd: OwnedFd,
    path: Vec<u8>,
    text: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    /// End of the name in the archive.
    shown_end: u32,
    /// End of the name on disk.
    end: u32,
    kind: FileKind,
}

impl<W: Write> Dump<'_, '_, '_, W> {
    /// The archive of a directory, the root.
    fn directory(mut self, root: Dir) -> NarResult<NarWriter<W>> {
        let walked = self.walk(root);
        // What comes before an error is written, so that it is not known earlier than one that comes before it.
        self.ahead.hand_over();
        while !self.steps.is_empty() {
            self.write_step()?;
        }
        walked.map(|()| self.writer)
    }

    fn walk(&mut self, root: Dir) -> NarResult<()> {
        self.steps.push_back(Step::Start(Vec::new()));
        let mut stack = vec![(Arc::new(root), 0)];
        while let Some((dir, next)) = stack.last_mut() {
            let (dir, index) = (Arc::clone(dir), *next);
            if index == dir.entries.len() {
                stack.pop();
                self.steps.push_back(Step::End);
                continue;
            }
            *next += 1;
            let kind = dir.entries[index].kind;
            if let Some(filter) = &mut self.options.filter
                && !filter(&dir.shown_path_of(index), kind).map_err(NarError::Filter)?
            {
                continue;
            }
            match kind {
                FileKind::Regular => {
                    self.steps.push_back(Step::File);
                    self.ahead.add(&dir, index);
                    if self.ahead.is_full() {
                        self.write_batch()?;
                    }
                }
                FileKind::Symlink => {
                    let target = read_link(&dir.fd, dir.name(index), || dir.path_of(index))?;
                    self.steps.push_back(Step::Symlink(dir.shown(index).to_vec(), target));
                }
                FileKind::Directory => {
                    let path = dir.path_of(index);
                    if stack.len() >= MAX_DEPTH {
                        return Err(NarError::TooDeep(path));
                    }
                    let path = path.into_os_string().into_encoded_bytes();
                    let child = Dir::open(&dir.fd, dir.name(index), path, &self.options)?;
                    self.steps.push_back(Step::Start(dir.shown(index).to_vec()));
                    stack.push((Arc::new(child), 0));
                }
                FileKind::Other => return Err(NarError::UnsupportedType(dir.path_of(index))),
            }
            if self.steps.len() > MAX_STEPS {
                self.ahead.hand_over();
                while !self.steps.is_empty() {
                    self.write_step()?;
                }
            }
        }
        Ok(())
    }

    /// Writes what was read first.
    fn write_batch(&mut self) -> NarResult<()> {
        loop {
            self.write_step()?;
            if self.current.is_none() && !self.ahead.is_full() {
                return Ok(());
            }
        }
    }

    fn write_step(&mut self) -> NarResult<()> {
        match self.steps.pop_front() {
            None => Ok(()),
            Some(Step::Start(name)) => self.writer.start_directory(&name),
            Some(Step::End) => self.writer.end_directory(),
            Some(Step::Symlink(name, target)) => self.writer.symlink(&name, &target),
            Some(Step::File) => self.file(),
        }
    }

    fn file(&mut self) -> NarResult<()> {
        let Some((batch, mut contents, at)) =
            self.current.take().or_else(|| self.ahead.take().map(|(batch, contents)| (batch, contents, 0)))
        else {
            return Ok(());
        };
        let (dir, index) = &batch.files[at];
        let name = dir.shown(*index);
        match contents.files.next().transpose()? {
            Some(Found::Small { executable, contents: range }) => {
                self.writer.regular(name, executable, &contents.bytes[range])?;
            }
            Some(Found::Large { executable, size, fd }) => {
                copy(&mut self.writer, name, executable, size, &fd, || dir.path_of(*index))?;
            }
            None => {}
        }
        if at + 1 < batch.files.len() {
            self.current = Some((batch, contents, at + 1));
        }
        Ok(())
    }
}

/// Opens a regular file: with whether it is executable, and its size.
fn open_regular<P: rustix::path::Arg>(
    dir: impl AsFd,
    name: P,
    path: impl Fn() -> PathBuf,
) -> NarResult<(OwnedFd, bool, u64)> {
    let io = |operation| {
        let path = path();
        move |source: Errno| NarError::Io { operation, path, source: source.into() }
    };
    // O_NONBLOCK: what was a regular file may have become a FIFO since.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = fs::openat(dir, name, flags, Mode::empty()).map_err(|e| io("opening file")(e))?;
    let stat = fs::fstat(&fd).map_err(|e| io("getting status of")(e))?;
    if !fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(NarError::UnsupportedType(path()));
    }
    Ok((fd, stat.st_mode & 0o100 != 0, u64::try_from(stat.st_size).unwrap_or(0)))
}

/// Writes a file that is read as it is written.
fn copy<W: Write>(
    writer: &mut NarWriter<W>,
    name: &[u8],
    executable: bool,
    size: u64,
    fd: &OwnedFd,
    path: impl Fn() -> PathBuf,
) -> NarResult<()> {
    let missing = writer.regular_from(name, executable, size, |buffer| {
        rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *buffer)).map_err(|source| NarError::Io {
            operation: "reading",
            path: path(),
            source: source.into(),
        })
    })?;
    match missing {
        0 => Ok(()),
        missing => Err(NarError::Shrunk { path: path(), missing }),
    }
}

fn read_link<P: rustix::path::Arg>(
    dir: impl AsFd,
    name: P,
    path: impl Fn() -> PathBuf,
) -> NarResult<Vec<u8>> {
    match fs::readlinkat(dir, name, Vec::new()) {
        Ok(target) => Ok(target.into_bytes()),
        Err(source) => {
            let operation = "reading symbolic link";
            Err(NarError::Io { operation, path: path(), source: source.into() })
        }
    }
}

impl Dir {
    /// The name on disk.
    fn name(&self, index: usize) -> &[u8] {
        let entry = &self.entries[index];
        &self.text[entry.start as usize..entry.end as usize]
    }

    /// The name in the archive.
    fn shown(&self, index: usize) -> &[u8] {
        let entry = &self.entries[index];
        &self.text[entry.start as usize..entry.shown_end as usize]
    }

    fn path_of(&self, index: usize) -> PathBuf {
        Path::new(OsStr::from_bytes(&self.path)).join(OsStr::from_bytes(self.name(index)))
    }

    fn shown_path_of(&self, index: usize) -> PathBuf {
        Path::new(OsStr::from_bytes(&self.path)).join(OsStr::from_bytes(self.shown(index)))
    }

    fn open<P: rustix::path::Arg>(
        parent: impl AsFd,
        name: P,
        path: Vec<u8>,
        options: &DumpOptions<'_>,
    ) -> NarResult<Dir> {
        let here = || PathBuf::from(OsStr::from_bytes(&path));
        let io = |operation: &'static str, source: Errno| NarError::Io {
            operation,
            path: here(),
            source: source.into(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(parent, name, flags, Mode::empty()).map_err(|e| io("opening directory", e))?;
        let mut text = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        let mut buffer = [const { MaybeUninit::uninit() }; 16 * 1024];
        let mut listing = RawDir::new(fd.as_fd(), &mut buffer);
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(|e| io("reading directory", e))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                fs::FileType::Unknown => {
                    let stat = fs::statat(&fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|e| io("getting status of a file in", e))?;
                    fs::FileType::from_raw_mode(stat.st_mode)
                }
                known => known,
            };
            let start = text.len();
            text.extend_from_slice(name);
            let shown = match options.undo_case_hack {
                true => memmem::find(name, CASE_HACK_SUFFIX).unwrap_or(name.len()),
                false => name.len(),
            };
            let narrow = |n: usize| u32::try_from(n).map_err(|_| io("reading directory", Errno::OVERFLOW));
            entries.push(Entry {
                start: narrow(start)?,
                shown_end: narrow(start + shown)?,
                end: narrow(text.len())?,
                kind: FileKind::of(kind),
            });
        }
        let shown = |e: &Entry| &text[e.start as usize..e.shown_end as usize];
        entries.sort_unstable_by(|a, b| shown(a).cmp(shown(b)));
        for pair in entries.windows(2) {
            if shown(&pair[0]) == shown(&pair[1]) {
                let on_disk =
                    |e: &Entry| here().join(OsStr::from_bytes(&text[e.start as usize..e.end as usize]));
                return Err(NarError::CaseHackCollision(on_disk(&pair[0]), on_disk(&pair[1])));
            }
        }
        Ok(Dir { fd, path, text, entries })
    }
}

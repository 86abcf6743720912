//! Disk to archive.

use super::FileKind;
use crate::error::{NarError, NarResult};
use crate::{CASE_HACK_SUFFIX, MAX_DEPTH, NarWriter};
use memchr::memmem;
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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
    let kind = FileKind::of(fs::FileType::from_raw_mode(stat.st_mode));
    let mut dump = Dump {
        writer: NarWriter::new(out),
        path: path.as_os_str().as_bytes().to_vec(),
        stack: Vec::new(),
        options,
    };
    dump.node(CWD, path.as_os_str().as_bytes(), b"", kind, 0)?;
    while let Some(frame) = dump.stack.last_mut() {
        match frame.names.next() {
            Some(index) => dump.entry(index)?,
            None => {
                let base = frame.parent_len;
                dump.stack.pop();
                dump.path.truncate(base);
                dump.writer.end_directory()?;
            }
        }
    }
    dump.writer.finish()
}

struct Dump<'a, W> {
    writer: NarWriter<W>,
    /// The path of the directory on top of the stack, or of the root.
    path: Vec<u8>,
    stack: Vec<Frame>,
    options: DumpOptions<'a>,
}

/// An open directory with its entries. Names lie in one buffer, so that a directory costs few allocations.
struct Frame {
    fd: OwnedFd,
    text: Vec<u8>,
    entries: Vec<Entry>,
    names: std::ops::Range<usize>,
    parent_len: usize,
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

impl<W: Write> Dump<'_, W> {
    fn entry(&mut self, index: usize) -> NarResult<()> {
        // The frame is taken out while the entry is worked on, and put back below what the entry pushed.
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let at = self.stack.len();
        let entry = frame.entries[index];
        let name = &frame.text[entry.start as usize..entry.end as usize];
        let shown = &frame.text[entry.start as usize..entry.shown_end as usize];
        let parent_len = self.path.len();
        if self.path.last() != Some(&b'/') {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(shown);
        if let Some(filter) = &mut self.options.filter
            && !filter(Path::new(OsStr::from_bytes(&self.path)), entry.kind).map_err(NarError::Filter)?
        {
            self.path.truncate(parent_len);
            self.stack.push(frame);
            return Ok(());
        }
        if entry.shown_end != entry.end {
            self.path.truncate(parent_len + 1);
            self.path.extend_from_slice(name);
        }
        self.node(frame.fd.as_fd(), name, shown, entry.kind, at + 1)?;
        match self.stack.get_mut(at) {
            Some(child) => child.parent_len = parent_len,
            None => self.path.truncate(parent_len),
        }
        self.stack.insert(at, frame);
        Ok(())
    }

    /// Writes a file or symlink, or opens a directory and pushes its frame. `depth` directories enclose it.
    fn node(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        shown: &[u8],
        kind: FileKind,
        depth: usize,
    ) -> NarResult<()> {
        let here = || PathBuf::from(OsStr::from_bytes(&self.path));
        let io = |operation| move |source: Errno| (operation, source);
        let result = match kind {
            FileKind::Regular => {
                return self.regular(dir, name, shown);
            }
            FileKind::Symlink => fs::readlinkat(dir, name, Vec::new())
                .map_err(io("reading symbolic link"))
                .map(|target| Node::Symlink(target.into_bytes())),
            FileKind::Directory => {
                if depth >= MAX_DEPTH {
                    return Err(NarError::TooDeep(here()));
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                fs::openat(dir, name, flags, Mode::empty())
                    .map_err(io("opening directory"))
                    .map(Node::Directory)
            }
            FileKind::Other => return Err(NarError::UnsupportedType(here())),
        };
        match result {
            Ok(Node::Symlink(target)) => self.writer.symlink(shown, &target),
            Ok(Node::Directory(fd)) => {
                let frame = self.read_directory(fd)?;
                self.writer.start_directory(shown)?;
                self.stack.push(frame);
                Ok(())
            }
            Err((operation, source)) => Err(NarError::Io { operation, path: here(), source: source.into() }),
        }
    }

    fn regular(&mut self, dir: BorrowedFd<'_>, name: &[u8], shown: &[u8]) -> NarResult<()> {
        let here = &self.path;
        let io = |operation: &'static str| {
            move |source: Errno| NarError::Io {
                operation,
                path: PathBuf::from(OsStr::from_bytes(here)),
                source: source.into(),
            }
        };
        // O_NONBLOCK: what was a regular file may have become a FIFO since.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = fs::openat(dir, name, flags, Mode::empty()).map_err(io("opening file"))?;
        let stat = fs::fstat(&fd).map_err(io("getting status of"))?;
        if !fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(NarError::UnsupportedType(PathBuf::from(OsStr::from_bytes(here))));
        }
        let executable = stat.st_mode & 0o100 != 0;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let missing = self.writer.regular_from(shown, executable, size, |buffer| {
            loop {
                match rustix::io::read(&fd, &mut *buffer) {
                    Err(Errno::INTR) => {}
                    other => break other.map_err(io("reading")),
                }
            }
        })?;
        if missing > 0 {
            return Err(NarError::Shrunk { path: PathBuf::from(OsStr::from_bytes(here)), missing });
        }
        Ok(())
    }

    fn read_directory(&self, fd: OwnedFd) -> NarResult<Frame> {
        let here = || PathBuf::from(OsStr::from_bytes(&self.path));
        let io = |operation: &'static str, source: Errno| NarError::Io {
            operation,
            path: here(),
            source: source.into(),
        };
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
            let shown = match self.options.undo_case_hack {
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
        let names = 0..entries.len();
        Ok(Frame { fd, text, entries, names, parent_len: self.path.len() })
    }
}

enum Node {
    Symlink(Vec<u8>),
    Directory(OwnedFd),
}

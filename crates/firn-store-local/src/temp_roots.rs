//! Temporary roots: paths that this process works on and that no collector may delete while it lives.
//!
//! Protocol, shared with the reference: `temproots/<pid>`, locked exclusively by its owner, holds NUL-terminated
//! full paths. Adding to it needs the shared GC lock; while a collector holds that lock, it takes new roots over a
//! socket instead, one line each, and answers `1` once the path cannot be deleted any more.

use firn_core::{StoreDir, StorePath};
use firn_store::activity::{Logger, Verbosity};
use firn_store::locks::flock::{self, Kind};
use firn_store::{StoreError, StoreResult};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The temporary roots file of this process for one state directory.
pub(crate) struct TempRoots {
    path: PathBuf,
    state_dir: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: OwnedFd,
    gc_lock: OwnedFd,
    collector: Option<UnixStream>,
    /// Those that the file already holds.
    known: FxHashSet<StorePath>,
}

/// There is one file per process, so stores with the same state directory share it.
static OPEN: Mutex<BTreeMap<PathBuf, Weak<TempRoots>>> = Mutex::new(BTreeMap::new());

impl TempRoots {
    pub(crate) fn open(state_dir: &Path) -> StoreResult<Arc<TempRoots>> {
        let path = state_dir.join("temproots").join(std::process::id().to_string());
        let mut open = OPEN.lock();
        if let Some(roots) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(roots);
        }
        let inner = Inner {
            file: create_file(&path)?,
            gc_lock: open_gc_lock(state_dir)?,
            collector: None,
            known: FxHashSet::default(),
        };
        let roots = Arc::new(TempRoots {
            path: path.clone(),
            state_dir: state_dir.to_owned(),
            inner: Mutex::new(inner),
        });
        open.insert(path, Arc::downgrade(&roots));
        Ok(roots)
    }

    pub(crate) fn add<'a>(
        &self,
        dir: &StoreDir,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> StoreResult<()> {
        let mut inner = self.inner.lock();
        let paths: Vec<&StorePath> = paths.into_iter().collect();
        if paths.is_empty() {
            return Ok(());
        }
        let io = |operation| move |e: Errno| StoreError::io(operation, &self.path)(e.into());
        let mut told = 0;
        let locked = loop {
            if flock::try_lock(&inner.gc_lock, Kind::Shared).map_err(io("locking"))? {
                break true;
            }
            // Also what the file has: a collector that read the permanent roots before one of ours was made, and reads
            // this file when we are gone, must know of it.
            if self.tell_collector(&mut inner, dir, &paths, &mut told)? {
                break false;
            }
        };
        let fresh: Vec<&StorePath> = paths.into_iter().filter(|path| !inner.known.contains(*path)).collect();
        let mut text = Vec::with_capacity(fresh.len() * 80);
        for path in &fresh {
            text.extend_from_slice(dir.display(path).as_bytes());
            text.push(0);
        }
        let mut rest = &text[..];
        while !rest.is_empty() {
            let n =
                rustix::io::retry_on_intr(|| rustix::io::write(&inner.file, rest)).map_err(io("writing"))?;
            rest = &rest[n..];
        }
        inner.known.extend(fresh.into_iter().cloned());
        if locked {
            flock::unlock(&inner.gc_lock).map_err(io("unlocking"))?;
        }
        Ok(())
    }

    /// Sends the paths from `told` on to the running collector. `false`: there is none (any more); look again.
    fn tell_collector(
        &self,
        inner: &mut Inner,
        dir: &StoreDir,
        paths: &[&StorePath],
        told: &mut usize,
    ) -> StoreResult<bool> {
        let socket = self.state_dir.join("gc-socket/socket");
        if inner.collector.is_none() {
            match crate::gc::with_short_path(&socket, |path| UnixStream::connect(path)) {
                Ok(stream) => inner.collector = Some(stream),
                Err(e) if is_gone(&e) => {
                    // It is just starting or just ending.
                    std::thread::sleep(Duration::from_millis(100));
                    return Ok(false);
                }
                Err(e) => return Err(StoreError::io("connecting to", socket)(e)),
            }
        }
        let Some(stream) = &mut inner.collector else { return Ok(false) };
        while let Some(path) = paths.get(*told) {
            let mut answer = [0];
            let line = format!("{}\n", dir.display(path));
            let exchange = stream.write_all(line.as_bytes()).and_then(|()| stream.read_exact(&mut answer));
            match exchange {
                Ok(()) if answer == *b"1" => *told += 1,
                Ok(()) => {
                    let text = format!("the garbage collector did not accept root '{}'", dir.display(path));
                    return Err(StoreError::Other(text));
                }
                Err(e) if is_gone(&e) => {
                    // What it was told ended with it.
                    *told = 0;
                    inner.collector = None;
                    return Ok(false);
                }
                Err(e) => return Err(StoreError::io("talking to the garbage collector at", socket)(e)),
            }
        }
        Ok(true)
    }
}

impl Drop for TempRoots {
    fn drop(&mut self) {
        let _ = rustix::fs::unlink(&self.path);
    }
}

fn is_gone(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    matches!(e.kind(), ConnectionRefused | NotFound | BrokenPipe | ConnectionReset | UnexpectedEof)
}

pub(crate) fn open_gc_lock(state_dir: &Path) -> StoreResult<OwnedFd> {
    flock::open_lock_file(&state_dir.join("gc.lock"))
}

fn create_file(path: &Path) -> StoreResult<OwnedFd> {
    if let Some(dir) = path.parent() {
        crate::layout::make_dirs(dir)?;
    }
    loop {
        // A file of this name is stale: no two living processes have the same id.
        match rustix::fs::unlink(path) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(StoreError::io("removing", path)(e.into())),
        }
        let file = flock::open_lock_file(path)?;
        let io = |e: Errno| StoreError::io("locking", path)(e.into());
        flock::lock(&file, Kind::Exclusive, &|| ()).map_err(io)?;
        if rustix::fs::fstat(&file).map_err(io)?.st_size == 0 {
            return Ok(file);
        }
        // A collector took it for stale before we had the lock.
    }
}

/// Reads the temporary roots of all living processes; removes the files of dead ones.
pub(crate) fn read_all(state_dir: &Path, logger: &dyn Logger) -> StoreResult<Vec<(u32, Vec<u8>)>> {
    let dir = state_dir.join("temproots");
    let listing = match std::fs::read_dir(&dir) {
        Ok(listing) => listing,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::io("reading directory", dir)(e)),
    };
    let mut roots = Vec::new();
    for entry in listing {
        let entry = entry.map_err(StoreError::io("reading directory", &dir))?;
        let path = entry.path();
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let io = |operation| {
            let path = path.clone();
            move |e: Errno| StoreError::io(operation, path)(e.into())
        };
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let fd = match rustix::fs::open(&path, flags, rustix::fs::Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(io("opening temporary roots file")(e)),
        };
        // The lock can be had only if the owner is dead. Our own file is open twice, so that works for it too.
        if flock::try_lock(&fd, Kind::Exclusive).map_err(io("locking"))? {
            let message = format!("removing stale temporary roots file {path:?}");
            logger.log(Verbosity::Info, message.as_bytes());
            let _ = rustix::fs::unlink(&path);
            let _ = rustix::io::write(&fd, b"d");
            continue;
        }
        let mut text = Vec::new();
        std::fs::File::from(fd).read_to_end(&mut text).map_err(StoreError::io("reading", &path))?;
        // An unterminated end is being written right now, by somebody who waits for the GC lock.
        roots.extend(
            text.split_inclusive(|b| *b == 0).filter_map(|s| s.strip_suffix(&[0])).map(|s| (pid, s.to_vec())),
        );
    }
    Ok(roots)
}

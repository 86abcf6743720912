//! The collector's side of temporary roots: while it holds the GC lock, processes send it their new roots.

use firn_core::store_path::HASH_PART_LEN;
use firn_core::{StoreDir, StorePath};
use firn_store::{StoreError, StoreResult};
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// What the collector and the connections share. Roots are hash parts, so that a root also keeps `.lock` and
/// `.chroot` beside it.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    deleted: Condvar,
}

#[derive(Default)]
struct State {
    roots: FxHashSet<String>,
    /// Roots that the collector has not seen yet.
    new_roots: Vec<StorePath>,
    /// What is being deleted right now; a client that asks for one of these waits.
    pending: FxHashSet<String>,
    /// Those of the pending that somebody waits for.
    wanted: FxHashSet<String>,
    /// Set at the end.
    stop: bool,
    connections: Vec<UnixStream>,
}

impl State {
    fn add_root(&mut self, path: &StorePath) {
        if self.roots.insert(path.hash_part().to_owned()) {
            self.new_roots.push(path.clone());
        }
    }
}

impl Shared {
    pub(crate) fn add_root(&self, path: &StorePath) {
        self.state.lock().add_root(path);
    }

    pub(crate) fn is_root(&self, hash_part: &str) -> bool {
        self.state.lock().roots.contains(hash_part)
    }

    /// The roots that came since this was last asked.
    pub(crate) fn take_new_roots(&self) -> Vec<StorePath> {
        std::mem::take(&mut self.state.lock().new_roots)
    }

    /// Claims a path for deletion unless it is a root.
    pub(crate) fn claim(&self, hash_part: &str) -> bool {
        let mut state = self.state.lock();
        if state.roots.contains(hash_part) {
            return false;
        }
        state.pending.insert(hash_part.to_owned());
        true
    }

    /// The claimed paths that somebody has begun to wait for.
    pub(crate) fn take_wanted(&self) -> FxHashSet<String> {
        std::mem::take(&mut self.state.lock().wanted)
    }

    /// Lets those go on who wait for one claimed path.
    pub(crate) fn release_one(&self, hash_part: &str) {
        self.state.lock().pending.remove(hash_part);
        self.deleted.notify_all();
    }

    /// Lets those go on who wait for claimed paths.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock();
        state.pending.clear();
        state.wanted.clear();
        self.deleted.notify_all();
    }
}

/// A running server; it ends when dropped.
pub(crate) struct Server {
    shared: Arc<Shared>,
    socket: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(state_dir: &Path, dir: &StoreDir, shared: Arc<Shared>) -> StoreResult<Server> {
        let folder = state_dir.join("gc-socket");
        crate::layout::make_dirs(&folder)?;
        let socket = folder.join("socket");
        let _ = std::fs::remove_file(&socket);
        let bound = with_short_path(&socket, |path| UnixListener::bind(path));
        let listener = bound.map_err(StoreError::io("listening on", &socket))?;
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666))
            .map_err(StoreError::io("changing mode of", &socket))?;
        let thread = {
            let (shared, dir) = (shared.clone(), dir.clone());
            std::thread::spawn(move || accept(&listener, &dir, &shared))
        };
        Ok(Server { shared, socket, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.release();
        // Wakes the thread out of accept(2).
        let woken = with_short_path(&self.socket, |path| UnixStream::connect(path)).is_ok();
        if let Some(thread) = self.thread.take()
            && woken
        {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &UnixListener, dir: &StoreDir, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        if shared.state.lock().stop {
            break;
        }
        let Ok(stream) = stream else { continue };
        if let Ok(clone) = stream.try_clone() {
            shared.state.lock().connections.push(clone);
        }
        let (shared, dir) = (shared.clone(), dir.clone());
        threads.push(std::thread::spawn(move || serve(stream, &dir, &shared)));
    }
    for connection in shared.state.lock().connections.drain(..) {
        let _ = connection.shutdown(Shutdown::Both);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// One client: a line per root, `1` for each. Ends with the connection.
fn serve(stream: UnixStream, dir: &StoreDir, shared: &Shared) {
    let Ok(mut answers) = stream.try_clone() else { return };
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        // Longer than any store path: garbage, which is not collected here.
        match std::io::Read::take(&mut lines, 8192).read_line(&mut line) {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        if let Ok(path) = dir.parse(line.trim_end_matches('\n')) {
            let hash_part = &path.base_name()[..HASH_PART_LEN];
            let mut state = shared.state.lock();
            state.add_root(&path);
            while state.pending.contains(hash_part) && !state.stop {
                state.wanted.insert(hash_part.to_owned());
                shared.deleted.wait(&mut state);
            }
        }
        if answers.write_all(b"1").is_err() {
            return;
        }
    }
}

/// Socket addresses are short; a long path is reached through a descriptor of its folder.
pub(crate) fn with_short_path<T>(
    socket: &Path,
    f: impl FnOnce(&Path) -> std::io::Result<T>,
) -> std::io::Result<T> {
    if socket.as_os_str().len() < 100 {
        return f(socket);
    }
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let folder = std::fs::File::open(folder)?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&folder);
    f(&Path::new("/proc/self/fd").join(fd.to_string()).join(name))
}

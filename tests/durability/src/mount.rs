//! The model behind a FUSE mount.

use crate::disk::{Content, Disk, Metadata, Node};
use crate::faults::{Plan, Progress};
use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow,
};
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the kernel may remember attributes and names: it is the only one who changes them.
const TTL: Duration = Duration::from_secs(60);

struct State {
    disk: Disk,
    plan: Plan,
    progress: Progress,
}

/// A mounted disk.
pub struct Mounted {
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
    pub path: PathBuf,
}

/// Whether this machine lets us mount.
pub fn can_mount() -> bool {
    Path::new("/dev/fuse").exists()
        && std::fs::metadata("/proc/self").is_ok_and(|meta| {
            use std::os::unix::fs::MetadataExt;
            meta.uid() == 0
        })
}

impl Mounted {
    /// Mounts a disk; `plan` counts from here.
    pub fn new(disk: Disk, plan: Plan, path: &Path) -> std::io::Result<Mounted> {
        let state = Arc::new(Mutex::new(State { disk, plan, progress: Progress::default() }));
        let options =
            [MountOption::FSName("firn-test".into()), MountOption::DefaultPermissions, MountOption::RW];
        let fs = Fs(Arc::clone(&state));
        let session = fuser::spawn_mount2(fs, path, &options)?;
        Ok(Mounted { state, session: Some(session), path: path.to_owned() })
    }

    pub fn progress(&self) -> Progress {
        self.state.lock().progress.clone()
    }

    /// From now on there is this much room.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().disk.capacity = bytes;
    }

    /// Unmounts; what the disk holds and how it went.
    pub fn unmount(mut self) -> (Disk, Progress) {
        self.let_go();
        let state = self.state.lock();
        (state.disk.clone(), state.progress.clone())
    }
}

impl Mounted {
    /// Unmounts without waiting: a builder that was left behind may still have files open.
    fn let_go(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
            drop(session);
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.let_go();
    }
}

struct Fs(Arc<Mutex<State>>);

fn attributes(number: u64, node: &Node) -> FileAttr {
    let (kind, size) = match &node.content {
        Content::File(data) => (FileType::RegularFile, data.len() as u64),
        Content::Directory(_) => (FileType::Directory, 4096),
        Content::Symlink(target) => (FileType::Symlink, target.len() as u64),
        Content::Special(kind) if *kind == libc::S_IFSOCK => (FileType::Socket, 0),
        Content::Special(_) => (FileType::NamedPipe, 0),
    };
    let (seconds, nanoseconds) = node.metadata.mtime;
    let time = UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds);
    FileAttr {
        ino: number,
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: node.metadata.mode as u16,
        nlink: node.links,
        uid: node.metadata.uid,
        gid: node.metadata.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl State {
    fn node(&self, number: u64) -> Result<&Node, i32> {
        match self.progress.off {
            true => Err(libc::EIO),
            false => self.disk.get(number).ok_or(libc::ENOENT),
        }
    }

    fn step(&mut self, operation: &'static str, needs_space: bool) -> Result<(), i32> {
        self.progress.step(&self.plan, operation, needs_space)
    }

    fn room_for(&self, bytes: u64) -> Result<(), i32> {
        let full = self.disk.capacity != u64::MAX && self.disk.used() + bytes > self.disk.capacity;
        if full { Err(libc::ENOSPC) } else { Ok(()) }
    }

    fn make(
        &mut self,
        operation: &'static str,
        request: &Request<'_>,
        (parent, name): (u64, &OsStr),
        mode: u32,
        content: Content,
    ) -> Result<FileAttr, i32> {
        self.node(parent)?;
        if self.disk.lookup(parent, name).is_some() {
            return Err(libc::EEXIST);
        }
        self.step(operation, true)?;
        self.room_for(512)?;
        let metadata =
            Metadata { mode: mode & 0o7777, uid: request.uid(), gid: request.gid(), mtime: (0, 0) };
        let number = self.disk.create(content, metadata);
        self.disk.touch(number);
        self.disk.link(parent, name, number);
        Ok(attributes(number, self.node(number)?))
    }

    fn remove(&mut self, operation: &'static str, parent: u64, name: &OsStr) -> Result<(), i32> {
        self.node(parent)?;
        let number = self.disk.lookup(parent, name).ok_or(libc::ENOENT)?;
        if self.disk.entries(number).is_some_and(|entries| !entries.is_empty()) {
            return Err(libc::ENOTEMPTY);
        }
        self.step(operation, false)?;
        self.disk.unlink(parent, name);
        if let Some(node) = self.disk.get_mut(number) {
            node.links = match node.content {
                Content::Directory(_) => 0,
                _ => node.links.saturating_sub(1),
            };
        }
        Ok(())
    }

    fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), flags: u32) -> Result<(), i32> {
        let number = self.disk.lookup(from.0, from.1).ok_or(libc::ENOENT)?;
        if flags & !libc::RENAME_NOREPLACE != 0 {
            return Err(libc::EINVAL);
        }
        let target = self.disk.lookup(to.0, to.1);
        if target.is_some() && flags != 0 {
            return Err(libc::EEXIST);
        }
        if target == Some(number) {
            return Ok(());
        }
        if target.is_some_and(|n| self.disk.entries(n).is_some_and(|entries| !entries.is_empty())) {
            return Err(libc::ENOTEMPTY);
        }
        self.step("rename", false)?;
        if let Some(node) = target.and_then(|number| self.disk.get_mut(number)) {
            node.links = node.links.saturating_sub(1);
        }
        self.disk.unlink(from.0, from.1);
        self.disk.link(to.0, to.1, number);
        Ok(())
    }

    fn write(&mut self, number: u64, offset: usize, data: &[u8]) -> Result<u32, i32> {
        self.node(number)?;
        self.step("write", true)?;
        let room = data.len() as u64;
        self.room_for(room)?;
        let Some(Node { content: Content::File(old), .. }) = self.disk.get_mut(number) else {
            return Err(libc::EISDIR);
        };
        if old.len() < offset + data.len() {
            old.resize(offset + data.len(), 0);
        }
        old[offset..offset + data.len()].copy_from_slice(data);
        self.disk.touch(number);
        Ok(data.len() as u32)
    }
}

fn entry(result: Result<FileAttr, i32>, reply: ReplyEntry) {
    match result {
        Ok(attributes) => reply.entry(&TTL, &attributes, 0),
        Err(error) => reply.error(error),
    }
}

fn empty(result: Result<(), i32>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Fs {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let state = self.0.lock();
        let found = state.node(parent).and_then(|_| state.disk.lookup(parent, name).ok_or(libc::ENOENT));
        entry(found.and_then(|number| Ok(attributes(number, state.node(number)?))), reply);
    }

    fn getattr(&mut self, _: &Request<'_>, number: u64, _: Option<u64>, reply: ReplyAttr) {
        match self.0.lock().node(number) {
            Ok(node) => reply.attr(&TTL, &attributes(number, node)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &mut self,
        _: &Request<'_>,
        number: u64,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<u64>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<u32>,
        reply: ReplyAttr,
    ) {
        let mut state = self.0.lock();
        let result = state.step("setattr", false).and_then(|()| {
            let node = state.disk.get_mut(number).ok_or(libc::ENOENT)?;
            node.metadata.mode = mode.map_or(node.metadata.mode, |mode| mode & 0o7777);
            node.metadata.uid = uid.unwrap_or(node.metadata.uid);
            node.metadata.gid = gid.unwrap_or(node.metadata.gid);
            if let (Some(size), Content::File(data)) = (size, &mut node.content) {
                data.resize(usize::try_from(size).map_err(|_| libc::EFBIG)?, 0);
            }
            let time = match mtime {
                None => return Ok(()),
                Some(TimeOrNow::Now) => SystemTime::now(),
                Some(TimeOrNow::SpecificTime(time)) => time,
            };
            let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            node.metadata.mtime = (time.as_secs() as i64, time.subsec_nanos());
            Ok(())
        });
        // Nobody can sync a symlink; what is known of it is taken to be safe with its name.
        if state.disk.get(number).is_some_and(|node| matches!(node.content, Content::Symlink(_))) {
            state.disk.sync(number);
        }
        match result.and_then(|()| state.node(number)) {
            Ok(node) => reply.attr(&TTL, &attributes(number, node)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&mut self, _: &Request<'_>, number: u64, reply: ReplyData) {
        use std::os::unix::ffi::OsStrExt;
        match self.0.lock().node(number) {
            Ok(Node { content: Content::Symlink(target), .. }) => reply.data(target.as_bytes()),
            Ok(_) => reply.error(libc::EINVAL),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(
        &mut self,
        request: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let content = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => Content::File(Vec::new()),
            kind => Content::Special(kind),
        };
        entry(self.0.lock().make("mknod", request, (parent, name), mode & !umask, content), reply);
    }

    fn mkdir(
        &mut self,
        request: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let content = Content::Directory(Default::default());
        entry(self.0.lock().make("mkdir", request, (parent, name), mode & !umask, content), reply);
    }

    fn unlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        empty(self.0.lock().remove("unlink", parent, name), reply);
    }

    fn rmdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        empty(self.0.lock().remove("rmdir", parent, name), reply);
    }

    fn symlink(
        &mut self,
        request: &Request<'_>,
        parent: u64,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let content = Content::Symlink(target.as_os_str().to_owned());
        entry(self.0.lock().make("symlink", request, (parent, name), 0o777, content), reply);
    }

    fn rename(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        flags: u32,
        reply: ReplyEmpty,
    ) {
        empty(self.0.lock().rename((parent, name), (new_parent, new_name), flags), reply);
    }

    fn link(&mut self, _: &Request<'_>, number: u64, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.0.lock();
        let result = match state.disk.lookup(parent, name) {
            Some(_) => Err(libc::EEXIST),
            None => state.step("link", true),
        };
        let result = result.and_then(|()| {
            state.disk.get_mut(number).ok_or(libc::ENOENT)?.links += 1;
            state.disk.link(parent, name, number);
            Ok(attributes(number, state.node(number)?))
        });
        entry(result, reply);
    }

    fn open(&mut self, _: &Request<'_>, number: u64, _: i32, reply: ReplyOpen) {
        match self.0.lock().node(number) {
            Ok(_) => reply.opened(0, 0),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &mut self,
        request: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let content = Content::File(Vec::new());
        match self.0.lock().make("create", request, (parent, name), mode & !umask, content) {
            Ok(attributes) => reply.created(&TTL, &attributes, 0, 0, 0),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        number: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        match self.0.lock().node(number) {
            Ok(Node { content: Content::File(data), .. }) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
                reply.data(&data[start..(start + size as usize).min(data.len())]);
            }
            Ok(_) => reply.error(libc::EISDIR),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        number: u64,
        _: u64,
        offset: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        let offset = usize::try_from(offset).unwrap_or(0);
        match self.0.lock().write(number, offset, data) {
            Ok(n) => reply.written(n),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&mut self, _: &Request<'_>, _: u64, _: u64, _: u64, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&mut self, _: &Request<'_>, number: u64, _: u64, _: bool, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        let result = state.step("fsync", false);
        if result.is_ok() {
            state.disk.sync(number);
        }
        empty(result, reply);
    }

    fn fsyncdir(&mut self, request: &Request<'_>, number: u64, handle: u64, all: bool, reply: ReplyEmpty) {
        self.fsync(request, number, handle, all, reply);
    }

    fn readdir(&mut self, _: &Request<'_>, number: u64, _: u64, offset: i64, mut reply: ReplyDirectory) {
        let state = self.0.lock();
        if let Err(error) = state.node(number) {
            return reply.error(error);
        }
        let dots = [(OsStr::new("."), number), (OsStr::new(".."), number)];
        let entries = state.disk.entries(number).into_iter().flatten();
        let all = dots.into_iter().chain(entries.map(|(name, number)| (name.as_os_str(), *number)));
        for (index, (name, number)) in all.enumerate().skip(usize::try_from(offset).unwrap_or(0)) {
            let kind = state.disk.get(number).map_or(FileType::RegularFile, |n| attributes(number, n).kind);
            if reply.add(number, index as i64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&mut self, _: &Request<'_>, _: u64, reply: ReplyStatfs) {
        let state = self.0.lock();
        let total = state.disk.capacity.min(1 << 40) / 512;
        let free = total.saturating_sub(state.disk.used() / 512);
        reply.statfs(total, free, free, 1 << 20, 1 << 20, 512, 255, 512);
    }

    fn listxattr(&mut self, _: &Request<'_>, _: u64, size: u32, reply: ReplyXattr) {
        match size {
            0 => reply.size(0),
            _ => reply.data(&[]),
        }
    }

    fn getxattr(&mut self, _: &Request<'_>, _: u64, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(libc::ENODATA);
    }

    fn forget(&mut self, _: &Request<'_>, number: u64, _: u64) {
        self.0.lock().disk.drop_unlinked(number);
    }
}

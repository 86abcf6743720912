//! Where to listen.

use super::SupervisorError;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Makes a socket that everybody may connect to. One that is there already is taken over.
pub fn bind_socket(path: &Path) -> Result<UnixListener, SupervisorError> {
    let fail = |operation| {
        move |source: io::Error| SupervisorError::Socket { operation, path: path.to_owned(), source }
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(fail("cannot bind to socket")(io::ErrorKind::InvalidInput.into()));
    };
    std::fs::create_dir_all(parent).map_err(fail("creating the directory of"))?;
    // Paths that are too long for an address are reached through their folder.
    let folder = std::fs::File::open(parent).map_err(fail("opening the directory of"))?;
    let short = match path.as_os_str().len() < 108 {
        true => path.to_owned(),
        false => PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name),
    };
    // Bound under another name and moved, so that nobody finds a socket that does not answer yet.
    let temporary = short.with_file_name(format!(".s-{}", std::process::id()));
    let _ = std::fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary).map_err(fail("cannot bind to socket"))?;
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&temporary, everybody).map_err(fail("setting permissions of socket"))?;
    std::fs::rename(&temporary, &short).map_err(fail("cannot bind to socket"))?;
    Ok(listener)
}

/// Sockets that systemd made for us.
pub fn inherited_sockets() -> Result<Vec<UnixListener>, SupervisorError> {
    let mut inherited = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..inherited.len() {
        if let Some(socket) = inherited.take_unix_listener(index)? {
            rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).map_err(io::Error::from)?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

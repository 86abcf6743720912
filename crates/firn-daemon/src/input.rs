//! The client's side of a connection, as a stream.

use firn_wire::WireReader;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

pub type Input = WireReader<Box<dyn AsyncRead + Send + Unpin>>;

/// Reads from a socket, a pipe or anything else. To be called within a runtime.
pub fn open_input(fd: OwnedFd) -> io::Result<Input> {
    use rustix::fs::FileType;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    let stream: Box<dyn AsyncRead + Send + Unpin> = match kind {
        FileType::Socket => {
            let socket = StdUnixStream::from(fd);
            socket.set_nonblocking(true)?;
            Box::new(UnixStream::from_std(socket)?)
        }
        FileType::Fifo => Box::new(pipe::Receiver::from_owned_fd(fd)?),
        _ => Box::new(tokio::fs::File::from_std(std::fs::File::from(fd))),
    };
    Ok(WireReader::new(stream))
}

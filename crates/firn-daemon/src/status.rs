//! What a connection's process is doing, for the supervisor to know what it can say to the client when that process
//! dies.
//!
//! A file in memory that both have open: the version of the protocol and the phase, in two bytes each. It is written
//! when the phase changes only, which it does not for most operations.

use firn_wire::worker::Version;
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Phase {
    /// Greeting: nothing can be said.
    Greeting = 0,
    /// Within an operation whose result has not begun, or between operations, where what is said will be heard when
    /// the client asks next.
    Listening = 1,
    /// Within a result: nothing can be said.
    Answering = 2,
}

/// Notes phases; does nothing where nobody looks.
#[derive(Clone, Default)]
pub struct Status(Option<Arc<File>>);

impl Status {
    /// A file that is looked at.
    pub fn new(file: File) -> Status {
        Status(Some(Arc::new(file)))
    }

    /// A fresh file in memory.
    pub(crate) fn make_file() -> std::io::Result<File> {
        let file = File::from(rustix::fs::memfd_create("nix-daemon-status", MemfdFlags::CLOEXEC)?);
        file.write_all_at(&[0; 4], 0)?;
        Ok(file)
    }

    pub(crate) fn note(&self, version: Version, phase: Phase) {
        if let Some(file) = &self.0 {
            let [a, b] = version.0.to_le_bytes();
            let [c, d] = (phase as u16).to_le_bytes();
            // Without it the client learns less when we die.
            let _ = file.write_all_at(&[a, b, c, d], 0);
        }
    }

    /// What was noted last.
    pub(crate) fn read(file: &File) -> (Version, Phase) {
        let mut bytes = [0; 4];
        if file.read_exact_at(&mut bytes, 0).is_err() {
            return (Version::LATEST, Phase::Greeting);
        }
        let version = Version(u16::from_le_bytes([bytes[0], bytes[1]]));
        let phase = match u16::from_le_bytes([bytes[2], bytes[3]]) {
            1 => Phase::Listening,
            2 => Phase::Answering,
            _ => Phase::Greeting,
        };
        (version, phase)
    }
}

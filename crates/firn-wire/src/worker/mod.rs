//! The worker protocol: a client asks, the daemon tells what it does on the way, and answers.
//!
//! ```text
//! client: magic, version        daemon: magic, version
//! client: features              daemon: features            (from 1.38)
//! client: 0, 0                  daemon: [its version], [trusted?], messages … last
//! client: operation, arguments  daemon: messages … last, result     (again and again)
//! ```

mod build_result;
pub mod handshake;
mod messages;
mod op;
mod path_info;
mod requests;

pub use build_result::BuildResult;
pub use handshake::{
    ClientGreeting, ServerInfo, client_greeting, read_client_greeting, read_server_greeting, server_greeting,
};
pub use messages::{Field, RemoteError, StderrMessage};
pub use op::Op;
pub use path_info::{read_path_info, read_unkeyed_path_info, write_path_info, write_unkeyed_path_info};
pub use requests::{
    ClientOptions, read_derived_path, read_derived_paths, write_derived_path, write_derived_paths,
};

use std::collections::BTreeSet;
use std::fmt;

/// A version of the protocol: 1.38 is `Version(0x126)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

impl Version {
    pub const fn new(major: u8, minor: u8) -> Version {
        Version((major as u16) << 8 | minor as u16)
    }

    /// The newest that is spoken here.
    pub const LATEST: Version = Version::new(1, 38);
    /// The oldest that is spoken here.
    pub const MINIMUM: Version = Version::new(1, 18);

    pub fn major(self) -> u8 {
        (self.0 >> 8) as u8
    }

    pub fn minor(self) -> u8 {
        self.0 as u8
    }

    /// Whether it is 1.`minor` or later.
    pub fn has(self, minor: u8) -> bool {
        self >= Version::new(1, minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

/// What both sides of a connection agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub version: Version,
    pub features: BTreeSet<String>,
}

/// Features that are spoken here. There are none yet in any version that is out.
pub const FEATURES: &[&str] = &[];

//! The serve protocol: `nix-store --serve [--write]`, for ssh.

mod messages;

pub use messages::{
    BuildOptions, client_greeting, read_build_result, read_client_magic, read_client_version, read_path_info,
    read_server_greeting, server_greeting, write_build_result, write_path_info,
};

/// A version of the protocol: 2.7 is `Version(0x207)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

impl Version {
    pub const fn new(major: u8, minor: u8) -> Version {
        Version((major as u16) << 8 | minor as u16)
    }

    /// The newest that is spoken here.
    pub const LATEST: Version = Version::new(2, 7);
    /// The oldest server that a client speaks to.
    pub const MINIMUM_SERVER: Version = Version::new(2, 5);

    pub fn major(self) -> u8 {
        (self.0 >> 8) as u8
    }

    pub fn minor(self) -> u8 {
        self.0 as u8
    }

    /// Whether it is 2.`minor` or later.
    pub fn has(self, minor: u8) -> bool {
        self >= Version::new(2, minor)
    }
}

/// What a client can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Command {
    QueryValidPaths = 1,
    QueryPathInfos = 2,
    DumpStorePath = 3,
    ImportPaths = 4,
    ExportPaths = 5,
    BuildPaths = 6,
    QueryClosure = 7,
    BuildDerivation = 8,
    AddToStoreNar = 9,
}

impl Command {
    /// The command with that number, if there is one.
    pub fn from_number(number: u64) -> Option<Command> {
        use Command::*;
        [
            QueryValidPaths,
            QueryPathInfos,
            DumpStorePath,
            ImportPaths,
            ExportPaths,
            BuildPaths,
            QueryClosure,
            BuildDerivation,
            AddToStoreNar,
        ]
        .into_iter()
        .find(|command| *command as u64 == number)
    }
}

impl From<Command> for u64 {
    fn from(command: Command) -> u64 {
        command as u64
    }
}

//! The compression methods, with the names that binary caches use.

use crate::error::{ArchiveError, ArchiveResult};

/// A compression method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    None,
    Brotli,
    Bzip2,
    Compress,
    Gzip,
    Lz4,
    Lzip,
    Lzma,
    Xz,
    Zstd,
}

/// Methods that libarchive does with programs of the same name, and this crate does not.
const FOREIGN: &[&str] = &["grzip", "lrzip", "lzop"];

impl Method {
    pub const ALL: [Method; 10] = [
        Method::None,
        Method::Brotli,
        Method::Bzip2,
        Method::Compress,
        Method::Gzip,
        Method::Lz4,
        Method::Lzip,
        Method::Lzma,
        Method::Xz,
        Method::Zstd,
    ];

    /// The name in settings and `.narinfo` files.
    pub const fn name(self) -> &'static str {
        match self {
            Method::None => "none",
            Method::Brotli => "br",
            Method::Bzip2 => "bzip2",
            Method::Compress => "compress",
            Method::Gzip => "gzip",
            Method::Lz4 => "lz4",
            Method::Lzip => "lzip",
            Method::Lzma => "lzma",
            Method::Xz => "xz",
            Method::Zstd => "zstd",
        }
    }

    /// Parses a name. Names that exist and that this crate cannot do have an error of their own.
    pub fn parse(name: &str) -> ArchiveResult<Method> {
        if let Some(method) = Method::ALL.into_iter().find(|method| method.name() == name) {
            return Ok(method);
        }
        match FOREIGN.iter().find(|foreign| **foreign == name) {
            Some(foreign) => Err(ArchiveError::Unsupported(foreign)),
            None => Err(ArchiveError::UnknownMethod(name.to_owned())),
        }
    }

    /// Parses the value of `Content-Encoding`; `None` for one that nobody knows.
    pub fn of_content_encoding(value: &str) -> Option<Method> {
        Some(match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "none" => Method::None,
            "br" => Method::Brotli,
            "bzip2" | "x-bzip2" => Method::Bzip2,
            "compress" | "x-compress" => Method::Compress,
            "gzip" | "x-gzip" => Method::Gzip,
            "lz4" => Method::Lz4,
            "lzip" => Method::Lzip,
            "lzma" => Method::Lzma,
            "xz" => Method::Xz,
            "zstd" => Method::Zstd,
            _ => return None,
        })
    }

    /// What comes behind `.nar` in the names of files in binary caches.
    pub const fn extension(self) -> &'static str {
        match self {
            Method::Brotli => ".br",
            Method::Bzip2 => ".bz2",
            Method::Lz4 => ".lz4",
            Method::Lzip => ".lzip",
            Method::Xz => ".xz",
            Method::Zstd => ".zst",
            Method::None | Method::Compress | Method::Gzip | Method::Lzma => "",
        }
    }

    /// The method that the first bytes of a file show; `None` if they show none (brotli has no mark).
    pub fn sniff(start: &[u8]) -> Method {
        const MARKS: &[(&[u8], Method)] = &[
            (b"\xfd7zXZ\0", Method::Xz),
            (b"\x1f\x8b", Method::Gzip),
            (b"\x1f\x9d", Method::Compress),
            (b"BZh", Method::Bzip2),
            (b"\x28\xb5\x2f\xfd", Method::Zstd),
            (b"\x04\x22\x4d\x18", Method::Lz4),
            (b"LZIP", Method::Lzip),
            (b"\x5d\0\0", Method::Lzma),
        ];
        MARKS.iter().find(|(mark, _)| start.starts_with(mark)).map_or(Method::None, |(_, method)| *method)
    }
}

//! The compression methods, with the names that binary caches use.

use crate::error::{ArchiveError, ArchiveResult};

/// A compression method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    None,
    Brotli,
    Bzip2,
    Compress,
    Grzip,
    Gzip,
    Lrzip,
    Lz4,
    Lzip,
    Lzma,
    Lzop,
    Xz,
    Zstd,
}

impl Method {
    pub const ALL: [Method; 13] = [
        Method::None,
        Method::Brotli,
        Method::Bzip2,
        Method::Compress,
        Method::Grzip,
        Method::Gzip,
        Method::Lrzip,
        Method::Lz4,
        Method::Lzip,
        Method::Lzma,
        Method::Lzop,
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
            Method::Grzip => "grzip",
            Method::Gzip => "gzip",
            Method::Lrzip => "lrzip",
            Method::Lz4 => "lz4",
            Method::Lzip => "lzip",
            Method::Lzma => "lzma",
            Method::Lzop => "lzop",
            Method::Xz => "xz",
            Method::Zstd => "zstd",
        }
    }

    /// Parses a name.
    pub fn parse(name: &str) -> ArchiveResult<Method> {
        let found = Method::ALL.into_iter().find(|method| method.name() == name);
        found.ok_or_else(|| ArchiveError::UnknownMethod(name.to_owned()))
    }

    /// Whether a program of the same name does it.
    pub const fn is_foreign(self) -> bool {
        matches!(self, Method::Grzip | Method::Lrzip | Method::Lzop)
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
            Method::None
            | Method::Compress
            | Method::Grzip
            | Method::Gzip
            | Method::Lrzip
            | Method::Lzma
            | Method::Lzop => "",
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
            (b"LRZI", Method::Lrzip),
            (b"\x89LZO\0\r\n\x1a\n", Method::Lzop),
            (b"GRZipII\0\x02\x04:)", Method::Grzip),
            (b"\x5d\0\0", Method::Lzma),
        ];
        MARKS.iter().find(|(mark, _)| start.starts_with(mark)).map_or(Method::None, |(_, method)| *method)
    }
}

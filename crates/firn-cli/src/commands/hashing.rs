//! What the commands that hash files have in common.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::base::{base16_encode, base64_encode, nix32_encode};
use firn_core::{CaMethod, Hash, HashAlgo, HashFormat};
use firn_nar::HashSink;
use firn_nar::fs::{DumpOptions, dump_path};
use firn_settings::ExperimentalFeature;
use firn_store::StoreError;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

/// What of a file is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its bytes; it may be a FIFO.
    Flat,
    /// Its archive.
    Nar,
    /// As Git does.
    Git,
}

pub fn hash_path(context: &Context, path: &OsStr, algo: HashAlgo, mode: Mode) -> CliResult<Hash> {
    require_algo(context, algo)?;
    if mode == Mode::Git {
        context.require(ExperimentalFeature::GitHashing)?;
        let options = DumpOptions { undo_case_hack: context.settings.use_case_hack, filter: None };
        let hash = firn_nar::git::hash_path(Path::new(path), algo, options);
        return Ok(hash.map_err(StoreError::from)?);
    }
    let mut sink = HashSink::new(algo);
    if mode == Mode::Nar {
        let options = DumpOptions { undo_case_hack: context.settings.use_case_hack, filter: None };
        let sink = dump_path(Path::new(path), sink, options).map_err(StoreError::from)?;
        return Ok(sink.finish().0);
    }
    let mut file = std::fs::File::open(path).map_err(CliError::io("opening file", path))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(sink.finish().0),
            Ok(n) => sink.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(CliError::io("reading", path)(e)),
        }
    }
}

/// The hash folded to 160 bits, if it is longer.
pub fn render_truncated(hash: &Hash, format: HashFormat) -> String {
    if hash.algo().size() <= 20 {
        return hash.to_base(format);
    }
    let short: [u8; 20] = hash.compress();
    match format {
        HashFormat::Base16 => base16_encode(&short),
        HashFormat::Nix32 => nix32_encode(&short),
        HashFormat::Base64 => base64_encode(&short),
        HashFormat::Sri => format!("{}-{}", hash.algo(), base64_encode(&short)),
    }
}

pub fn parse_algo(name: &str) -> CliResult<HashAlgo> {
    HashAlgo::parse_opt(name)
        .ok_or_else(|| CliError::usage(firn_core::hash::HashError::UnknownAlgo(name.to_owned()).to_string()))
}

/// Parses a hash that may lack its algorithm.
pub fn parse_hash(text: &OsStr, algo: Option<HashAlgo>) -> CliResult<Hash> {
    Hash::parse_any(&text.to_string_lossy(), algo).map_err(|e| CliError::failed(e.to_string()))
}

/// Fails for an algorithm whose feature is off.
pub fn require_algo(context: &Context, algo: HashAlgo) -> CliResult<()> {
    match algo {
        HashAlgo::Blake3 => context.require(ExperimentalFeature::Blake3Hashes),
        _ => Ok(()),
    }
}

/// The same for what content is addressed with.
pub fn require_method(context: &Context, method: CaMethod, algo: HashAlgo) -> CliResult<()> {
    if method == CaMethod::Git {
        context.require(ExperimentalFeature::GitHashing)?;
    }
    require_algo(context, algo)
}

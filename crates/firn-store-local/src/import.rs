//! Adding objects whose facts came with them: from substituters, other stores and imports.

use crate::register::Registration;
use crate::store::LocalStore;
use firn_core::{CaMethod, Hash, HashAlgo, HashFormat, ValidPathInfo};
use firn_nar::fs::{DumpOptions, dump_path, restore};
use firn_nar::{HashReader, ModuloHasher, NarReader};
use firn_store::{StoreError, StoreResult, TrustPolicy};
use std::io::Read;
use std::path::Path;

impl LocalStore {
    /// Reads an archive and makes it valid with `info`, whose hash, size, content address and (unless
    /// `check_signatures` is off) signatures are verified. Nothing is read if the path is valid already.
    pub fn import(
        &self,
        info: &ValidPathInfo,
        input: impl Read,
        repair: bool,
        check_signatures: bool,
    ) -> StoreResult<()> {
        if check_signatures && !self.trust().accepts_path(self.dir(), info) {
            return Err(StoreError::Untrusted { path: self.display(&info.path) });
        }
        self.add_temp_roots([&info.path])?;
        if !repair && self.is_valid(&info.path)? {
            return Ok(());
        }
        self.ensure_writable()?;
        let _lock = self.lock_path(&info.path)?;
        self.import_locked(info, input, repair)
    }

    /// As [`LocalStore::import`], for a caller who holds the path's lock and trusts the facts.
    pub(crate) fn import_locked(
        &self,
        info: &ValidPathInfo,
        input: impl Read,
        repair: bool,
    ) -> StoreResult<()> {
        if !repair && self.is_valid(&info.path)? {
            return Ok(());
        }
        self.write_object(&info.path, repair, |real| {
            let announced = Announced { inner: input, left: announced_size(info), exceeded: false };
            let mut reader = NarReader::new(HashReader::new(announced, HashAlgo::Sha256));
            let restored = restore(&mut reader, real, self.restore_options());
            let mut hashing = reader.into_inner();
            if hashing.input_mut().exceeded {
                // Nothing more of it is written; what it is instead can be said all the same.
                hashing.input_mut().left = u64::MAX;
                std::io::copy(&mut hashing, &mut std::io::sink()).map_err(firn_nar::NarError::read)?;
            } else {
                restored?;
            }
            let (hash, size) = hashing.finish();
            self.check_hash(info, hash, size)?;
            self.check_ca_content(info, real)
        })?;
        self.register(vec![Registration { info, outputs: None }])
    }

    pub(crate) fn check_hash(&self, info: &ValidPathInfo, hash: Hash, size: u64) -> StoreResult<()> {
        let path = || self.display(&info.path);
        if hash != info.nar_hash {
            return Err(StoreError::HashMismatch {
                path: path(),
                expected: info.nar_hash.to_prefixed(HashFormat::Nix32),
                got: hash.to_prefixed(HashFormat::Nix32),
            });
        }
        if size != info.nar_size {
            return Err(StoreError::SizeMismatch { path: path(), expected: info.nar_size, got: size });
        }
        Ok(())
    }

    /// Checks the content against the content address that came with it.
    pub(crate) fn check_ca_content(&self, info: &ValidPathInfo, real: &Path) -> StoreResult<()> {
        let Some(ca) = &info.ca else { return Ok(()) };
        // The archive's own hash was checked as it came in, and that is the address of most objects.
        let is_archive = ca.method == CaMethod::NixArchive && ca.hash.algo() == HashAlgo::Sha256;
        if is_archive && ca.hash == info.nar_hash && !info.references.contains(&info.path) {
            return Ok(());
        }
        let hash_error = |e| StoreError::io("hashing", real)(e);
        if ca.method == CaMethod::Git {
            let options = DumpOptions { undo_case_hack: self.inner.config.use_case_hack, filter: None };
            let got = firn_nar::git::hash_path(real, ca.hash.algo(), options)?;
            return self.compare_ca(info, ca.hash, got);
        }
        let hasher = ModuloHasher::new(ca.hash.algo(), info.path.hash_part()).map_err(hash_error)?;
        let options = DumpOptions { undo_case_hack: self.inner.config.use_case_hack, filter: None };
        let (got, _) = match ca.method {
            CaMethod::NixArchive | CaMethod::Git => {
                dump_path(real, hasher, options)?.finish().map_err(hash_error)?
            }
            CaMethod::Flat | CaMethod::Text => {
                let mut hasher = hasher;
                let mut file = open_regular(real)?;
                std::io::copy(&mut file, &mut hasher).map_err(hash_error)?;
                hasher.finish().map_err(hash_error)?
            }
        };
        self.compare_ca(info, ca.hash, got)
    }

    fn compare_ca(&self, info: &ValidPathInfo, specified: Hash, got: Hash) -> StoreResult<()> {
        if got == specified {
            return Ok(());
        }
        Err(StoreError::Other(format!(
            "ca hash mismatch importing path '{}';\n  specified: {}\n  got:       {}",
            self.display(&info.path),
            specified.to_prefixed(HashFormat::Nix32),
            got.to_prefixed(HashFormat::Nix32)
        )))
    }

    /// Whose word this store takes.
    pub fn trust(&self) -> TrustPolicy {
        let config = &self.inner.config;
        TrustPolicy { require_signatures: config.require_sigs, keys: config.trusted_public_keys.clone() }
    }

    /// Writes the archive of a valid path.
    pub fn dump(&self, path: &firn_core::StorePath, out: impl std::io::Write) -> StoreResult<()> {
        if !self.is_valid(path)? {
            return Err(StoreError::InvalidPath { path: self.display(path) });
        }
        let options = DumpOptions { undo_case_hack: self.inner.config.use_case_hack, filter: None };
        dump_path(&self.real(path), out, options)?;
        Ok(())
    }
}

/// How long an archive may be.
pub(crate) fn announced_size(info: &ValidPathInfo) -> u64 {
    // Zero stands for unknown.
    if info.nar_size > 0 { info.nar_size } else { u64::MAX }
}

/// Reads no more than was announced.
struct Announced<R> {
    inner: R,
    left: u64,
    /// Whether more was wanted.
    exceeded: bool,
}

impl<R: Read> Read for Announced<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 && !out.is_empty() {
            self.exceeded = true;
            return Err(std::io::Error::other("the archive is longer than announced"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let n = self.inner.read(&mut out[..most])?;
        self.left -= n as u64;
        Ok(n)
    }
}

fn open_regular(path: &Path) -> StoreResult<std::fs::File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| StoreError::io("opening file", path)(e.into()))?;
    let file = std::fs::File::from(fd);
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        Ok(_) => Err(StoreError::Other(format!("path '{}' is not a regular file", path.display()))),
        Err(e) => Err(StoreError::io("getting status of", path)(e)),
    }
}

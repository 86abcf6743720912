//! Adding many small files at once, as evaluation does with derivations.

use crate::derivations;
use crate::register::Registration;
use crate::remove::remove_tree;
use crate::store::LocalStore;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, Hasher, StorePath, ValidPathInfo};
use firn_nar::file_archive_len;
use firn_nar::fs::restore_flat;
use firn_store::locks::PathLocks;
use firn_store::{StoreError, StoreResult, TextToAdd};
use std::collections::BTreeSet;

/// How many items are registered together, at most; their locks, which are open files, are held until then.
fn group_size() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    // Half of what a process may open is left to everybody else.
    usize::try_from(limit.unwrap_or(u64::MAX) / 2).unwrap_or(usize::MAX).clamp(16, 2000)
}

impl LocalStore {
    /// Adds text-addressed files in one go per group of items: one write of temporary roots, one transaction. What they
    /// say of themselves is believed.
    pub fn add_text_batch(&self, items: &[TextToAdd]) -> StoreResult<()> {
        let paths = || items.iter().map(|item| &item.path);
        self.add_temp_roots(paths())?;
        let valid = self.valid_among(paths())?;
        let mut seen = BTreeSet::new();
        let missing: Vec<_> =
            items.iter().filter(|item| !valid.contains(&item.path) && seen.insert(&item.path)).collect();
        missing.chunks(group_size()).try_for_each(|group| self.add_text_group(group))
    }

    fn add_text_group(&self, group: &[&TextToAdd]) -> StoreResult<()> {
        self.ensure_writable()?;
        self.auto_gc()?;
        let places = group.iter().map(|item| self.real(&item.path)).collect();
        let _locks = PathLocks::lock(&places, &|| self.say("waiting for locks on store paths..."))?;
        let mut infos = Vec::with_capacity(group.len());
        for item in group {
            let path = &item.path;
            // Somebody else may have been faster before we had the lock.
            if self.is_valid(path)? {
                continue;
            }
            self.write_text(path, &item.contents)?;
            let (nar_hash, nar_size) = hash_as_archive(&item.contents);
            let mut info = ValidPathInfo::new(path.clone(), nar_hash, nar_size);
            info.references = item.references.clone();
            info.ca = Some(ContentAddress { method: CaMethod::Text, hash: item.hash });
            let outputs = match path.is_derivation() {
                false => None,
                true => Some(match derivations::stated_outputs(self.dir(), &item.contents) {
                    Some(outputs) => outputs,
                    None => {
                        let derivation = derivations::parse(self.dir(), path, &item.contents)?;
                        derivations::known_outputs(self.dir(), &derivation)?
                    }
                }),
            };
            infos.push((info, outputs));
        }
        if self.inner.config.fsync_store_paths {
            crate::durable::sync_dir(&self.inner.config.real_store_dir)?;
        }
        let registrations =
            infos.iter().map(|(info, outputs)| Registration { info, outputs: outputs.clone() }).collect();
        self.register(registrations)
    }

    fn write_text(&self, path: &StorePath, contents: &[u8]) -> StoreResult<()> {
        let real = self.real(path);
        let options = self.restore_options();
        let result = match restore_flat(contents, &real, options) {
            Err(firn_nar::NarError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::AlreadyExists =>
            {
                // Left over from somebody who was killed.
                remove_tree(&real)?;
                restore_flat(contents, &real, options)
            }
            other => other,
        };
        if result.is_err() {
            let _ = remove_tree(&real);
        }
        result.map_err(StoreError::from)
    }
}

/// Hash and length of the archive of a regular file, without making it.
fn hash_as_archive(contents: &[u8]) -> (Hash, u64) {
    let size = contents.len() as u64;
    let mut hasher = Hasher::new(HashAlgo::Sha256);
    firn_nar::writer::hash_regular_start(&mut hasher, false, size);
    hasher.update(contents);
    firn_nar::writer::hash_regular_end(&mut hasher, size);
    (hasher.finish(), file_archive_len(contents.len() as u64, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_the_writer_writes() {
        for contents in [&b""[..], b"x", b"12345678", &[7; 100]] {
            let mut writer = firn_nar::NarWriter::new(Vec::new());
            writer.regular(b"", false, contents).unwrap();
            let nar = writer.finish().unwrap();
            let expected = (Hash::of(HashAlgo::Sha256, &nar), nar.len() as u64);
            assert_eq!(hash_as_archive(contents), expected);
        }
    }
}

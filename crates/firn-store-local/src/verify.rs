//! Checking the store against its database.

use crate::parallel::in_parallel;
use crate::store::LocalStore;
use crate::temp_roots::open_gc_lock;
use firn_core::{Hash, HashAlgo, HashFormat, StorePath, ValidPathInfo};
use firn_nar::HashSink;
use firn_nar::fs::{DumpOptions, dump_path};
use firn_store::locks::flock::{self, Kind};
use firn_store::{StoreError, StoreResult};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Puts back the content of a damaged path.
pub type Repair<'a> = &'a dyn Fn(&StorePath) -> StoreResult<()>;

/// How far to look.
#[derive(Default)]
pub struct VerifyOptions<'a> {
    /// Read and hash everything.
    pub check_contents: bool,
    /// Called for what is damaged; without it damage is only reported.
    pub repair: Option<Repair<'a>>,
}

impl LocalStore {
    /// Looks for valid paths whose files are gone or changed. Paths that are gone and that nothing refers to become
    /// invalid. Returns whether errors remain.
    pub fn verify(&self, options: &VerifyOptions<'_>) -> StoreResult<bool> {
        self.say("reading the Nix store...");
        drop(self.db()?);
        // No path may come or go between reading the directory and reading the database.
        let gc_lock = open_gc_lock(&self.inner.config.state_dir)?;
        flock::lock(&gc_lock, Kind::Shared, &|| {
            self.say("waiting for the big garbage collector lock...");
        })
        .map_err(|e| StoreError::io("locking", self.inner.config.state_dir.join("gc.lock"))(e.into()))?;
        let mut errors = false;
        let valid = self.verify_existence(options, &mut errors)?;
        if options.check_contents {
            self.verify_links(options, &mut errors)?;
            self.say("checking store hashes...");
            let paths: Vec<StorePath> = valid.into_iter().collect();
            in_parallel(
                &paths,
                |path| self.hash_content(path),
                |path, hashed| {
                    let fine = hashed.and_then(|hashed| self.verify_content(path, hashed, options));
                    errors |= !fine.unwrap_or_else(|e| {
                        self.complain(format!("error: {e}"));
                        false
                    });
                },
            );
        }
        Ok(errors)
    }

    fn verify_existence(
        &self,
        options: &VerifyOptions<'_>,
        errors: &mut bool,
    ) -> StoreResult<BTreeSet<StorePath>> {
        let dir = &self.inner.config.real_store_dir;
        let mut present = BTreeSet::new();
        if self.lower().is_some() {
            // Only what the database speaks of counts; the layers hold much more.
            let all = self.all_valid_paths()?;
            present = all.into_iter().filter(|path| self.real(path).symlink_metadata().is_ok()).collect();
        }
        let listing = match self.lower() {
            Some(_) => None,
            None => Some(std::fs::read_dir(dir).map_err(StoreError::io("reading directory", dir))?),
        };
        for entry in listing.into_iter().flatten() {
            let entry = entry.map_err(StoreError::io("reading directory", dir))?;
            if let Some(Ok(path)) = entry.file_name().to_str().map(StorePath::from_base_name) {
                present.insert(path);
            }
        }
        self.say("checking path existence...");
        let all = self.all_valid_paths()?;
        // Referrers first: once they are invalid, what they refer to can go as well.
        let missing: BTreeSet<StorePath> = all.difference(&present).cloned().collect();
        let mut infos = std::collections::BTreeMap::new();
        for path in &missing {
            if let Some(info) = self.path_info(path)? {
                infos.insert(path.clone(), info.references);
            }
        }
        let sorted = firn_store::closure::topo_sort(&missing, |path| {
            Ok(infos.get(path).cloned().unwrap_or_default())
        })?
        .map_err(|cycle| cycle.into_error(self.dir()))?;
        let mut valid: BTreeSet<StorePath> = all.intersection(&present).cloned().collect();
        for path in sorted {
            let text = self.display(&path);
            if self.referrers(&path)?.iter().all(|referrer| *referrer == path) {
                self.say(format!("path '{text}' disappeared, removing from database..."));
                self.invalidate_path(&path)?;
                continue;
            }
            self.complain(format!("path '{text}' disappeared, but it still has valid referrers!"));
            match options.repair.map(|repair| repair(&path)) {
                Some(Ok(())) => {
                    valid.insert(path);
                }
                Some(Err(e)) => {
                    *errors = true;
                    self.inner.logger.warn(&e.to_string());
                }
                None => *errors = true,
            }
        }
        Ok(valid)
    }

    /// The files in `.links` are named by their hash.
    fn verify_links(&self, options: &VerifyOptions<'_>, errors: &mut bool) -> StoreResult<()> {
        self.say("checking link hashes...");
        let dir = self.inner.config.links_dir();
        let listing = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(StoreError::io("reading directory", &dir))?,
        };
        let mut links = Vec::new();
        for entry in listing {
            links.push(entry.map_err(StoreError::io("reading directory", &dir))?.path());
        }
        links.sort();
        let hash = |link: &PathBuf| hash_path(link, &DumpOptions::default);
        let mut failed = None;
        in_parallel(&links, hash, |path, hashed| {
            let outcome = hashed.and_then(|(hash, _)| self.verify_link(path, hash, options, errors));
            if let Err(e) = outcome {
                failed.get_or_insert(e);
            }
        });
        failed.map_or(Ok(()), Err)
    }

    fn verify_link(
        &self,
        path: &Path,
        hash: Hash,
        options: &VerifyOptions<'_>,
        errors: &mut bool,
    ) -> StoreResult<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hash = hash.to_base(HashFormat::Nix32);
        if hash != name {
            self.complain(format!(
                "link '{}' was modified! expected hash {name}, got '{hash}'",
                path.display()
            ));
            if options.repair.is_none() {
                *errors = true;
                return Ok(());
            }
            std::fs::remove_file(path).map_err(StoreError::io("removing", path))?;
            self.say(format!("removed link '{}'", path.display()));
        }
        Ok(())
    }

    /// What a path should be and what it is; nothing if it is gone since.
    fn hash_content(&self, path: &StorePath) -> StoreResult<Option<(ValidPathInfo, Hash, u64)>> {
        let Some(info) = self.path_info(path)? else { return Ok(None) };
        let undo_case_hack = self.inner.config.use_case_hack;
        let (hash, size) = hash_path(&self.real(path), &|| DumpOptions { undo_case_hack, filter: None })?;
        Ok(Some((info, hash, size)))
    }

    fn verify_content(
        &self,
        path: &StorePath,
        hashed: Option<(ValidPathInfo, Hash, u64)>,
        options: &VerifyOptions<'_>,
    ) -> StoreResult<bool> {
        let Some((mut info, hash, size)) = hashed else { return Ok(true) };
        let unknown = info.nar_hash == Hash::dummy();
        if !unknown && info.nar_hash != hash {
            self.complain(format!(
                "path '{}' was modified! expected hash '{}', got '{}'",
                self.display(path),
                info.nar_hash.to_prefixed(HashFormat::Nix32),
                hash.to_prefixed(HashFormat::Nix32)
            ));
            return match options.repair {
                Some(repair) => repair(path).map(|()| true),
                None => Ok(false),
            };
        }
        if unknown {
            self.say(format!("fixing missing hash on '{}'", self.display(path)));
            info.nar_hash = hash;
        }
        if info.nar_size == 0 {
            self.say(format!("updating size field on '{}' to {size}", self.display(path)));
        }
        if unknown || info.nar_size == 0 {
            info.nar_size = size;
            self.update_path_info(&info)?;
        }
        Ok(true)
    }
}

/// SHA-256 and length of the archive of a path.
pub(crate) fn hash_path<'a>(path: &Path, options: &dyn Fn() -> DumpOptions<'a>) -> StoreResult<(Hash, u64)> {
    Ok(dump_path(path, HashSink::new(HashAlgo::Sha256), options())?.finish())
}

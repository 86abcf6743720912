//! A private store world.

use firn_core::{CaMethod, HashAlgo, StoreDir, StorePath};
use firn_store::activity::SilentLogger;
use firn_store_local::{Ingestion, LocalStore, LocalStoreConfig, remove_tree};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A store below a temporary directory, which is removed with all its read-only folders.
pub struct World {
    pub root: PathBuf,
    pub store: LocalStore,
}

impl World {
    pub fn new() -> World {
        World::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut LocalStoreConfig)) -> World {
        let root = tempfile::Builder::new().prefix("firn-store-").tempdir().unwrap().keep();
        let root = root.canonicalize().unwrap();
        let mut config = World::config(&root);
        change(&mut config);
        World { store: LocalStore::new(config, Arc::new(SilentLogger)), root }
    }

    pub fn config(root: &Path) -> LocalStoreConfig {
        let dir = StoreDir::new(root.join("store").to_str().unwrap());
        LocalStoreConfig::new(dir, root.join("var"), root.join("log"))
    }

    /// Another handle on the same store.
    pub fn reopen(&self) -> LocalStore {
        LocalStore::new(self.store.config().clone(), Arc::new(SilentLogger))
    }

    pub fn text(&self, name: &str, contents: &str, references: &[&StorePath]) -> StorePath {
        let references: BTreeSet<StorePath> = references.iter().map(|p| (*p).clone()).collect();
        let how = Ingestion {
            name,
            method: CaMethod::Text,
            algo: HashAlgo::Sha256,
            references: &references,
            repair: false,
        };
        self.store.add_bytes(contents.as_bytes(), how).unwrap().path
    }

    pub fn add(&self, source: &Path) -> StorePath {
        self.store.add_path(source, source_of("source"), None).unwrap().path
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = remove_tree(&self.root);
    }
}

static NONE: BTreeSet<StorePath> = BTreeSet::new();

/// What `nix-store --add` does.
pub fn source_of(name: &str) -> Ingestion<'_> {
    Ingestion { name, method: CaMethod::NixArchive, algo: HashAlgo::Sha256, references: &NONE, repair: false }
}

/// A small tree with everything that an archive can hold.
pub fn sample(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    std::fs::write(dir.join("a.txt"), "text").unwrap();
    std::fs::write(dir.join("sub/run"), "#! /bin/sh\n").unwrap();
    std::fs::set_permissions(dir.join("sub/run"), PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("run", dir.join("sub/link")).unwrap();
}

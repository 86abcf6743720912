//! What a local store needs to know; the composition root fills it from settings, environment and store URI.

use crate::overlay::OverlayConfig;
use firn_core::StoreDir;
use firn_core::signature::PublicKey;
use firn_store::SubstituterProperties;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Parameters of a local store. Field names are those of the settings (manual, "Local Store" and nix.conf) where
/// there are such.
#[derive(Debug, Clone)]
pub struct LocalStoreConfig {
    /// The logical store directory, the one that paths are made with (`store`).
    pub store_dir: StoreDir,
    /// Where the objects really are (`real`); differs in chroot stores.
    pub real_store_dir: PathBuf,
    /// Database, roots and profiles (`state`).
    pub state_dir: PathBuf,
    /// Build logs (`log`).
    pub log_dir: PathBuf,
    /// Open the database immutably and write nothing (`read-only`).
    pub read_only: bool,
    /// Refuse imports without a trusted signature.
    pub require_sigs: bool,
    pub trusted_public_keys: Vec<PublicKey>,
    pub use_sqlite_wal: bool,
    pub fsync_metadata: bool,
    pub fsync_store_paths: bool,
    /// Call sync(2) before each registration.
    pub sync_before_registering: bool,
    /// The group of the build users, who may use but not list the store; only as root.
    pub build_users_group: Option<String>,
    pub allow_symlinked_store: bool,
    /// Extended attributes that canonicalisation leaves alone.
    pub ignored_acls: BTreeSet<Vec<u8>>,
    pub auto_optimise_store: bool,
    pub use_case_hack: bool,
    pub preallocate_contents: bool,
    /// Archives up to this many bytes are kept in memory while their path is computed.
    pub nar_buffer_size: usize,
    /// Bytes kept in `db/reserved`, freed before a collection.
    pub gc_reserved_space: u64,
    pub keep_outputs: bool,
    pub keep_derivations: bool,
    /// Below this many free bytes garbage is collected automatically; 0 for never.
    pub min_free: u64,
    /// Until this many bytes are free.
    pub max_free: u64,
    pub min_free_check_interval: Duration,
    /// Keep build logs compressed with bzip2.
    pub compress_build_log: bool,
    /// Experimental feature `ca-derivations`: the realisations tables exist.
    pub ca_derivations: bool,
    /// Leave store paths that cannot be deleted, with a warning.
    pub ignore_gc_delete_failure: bool,
    /// Ask the daemon of `nix store roots-daemon` for what running programs use (`use-roots-daemon`).
    pub use_roots_daemon: bool,
    /// The store below, if this is an overlay.
    pub overlay: Option<OverlayConfig>,
    /// What the store is for others that substitute from it (`priority`, `want-mass-query`, `trusted`).
    pub properties: SubstituterProperties,
    /// The store's URI as a user would write it.
    pub uri: String,
}

impl LocalStoreConfig {
    /// The reference's defaults with the given directories; the objects are in `store_dir` itself.
    pub fn new(store_dir: StoreDir, state_dir: impl Into<PathBuf>, log_dir: impl Into<PathBuf>) -> Self {
        LocalStoreConfig {
            real_store_dir: PathBuf::from(store_dir.as_str()),
            store_dir,
            state_dir: state_dir.into(),
            log_dir: log_dir.into(),
            read_only: false,
            require_sigs: true,
            trusted_public_keys: Vec::new(),
            use_sqlite_wal: true,
            fsync_metadata: true,
            fsync_store_paths: false,
            sync_before_registering: false,
            build_users_group: None,
            allow_symlinked_store: false,
            ignored_acls: ["security.csm", "security.selinux", "system.nfs4_acl"]
                .map(|name| name.as_bytes().to_vec())
                .into(),
            auto_optimise_store: false,
            use_case_hack: false,
            preallocate_contents: false,
            nar_buffer_size: 32 * 1024 * 1024,
            gc_reserved_space: 8 * 1024 * 1024,
            keep_outputs: false,
            keep_derivations: true,
            min_free: 0,
            max_free: i64::MAX as u64,
            min_free_check_interval: Duration::from_secs(5),
            compress_build_log: true,
            ca_derivations: false,
            ignore_gc_delete_failure: false,
            use_roots_daemon: false,
            overlay: None,
            properties: SubstituterProperties::default(),
            uri: "local".to_owned(),
        }
    }

    /// A store whose files are below `root` while its paths are those of `store_dir` (`local?root=…`).
    pub fn with_root(store_dir: StoreDir, root: &Path) -> Self {
        let mut config =
            LocalStoreConfig::new(store_dir, root.join("nix/var/nix"), root.join("nix/var/log/nix"));
        config.real_store_dir = root.join("nix/store");
        config
    }

    pub(crate) fn db_dir(&self) -> PathBuf {
        self.state_dir.join("db")
    }

    pub(crate) fn links_dir(&self) -> PathBuf {
        self.real_store_dir.join(".links")
    }

    pub(crate) fn gc_roots_dir(&self) -> PathBuf {
        self.state_dir.join("gcroots")
    }

    /// Where the daemon that tells what running programs use listens.
    pub fn roots_socket(&self) -> PathBuf {
        self.state_dir.join("gc-roots-socket/socket")
    }

    pub(crate) fn temp_roots_dir(&self) -> PathBuf {
        self.state_dir.join("temproots")
    }
}

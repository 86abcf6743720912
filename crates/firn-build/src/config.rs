//! What a build needs to know besides its derivation; the composition root fills it from settings.

use crate::nested::NestedServer;
use firn_core::signature::SecretKey;
use firn_sandbox::users::UidRange;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The setting `sandbox`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxMode {
    Enabled,
    /// Fixed-output derivations, and those with `__noChroot`, are not sandboxed.
    Relaxed,
    Disabled,
}

/// One entry of the setting `sandbox-paths`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPath {
    pub target: PathBuf,
    pub source: PathBuf,
    /// Whether the source may be missing.
    pub optional: bool,
}

/// A program that carries out builds for some systems (`external-builders`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalBuilder {
    pub systems: BTreeSet<String>,
    pub program: PathBuf,
    pub args: Vec<String>,
}

/// Settings of builds; names are those of nix.conf where there are such.
#[derive(Clone)]
pub struct BuildConfig {
    pub sandbox: SandboxMode,
    pub sandbox_fallback: bool,
    pub sandbox_paths: Vec<SandboxPath>,
    /// The build directory as the builder sees it.
    pub sandbox_build_dir: PathBuf,
    pub sandbox_dev_shm_size: String,
    /// Empty: no build users. Only root has any.
    pub build_users_group: String,
    /// With `auto-allocate-uids`.
    pub uid_range: Option<UidRange>,
    /// `None`: `builds` in the store's state directory.
    pub build_dir: Option<PathBuf>,
    /// 0: all that there are.
    pub cores: u32,
    pub timeout: Option<Duration>,
    pub max_silent_time: Option<Duration>,
    /// Bytes; 0 for no limit.
    pub max_build_log_size: u64,
    /// Lines of the log that an error shows.
    pub log_lines: usize,
    pub keep_failed: bool,
    pub keep_build_log: bool,
    pub filter_syscalls: bool,
    pub allow_new_privileges: bool,
    pub require_drop_supplementary_groups: bool,
    pub impersonate_linux_26: bool,
    pub allowed_impure_host_deps: BTreeSet<String>,
    pub impure_env: BTreeMap<String, String>,
    pub system: String,
    pub extra_platforms: BTreeSet<String>,
    pub system_features: BTreeSet<String>,
    /// Empty: none.
    pub pre_build_hook: String,
    /// Empty: none.
    pub post_build_hook: String,
    /// Set only where `run-diff-hook` is on.
    pub diff_hook: Option<PathBuf>,
    /// All settings as `name = value` lines, for hooks.
    pub settings_text: String,
    /// Keys that sign what is built (`secret-key-files`).
    pub secret_keys: Vec<Arc<SecretKey>>,
    /// Certificates for downloads inside of builds.
    pub ssl_cert_file: Option<PathBuf>,
    pub netrc_file: Option<PathBuf>,
    pub hashed_mirrors: Vec<String>,
    /// How `builtin:fetchurl` downloads.
    pub downloads: crate::builtins::Downloads,
    /// Whether error messages advise `nix log` (experimental feature `nix-command`) or `nix-store -l`.
    pub nix_command: bool,
    /// Experimental feature `ca-derivations`.
    pub ca_derivations: bool,
    /// Programs that build for other systems.
    pub external_builders: Vec<ExternalBuilder>,
    /// Each build in a cgroup of its own.
    pub use_cgroups: bool,
    /// Serves builds that call Nix themselves (experimental feature `recursive-nix`).
    pub nested: Option<Arc<dyn NestedServer>>,
}

impl Default for BuildConfig {
    /// The reference's defaults on this machine, without build users and keys.
    fn default() -> Self {
        BuildConfig {
            sandbox: SandboxMode::Enabled,
            sandbox_fallback: true,
            sandbox_paths: Vec::new(),
            sandbox_build_dir: "/build".into(),
            sandbox_dev_shm_size: "50%".to_owned(),
            build_users_group: String::new(),
            uid_range: None,
            build_dir: None,
            cores: 0,
            timeout: None,
            max_silent_time: None,
            max_build_log_size: 0,
            log_lines: 25,
            keep_failed: false,
            keep_build_log: true,
            filter_syscalls: true,
            allow_new_privileges: false,
            require_drop_supplementary_groups: false,
            impersonate_linux_26: false,
            allowed_impure_host_deps: BTreeSet::new(),
            impure_env: BTreeMap::new(),
            system: format!("{}-linux", std::env::consts::ARCH),
            extra_platforms: BTreeSet::new(),
            system_features: BTreeSet::new(),
            pre_build_hook: String::new(),
            post_build_hook: String::new(),
            diff_hook: None,
            settings_text: String::new(),
            secret_keys: Vec::new(),
            ssl_cert_file: None,
            netrc_file: None,
            hashed_mirrors: Vec::new(),
            downloads: crate::builtins::Downloads::default(),
            nix_command: false,
            ca_derivations: false,
            external_builders: Vec::new(),
            use_cgroups: false,
            nested: None,
        }
    }
}

impl BuildConfig {
    /// The program that builds for a system, if that is not this machine's business.
    pub(crate) fn external_builder(&self, platform: &[u8]) -> Option<&ExternalBuilder> {
        let platform = std::str::from_utf8(platform).ok()?;
        self.external_builders.iter().find(|builder| builder.systems.contains(platform))
    }

    /// What `NIX_BUILD_CORES` says.
    pub(crate) fn build_cores(&self) -> u32 {
        match self.cores {
            0 => std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            cores => cores,
        }
    }
}

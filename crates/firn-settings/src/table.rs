//! The table of settings. One row makes a field of [`Settings`], its default, its names and its entry in
//! [`SETTINGS`]; everything that reads, prints or overrides settings goes by that table.

use crate::dirs::Dirs;
use crate::error::SettingsError;
use crate::features::{ExperimentalFeature, FeatureSet};
use crate::host;
use crate::load::Environment;
use crate::nix_path::parse_nix_path;
use crate::value::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

type SetFn = fn(&mut Settings, &[u8], bool) -> Result<(), SettingsError>;

/// One row of the table.
pub struct Setting {
    /// The name in `nix.conf`.
    pub name: &'static str,
    /// Older names, which work everywhere.
    pub aliases: &'static [&'static str],
    /// One line that says what it does.
    pub description: &'static str,
    /// The feature without which the setting is ignored, with a warning.
    pub feature: Option<ExperimentalFeature>,
    /// What it looks like on the command line.
    pub shape: Shape,
    set: SetFn,
    render: fn(&Settings) -> Vec<u8>,
    json: fn(&Settings) -> Value,
}

impl Setting {
    /// The value in `settings` as `nix.conf` would have it.
    pub fn render(&self, settings: &Settings) -> Vec<u8> {
        (self.render)(settings)
    }

    /// The value in `settings` as JSON of its type.
    pub fn to_json(&self, settings: &Settings) -> Value {
        (self.json)(settings)
    }
}

macro_rules! feature {
    () => {
        None
    };
    ($feature:ident) => {
        Some(ExperimentalFeature::$feature)
    };
}

macro_rules! settings {
    ($env:ident, $dirs:ident; $(#[doc = $doc:literal] $field:ident : $ty:ty = $default:expr ; $name:literal $(| $alias:literal)* $(@ $feature:ident)? ;)*) => {
        /// Every setting, typed. Fields are named as settings are, with `_` for `-`.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $(#[doc = $doc] pub $field: $ty,)*
            /// Folders that are no settings.
            pub dirs: Dirs,
            /// Whether nothing may be written to the store (`--readonly-mode`).
            pub read_only_mode: bool,
            overridden: BTreeSet<&'static str>,
            unknown: BTreeMap<String, Vec<u8>>,
            warnings: Vec<String>,
        }

        impl Settings {
            /// What holds where nothing is configured, on this machine in the environment `env`.
            pub fn defaults($env: Environment<'_>) -> Self {
                let $dirs = Dirs::from_environment($env);
                Self {
                    $($field: $default,)*
                    dirs: $dirs,
                    read_only_mode: false,
                    overridden: BTreeSet::new(),
                    unknown: BTreeMap::new(),
                    warnings: Vec::new(),
                }
            }
        }

        /// All settings, by name.
        pub static SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            aliases: &[$($alias),*],
            description: $doc,
            feature: feature!($($feature)?),
            shape: <$ty as SettingValue>::SHAPE,
            set: |settings, text, append| {
                let value = <$ty as SettingValue>::parse($name, text, &mut settings.warnings)?;
                if append { settings.$field.extend_with(value) } else { settings.$field = value }
                Ok(())
            },
            render: |settings| settings.$field.render(),
            json: |settings| settings.$field.to_json(),
        },)*];
    };
}

settings! {
    env, dirs;
    /// Fail at the first warning that an expression gives.
    abort_on_warn: bool = env("NIX_ABORT_ON_WARN").is_some_and(|value| value == "1" || value == "yes" || value == "true"); "abort-on-warn";
    /// Take settings from a flake's nixConfig without asking.
    accept_flake_config: bool = false; "accept-flake-config" @ Flakes;
    /// Tokens for private repositories, host=token.
    access_tokens: BTreeMap<String, String> = BTreeMap::new(); "access-tokens";
    /// Allow working trees with uncommitted changes.
    allow_dirty: bool = true; "allow-dirty";
    /// Allow locks that point at working trees with uncommitted changes.
    allow_dirty_locks: bool = false; "allow-dirty-locks" @ Flakes;
    /// Allow evaluation to wait for builds.
    allow_import_from_derivation: bool = true; "allow-import-from-derivation";
    /// Let builders gain privileges, as by setuid programs.
    allow_new_privileges: bool = false; "allow-new-privileges";
    /// Accept a store folder that has a symlink among its parents.
    allow_symlinked_store: bool = env("NIX_IGNORE_SYMLINK_STORE").is_some_and(|value| value == "1"); "allow-symlinked-store";
    /// Allow evaluation to run native code and programs.
    allow_unsafe_native_code_during_evaluation: bool = false; "allow-unsafe-native-code-during-evaluation";
    /// Prefixes that __impureHostDeps may name.
    allowed_impure_host_deps: BTreeSet<String> = BTreeSet::new(); "allowed-impure-host-deps";
    /// URI prefixes that restricted evaluation may fetch.
    allowed_uris: Vec<String> = Vec::new(); "allowed-uris";
    /// Users and @groups that may use the daemon.
    allowed_users: Vec<String> = ["*"].map(str::to_owned).into(); "allowed-users";
    /// Substitute also derivations that ask not to be.
    always_allow_substitutes: bool = false; "always-allow-substitutes";
    /// Give builds user ids from a range instead of a group's members.
    auto_allocate_uids: bool = false; "auto-allocate-uids" @ AutoAllocateUids;
    /// Hard-link equal files as they enter the store.
    auto_optimise_store: bool = false; "auto-optimise-store";
    /// The prompt in nix develop.
    bash_prompt: String = String::new(); "bash-prompt";
    /// What comes before the prompt in nix develop.
    bash_prompt_prefix: String = String::new(); "bash-prompt-prefix";
    /// What comes after the prompt in nix develop.
    bash_prompt_suffix: String = String::new(); "bash-prompt-suffix";
    /// Where builds get their temporary folders.
    build_dir: Option<PathBuf> = None; "build-dir";
    /// The program that offers builds to other machines.
    build_hook: Vec<String> = ["nix", "__build-remote"].map(str::to_owned).into(); "build-hook";
    /// Seconds between attempts to get a lock or a slot.
    build_poll_interval: u32 = 5; "build-poll-interval";
    /// The group whose members run builds.
    build_users_group: String = if host::is_root() { "nixbld".to_owned() } else { String::new() }; "build-users-group";
    /// Machines for remote builds, or @file.
    builders: String = host_builders(env, &dirs); "builders";
    /// Let remote machines substitute dependencies themselves.
    builders_use_substitutes: bool = false; "builders-use-substitutes";
    /// The summary line of commits of lock files.
    commit_lock_file_summary: String = String::new(); "commit-lock-file-summary" | "commit-lockfile-summary" @ Flakes;
    /// Compress build logs.
    compress_build_log: bool = true; "compress-build-log" | "build-compress-log";
    /// Seconds to wait for a connection; 0 for the system's limit.
    connect_timeout: u32 = 15; "connect-timeout";
    /// NIX_BUILD_CORES for builders; 0 for all processors.
    cores: u32 = 0; "cores" | "build-cores";
    /// Enter the debugger at builtins.trace.
    debugger_on_trace: bool = false; "debugger-on-trace";
    /// Enter the debugger at builtins.warn.
    debugger_on_warn: bool = false; "debugger-on-warn";
    /// A program that compares builds that differ.
    diff_hook: Option<PathBuf> = None; "diff-hook";
    /// How often a download is tried.
    download_attempts: u32 = 5; "download-attempts";
    /// Bytes of a download that may wait to be processed.
    download_buffer_size: u64 = 1048576; "download-buffer-size";
    /// Limit of download speed in KiB per second; 0 for none.
    download_speed: u32 = 0; "download-speed";
    /// Size up to which the right side of an update is layered; kept for compatibility.
    eval_attrset_update_layer_rhs_threshold: u32 = 16; "eval-attrset-update-layer-rhs-threshold";
    /// Cache evaluations of flakes.
    eval_cache: bool = true; "eval-cache";
    /// How many threads may evaluate at once; 0 is one for each processor.
    eval_cores: u32 = 0; "eval-cores";
    /// The file for the evaluation profile.
    eval_profile_file: AnyPath = AnyPath(PathBuf::from("nix.profile")); "eval-profile-file";
    /// The profiler of evaluations.
    eval_profiler: EvalProfiler = EvalProfiler::Disabled; "eval-profiler";
    /// Samples per second of the profiler.
    eval_profiler_frequency: u32 = 99; "eval-profiler-frequency";
    /// builtins.currentSystem, where it is not the system setting.
    eval_system: String = String::new(); "eval-system";
    /// Experimental features that are on.
    experimental_features: FeatureSet = FeatureSet::new(); "experimental-features";
    /// Programs that build derivations of other systems.
    external_builders: Vec<ExternalBuilder> = Vec::new(); "external-builders";
    /// Other systems that this machine builds for.
    extra_platforms: BTreeSet<String> = host::extra_platforms(); "extra-platforms";
    /// Build where substitution fails.
    fallback: bool = false; "fallback" | "build-fallback";
    /// Keep builders from making setuid files and setting ACLs.
    filter_syscalls: bool = true; "filter-syscalls";
    /// The global flake registry.
    flake_registry: String = "https://channels.nixos.org/flake-registry.json".to_owned(); "flake-registry" @ Flakes;
    /// Sync the database.
    fsync_metadata: bool = true; "fsync-metadata";
    /// Sync files before their path becomes valid.
    fsync_store_paths: bool = false; "fsync-store-paths";
    /// Bytes kept in reserve for the garbage collector.
    gc_reserved_space: i64 = 8388608; "gc-reserved-space";
    /// Mirrors of files by hash.
    hashed_mirrors: Vec<String> = Vec::new(); "hashed-mirrors";
    /// Connections at once to caches and other servers; 0 for no limit. Where one connection is enough it is one.
    http_connections: u32 = 64; "http-connections" | "binary-caches-parallel-connections";
    /// Use HTTP/2.
    http2: bool = true; "http2";
    /// How many ids auto-allocate-uids may use.
    id_count: u32 = 8388608; "id-count";
    /// Let the debugger stop at errors inside builtins.tryEval.
    ignore_try: bool = false; "ignore-try";
    /// Extended attributes left alone in the store.
    ignored_acls: BTreeSet<String> = ["security.csm", "security.selinux", "system.nfs4_acl"].map(str::to_owned).into(); "ignored-acls";
    /// Show builders a Linux version 2.6.
    impersonate_linux_26: bool = false; "impersonate-linux-26" | "build-impersonate-linux-26";
    /// Variables for fixed-output derivations that ask for them.
    impure_env: BTreeMap<String, String> = BTreeMap::new(); "impure-env" @ ConfigurableImpureEnv;
    /// A file or socket that gets the log as JSON.
    json_log_path: Option<PathBuf> = None; "json-log-path";
    /// Write build logs.
    keep_build_log: bool = true; "keep-build-log" | "build-keep-log";
    /// Keep derivations of live outputs.
    keep_derivations: bool = true; "keep-derivations" | "gc-keep-derivations";
    /// Keep derivations of what user environments hold.
    keep_env_derivations: bool = false; "keep-env-derivations" | "env-keep-derivations";
    /// Keep folders of failed builds.
    keep_failed: bool = false; "keep-failed";
    /// Go on with other builds after a failure.
    keep_going: bool = false; "keep-going";
    /// Keep outputs of live derivations.
    keep_outputs: bool = false; "keep-outputs" | "gc-keep-outputs";
    /// What happens at an absolute path in an expression.
    lint_absolute_path_literals: Diagnose = Diagnose::Ignore; "lint-absolute-path-literals";
    /// What happens at a path without ./ in an expression.
    lint_short_path_literals: Diagnose = Diagnose::Ignore; "lint-short-path-literals";
    /// What happens at a URL without quotes in an expression.
    lint_url_literals: Diagnose = Diagnose::Ignore; "lint-url-literals";
    /// Lines of a failed build's log to show.
    log_lines: u64 = 25; "log-lines";
    /// Bytes of log after which a build is killed; 0 for no limit.
    max_build_log_size: u64 = 0; "max-build-log-size" | "build-max-log-size";
    /// Depth of calls at which evaluation ends.
    max_call_depth: u32 = 10000; "max-call-depth";
    /// Free bytes at which automatic collection stops.
    max_free: u64 = 9223372036854775807; "max-free";
    /// Builds at once on this machine, or auto.
    max_jobs: BuildJobs = BuildJobs(1); "max-jobs" | "build-max-jobs";
    /// Seconds without output after which a build is killed; 0 for no limit.
    max_silent_time: i64 = 0; "max-silent-time" | "build-max-silent-time";
    /// Substitutions at once.
    max_substitution_jobs: u32 = 16; "max-substitution-jobs" | "substitution-max-jobs";
    /// Free bytes below which collection starts by itself; 0 for never.
    min_free: u64 = 0; "min-free";
    /// Seconds between looks at free space.
    min_free_check_interval: u64 = 5; "min-free-check-interval";
    /// Largest NAR kept in memory.
    nar_buffer_size: u64 = 33554432; "nar-buffer-size";
    /// Seconds for which a binary cache's own properties are believed.
    narinfo_cache_meta_ttl: u32 = 604800; "narinfo-cache-meta-ttl";
    /// Seconds for which the absence of a path is believed.
    narinfo_cache_negative_ttl: u32 = 3600; "narinfo-cache-negative-ttl";
    /// Seconds for which the presence of a path is believed.
    narinfo_cache_positive_ttl: u32 = 2592000; "narinfo-cache-positive-ttl";
    /// Credentials for downloads.
    netrc_file: PathBuf = dirs.conf.join("netrc"); "netrc-file";
    /// The search path of `<name>` expressions.
    nix_path: Vec<PathBuf> = search_path(env); "nix-path";
    /// Let nix-shell look for shell.nix in folders given to it.
    nix_shell_always_looks_for_shell_nix: bool = true; "nix-shell-always-looks-for-shell-nix";
    /// Resolve file names in nix-shell shebangs from the script's folder.
    nix_shell_shebang_arguments_relative_to_script: bool = true; "nix-shell-shebang-arguments-relative-to-script";
    /// Keep the trees of parsed files in the user's cache folder.
    parse_cache: bool = true; "parse-cache";
    /// Plugins; firn has none and says so.
    plugin_files: Vec<String> = Vec::new(); "plugin-files";
    /// A program to run after each build.
    post_build_hook: String = String::new(); "post-build-hook";
    /// A program that may change sandbox paths before each build.
    pre_build_hook: String = String::new(); "pre-build-hook";
    /// Reserve space for files as they are unpacked.
    preallocate_contents: bool = false; "preallocate-contents";
    /// Show what is going to be built or fetched.
    print_missing: bool = true; "print-missing";
    /// Evaluate without the environment and unlocked inputs.
    pure_eval: bool = false; "pure-eval";
    /// Fail where supplementary groups cannot be dropped.
    require_drop_supplementary_groups: bool = host::is_root(); "require-drop-supplementary-groups";
    /// Accept only signed or content-addressed paths.
    require_sigs: bool = true; "require-sigs";
    /// Evaluate only files on the search path.
    restrict_eval: bool = false; "restrict-eval";
    /// Run the diff hook.
    run_diff_hook: bool = false; "run-diff-hook";
    /// Isolate builds.
    sandbox: SandboxMode = SandboxMode::Enabled; "sandbox" | "build-use-chroot" | "build-use-sandbox";
    /// The build folder as seen in the sandbox.
    sandbox_build_dir: PathBuf = PathBuf::from("/build"); "sandbox-build-dir";
    /// Size of /dev/shm in the sandbox.
    sandbox_dev_shm_size: String = "50%".to_owned(); "sandbox-dev-shm-size";
    /// Build without a sandbox where the kernel does not allow one.
    sandbox_fallback: bool = true; "sandbox-fallback";
    /// Paths that are visible in the sandbox.
    sandbox_paths: SandboxPaths = SandboxPaths::new(); "sandbox-paths" | "build-chroot-dirs" | "build-sandbox-paths";
    /// Keys that sign what is built here.
    secret_key_files: Vec<String> = Vec::new(); "secret-key-files";
    /// Show the whole trace of evaluation errors.
    show_trace: bool = false; "show-trace";
    /// CA certificates for downloads.
    ssl_cert_file: Option<PathBuf> = host::ssl_cert_file(env); "ssl-cert-file";
    /// Seconds without data after which a download is tried again.
    stalled_download_timeout: u32 = 300; "stalled-download-timeout";
    /// The first id that auto-allocate-uids uses.
    start_id: u32 = 872415232; "start-id";
    /// The store to use.
    store: String = store_uri(env); "store";
    /// Use binary caches.
    substitute: bool = true; "substitute" | "build-use-substitutes";
    /// Binary caches.
    substituters: Vec<String> = ["https://cache.nixos.org/"].map(str::to_owned).into(); "substituters" | "binary-caches";
    /// Sync the file system before a path becomes valid.
    sync_before_registering: bool = false; "sync-before-registering";
    /// The system that this machine builds for.
    system: String = host::system(); "system";
    /// What this machine can do.
    system_features: BTreeSet<String> = host::system_features(); "system-features";
    /// Seconds for which a downloaded archive is fresh.
    tarball_ttl: u32 = 3600; "tarball-ttl";
    /// Seconds after which a build is killed; 0 for no limit.
    timeout: i64 = 0; "timeout" | "build-timeout";
    /// Log every function call.
    trace_function_calls: bool = false; "trace-function-calls";
    /// Warn where evaluation waits for a build.
    trace_import_from_derivation: bool = false; "trace-import-from-derivation";
    /// Let builtins.traceVerbose print.
    trace_verbose: bool = false; "trace-verbose";
    /// Take a forge's archive for what its revision says.
    trust_tarballs_from_git_forges: bool = true; "trust-tarballs-from-git-forges";
    /// Keys whose signatures are trusted.
    trusted_public_keys: Vec<String> = ["cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="].map(str::to_owned).into(); "trusted-public-keys" | "binary-cache-public-keys";
    /// Binary caches that untrusted users may name.
    trusted_substituters: BTreeSet<String> = BTreeSet::new(); "trusted-substituters" | "trusted-binary-caches";
    /// Users and @groups that the daemon trusts.
    trusted_users: Vec<String> = ["root"].map(str::to_owned).into(); "trusted-users";
    /// Where nix upgrade-nix looks.
    upgrade_nix_store_path_url: String = "https://github.com/NixOS/nixpkgs/raw/master/nixos/modules/installer/tools/nix-fallback-paths.nix".to_owned(); "upgrade-nix-store-path-url";
    /// Rename files that differ in case only.
    use_case_hack: bool = false; "use-case-hack";
    /// Run builds in control groups.
    use_cgroups: bool = false; "use-cgroups";
    /// Look up flakes in registries.
    use_registries: bool = true; "use-registries" @ Flakes;
    /// Keep the database in write-ahead mode.
    use_sqlite_wal: bool = true; "use-sqlite-wal";
    /// Keep user files in XDG folders.
    use_xdg_base_directories: bool = false; "use-xdg-base-directories";
    /// Added to the user agent of downloads.
    user_agent_suffix: String = String::new(); "user-agent-suffix";
    /// Warn at working trees with uncommitted changes.
    warn_dirty: bool = true; "warn-dirty";
    /// Bytes above which a copied path is warned of; 0 for never.
    warn_large_path_threshold: u64 = 0; "warn-large-path-threshold";
    /// Old name of lint-short-path-literals = warn.
    warn_short_path_literals: bool = false; "warn-short-path-literals";
}

fn search_path(env: Environment<'_>) -> Vec<PathBuf> {
    let entries = env("NIX_PATH").map(|text| parse_nix_path(text.as_bytes())).unwrap_or_default();
    // As when the setting is written: between two colons there is nothing.
    entries.into_iter().filter(|entry| !entry.as_os_str().is_empty()).collect()
}

fn host_builders(env: Environment<'_>, dirs: &Dirs) -> String {
    match env("NIX_REMOTE_SYSTEMS") {
        Some(files) => {
            let files = files.to_string_lossy().into_owned();
            let files: Vec<String> =
                files.split(':').filter(|file| !file.is_empty()).map(|file| format!("@{file}")).collect();
            files.join("\n")
        }
        None => format!("@{}", dirs.conf.join("machines").display()),
    }
}

fn store_uri(env: Environment<'_>) -> String {
    env("NIX_REMOTE")
        .filter(|uri| !uri.is_empty())
        .map_or_else(|| "auto".to_owned(), |uri| uri.to_string_lossy().into_owned())
}

/// A setting as a flag of every program.
#[derive(Clone, Copy)]
pub enum SettingFlag {
    /// The flag takes one argument: the value.
    Value { setting: &'static Setting, append: bool },
    /// The flag takes no argument and stands for this value.
    Fixed { setting: &'static Setting, value: &'static str },
}

impl SettingFlag {
    /// How many arguments follow the flag.
    pub fn arity(self) -> usize {
        match self {
            Self::Value { .. } => 1,
            Self::Fixed { .. } => 0,
        }
    }
}

/// The setting called `name`, by its name or an alias.
pub fn find_setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name || setting.aliases.contains(&name))
}

/// The names of all settings, without aliases.
pub fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.name)
}

/// The setting that the flag `--{flag}` means.
pub fn find_flag(flag: &str) -> Option<SettingFlag> {
    if let Some(setting) = find_setting(flag) {
        return Some(match setting.shape {
            Shape::Boolean | Shape::Sandbox => SettingFlag::Fixed { setting, value: "true" },
            Shape::Single | Shape::Appendable => SettingFlag::Value { setting, append: false },
        });
    }
    let (prefix, name) = flag.split_once('-')?;
    let setting = find_setting(name)?;
    match (prefix, setting.shape) {
        ("no", Shape::Boolean | Shape::Sandbox) => Some(SettingFlag::Fixed { setting, value: "false" }),
        ("relaxed", Shape::Sandbox) => Some(SettingFlag::Fixed { setting, value: "relaxed" }),
        ("extra", Shape::Appendable) => Some(SettingFlag::Value { setting, append: true }),
        _ => None,
    }
}

impl Settings {
    /// Sets `name` (or an alias, or `extra-name`). A name that nobody knows is kept for a warning and answered
    /// with `false`.
    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<bool, SettingsError> {
        let appended = || {
            let setting = find_setting(name.strip_prefix("extra-")?)?;
            (setting.shape == Shape::Appendable).then_some((setting, true))
        };
        match find_setting(name).map(|setting| (setting, false)).or_else(appended) {
            Some((setting, append)) => self.set_to(setting, value, append).map(|()| true),
            None => {
                self.unknown.entry(name.to_owned()).or_insert_with(|| value.to_vec());
                Ok(false)
            }
        }
    }

    /// Sets one row's value.
    pub fn set_to(
        &mut self,
        setting: &'static Setting,
        value: &[u8],
        append: bool,
    ) -> Result<(), SettingsError> {
        self.overridden.insert(setting.name);
        if let Some(feature) = setting.feature.filter(|feature| !self.has_feature(*feature)) {
            let name = setting.name;
            self.warnings.push(format!(
                "Ignoring setting '{name}' because experimental feature '{feature}' is not enabled"
            ));
            return Ok(());
        }
        (setting.set)(self, value, append)?;
        if setting.name == "warn-short-path-literals" {
            let level = if self.warn_short_path_literals { Diagnose::Warn } else { Diagnose::Ignore };
            let word = String::from_utf8_lossy(&level.render()).into_owned();
            self.warnings.push(format!(
                "'{}' is deprecated, use 'lint-short-path-literals = {word}' instead",
                setting.name
            ));
            if !self.overridden.contains("lint-short-path-literals") {
                self.lint_short_path_literals = level;
            }
        }
        Ok(())
    }

    pub fn has_feature(&self, feature: ExperimentalFeature) -> bool {
        self.experimental_features.contains(&feature)
    }

    /// Whether something other than the system's `nix.conf` set `name`.
    pub fn is_overridden(&self, name: &str) -> bool {
        self.overridden.contains(name)
    }

    /// What was set by the user, the environment or the command line, as a daemon is told it.
    pub fn overridden(&self) -> impl Iterator<Item = &'static Setting> + '_ {
        SETTINGS.iter().filter(|setting| self.overridden.contains(setting.name))
    }

    pub(crate) fn reset_overridden(&mut self) {
        self.overridden.clear();
    }

    /// Settings that nobody knows, which a daemon may know.
    pub fn unknown(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.unknown
    }

    /// What a user ought to be warned of, once.
    pub fn take_warnings(&mut self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(self.unknown.keys().map(|name| format!("unknown setting '{name}'")));
        self.unknown.clear();
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Settings {
        Settings::defaults(&|_| None)
    }

    #[test]
    fn table_is_sorted_and_names_are_unique() {
        let mut seen = BTreeSet::new();
        for setting in SETTINGS {
            for name in std::iter::once(&setting.name).chain(setting.aliases) {
                assert!(seen.insert(*name), "{name} twice");
            }
        }
        assert!(SETTINGS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn every_value_reads_what_it_prints() {
        let settings = defaults();
        for setting in SETTINGS {
            let text = setting.render(&settings);
            let mut other = settings.clone();
            other.experimental_features = ExperimentalFeature::ALL.iter().copied().collect();
            if setting.name != "experimental-features" {
                other.set(setting.name, &text).unwrap_or_else(|error| panic!("{}: {error}", setting.name));
                assert_eq!(setting.render(&other), text, "{}", setting.name);
            }
        }
    }

    #[test]
    fn aliases_and_extra() {
        let mut settings = defaults();
        for (name, mode) in [
            ("build-use-chroot", SandboxMode::Disabled),
            ("sandbox", SandboxMode::Enabled),
            ("build-use-sandbox", SandboxMode::Relaxed),
        ] {
            settings.set(name, &mode.render()).expect("sets");
            assert_eq!(settings.sandbox, mode);
        }
        settings.set("build-chroot-dirs", b"/a=/b").expect("sets");
        settings.set("extra-build-sandbox-paths", b"/c").expect("sets");
        assert_eq!(settings.sandbox_paths.render(), b"/a=/b /c");
        assert!(!settings.set("extra-cores", b"3").expect("unknown"));
        assert_eq!(settings.take_warnings(), ["unknown setting 'extra-cores'"]);
    }

    #[test]
    fn flags() {
        let arity = |flag: &str| find_flag(flag).map(SettingFlag::arity);
        assert_eq!(arity("cores"), Some(1));
        assert_eq!(arity("no-sandbox"), Some(0));
        assert_eq!(arity("relaxed-sandbox"), Some(0));
        assert_eq!(arity("extra-substituters"), Some(1));
        assert_eq!(arity("no-cores"), None);
        assert_eq!(arity("relaxed-fallback"), None);
        assert_eq!(arity("build-use-chroot"), Some(0));
    }
}

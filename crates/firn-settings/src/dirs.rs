//! Folders that are no settings: where state, logs, configuration and a user's own files are.

use crate::error::SettingsError;
use crate::value::clean_path;
use std::path::PathBuf;

/// The folders, as the environment gives them at [`crate::load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// The logical store directory: `NIX_STORE_DIR` or `NIX_STORE`, `/nix/store`.
    pub store: PathBuf,
    /// `NIX_STATE_DIR`, `/nix/var/nix`.
    pub state: PathBuf,
    /// `NIX_LOG_DIR`, `/nix/var/log/nix`.
    pub log: PathBuf,
    /// `NIX_CONF_DIR`, `/etc/nix`.
    pub conf: PathBuf,
    /// The daemon's socket: `NIX_DAEMON_SOCKET_PATH`, `<state>/daemon-socket/socket`.
    pub daemon_socket: PathBuf,
    /// The user's home, where it is known.
    pub home: Option<PathBuf>,
    /// The user's `nix` cache folder: `NIX_CACHE_HOME`, `XDG_CACHE_HOME/nix`, `~/.cache/nix`.
    pub cache_home: Option<PathBuf>,
    /// The user's `nix` configuration folder, by the same rule.
    pub config_home: Option<PathBuf>,
    /// The user's `nix` data folder, by the same rule.
    pub data_home: Option<PathBuf>,
    /// The user's `nix` state folder, by the same rule.
    pub state_home: Option<PathBuf>,
    /// Files of user settings, the most important first: `NIX_USER_CONF_FILES`, or `nix/nix.conf` in the XDG
    /// configuration folders.
    pub user_conf_files: Vec<PathBuf>,
}

impl Dirs {
    /// The home folder, or the error for a command that cannot do without.
    pub fn require_home(&self) -> Result<&PathBuf, SettingsError> {
        self.home.as_ref().ok_or(SettingsError::NoHome)
    }

    /// The system-wide file of settings.
    pub fn conf_file(&self) -> PathBuf {
        self.conf.join("nix.conf")
    }

    pub(crate) fn from_environment(var: &dyn Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let non_empty = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let clean = |name: &str| non_empty(name).map(|path| clean_path(&path));
        let state = clean("NIX_STATE_DIR").unwrap_or_else(|| "/nix/var/nix".into());
        let home = crate::host::home(var);
        let user = |own: &str, xdg: &str, fallback: &str| {
            var(own).map(PathBuf::from).or_else(|| {
                let base = var(xdg).map(PathBuf::from);
                base.or_else(|| home.as_ref().map(|home| home.join(fallback))).map(|base| base.join("nix"))
            })
        };
        let config_home = user("NIX_CONFIG_HOME", "XDG_CONFIG_HOME", ".config");
        let user_conf_files = match var("NIX_USER_CONF_FILES") {
            Some(files) => std::env::split_paths(&files).collect(),
            None => {
                let system = var("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into());
                let system = std::env::split_paths(&system)
                    .filter(|dir| !dir.as_os_str().is_empty())
                    .map(|dir| dir.join("nix"))
                    .collect::<Vec<_>>();
                config_home.clone().into_iter().chain(system).map(|dir| dir.join("nix.conf")).collect()
            }
        };
        Self {
            store: clean("NIX_STORE_DIR")
                .or_else(|| clean("NIX_STORE"))
                .unwrap_or_else(|| "/nix/store".into()),
            log: clean("NIX_LOG_DIR").unwrap_or_else(|| "/nix/var/log/nix".into()),
            conf: clean("NIX_CONF_DIR").unwrap_or_else(|| "/etc/nix".into()),
            daemon_socket: clean("NIX_DAEMON_SOCKET_PATH")
                .unwrap_or_else(|| state.join("daemon-socket/socket")),
            state,
            cache_home: user("NIX_CACHE_HOME", "XDG_CACHE_HOME", ".cache"),
            data_home: user("NIX_DATA_HOME", "XDG_DATA_HOME", ".local/share"),
            state_home: user("NIX_STATE_HOME", "XDG_STATE_HOME", ".local/state"),
            config_home,
            home,
            user_conf_files,
        }
    }
}

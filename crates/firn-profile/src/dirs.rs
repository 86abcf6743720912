//! Where profiles and channels are.

use crate::error::{ProfileError, ProfileResult};
use crate::generations::switch_link;
use firn_settings::Settings;
use std::path::{Path, PathBuf};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether there is anything, be it a link to nowhere: a profile that was chosen may not be there yet.
fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

fn make_dirs(dir: &Path) -> ProfileResult<()> {
    std::fs::create_dir_all(dir).map_err(ProfileError::io("creating directory", dir))
}

/// The user's `nix` state folder.
pub fn state_home(settings: &Settings) -> ProfileResult<PathBuf> {
    let dirs = &settings.dirs;
    match &dirs.state_home {
        Some(state) => Ok(state.clone()),
        None => Ok(home(settings)?.join(".local/state/nix")),
    }
}

fn home(settings: &Settings) -> ProfileResult<PathBuf> {
    settings.dirs.require_home().cloned().map_err(|e| ProfileError::Usage(e.to_string()))
}

/// Root's folder of profiles.
pub fn root_profiles(settings: &Settings) -> PathBuf {
    settings.dirs.state.join("profiles/per-user/root")
}

/// The user's folder of profiles, which is made if it is missing.
pub fn profiles(settings: &Settings) -> ProfileResult<PathBuf> {
    let dir = match is_root() {
        true => root_profiles(settings),
        false => state_home(settings)?.join("profiles"),
    };
    make_dirs(&dir)?;
    Ok(dir)
}

/// `~/.nix-profile`, or its place by the XDG rules.
pub fn profile_link(settings: &Settings) -> ProfileResult<PathBuf> {
    match settings.use_xdg_base_directories {
        true => {
            let state = state_home(settings)?;
            make_dirs(&state)?;
            Ok(state.join("profile"))
        }
        false => Ok(home(settings)?.join(".nix-profile")),
    }
}

/// The profile that commands work on when none is named. Links to it that are missing are made, as far as that can
/// be done.
pub fn default_profile(settings: &Settings) -> ProfileResult<PathBuf> {
    let link = profile_link(settings)?;
    let prepare = || -> ProfileResult<PathBuf> {
        let profile = profiles(settings)?.join("profile");
        if !is_there(&link) {
            switch_link(&link, &profile)?;
        }
        // Where NixOS and boot scripts expect root's profile.
        let global = settings.dirs.state.join("profiles/default");
        if is_root() && !is_there(&global) {
            switch_link(&global, &profile)?;
        }
        let target = std::fs::read_link(&link).map_err(ProfileError::io("reading symbolic link", &link))?;
        let folder = link.parent().unwrap_or(Path::new("/"));
        Ok(folder.join(target))
    };
    Ok(prepare().unwrap_or(link))
}

/// The user's channels, a profile.
pub fn channels(settings: &Settings) -> ProfileResult<PathBuf> {
    Ok(profiles(settings)?.join("channels"))
}

/// Root's channels.
pub fn root_channels(settings: &Settings) -> PathBuf {
    root_profiles(settings).join("channels")
}

/// Where the user's default expressions are.
pub fn default_expression(settings: &Settings) -> ProfileResult<PathBuf> {
    match settings.use_xdg_base_directories {
        true => Ok(state_home(settings)?.join("defexpr")),
        false => Ok(home(settings)?.join(".nix-defexpr")),
    }
}

/// The same, made with links to the user's and root's channels if it is missing.
pub fn prepared_default_expression(settings: &Settings) -> ProfileResult<PathBuf> {
    let path = default_expression(settings)?;
    if !is_there(&path) {
        make_dirs(&path)?;
        switch_link(&path.join("channels"), &channels(settings)?)?;
        if !is_root() {
            switch_link(&path.join("channels_root"), &root_channels(settings))?;
        }
    }
    Ok(path)
}

/// Profiles below `dir`: links that can be changed and whose target is named like a generation.
pub fn profiles_below(dir: &Path) -> ProfileResult<Vec<PathBuf>> {
    use rustix::fs::{Access, access};
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        if access(&dir, Access::READ_OK).is_err() {
            continue;
        }
        let can_write = access(&dir, Access::WRITE_OK).is_ok();
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(ProfileError::io("reading directory", &dir))? {
            entries.push(entry.map_err(ProfileError::io("reading directory", &dir))?);
        }
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let kind = entry.file_type().map_err(ProfileError::io("getting status of", &path))?;
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_symlink() && can_write {
                let target = match std::fs::read_link(&path) {
                    Ok(target) => target,
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(ProfileError::io("reading symbolic link", path)(e)),
                };
                if target.to_string_lossy().contains("link") {
                    found.push(path);
                }
            }
        }
    }
    Ok(found)
}

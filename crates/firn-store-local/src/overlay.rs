//! A local store on top of another one (experimental feature `local-overlay-store`).
//!
//! The store directory is an OverlayFS mount that the user keeps: the lower layer is the lower store's directory, the
//! upper layer holds what is this store's own. The database is this store's own too; what the lower store knows of a
//! path is copied into it when the path is first asked for, with everything that it refers to. Nothing is ever written
//! to the lower store.

use crate::lower::{Lower, LowerConfig};
use crate::store::LocalStore;
use firn_core::{StorePath, ValidPathInfo};
use firn_store::activity::{Logger, Verbosity};
use firn_store::{StoreError, StoreResult};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Parameters of an overlay store besides those of a local store.
#[derive(Debug, Clone)]
pub struct OverlayConfig {
    /// The store below (`lower-store`).
    pub lower: LowerConfig,
    /// The folder that is mounted as the upper layer (`upper-layer`).
    pub upper_layer: PathBuf,
    /// Look whether the mount is what it should be (`check-mount`).
    pub check_mount: bool,
    /// Run with the store directory when it has to be mounted again (`remount-hook`).
    pub remount_hook: Option<PathBuf>,
}

/// The overlay's side of an open store.
pub(crate) struct Overlay {
    pub(crate) lower: Lower,
    config: OverlayConfig,
    /// Something was deleted behind the mount's back.
    remount: AtomicBool,
}

impl Overlay {
    pub(crate) fn new(config: &OverlayConfig, logger: &Arc<dyn Logger>) -> Overlay {
        Overlay {
            lower: Lower::open(&config.lower, logger),
            config: config.clone(),
            remount: AtomicBool::new(false),
        }
    }

    /// Fails if the store directory is not mounted as the configuration says.
    pub(crate) fn check_mount(&self, store_dir: &Path) -> StoreResult<()> {
        if !self.config.check_mount {
            return Ok(());
        }
        let mounts =
            std::fs::read("/proc/self/mounts").map_err(StoreError::io("reading", "/proc/self/mounts"))?;
        let options = overlay_options(&mounts, store_dir);
        let has = |name: &str, value: &Path| {
            let wanted = [name.as_bytes(), b"=", value.as_os_str().as_bytes()].concat();
            options.contains(&wanted)
        };
        let lower = self.lower.real_store_dir();
        if has("lowerdir", lower) && has("upperdir", &self.config.upper_layer) {
            return Ok(());
        }
        Err(StoreError::Other(format!(
            "overlay filesystem '{}' mounted incorrectly: expected lowerdir '{}' and upperdir '{}'",
            store_dir.display(),
            lower.display(),
            self.config.upper_layer.display()
        )))
    }
}

/// The options of the topmost overlay that is mounted at a place.
fn overlay_options(mounts: &[u8], place: &Path) -> Vec<Vec<u8>> {
    let mut options = Vec::new();
    for line in mounts.split(|b| *b == b'\n') {
        let mut fields = line.split(|b| *b == b' ');
        let (Some(_), Some(at), Some(b"overlay"), Some(list)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if unescape(at) == place.as_os_str().as_bytes() {
            options = list.split(|b| *b == b',').map(unescape).collect();
        }
    }
    options
}

/// Spaces and the like stand in /proc/self/mounts as backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|d| d.iter().all(|b| (b'0'..=b'7').contains(b)));
        match (byte, digits) {
            (b'\\', Some(digits)) => {
                let value = digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                out.push(value as u8);
                rest = &after[3..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

impl LocalStore {
    pub(crate) fn lower(&self) -> Option<&Lower> {
        self.inner.overlay.as_ref().map(|overlay| &overlay.lower)
    }

    /// Copies what the lower store knows of a path, and of what it refers to, into the database; answers whether the
    /// path is valid there.
    pub(crate) fn copy_up(&self, path: &StorePath) -> StoreResult<bool> {
        let Some(lower) = self.lower() else { return Ok(false) };
        if !lower.is_valid(path)? {
            return Ok(false);
        }
        let closure = lower.closure_of(path)?;
        let mut infos: Vec<ValidPathInfo> = Vec::new();
        for path in closure {
            if !self.is_valid_here(&path)?
                && let Some(info) = lower.path_info(&path)?
            {
                infos.push(info);
            }
        }
        self.register_here(&infos)?;
        Ok(true)
    }

    /// Before paths are registered: what the lower store knows of them and of what they refer to comes first, so that
    /// the two do not diverge.
    pub(crate) fn copy_up_for(&self, infos: &[&ValidPathInfo]) -> StoreResult<()> {
        if self.lower().is_none() {
            return Ok(());
        }
        let paths = infos.iter().flat_map(|info| info.references.iter().chain([&info.path]));
        for path in paths.collect::<BTreeSet<_>>() {
            if !self.is_valid_here(path)? {
                self.copy_up(path)?;
            }
        }
        Ok(())
    }

    /// Removes what lies at a place in the store directory; returns the bytes freed. In an overlay only the upper
    /// layer loses something, and no whiteout hides what the lower store has.
    pub(crate) fn remove_object(&self, real: &Path) -> StoreResult<u64> {
        let Some(overlay) = &self.inner.overlay else { return crate::remove::remove_tree(real) };
        let name = real.file_name().unwrap_or_default();
        let upper = overlay.config.upper_layer.join(name);
        if upper.symlink_metadata().is_err() {
            return Ok(0);
        }
        let path = name.to_str().and_then(|name| StorePath::from_base_name(name).ok());
        let in_lower = match path {
            Some(path) => overlay.lower.is_valid(&path)?,
            None => false,
        };
        if !in_lower {
            return crate::remove::remove_tree(real);
        }
        let freed = crate::remove::remove_tree(&upper)?;
        overlay.remount.store(true, Ordering::Relaxed);
        Ok(freed)
    }

    /// Whether the store directory holds anything of this store's own under that name.
    pub(crate) fn has_own_files(&self, real: &Path) -> bool {
        match &self.inner.overlay {
            None => true,
            Some(overlay) => {
                let upper = overlay.config.upper_layer.join(real.file_name().unwrap_or_default());
                upper.symlink_metadata().is_ok()
            }
        }
    }

    /// Removes from the upper layer what the lower store has by now.
    pub(crate) fn drop_duplicates(&self, lower: &Lower) -> StoreResult<()> {
        for path in self.all_valid_paths()? {
            if lower.is_valid(&path)? {
                self.remove_object(&self.real(&path))?;
            }
        }
        self.remount_if_necessary()
    }

    /// Lets the user's hook mount the store directory again, if that is needed.
    pub(crate) fn remount_if_necessary(&self) -> StoreResult<()> {
        let Some(overlay) = &self.inner.overlay else { return Ok(()) };
        if !overlay.remount.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let dir = &self.inner.config.real_store_dir;
        let Some(hook) = &overlay.config.remount_hook else {
            self.inner.logger.warn(&format!(
                "'{}' needs remounting, set remount-hook to do this automatically",
                dir.display()
            ));
            return Ok(());
        };
        self.inner.logger.log(Verbosity::Debug, format!("running '{}'", hook.display()).as_bytes());
        #[expect(clippy::disallowed_methods, reason = "the user's own hook, in the user's environment")]
        let status = std::process::Command::new(hook)
            .arg(dir)
            .stdin(std::process::Stdio::null())
            .status()
            .map_err(StoreError::io("executing remount hook", hook))?;
        match status.success() {
            true => Ok(()),
            false => Err(StoreError::Other(format!("remount hook '{}' failed: {status}", hook.display()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mounts() {
        let mounts = b"proc /proc proc rw 0 0\n\
            overlay /s overlay rw,lowerdir=/old,upperdir=/u 0 0\n\
            overlay /s overlay rw,lowerdir=/a\\040b,upperdir=/u,workdir=/w 0 0\n";
        let options = overlay_options(mounts, Path::new("/s"));
        assert!(options.contains(&b"lowerdir=/a b".to_vec()) && options.contains(&b"upperdir=/u".to_vec()));
        assert!(overlay_options(mounts, Path::new("/t")).is_empty());
    }
}

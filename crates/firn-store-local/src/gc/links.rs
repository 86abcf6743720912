//! Files that only `.links` still has.

use super::render_size;
use crate::store::LocalStore;
use firn_store::{StoreError, StoreResult};
use std::os::unix::fs::MetadataExt;

impl LocalStore {
    /// Files that only `.links` still has.
    pub(super) fn delete_unused_links(&self) -> StoreResult<()> {
        self.say("deleting unused links...");
        let dir = self.inner.config.links_dir();
        let listing = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(StoreError::io("reading directory", &dir))?,
        };
        let (mut actual, mut unshared) = (0i64, 0i64);
        for entry in listing {
            let path = entry.map_err(StoreError::io("reading directory", &dir))?.path();
            let meta =
                std::fs::symlink_metadata(&path).map_err(StoreError::io("getting status of", &path))?;
            let size = i64::try_from(meta.len()).unwrap_or(i64::MAX);
            if meta.nlink() == 1 {
                std::fs::remove_file(&path).map_err(StoreError::io("removing", &path))?;
            } else {
                let others = i64::try_from(meta.nlink() - 1).unwrap_or(i64::MAX);
                actual = actual.saturating_add(size);
                unshared = unshared.saturating_add(others.saturating_mul(size));
            }
        }
        let overhead = std::fs::metadata(&dir).map_or(0, |m| i64::try_from(m.blocks() * 512).unwrap_or(0));
        let saving = unshared.saturating_sub(actual).saturating_sub(overhead);
        // The folder itself can take more than is saved.
        self.say(format!("note: hard linking is currently saving {}", render_size(saving.max(0))));
        Ok(())
    }
}

//! The files of a cache, wherever they are.

use async_trait::async_trait;
use bytes::Bytes;
use firn_http::Upload;
use firn_store::{StoreResult, Trust};
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncWrite;

/// Largest file that is read into memory: `.narinfo` files, listings, realisations. Build logs may be longer.
pub(crate) const MAX_SMALL: usize = 64 << 20;

/// What an upload is made of.
pub(crate) enum Content {
    Bytes(Bytes),
    /// A finished temporary file.
    File(tempfile::NamedTempFile),
}

impl Content {
    /// As something that can be sent several times.
    pub fn upload(&self) -> StoreResult<Upload> {
        Ok(match self {
            Content::Bytes(bytes) => Upload::Bytes(bytes.clone()),
            Content::File(file) => {
                let failed = |e| firn_store::StoreError::io("opening", file.path())(e);
                let reopened = file.reopen().map_err(failed)?;
                let size = reopened.metadata().map_err(failed)?.len();
                Upload::File { file: Arc::new(reopened), size }
            }
        })
    }
}

/// Reads and writes files by their paths relative to the cache.
#[async_trait]
pub(crate) trait Files: Send + Sync {
    /// Where the cache is, without parameters; names it in messages and in the disk cache.
    fn uri(&self) -> &str;

    fn trust(&self) -> Option<Trust>;

    /// Prepares the place, where that is needed before the first use.
    async fn prepare(&self) -> StoreResult<()>;

    /// A file; `None` if it is not there.
    async fn get(&self, path: &str) -> StoreResult<Option<Bytes>>;

    /// A file that is asked for on the chance that it can be had; the outer `None` says nothing of it.
    async fn try_get(&self, path: &str) -> Option<Option<Bytes>> {
        self.get(path).await.ok()
    }

    /// Writes a file to `sink`; `false` if it is not there.
    async fn stream(&self, path: &str, sink: &mut (dyn AsyncWrite + Send + Unpin)) -> StoreResult<bool>;

    async fn exists(&self, path: &str) -> StoreResult<bool>;

    /// Writes a file, whole or not at all. `path` decides on compression in transit.
    async fn put(&self, path: &str, content: Content, mime: &str) -> StoreResult<()>;

    /// The hash parts of all `.narinfo` files, where they can be listed.
    async fn hash_parts(&self) -> StoreResult<Option<Vec<String>>>;

    /// Where temporary files for uploads are best made; `None` for the system's folder.
    fn staging(&self) -> Option<&Path> {
        None
    }
}

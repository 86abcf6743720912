//! A cache in a directory.

use crate::files::{Content, Files};
use async_trait::async_trait;
use bytes::Bytes;
use firn_http::pipe::PIECE;
use firn_store::{StoreError, StoreResult, Trust};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncWrite, AsyncWriteExt};

pub(crate) struct LocalFiles {
    root: PathBuf,
    nar: PathBuf,
    uri: String,
    debug_info: bool,
}

impl LocalFiles {
    pub fn new(root: PathBuf, uri: String, debug_info: bool) -> LocalFiles {
        LocalFiles { nar: root.join("nar"), root, uri, debug_info }
    }

    /// The place of a file. A cache's own files must not lead out of it.
    fn place(&self, path: &str) -> StoreResult<PathBuf> {
        let bad = |what: &str| Err(StoreError::Corrupt(format!("local binary cache path '{path}' {what}")));
        if path.is_empty() || path.contains('\0') {
            return bad("must not be empty");
        }
        if path.starts_with('/') {
            return bad("must not be absolute");
        }
        if path.split('/').any(|part| part == ".." || part == ".") {
            return bad("must not contain '..' or '.' segments");
        }
        Ok(self.root.join(path))
    }
}

/// Runs what blocks on a thread for that.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> StoreResult<T> + Send + 'static) -> StoreResult<T> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| Err(StoreError::Other(e.to_string())))
}

fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn open(path: &Path) -> StoreResult<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if missing(&error) => Ok(None),
        Err(error) => Err(StoreError::io("opening", path)(error)),
    }
}

#[async_trait]
impl Files for LocalFiles {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn trust(&self) -> Option<Trust> {
        Some(Trust::Trusted)
    }

    async fn prepare(&self) -> StoreResult<()> {
        let mut dirs = vec![self.nar.clone(), self.root.join("realisations"), self.root.join("log")];
        if self.debug_info {
            dirs.push(self.root.join("debuginfo"));
        }
        let info = self.root.join("nix-cache-info");
        blocking(move || {
            for dir in dirs {
                match fs::create_dir_all(&dir) {
                    Ok(()) => {}
                    // Others' caches can be read without being written.
                    Err(_) if info.exists() => {}
                    Err(error) => return Err(StoreError::io("creating directory", dir)(error)),
                }
            }
            Ok(())
        })
        .await
    }

    async fn get(&self, path: &str) -> StoreResult<Option<Bytes>> {
        let place = self.place(path)?;
        blocking(move || {
            let Some(mut file) = open(&place)? else { return Ok(None) };
            let mut data = Vec::new();
            file.read_to_end(&mut data).map_err(StoreError::io("reading", place))?;
            Ok(Some(data.into()))
        })
        .await
    }

    async fn stream(&self, path: &str, sink: &mut (dyn AsyncWrite + Send + Unpin)) -> StoreResult<bool> {
        let place = self.place(path)?;
        let opened = place.clone();
        let Some(file) = blocking(move || open(&opened)).await? else { return Ok(false) };
        let (sender, mut reader) = firn_http::pipe::pipe(4 * PIECE);
        let work = tokio::task::spawn_blocking(move || {
            let mut file = file;
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece);
                let piece = match read {
                    Ok(0) => return,
                    Ok(_) => Ok(Bytes::from(piece)),
                    Err(error) => Err(error),
                };
                if sender.blocking_send(piece).is_err() {
                    return;
                }
            }
        });
        let mut result = Ok(true);
        while let Some(piece) = reader.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    result = Err(StoreError::io("reading", &place)(error));
                    break;
                }
            };
            if let Err(error) = sink.write_all(&piece).await {
                result = Err(firn_nar::NarError::Write(error).into());
                break;
            }
        }
        drop(reader);
        drop(work.await);
        result
    }

    async fn exists(&self, path: &str) -> StoreResult<bool> {
        Ok(self.place(path)?.exists())
    }

    async fn put(&self, path: &str, content: Content, _mime: &str) -> StoreResult<()> {
        let place = self.place(path)?;
        blocking(move || {
            let dir = place.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(dir).map_err(StoreError::io("creating directory", dir))?;
            let file = match content {
                Content::Bytes(bytes) => {
                    let failed = || StoreError::io("writing", &place);
                    let mut file =
                        tempfile::Builder::new().prefix(".tmp-").tempfile_in(dir).map_err(failed())?;
                    file.write_all(&bytes).map_err(failed())?;
                    file
                }
                Content::File(file) => file,
            };
            fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))
                .map_err(StoreError::io("changing permissions of", file.path()))?;
            match file.persist(&place) {
                Ok(_) => Ok(()),
                Err(error) => Err(StoreError::io("renaming to", place)(error.error)),
            }
        })
        .await
    }

    async fn hash_parts(&self) -> StoreResult<Option<Vec<String>>> {
        let root = self.root.clone();
        blocking(move || {
            let failed = || StoreError::io("reading directory", &root);
            let mut parts = Vec::new();
            for entry in fs::read_dir(&root).map_err(failed())? {
                let name = entry.map_err(failed())?.file_name();
                let part = name.to_str().and_then(|name| name.strip_suffix(".narinfo"));
                parts.extend(part.filter(|part| part.len() == 32).map(str::to_owned));
            }
            parts.sort();
            Ok(Some(parts))
        })
        .await
    }

    fn staging(&self) -> Option<&Path> {
        Some(&self.nar)
    }
}

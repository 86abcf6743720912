//! Flake registries: short names for flakes. Those of flags come first, then the user's, the system's, the global one.

mod file;
mod look_up;

pub use file::{Entry, Registry, RegistryKind};

use crate::Fetcher;
use crate::error::{FetchError, FetchResult};
use firn_core::flake_ref::Input;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The registries of this process.
#[derive(Default)]
pub(crate) struct Registries {
    flags: Mutex<Vec<Entry>>,
    user: OnceLock<Arc<Registry>>,
    system: OnceLock<Arc<Registry>>,
    global: tokio::sync::OnceCell<Arc<Registry>>,
}

impl Fetcher {
    /// Makes `from` mean `to`, before all that registries say.
    pub fn override_registry(&self, from: Input, to: Input, dir: Option<Vec<u8>>) {
        self.inner.registries.flags.lock().push(Entry { from, to, dir, exact: false });
    }

    /// The registry in a file; an empty one if there is no file. What is wrong with it is warned of.
    pub fn read_registry(&self, path: &Path, kind: RegistryKind) -> Registry {
        // Links are followed, so that the file may be anywhere.
        match std::fs::read(path) {
            Ok(text) => self.parse_registry(&text, &path.display().to_string(), kind),
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    let shown = path.display();
                    self.inner.logger.warn(&format!("cannot read flake registry '{shown}': {error}"));
                }
                Registry { kind, entries: Vec::new() }
            }
        }
    }

    fn parse_registry(&self, text: &[u8], shown: &str, kind: RegistryKind) -> Registry {
        let has_feature = |name: &str| self.inner.options.features.contains(name);
        Registry::parse(text, kind, &has_feature).unwrap_or_else(|error| {
            self.inner.logger.warn(&format!("cannot {} flake registry '{shown}': {error}", error.doing()));
            Registry { kind, entries: Vec::new() }
        })
    }

    fn read_optional(&self, path: &Option<PathBuf>, kind: RegistryKind) -> Arc<Registry> {
        Arc::new(match path {
            Some(path) => self.read_registry(path, kind),
            None => Registry { kind, entries: Vec::new() },
        })
    }

    /// All registries, in the order in which they are asked.
    pub async fn registries(&self) -> FetchResult<Vec<Arc<Registry>>> {
        let known = &self.inner.registries;
        let options = &self.inner.options;
        let flags = Registry { kind: RegistryKind::Flag, entries: known.flags.lock().clone() };
        let user = known.user.get_or_init(|| self.read_optional(&options.user_registry, RegistryKind::User));
        let system =
            known.system.get_or_init(|| self.read_optional(&options.system_registry, RegistryKind::System));
        let global = known.global.get_or_try_init(|| self.global_registry()).await?;
        Ok(vec![Arc::new(flags), user.clone(), system.clone(), global.clone()])
    }

    async fn global_registry(&self) -> FetchResult<Arc<Registry>> {
        let (kind, place) = (RegistryKind::Global, &self.inner.options.global_registry);
        if place.is_empty() {
            return Ok(Arc::new(Registry { kind, entries: Vec::new() }));
        }
        if place.starts_with('/') {
            return Ok(Arc::new(self.read_registry(Path::new(place), kind)));
        }
        let file = self.download_file(place, "flake-registry.json", &[]).await?;
        if let (Some(local), Some(cache)) = (self.store().as_local_fs(), &self.inner.cache_dir) {
            // It is there when there is no net, too.
            std::fs::create_dir_all(cache).map_err(FetchError::io("creating directory", cache))?;
            local.add_indirect_root(&file.store_path, &cache.join("flake-registry.json"))?;
        }
        let text = self.read_stored(&file.store_path).await?;
        Ok(Arc::new(self.parse_registry(&text, &self.store().store_dir().display(&file.store_path), kind)))
    }

    /// Writes a registry to a file.
    pub fn write_registry(&self, registry: &Registry, path: &Path) -> FetchResult<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(FetchError::io("creating directory", folder))?;
        }
        crate::source::write_file(path, registry.to_text().as_bytes())
    }
}

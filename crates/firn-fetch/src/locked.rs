//! Inputs that are known for good, and what this process has fetched already.

use crate::Fetcher;
use crate::error::{FetchError, FetchResult};
use crate::tree::{Tree, shown, text};
use firn_core::flake_ref::{Attr, Attrs, Input, json};
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, StorePath};

/// What was asked for, and whether it was known for good.
pub(crate) type Key = (Attrs, bool);

impl Fetcher {
    /// [`Fetcher::fetch_tree`], once for each input.
    pub async fn fetch_once(&self, input: &Input) -> FetchResult<Tree> {
        let key = (input.attrs.clone(), false);
        if let Some(seen) = self.seen(&key) {
            return Ok(seen);
        }
        let tree = self.fetch_tree(input).await?;
        self.note(key, &tree);
        Ok(tree)
    }

    fn note(&self, key: Key, tree: &Tree) {
        self.inner.paths.lock().insert(tree.store_path.clone());
        self.inner.seen.lock().insert(key, tree.clone());
    }

    /// Fetches an input that is known for good, as those of lock files are. A store path of its hash will do; what is
    /// fetched must agree with everything that the input says, and no more is known of it afterwards.
    pub async fn fetch_locked(&self, input: &Input) -> FetchResult<Tree> {
        let key = (input.attrs.clone(), true);
        if let Some(seen) = self.seen(&key) {
            return Ok(seen);
        }
        let tree = self.fetch_locked_now(input).await?;
        self.note(key, &tree);
        Ok(tree)
    }

    fn seen(&self, key: &Key) -> Option<Tree> {
        self.inner.seen.lock().get(key).cloned()
    }

    /// Whether this process has fetched a tree that is there.
    pub fn has_fetched(&self, path: &StorePath) -> bool {
        self.inner.paths.lock().contains(path)
    }

    /// Forgets what this process has fetched: files have changed.
    pub fn forget(&self) {
        self.inner.seen.lock().clear();
    }

    /// The store path of an input whose hash is known.
    ///
    /// # Errors
    /// Inputs without a hash.
    pub fn path_of_locked(&self, input: &Input) -> FetchResult<StorePath> {
        let hash = input.nar_hash().map_err(|error| FetchError::Other(error.to_string()))?;
        let Some(hash) = hash else {
            let message = format!("cannot compute store path for unlocked input '{}'", shown(input));
            return Err(FetchError::Other(message));
        };
        let address = ContentAddress { method: CaMethod::NixArchive, hash };
        let dir = self.store().store_dir();
        dir.make_fixed_output_path(&address, &input.name(), &References::default())
            .map_err(|error| FetchError::Other(error.to_string()))
    }

    async fn fetch_locked_now(&self, input: &Input) -> FetchResult<Tree> {
        let mut attrs = input.attrs.clone();
        if let Some(hash) = input.nar_hash().map_err(|error| FetchError::Other(error.to_string()))? {
            // Lock files of old lack the padding of some hashes.
            attrs.insert("narHash".to_owned(), Attr::str(hash.to_sri()));
            let path = self.path_of_locked(input)?;
            let store = self.store();
            store.add_temp_root(&path).await?;
            let there = match (store.is_valid_path(&path).await?, &self.inner.options.ensure) {
                (true, _) => true,
                (false, Some(ensure)) => ensure(path.clone()).await,
                (false, None) => false,
            };
            if there {
                return Ok(Tree { store_path: path, attrs });
            }
        }
        let tree = self.fetch_unchecked(input).await?;
        if let (Some(expected), Some(got)) = (text(&attrs, "narHash"), text(&tree.attrs, "narHash"))
            && expected != got
        {
            let parse = |hash: &[u8]| firn_core::Hash::parse_sri(&String::from_utf8_lossy(hash));
            if let (Ok(expected), Ok(got)) = (parse(expected), parse(got)) {
                let hashes = Box::new([expected, got]);
                return Err(FetchError::NarMismatch { input: shown(input), hashes });
            }
        }
        for (name, value) in &attrs {
            if tree.attrs.get(name).is_some_and(|got| got != value) {
                return Err(FetchError::Other(format!(
                    "mismatch in field '{name}' of input '{}', got '{}'",
                    json(&attrs),
                    json(&tree.attrs)
                )));
            }
        }
        if let Some(hash) = tree.attrs.get("narHash") {
            attrs.entry("narHash".to_owned()).or_insert_with(|| hash.clone());
        }
        Ok(Tree { store_path: tree.store_path, attrs })
    }
}

//! A store in memory, for tests and for evaluation that writes nothing.

use crate::error::{StoreError, StoreResult};
use crate::traits::{AddSource, NarSink, NarSource, Realisation, Store, Trust};
use async_trait::async_trait;
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, StoreDir, StorePath, ValidPathInfo};
use firn_derivation::Derivation;
use firn_nar::fs::{DumpOptions, dump_path};
use firn_nar::{Event, NarReader, NarWriter, Node};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Holds archives by path. Trusts everybody; nothing is ever collected.
#[derive(Default)]
pub struct MemoryStore {
    dir: StoreDir,
    read_only: bool,
    /// As it was asked for.
    uri: Option<String>,
    objects: Mutex<BTreeMap<StorePath, Object>>,
    realisations: Mutex<BTreeMap<String, Realisation>>,
}

struct Object {
    info: Arc<ValidPathInfo>,
    nar: Arc<[u8]>,
}

impl MemoryStore {
    pub fn new(dir: StoreDir) -> MemoryStore {
        MemoryStore { dir, ..MemoryStore::default() }
    }

    /// A store that stays empty.
    pub fn read_only(dir: StoreDir) -> MemoryStore {
        MemoryStore { dir, read_only: true, ..MemoryStore::default() }
    }

    /// The same under the URI by which it was opened.
    pub fn with_uri(self, uri: String) -> MemoryStore {
        MemoryStore { uri: Some(uri), ..self }
    }

    fn insert(&self, info: ValidPathInfo, nar: Vec<u8>) -> StoreResult<()> {
        if self.read_only {
            return Err(self.unsupported("addToStore"));
        }
        let mut objects = self.objects.lock();
        for reference in &info.references {
            if *reference != info.path && !objects.contains_key(reference) {
                return Err(StoreError::InvalidPath { path: self.dir.display(reference) });
            }
        }
        objects.insert(info.path.clone(), Object { info: Arc::new(info), nar: nar.into() });
        Ok(())
    }
}

/// The contents of an archive that holds one regular file.
pub fn file_of_nar(nar: &[u8]) -> StoreResult<Vec<u8>> {
    let mut reader = NarReader::new(nar);
    match reader.next_event()? {
        Some(Event::Node { node: Node::Regular { .. }, .. }) => {}
        _ => return Err(StoreError::Other("a regular file was expected".into())),
    }
    let mut contents = Vec::new();
    reader.copy_contents(|chunk| {
        contents.extend_from_slice(chunk);
        Ok(())
    })?;
    Ok(contents)
}

#[async_trait]
impl Store for MemoryStore {
    fn store_dir(&self) -> &StoreDir {
        &self.dir
    }

    fn uri(&self) -> String {
        self.uri.clone().unwrap_or_else(|| "dummy://".to_owned())
    }

    async fn is_trusted(&self) -> StoreResult<Option<Trust>> {
        Ok(Some(Trust::Trusted))
    }

    async fn query_path_info(&self, path: &StorePath) -> StoreResult<Option<Arc<ValidPathInfo>>> {
        Ok(self.objects.lock().get(path).map(|object| object.info.clone()))
    }

    async fn query_all_valid_paths(&self) -> StoreResult<BTreeSet<StorePath>> {
        Ok(self.objects.lock().keys().cloned().collect())
    }

    async fn query_referrers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        let objects = self.objects.lock();
        let refers = |object: &&Object| object.info.references.contains(path);
        Ok(objects.values().filter(refers).map(|object| object.info.path.clone()).collect())
    }

    async fn query_valid_derivers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        let derivations: Vec<StorePath> =
            self.objects.lock().keys().filter(|p| p.is_derivation()).cloned().collect();
        let mut derivers = BTreeSet::new();
        for drv in derivations {
            if self.query_derivation_outputs(&drv).await?.values().flatten().any(|p| p == path) {
                derivers.insert(drv);
            }
        }
        Ok(derivers)
    }

    async fn query_derivation_outputs(
        &self,
        drv: &StorePath,
    ) -> StoreResult<BTreeMap<String, Option<StorePath>>> {
        Ok(self.read_derivation(drv).await?.output_paths(&self.dir)?)
    }

    async fn query_path_from_hash_part(&self, hash_part: &str) -> StoreResult<Option<StorePath>> {
        Ok(self.objects.lock().keys().find(|path| path.hash_part() == hash_part).cloned())
    }

    async fn query_realisation(&self, id: &str) -> StoreResult<Option<Realisation>> {
        Ok(self.realisations.lock().get(id).cloned())
    }

    async fn register_realisation(&self, realisation: &Realisation, _: bool) -> StoreResult<()> {
        self.realisations.lock().insert(realisation.id.clone(), realisation.clone());
        Ok(())
    }

    async fn nar_from_path(&self, path: &StorePath, sink: NarSink<'_>) -> StoreResult<()> {
        let nar = self.objects.lock().get(path).map(|object| object.nar.clone());
        let nar = nar.ok_or_else(|| StoreError::InvalidPath { path: self.dir.display(path) })?;
        sink.write_all(&nar).await.map_err(|e| StoreError::Nar(firn_nar::NarError::Write(e)))
    }

    async fn add_nar(
        &self,
        info: &ValidPathInfo,
        nar: NarSource<'_>,
        _repair: bool,
        _check_signatures: bool,
    ) -> StoreResult<()> {
        let mut bytes = Vec::new();
        nar.read_to_end(&mut bytes).await.map_err(firn_nar::NarError::read)?;
        NarReader::new(&bytes[..]).skip_to_end()?;
        let hash = Hash::of(HashAlgo::Sha256, &bytes);
        if hash != info.nar_hash {
            return Err(StoreError::HashMismatch {
                path: self.dir.display(&info.path),
                expected: info.nar_hash.to_prefixed(firn_core::HashFormat::Nix32),
                got: hash.to_prefixed(firn_core::HashFormat::Nix32),
            });
        }
        let (expected, got) = (info.nar_size, bytes.len() as u64);
        if expected != got && expected != 0 {
            return Err(StoreError::SizeMismatch { path: self.dir.display(&info.path), expected, got });
        }
        self.insert(info.clone(), bytes)
    }

    async fn add_to_store(
        &self,
        name: &str,
        source: AddSource<'_>,
        method: CaMethod,
        algo: HashAlgo,
        references: &BTreeSet<StorePath>,
        _repair: bool,
    ) -> StoreResult<ValidPathInfo> {
        let nar = match source {
            AddSource::Path(path) => dump_path(path, Vec::new(), DumpOptions::default())?,
            AddSource::Selected { path, keep } => {
                let mut filter = |file: &std::path::Path, _: firn_nar::fs::FileKind| Ok(keep.contains(file));
                let options = DumpOptions { filter: Some(&mut filter), ..DumpOptions::default() };
                dump_path(path, Vec::new(), options)?
            }
            AddSource::Bytes(bytes) => {
                let mut writer = NarWriter::new(Vec::new());
                writer.regular(b"", false, bytes)?;
                writer.finish()?
            }
            AddSource::Nar(source) => {
                let mut bytes = Vec::new();
                source.read_to_end(&mut bytes).await.map_err(firn_nar::NarError::read)?;
                NarReader::new(&bytes[..]).skip_to_end()?;
                bytes
            }
        };
        let hash = match method {
            CaMethod::NixArchive => Hash::of(algo, &nar),
            CaMethod::Flat | CaMethod::Text => Hash::of(algo, &file_of_nar(&nar)?),
            CaMethod::Git => firn_nar::git::hash_archive(&mut NarReader::new(&nar[..]), algo)?,
        };
        let ca = ContentAddress { method, hash };
        let kept = References { others: references.clone(), self_reference: false };
        let path = self.dir.make_fixed_output_path(&ca, name, &kept)?;
        let mut info = ValidPathInfo::new(path, Hash::of(HashAlgo::Sha256, &nar), nar.len() as u64);
        info.references = references.clone();
        info.ca = Some(ca);
        self.insert(info.clone(), nar)?;
        Ok(info)
    }

    async fn add_temp_root(&self, _path: &StorePath) -> StoreResult<()> {
        Ok(())
    }

    async fn add_signatures(&self, path: &StorePath, signatures: &BTreeSet<String>) -> StoreResult<()> {
        let mut objects = self.objects.lock();
        let Some(object) = objects.get_mut(path) else {
            return Err(StoreError::InvalidPath { path: self.dir.display(path) });
        };
        Arc::make_mut(&mut object.info).signatures.extend(signatures.iter().cloned());
        Ok(())
    }

    async fn read_derivation(&self, path: &StorePath) -> StoreResult<Derivation> {
        let nar = self.objects.lock().get(path).map(|object| object.nar.clone());
        let nar = nar.ok_or_else(|| StoreError::InvalidPath { path: self.dir.display(path) })?;
        let name = Derivation::name_from_path(path)
            .ok_or_else(|| StoreError::Other(format!("path '{path}' is not a derivation")))?;
        Derivation::parse_aterm(name, &file_of_nar(&nar)?, &self.dir).map_err(|e| {
            StoreError::Corrupt(format!("error parsing derivation '{}': {e}", self.dir.display(path)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{BlockingWriter, export_paths, import_paths};

    #[tokio::test]
    async fn exports_and_imports() {
        let store = MemoryStore::default();
        let a = store.add_text("a", b"hello", &BTreeSet::new(), false).await.unwrap();
        let b = store.add_text("b", b"world", &[a.clone()].into(), false).await.unwrap();
        let mut stream = Vec::new();
        let paths = [a.clone(), b.clone()].into();
        export_paths(&store, &paths, &mut BlockingWriter(&mut stream)).await.unwrap();
        let other = MemoryStore::default();
        assert_eq!(import_paths(&other, &mut &stream[..], false).await.unwrap(), [a, b.clone()]);
        assert_eq!(other.query_path_info(&b).await.unwrap().unwrap().references.len(), 1);
        let error = import_paths(&other, &mut &stream[..100], false).await.unwrap_err();
        assert!(error.to_string().contains("unexpected end-of-file"), "{error}");
    }
}
